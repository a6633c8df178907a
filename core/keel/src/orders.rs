//! What sampand was told from outside, on its way from the keel to whichever worker lives: bytes in a pipe that the keel has
//! for as long as it lives. Whoever signals a whole group (systemd's KillMode=control-group, `kill 0`) signals the worker too,
//! so no signal is an order; the keel's word is. A shutdown that was asked for belongs to sampand, not to a worker: it goes on
//! under the next one, and ends with the keel.
//!
//! The keel's own word comes the same way: it has another holder, and the worker may have a place for it.
//!
//! The loop has a connection to the keel of its own, so that it never waits for a lock that launching threads hold.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// One byte of the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Order {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    Reload,
    /// The keel's own word: it has another holder, which is in the keel's control group.
    Holder,
}

impl Order {
    /// Those that come from outside.
    pub const SIGNALS: [(i32, Order); 3] =
        [(libc::SIGTERM, Order::Terminate), (libc::SIGINT, Order::Interrupt), (libc::SIGHUP, Order::Reload)];
    const ALL: [Order; 4] = [Order::Terminate, Order::Interrupt, Order::Reload, Order::Holder];

    /// As it stands in the pipe.
    fn byte(self) -> u8 {
        self as u8
    }

    pub fn from_byte(byte: u8) -> Option<Order> {
        Order::ALL.into_iter().find(|order| order.byte() == byte)
    }
}

/// How far sampand has been asked to end. The number is what the worker is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Ending {
    #[default]
    No = 0,
    /// As SIGTERM asks: with on_exit = "keep" containers run on.
    Terminate = 1,
    /// As Ctrl-C or a client's `down` asks: everything is stopped.
    Everything = 2,
    /// Asked a second time: no more grace.
    Hurry = 3,
}

impl Ending {
    pub fn from_word(word: i32) -> Ending {
        match word {
            1 => Ending::Terminate,
            2 => Ending::Everything,
            3 => Ending::Hurry,
            _ => Ending::No,
        }
    }

    /// After one more order.
    fn after(self, order: Order) -> Ending {
        match (order, self) {
            (Order::Reload | Order::Holder, before) => before,
            (Order::Terminate, Ending::No) => Ending::Terminate,
            (Order::Interrupt, Ending::No) => Ending::Everything,
            _ => Ending::Hurry,
        }
    }
}

/// The keel's side.
pub struct Orders {
    read: OwnedFd,
    write: OwnedFd,
    pub ending: Ending,
}

impl Orders {
    pub fn new() -> Result<Orders, Errno> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Orders { read, write, ending: Ending::No })
    }

    pub fn give(&mut self, order: Order) {
        self.ending = self.ending.after(order);
        self.put(order);
    }

    /// A full pipe has the same order in it many times.
    fn put(&self, order: Order) {
        let _ = rustix::io::write(&self.write, &[order.byte()]);
    }

    /// A client asked for the end, as the worker says.
    pub fn note(&mut self, ending: Ending) {
        self.ending = self.ending.max(ending);
    }

    /// For a new worker: the pipe, with nothing in it that `ending` says already.
    pub fn begin(&mut self) -> Result<OwnedFd, Errno> {
        let mut bytes = [0; 64];
        let mut stays = [(Order::Reload, false), (Order::Holder, false)];
        // Asked first how much there is: a worker could have made the pipe wait, and the keel never does.
        while let Ok(1..) = rustix::io::ioctl_fionread(&self.read) {
            let Ok(got) = rustix::io::read(&self.read, &mut bytes) else { break };
            let got = bytes.get(..got).unwrap_or_default();
            for (order, came) in &mut stays {
                *came |= got.contains(&order.byte());
            }
        }
        for (order, _) in stays.into_iter().filter(|(_, came)| *came) {
            self.put(order);
        }
        rustix::io::fcntl_dupfd_cloexec(self.read.as_fd(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(fd: &OwnedFd) -> Vec<Order> {
        let mut bytes = [0; 64];
        let got = rustix::io::read(fd, &mut bytes).unwrap_or(0);
        bytes[..got].iter().filter_map(|byte| Order::from_byte(*byte)).collect()
    }

    #[test]
    fn a_new_worker_hears_each_order_once() {
        let mut orders = Orders::new().unwrap();
        let first = orders.begin().unwrap();
        orders.give(Order::Reload);
        assert_eq!((left(&first), orders.ending), (vec![Order::Reload], Ending::No));
        orders.give(Order::Reload);
        orders.give(Order::Holder);
        orders.give(Order::Reload);
        orders.give(Order::Terminate);
        // The first worker died and read none of it.
        let second = orders.begin().unwrap();
        assert_eq!((left(&second), orders.ending), (vec![Order::Reload, Order::Holder], Ending::Terminate));
        orders.give(Order::Interrupt);
        assert_eq!((left(&second), orders.ending), (vec![Order::Interrupt], Ending::Hurry));
    }

    #[test]
    fn what_a_client_asked_for_is_no_second_order() {
        let mut orders = Orders::new().unwrap();
        orders.note(Ending::Everything);
        orders.note(Ending::Everything);
        assert_eq!(orders.ending, Ending::Everything);
        orders.give(Order::Terminate);
        orders.note(Ending::Everything);
        assert_eq!(orders.ending, Ending::Hurry);
    }
}

//! A one-off's terminal in ours. Its master is ours alone; the container has the other side.
use crate::attach::terminal::{Raw, size};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whose our terminal is. It only goes down this list.
#[derive(Debug)]
enum Session<R> {
    /// Ours: none has come yet.
    Before,
    /// The one-off's: its size is ours, and what is typed goes to this master. None: our input is no terminal.
    Held { master: OwnedFd, raw: Option<R> },
    /// Ours again, whatever comes.
    Over,
}

static SESSION: Mutex<Session<Raw>> = Mutex::new(Session::Before);

fn session() -> MutexGuard<'static, Session<Raw>> {
    SESSION.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R> Session<R> {
    /// Where a worker died before the program of the first was started, another master comes: our terminal is taken once. False: it is
    /// over.
    fn begin(&mut self, master: OwnedFd, take: impl FnOnce() -> Option<R>) -> bool {
        let raw = match std::mem::replace(self, Session::Over) {
            Session::Before => take(),
            Session::Held { raw, .. } => raw,
            Session::Over => return false,
        };
        *self = Session::Held { master, raw };
        true
    }

    fn master(&self) -> Option<&OwnedFd> {
        match self {
            Session::Held { master, .. } => Some(master),
            Session::Before | Session::Over => None,
        }
    }
}

/// None: it was never made.
pub fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket, &mut bytes, &mut control, flags)).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    })
}

/// From now on what is typed goes there, and its size is ours. False: it comes too late.
pub fn begin(master: OwnedFd) -> bool {
    let begun = session().begin(master, || Raw::new().ok().flatten());
    resize();
    begun
}

/// Where what is typed goes.
pub struct Typed;

impl Write for Typed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let master = session().master().map(OwnedFd::try_clone);
        File::from(master.ok_or(io::ErrorKind::BrokenPipe)??).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ours has another size.
pub fn resize() {
    if let (Some(master), Some(size)) = (session().master(), size()) {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = tcsetwinsize(master, size);
    }
}

/// Ours is as it was, and stays so.
pub fn leave() {
    *session() = Session::Over;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Counts how often our terminal is another one's.
    struct Taken<'t>(&'t Cell<i32>);

    impl<'t> Taken<'t> {
        fn new(count: &'t Cell<i32>) -> Option<Taken<'t>> {
            count.set(count.get() + 1);
            Some(Taken(count))
        }
    }

    impl Drop for Taken<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[test]
    fn our_terminal_is_taken_once_and_never_after_the_end() {
        let master = || OwnedFd::from(std::io::pipe().unwrap().0);
        let count = Cell::new(0);
        let mut session = Session::Before;
        for _ in 0..2 {
            assert!(session.begin(master(), || Taken::new(&count)) && session.master().is_some());
            assert_eq!(count.get(), 1);
        }
        session = Session::Over;
        assert_eq!(count.get(), 0);
        assert!(!session.begin(master(), || Taken::new(&count)));
        assert!(session.master().is_none() && count.get() == 0);
        // Also where it ended before any came.
        let mut session = Session::Over;
        assert!(!session.begin(master(), || Taken::new(&count)) && count.get() == 0);
    }
}

//! The holder: a child of the keel that shares its table of descriptors and sleeps. A FIFO's bytes go with its last opener,
//! and the kernel tells how a process ended only through a pidfd that was held while it was reaped: so whatever the keel has
//! open stays open when the keel is killed. It decides nothing, and is found by what it writes first (`record`).

use crate::hold::Hold;
use crate::record::Entry;
use crate::sys;
use crate::wire::Message;
use nix::sys::signal::SigSet;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use sampan_journal::crash::keel_point as point;
use sampan_runtime::kernel::pidfd::{self, Identity};
use std::time::Duration;

/// Its name in /proc/PID/comm, for people.
const COMM: &core::ffi::CStr = c"sampand-holder";
/// The second in a row that ends sooner is not followed at once, and each after that later, up to this. Until there is another one, what
/// the keel holds goes with it if it is killed too.
const STEADY: Duration = Duration::from_secs(1);
const DELAY_FIRST: Duration = Duration::from_millis(10);

/// The keel's side.
pub struct Holder {
    record: OwnedFd,
    place: i32,
    number: i32,
    state: State,
    /// Ended in a row without having lived for `STEADY`.
    brief: u32,
}

enum State {
    Runs {
        pid: Pid,
        pidfd: OwnedFd,
        since: Duration,
    },
    /// To be started at this time.
    Due(Duration),
}

impl Holder {
    /// As asked by `Op::Hold`.
    pub fn start(request: &Message, record: OwnedFd, hold: &Hold, now: Duration) -> Result<Holder, Errno> {
        let [place, number, ..] = request.words;
        let mut holder = Holder { record, place, number, state: State::Due(now), brief: 0 };
        holder.clone(hold, now)?;
        Ok(holder)
    }

    fn clone(&mut self, hold: &Hold, now: Duration) -> Result<(), Errno> {
        let keel = rustix::process::getpid();
        let (record, place, number) = (self.record.as_fd(), self.place, self.number);
        let table = hold.table.memory().as_raw_fd();
        point("before the holder");
        let (pid, pidfd) = sys::clone_holder(|| sleep(keel, record, place, number, table))?;
        point("the holder is cloned");
        self.state = State::Runs { pid, pidfd, since: now };
        Ok(())
    }

    pub fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Runs { pid, .. } => Some(*pid),
            State::Due(_) => None,
        }
    }

    /// Readable when it has ended.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Runs { pidfd, .. } => Some(pidfd.as_fd()),
            State::Due(_) => None,
        }
    }

    /// When it is to be looked at again, if its end does not come before.
    pub fn due(&self) -> Option<Duration> {
        match self.state {
            State::Runs { .. } => None,
            State::Due(at) => Some(at),
        }
    }

    /// It has ended.
    pub fn ended(&mut self, now: Duration) {
        if let State::Runs { pidfd, since, .. } = &self.state {
            let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            let lived = now.saturating_sub(*since);
            self.brief = if lived >= STEADY { 0 } else { self.brief + 1 };
            self.state = State::Due(now + delay(self.brief));
        }
    }

    /// Starts another one if it is time. True: there is another one.
    pub fn renew(&mut self, hold: &Hold, now: Duration) -> bool {
        if self.due().is_none_or(|at| now < at) {
            return false;
        }
        let cloned = self.clone(hold, now);
        if cloned.is_err() {
            self.state = State::Due(now + STEADY);
        }
        cloned.is_ok()
    }

    /// The keel ends, and what it has open must not go with it: there is a holder when this returns.
    pub fn stay(&mut self, hold: &Hold, now: Duration) {
        if self.pidfd().is_none_or(|pidfd| pidfd::ended(pidfd).unwrap_or(true)) {
            let _ = self.clone(hold, now);
        }
    }

    /// Nothing is to be held any more. Its locks are free when this returns.
    pub fn end(self) {
        if let State::Runs { pidfd, .. } = &self.state {
            let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
            let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// After so many brief lives in a row.
fn delay(brief: u32) -> Duration {
    match brief {
        0 | 1 => Duration::ZERO,
        n => DELAY_FIRST.saturating_mul(1 << (n - 2).min(10)).min(STEADY),
    }
}

/// The holder's life, in the new process. It opens and closes nothing but what is its own: all else is the keel's too.
fn sleep(keel: Pid, record: BorrowedFd<'_>, place: i32, number: i32, table: i32) -> ! {
    // Ctrl-C and a lost terminal are not for it.
    let _ = SigSet::all().thread_block();
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let _ = rustix::thread::set_name(COMM);
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    if !rustix::process::geteuid().is_root() {
        sys::let_be_traced();
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let entry = Entry { number, holder: identity(own), keel: identity(keel.as_raw_nonzero().get()), table };
    let _ = entry.write(record, place);
    sys::trim_program();
    loop {
        let _ = rustix::event::poll(&mut [], None);
    }
}

/// Of one that is gone: one that no process has.
fn identity(pid: i32) -> Identity {
    let found = pidfd::open(pid).ok().flatten().and_then(|fd| pidfd::identify(pid, fd.as_fd()).ok());
    found.unwrap_or(Identity { pid, start: 0, inode: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_that_ends_again_and_again_leaves_a_gap_and_that_is_no_longer_than_a_second() {
        let delays: Vec<u128> = (0..12).map(|brief| delay(brief).as_millis()).collect();
        assert_eq!(delays, [0, 0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        assert_eq!(delay(u32::MAX), STEADY);
    }
}

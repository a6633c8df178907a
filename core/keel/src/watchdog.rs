//! The worker's side of the watchdog: its loop says when a turn begins and when it ends.

use rustix::fd::BorrowedFd;
use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec};
use std::time::Duration;

/// A timer that the keel polls. While it is armed the loop is inside a turn; when it fires the keel kills the
/// worker (SIGABRT, a second later SIGKILL). Not armed it costs nothing, no wake-up either.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog<'a> {
    timer: BorrowedFd<'a>,
}

/// A turn of the loop; ends when dropped.
#[derive(Debug)]
pub struct Turn<'a>(Watchdog<'a>);

impl<'a> Watchdog<'a> {
    pub fn of(timer: BorrowedFd<'a>) -> Watchdog<'a> {
        Watchdog { timer }
    }

    /// A turn begins. It must not take longer than `limit`.
    pub fn turn(self, limit: Duration) -> Turn<'a> {
        self.set(limit);
        Turn(self)
    }

    fn set(self, limit: Duration) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        let _ = rustix::time::timerfd_settime(
            self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: zero, it_value: value },
        );
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.set(Duration::ZERO);
    }
}

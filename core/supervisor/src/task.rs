//! Tasks of the loop's thread that end with their owner.
use crate::clock;
use sampan_service::Ms;
use std::io;
use std::os::fd::OwnedFd;
use tokio::task::AbortHandle;

/// A task that ends with its owner.
#[derive(Debug)]
pub struct Task(AbortHandle);

impl From<tokio::task::JoinHandle<()>> for Task {
    fn from(handle: tokio::task::JoinHandle<()>) -> Task {
        Task(handle.abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A task that does something at an instant of CLOCK_BOOTTIME. tokio's clock stands still while the host sleeps, so
/// the rest of the wait is looked at again when it wakes.
pub fn sleep_until(at: Ms, then: impl FnOnce() + 'static) -> Task {
    Task::from(tokio::task::spawn_local(async move {
        loop {
            let left = at.since(clock::boottime());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left).await;
        }
        then();
    }))
}

/// A task that does something when the wall clock shows `second` (of the time since 1970), or as soon as somebody sets that
/// clock, the end of a sleep included: what comes first.
pub fn when_clock_shows(second: i64, then: impl FnOnce() + 'static) -> io::Result<Task> {
    let fd = crate::fence::readable(wall_clock_timer(second)?)?;
    Ok(Task::from(tokio::task::spawn_local(async move {
        drop(fd.readable().await);
        then();
    })))
}

fn wall_clock_timer(second: i64) -> io::Result<OwnedFd> {
    use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
    use rustix::time::{timerfd_create, timerfd_settime};
    let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    // Nothing at all would disarm it.
    let at = Timespec { tv_sec: second.max(1), tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
    timerfd_settime(&fd, flags, &once)?;
    Ok(fd)
}

//! Work inside a network namespace without moving any thread of the host: a thread of its own goes there and ends.
use crate::error::{Context, Result};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Runs `f` on a new thread inside the network namespace `netns`.
pub fn in_netns<T: Send>(netns: BorrowedFd<'_>, f: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, move || {
            // SAFETY: setns moves the calling thread alone, which is ours and ends below; the descriptor is borrowed.
            match unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) } {
                0 => Ok(f()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
        match thread.context("thread for a network namespace")?.join() {
            Ok(done) => done.context("setns into the container's network namespace"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

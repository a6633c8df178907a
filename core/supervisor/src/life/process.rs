//! A main process by its pidfd: its end, its status where nobody is its parent any more, its network namespace.
use super::groups::KILL_MAX;
use rustix::fs::{Mode, OFlags};
use sampan_keel::{Child, Handle, Keel, LoopKeel};
use sampan_service::Status;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long a PID 1 may take to reap what it inherited; after that the exit status is unknown.
const REAPED_MAX: Duration = Duration::from_secs(3);

/// Kills a process that the keel knows, and lets it go.
pub fn end(keel: &Keel, child: &Child) {
    let _ = sampan_runtime::kernel::pidfd::send(child.pidfd.as_fd(), libc::SIGKILL);
    let _ = sampan_runtime::kernel::pidfd::wait(child.pidfd.as_fd(), Some(KILL_MAX));
    if let Err(error) = keel.let_go(&child.handle) {
        tracing::warn!(pid = child.pid, "cannot reap: {error}");
    }
}

/// The network namespace of a process, if it has one of its own.
pub fn netns_of(pid: i32) -> Option<OwnedFd> {
    let own = std::fs::read_link("/proc/self/ns/net").ok()?;
    let path = format!("/proc/{pid}/ns/net");
    (std::fs::read_link(&path).ok()? != own)
        .then(|| rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok())?
}

/// The status of a process that is nobody's child any more (the keel that cloned it died). Known for sure from Linux 6.15 on.
pub fn foreign_status(pidfd: BorrowedFd<'_>) -> Status {
    match sampan_runtime::kernel::pidfd::exit(pidfd) {
        sampan_runtime::kernel::pidfd::Exit::Code(code) => Status::Code(code),
        sampan_runtime::kernel::pidfd::Exit::Signal(signal) => Status::Signal(signal),
        sampan_runtime::kernel::pidfd::Exit::Unknown => Status::Unknown,
    }
}

/// Whether a process that is nobody's child any more has ended at its barrier. A program of which nobody has seen yet that it runs, and which
/// ends with this code by itself, is taken for one that did not: it is started again.
pub fn was_abandoned(pidfd: BorrowedFd<'_>) -> bool {
    foreign_status(pidfd) == Status::Code(sampan_child::sys::ABANDONED)
}

/// Waits for the end of a process that is nobody's child any more, and a moment longer: that it ended well is told for sure
/// when whoever inherited it has reaped it (pidfd_poll says so by EPOLLHUP), not yet while it is a zombie.
pub async fn reaped(pidfd: &tokio::io::unix::AsyncFd<crate::fence::Held>) {
    drop(pidfd.readable().await);
    let told = async {
        while let Ok(mut ready) = pidfd.readable().await {
            let known = foreign_status(pidfd.get_ref().as_fd()) != Status::Unknown;
            if known || ready.ready().is_read_closed() {
                break;
            }
            ready.clear_ready();
        }
    };
    let _ = tokio::time::timeout(REAPED_MAX, told).await;
}

/// To the main process. A stopped process does not see a stop signal before it continues.
pub fn signal(pidfd: BorrowedFd<'_>, pid: i32, signal: i32) {
    if let Err(error) = sampan_runtime::kernel::pidfd::send(pidfd, signal) {
        tracing::debug!(pid, signal, "not signalled: {error}");
    }
    if signal != libc::SIGKILL {
        let _ = sampan_runtime::kernel::pidfd::send(pidfd, libc::SIGCONT);
    }
}

/// How a main process ended, without reaping it.
pub fn exit_status(keel: &LoopKeel, handle: Option<&Handle>, pidfd: BorrowedFd<'_>) -> Status {
    let Some(Handle::Own(pid)) = handle else { return foreign_status(pidfd) };
    match keel.peek(*pid) {
        Ok(Some(sampan_keel::Exit::Code(code))) => Status::Code(code),
        Ok(Some(sampan_keel::Exit::Signal { number, .. })) => Status::Signal(number),
        Ok(None) => Status::Unknown,
        Err(error) => {
            tracing::error!(pid, "cannot read its exit status: {error}");
            Status::Unknown
        }
    }
}

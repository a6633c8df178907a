//! Descriptors 0, 1 and 2, and the null device that stands in for what nobody gave: ours from the start, and those of a container.
//! core/child/src/stdio.rs is the container's side.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::stdio::{stderr, stdin, stdout};

use crate::kernel::seal;

const NULL: &str = "/dev/null";

/// As std does before `main`: those that our caller has closed are the null device, so that nothing we open becomes one of
/// them. To be called before anything is opened: a new descriptor has the lowest free number.
pub fn open_missing() {
    let mut fds = [stdin(), stdout(), stderr()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut fds, Some(&now)).is_ok_and(|closed| closed > 0) {
        for _ in fds.iter().filter(|fd| fd.revents().contains(PollFlags::NVAL)) {
            // Never closed again, nor at execve.
            let _ = open(NULL, OFlags::RDWR, Mode::empty()).map(IntoRawFd::into_raw_fd);
        }
    }
}

/// The null device as a standard stream of a container. Root inside reaches the device's file through /proc/self/fd, and it is
/// the host's: on a read-only mount it can be read and written to, but not chmodded or chowned. A container that has a null
/// device takes its own instead; this is for one that has none.
///
/// Where we may not clone mounts (CAP_SYS_ADMIN), the file is somebody else's to us, and so to the container.
pub fn null(flags: OFlags) -> rustix::io::Result<OwnedFd> {
    Null::default().open(flags)
}

/// The same for whoever needs many of them: the mount stays. To make and to drop one may take a millisecond: the kernel waits for
/// all of its processors.
#[derive(Debug, Default)]
pub struct Null(OnceCell<Option<OwnedFd>>);

impl Null {
    pub fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if self.0.get().is_none() {
            let null = open(NULL, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            self.0.get_or_init(|| seal::clone_read_only(null.as_fd()).ok());
        }
        match self.0.get().and_then(Option::as_ref) {
            Some(clone) => open(format!("/proc/self/fd/{}", clone.as_raw_fd()), flags, Mode::empty()),
            None => open(NULL, flags, Mode::empty()),
        }
    }
}

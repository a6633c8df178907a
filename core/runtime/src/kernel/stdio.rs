//! The null device as a standard stream of a container. Root inside reaches the device's file through /proc/self/fd, and it is
//! the host's: on a read-only mount it can be read and written to, but not chmodded or chowned.
//!
//! A container takes its own null device instead where it has one (core/child/src/stdio.rs); this is for one that has none.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};

use crate::kernel::seal;

const NULL: &str = "/dev/null";

/// Where we may not clone mounts (CAP_SYS_ADMIN), the file is somebody else's to us, and so to the container.
pub fn null(flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let null = open(NULL, flags, Mode::empty())?;
    match seal::clone_read_only(null.as_fd()) {
        Ok(clone) => open(format!("/proc/self/fd/{}", clone.as_raw_fd()), flags, Mode::empty()),
        Err(_) => Ok(null),
    }
}

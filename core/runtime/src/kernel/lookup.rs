//! Lookups in a tree that somebody else arranges, who may change it meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

/// As in the child (core/child/src/sys/raw.rs).
const TRIES_MAX: u32 = 128;

/// What `path` is where `root` is the root, through none of /proc's links that jump. A rename anywhere on the machine may
/// race with a `..` on the way; then the kernel asks to try again (openat2(2), EAGAIN).
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < TRIES_MAX => tries += 1,
            other => return other,
        }
    }
}

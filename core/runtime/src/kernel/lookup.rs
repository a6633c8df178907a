//! Lookups in a tree that somebody else arranges, who may change it meanwhile; and short files of the kernel's own.

use std::fs::File;
use std::io::{self, Read as _};
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

/// The first page of a file of procfs, which the kernel makes anew for each read: so by one. std's `read_to_string` takes five.
pub fn first_page(path: &str) -> io::Result<String> {
    let mut page = [0; 4096];
    let length = File::open(path)?.read(&mut page)?;
    Ok(String::from_utf8_lossy(page.get(..length).unwrap_or_default()).into_owned())
}

//! Reading and writing one control file, always as a whole.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::{self, Errno};

/// The call that failed, and how.
pub(crate) type Failed = (&'static str, Errno);

/// One write call, because each is a value of its own to the kernel. A short count would be a part of the value, so it is an
/// error.
pub(crate) fn write_all(fd: BorrowedFd<'_>, value: &str) -> Result<(), Failed> {
    loop {
        match io::write(fd, value.as_bytes()) {
            Ok(n) if n == value.len() => return Ok(()),
            Ok(_) => return Err(("write", Errno::IO)),
            Err(Errno::INTR) => continue,
            Err(e) => return Err(("write", e)),
        }
    }
}

pub(crate) fn read_at(root: BorrowedFd<'_>, path: &str) -> Result<String, Failed> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = fs::openat(root, path, flags, Mode::empty()).map_err(|e| ("openat", e))?;
    read_fd(fd.as_fd())
}

pub(crate) fn read_fd(fd: BorrowedFd<'_>) -> Result<String, Failed> {
    // The kernel gives a page at a time (seq_file), and only long lists of pids need more than one.
    let mut bytes = vec![0_u8; 4096];
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            bytes.resize(filled * 2, 0);
        }
        match io::read(fd, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(("read", e)),
        }
    }
    bytes.truncate(filled);
    String::from_utf8(bytes).map_err(|_| ("read", Errno::INVAL))
}

/// The value of a key in a flat keyed file (cgroup-v2.rst): a line `KEY VALUE` each, as in cgroup.events and cpu.stat.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

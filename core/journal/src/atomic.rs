//! A file that is replaced as a whole: whoever reads it finds the old text or the new one, also after a power cut.
use crate::crash;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// Replaces `name` in `folder`, for us alone (0600). It waits for the disk: call it from a blocking-pool thread.
pub fn replace(folder: &Path, name: &str, text: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let new = format!("{name}.new");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(&folder, &new, flags, Mode::RUSR | Mode::WUSR)?;
    let saved = write_all(&file, text)
        .and_then(|()| rustix::fs::fsync(&file))
        .inspect(|()| crash::point("a file is written beside the old one, not renamed"))
        .and_then(|()| rustix::fs::renameat(&folder, &new, &folder, name));
    if let Err(errno) = saved {
        let _ = rustix::fs::unlinkat(&folder, &new, AtFlags::empty());
        return Err(errno);
    }
    rustix::fs::fsync(&folder)
}

fn write_all(file: &rustix::fd::OwnedFd, mut text: &[u8]) -> Result<(), Errno> {
    while !text.is_empty() {
        let done = rustix::io::retry_on_intr(|| rustix::io::write(file, text))?;
        text = text.get(done..).unwrap_or_default();
    }
    Ok(())
}

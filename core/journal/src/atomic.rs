//! A file that is replaced as a whole: whoever reads it finds the old text or the new one.
use crate::crash;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// Replaces `name` in `folder`, for us alone (0600), also over a power cut. It waits for the disk: call it from a
/// blocking-pool thread.
pub fn replace(folder: &Path, name: &str, text: &[u8]) -> Result<(), Errno> {
    let new = Prepared::write(folder, name, text)?;
    new.sync()?;
    crash::point("a file is written beside the old one, not renamed");
    rustix::fs::fsync(new.commit()?)
}

/// New content that does not hold yet. Dropped, it is removed.
#[derive(Debug)]
#[must_use]
pub struct Prepared {
    folder: OwnedFd,
    name: String,
    pending: bool,
}

impl Prepared {
    /// Closed to others (0600).
    pub fn write(folder: &Path, name: &str, content: &[u8]) -> Result<Prepared, Errno> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let new = beside(name);
        // An earlier one of ours that was interrupted may be there, with whatever mode.
        match rustix::fs::unlinkat(&folder, &new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&folder, &new, flags, Mode::RUSR | Mode::WUSR)?;
        let prepared = Prepared { folder, name: name.to_owned(), pending: true };
        write_all(&file, content)?;
        Ok(prepared)
    }

    /// Waits until it is on the disk, not only in the kernel: for what must survive the host's crash.
    pub fn sync(&self) -> Result<(), Errno> {
        let file = rustix::fs::openat(
            &self.folder,
            beside(&self.name),
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )?;
        rustix::fs::fsync(file)
    }

    /// From now on it holds. The folder is given, to be synced.
    pub fn commit(mut self) -> Result<OwnedFd, Errno> {
        rustix::fs::renameat(&self.folder, beside(&self.name), &self.folder, &self.name)?;
        self.pending = false;
        rustix::io::fcntl_dupfd_cloexec(&self.folder, 0)
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.pending {
            let _ = rustix::fs::unlinkat(&self.folder, beside(&self.name), AtFlags::empty());
        }
    }
}

/// What the content of `name` is called until it holds.
/// Where the new content of `name` is until it holds.
#[must_use]
pub fn beside(name: &str) -> String {
    format!("{name}.new")
}

fn write_all(file: &OwnedFd, mut content: &[u8]) -> Result<(), Errno> {
    while !content.is_empty() {
        let done = rustix::io::retry_on_intr(|| rustix::io::write(file, content))?;
        content = content.get(done..).unwrap_or_default();
    }
    Ok(())
}

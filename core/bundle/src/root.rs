//! Looking into a rootfs that is not trusted: every path is opened beneath it, symlinks and all, so that an image's
//! `/etc/passwd -> /etc/shadow` of the host leads nowhere.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;
use sampan_runtime::kernel::lookup::open_in_root;

use super::Error;

pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

/// Of a file of names; a larger one is not such a file.
const BYTES_MAX: u64 = 4 << 20;

impl Root {
    pub fn open(service: &str, path: &Path) -> Result<Root, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, path, flags, Mode::empty()) {
            Ok(fd) => Ok(Root { fd, path: path.into() }),
            Err(e) => Err(Error::new(service, "rootfs", "open").path(path).because(&e.into())),
        }
    }

    /// A tree that is open already; `path` is what people call it.
    pub fn of(fd: OwnedFd, path: &Path) -> Root {
        Root { fd, path: path.into() }
    }

    /// A folder to read, None if there is none.
    pub fn folder(&self, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
        match self.openat(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            other => other.map(Some),
        }
    }

    /// The text of a regular file, None if there is none.
    pub fn read(&self, path: &str) -> std::io::Result<Option<String>> {
        // Not blocked by a FIFO that lies in a file's place.
        let fd = match self.openat(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::from(fd).take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(std::io::Error::other("larger than 4 MiB"));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// A folder, not a symlink to one: what is mounted there is reached by that name alone.
    pub fn has_folder(&self, path: &str) -> bool {
        self.openat(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW).is_ok()
    }

    /// There is nothing at `path`, and nothing but folders on the way: where a link leads once all is mounted, the kernel knows.
    pub fn lacks(&self, path: &str) -> bool {
        let mut on_the_way: Vec<&Path> = Path::new(path).ancestors().collect();
        on_the_way.reverse();
        let kind = |path: &&Path| {
            let fd = open_in_root(&self.fd, path, OFlags::PATH | OFlags::NOFOLLOW)?;
            Ok(FileType::from_raw_mode(fstat(&fd)?.st_mode))
        };
        let first = on_the_way.iter().map(kind).find(|kind| *kind != Ok(FileType::Directory));
        first == Some(Err(Errno::NOENT))
    }

    fn openat(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // "/" is the host's own root, and may be read as such even where openat2 is refused (seccomp).
        match open_in_root(&self.fd, Path::new(path), flags) {
            Err(Errno::NOSYS | Errno::PERM) if self.path == Path::new("/") => {
                open(path, flags | OFlags::CLOEXEC, Mode::empty())
            }
            other => other,
        }
    }
}

//! Folders of a layer that is being unpacked. Every lookup is one openat2 that cannot leave the layer, whatever links are in
//! it: a link on the way leads on inside of it, as it does in the container.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags, fsetxattr, fstat, futimens,
    mkdirat, statat, unlinkat,
};
use rustix::io::Errno;
use sampan_runtime::kernel::lookup::open_in_root;

use crate::error::{Error, Result};
use crate::store::remove_in;
use crate::tar::show;

pub const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

#[derive(Debug)]
pub struct Folders {
    root: OwnedFd,
    path: PathBuf,
    /// The one that the last member was put into: the next one's most often.
    last: Option<Open>,
}

/// What is put into a folder changes its time; that is set back.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    fd: OwnedFd,
    times: Timestamps,
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = futimens(&self.fd, &self.times);
    }
}

/// What was at a place before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// It stays: a folder for a folder.
    Folder,
    /// Of a folder of a lower layer, perhaps: a folder in its place must hide that one.
    Whiteout,
    Removed,
}

/// A folder that is only on the way to a member. In an image its attributes are those of the layers below.
pub type OnTheWay = Vec<PathBuf>;

impl Folders {
    pub fn new(path: &Path) -> Result<Folders> {
        let root = rustix::fs::open(path, FOLDER | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(|e| Error::io("open", path, e))?;
        Ok(Folders { root, path: path.to_owned(), last: None })
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Closes what is kept open, so that its time is right.
    pub fn settle(&mut self) {
        self.last = None;
    }

    /// A folder for its members, made if need be; those that are made are told.
    pub fn open(&mut self, path: &Path, made: &mut OnTheWay) -> Result<BorrowedFd<'_>> {
        if self.last.as_ref().is_none_or(|last| last.path != path) {
            self.last = None;
            let fd = match self.find(path) {
                Err(Errno::NOENT | Errno::NOTDIR) => self.make(path, made)?,
                other => other.map_err(|e| self.no_folder(path, e))?,
            };
            let stat = fstat(&fd).map_err(|e| Error::io("look at", &self.path.join(path), e))?;
            self.last = Some(Open { path: path.to_owned(), fd, times: times(&stat) });
        }
        Ok(self.last.as_ref().map_or(self.root.as_fd(), |last| last.fd.as_fd()))
    }

    /// What is there, if it is a folder.
    pub fn find(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        open_in_root(&self.root, path, FOLDER)
    }

    /// Part by part.
    fn make(&self, path: &Path, made: &mut OnTheWay) -> Result<OwnedFd> {
        let mut at = PathBuf::new();
        let mut fd = self.find(&at).map_err(|e| Error::io("open", &self.path, e))?;
        for part in path.components() {
            at.push(part);
            fd = match self.find(&at) {
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    let fail = |e| self.no_folder(&at, e);
                    let name = part.as_os_str();
                    let is_hidden = match statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) if is_whiteout(&stat) => {
                            unlinkat(&fd, name, AtFlags::empty()).map_err(fail)?;
                            true
                        }
                        Ok(_) => return Err(fail(Errno::NOTDIR)),
                        Err(Errno::NOENT) => false,
                        Err(e) => return Err(fail(e)),
                    };
                    mkdirat(&fd, name, Mode::from_raw_mode(0o755)).map_err(fail)?;
                    let new = self.find(&at).map_err(fail)?;
                    // Whatever the umask is.
                    rustix::fs::fchmod(&new, Mode::from_raw_mode(0o755)).map_err(fail)?;
                    if is_hidden {
                        set_opaque(new.as_fd()).map_err(fail)?;
                    } else {
                        made.push(at.clone());
                    }
                    new
                }
                other => other.map_err(|e| self.no_folder(&at, e))?,
            };
        }
        Ok(fd)
    }

    fn no_folder(&self, path: &Path, errno: Errno) -> Error {
        use std::os::unix::ffi::OsStrExt;
        if matches!(errno, Errno::NOTDIR | Errno::LOOP) {
            let shown = show(path.as_os_str().as_bytes());
            let why = format!("{shown} is no folder, and the layer has files below it");
            return Error::bad("the layer is refused", why);
        }
        Error::io("make the folder", &self.path.join(path), errno)
    }

    /// Makes room for a new member.
    pub fn clear(&mut self, folder: &Path, name: &OsStr, for_folder: bool) -> Result<Before> {
        let path = self.path.join(folder).join(name);
        let fail = |e| Error::io("replace", &path, e);
        let at = self.open(folder, &mut Vec::new())?;
        let stat = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Before::Nothing),
            Err(e) => return Err(fail(e)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if for_folder => return Ok(Before::Folder),
            FileType::Directory => {
                remove_in(at, name).map_err(|e| Error::io("replace", &path, e))?;
            }
            _ => unlinkat(at, name, AtFlags::empty()).map_err(fail)?,
        }
        Ok(if is_whiteout(&stat) { Before::Whiteout } else { Before::Removed })
    }
}

/// For calls that take a path alone.
pub fn fd_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Hides what the layers below have in this folder: for overlays with and without a user namespace of their own.
pub fn set_opaque(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut result = Err(Errno::NOTSUP);
    for name in OPAQUE {
        let set = fsetxattr(folder, name, b"y", XattrFlags::empty());
        // Trusted ones are root's alone, and some file systems have no others.
        if result.is_err() || set.is_ok() {
            result = set;
        }
    }
    result
}

pub fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

//! A copy of a folder of an image, with all that is in it: what a new volume begins with.
//!
//! | in the image | in the copy |
//! |---|---|
//! | owners, modes (setuid too), times, `user.*`, capabilities, ACLs | the same |
//! | links | as they are: none is followed |
//! | hard links within the folder | the same: one file |
//! | holes | holes |
//! | FIFOs | FIFOs |
//! | devices, sockets | nothing: the unpacking of a layer makes none |
//!
//! Memory does not grow with how much there is: of a file with several names the copy has one more, in a folder beside, until
//! all is done.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fstat, linkat, mkdirat, mknodat,
    openat, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::unpack::{copy_data, each_piece, look_like, times};

/// Folders in folders. Three descriptors are open for each, of which a process has 1,024 if nobody has given it more.
const DEPTH_MAX: usize = 256;
/// As stat(2) counts.
const BLOCK: u64 = 512;

/// How much there is to copy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Of data, without holes; of each of a file's names.
    pub bytes: u64,
    /// Files, folders, links.
    pub entries: u64,
}

impl Amount {
    /// One more. An image that has its whole content in a hundred volumes fills no disk with it.
    fn add(&mut self, bytes: u64, limits: &Limits) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries = self.entries.saturating_add(1);
        let why = match *self {
            Amount { bytes, .. } if bytes > limits.bytes => format!("more than {} MiB", limits.bytes >> 20),
            Amount { entries, .. } if entries > limits.entries => {
                format!("more than {} files", limits.entries)
            }
            _ => return Ok(()),
        };
        Err(Error::bad("too much is to be copied into the volumes of one service", why))
    }
}

/// Adds to `amount` what is in this folder, unless that is more than the limits allow.
pub fn measure(folder: impl AsFd, amount: &mut Amount, limits: &Limits) -> Result<()> {
    measure_at(folder.as_fd(), Path::new("."), 0, amount, limits)
}

fn measure_at(
    folder: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    amount: &mut Amount,
    limits: &Limits,
) -> Result<()> {
    for entry in entries(folder, path, depth)? {
        let name = entry.map_err(|e| Error::io("read the folder", path, e))?;
        let path = &path.join(&name);
        let stat = look(folder, &name, path)?;
        amount.add(data_of(folder, &name, path, &stat)?, limits)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            measure_at(open_folder(folder, &name, path)?.as_fd(), path, depth + 1, amount, limits)?;
        }
    }
    Ok(())
}

/// How much data there is. A file that has less on the disk than its length has holes, or is packed there and will not be so in
/// the copy.
fn data_of(folder: BorrowedFd<'_>, name: &Path, path: &Path, stat: &Stat) -> Result<u64> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(0);
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    if u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK) >= size {
        return Ok(size);
    }
    let mut data = 0_u64;
    let mut add = |_, length| {
        data = data.saturating_add(length);
        Ok(())
    };
    let file = open_file(folder, name.as_os_str()).map_err(|e| Error::io("look at", path, e))?;
    each_piece(&file, &mut add).map_err(|e| Error::io("look at", path, e))?;
    Ok(data)
}

/// Makes of `to`, an empty folder, what `from` is. `names`, another empty one on the same file system, is for the while.
pub fn copy(from: impl AsFd, to: impl AsFd, names: impl AsFd) -> Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let copy = Copy { names: names.as_fd(), is_root };
    copy.folder(from.as_fd(), to.as_fd(), Path::new("."), 0)?;
    copy.forget_names()
}

struct Copy<'c> {
    /// Each file with several names, by its device and number in the image.
    names: BorrowedFd<'c>,
    /// Ids can be given: else all is ours.
    is_root: bool,
}

/// Where something is in the image, and where its copy goes.
#[derive(Clone, Copy)]
struct At<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    name: &'a OsStr,
    /// For people.
    path: &'a Path,
}

impl Copy<'_> {
    fn folder(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<()> {
        for entry in entries(from, path, depth)? {
            let name = &entry.map_err(|e| Error::io("read the folder", path, e))?;
            let at = At { from, to, name: name.as_os_str(), path: &path.join(name) };
            self.one(at, depth)?;
        }
        let fail = |e| Error::io("copy the folder", path, e);
        let stat = fstat(from).map_err(fail)?;
        // Last: what is put into a folder changes its time.
        look_like(
            to,
            &from.try_clone_to_owned().map_err(|e| Error::io("copy the folder", path, e))?,
            &stat,
            self.is_root,
        )
        .map_err(fail)
    }

    fn one(&self, at: At<'_>, depth: usize) -> Result<()> {
        let stat = look(at.from, at.name, at.path)?;
        let fail = |e| Error::io("copy", at.path, e);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(at.to, at.name, Mode::from_raw_mode(0o700)).map_err(fail)?;
                let from = open_folder(at.from, at.name, at.path)?;
                let to = open_folder(at.to, at.name, at.path)?;
                self.folder(from.as_fd(), to.as_fd(), at.path, depth + 1)
            }
            FileType::RegularFile if stat.st_nlink > 1 => self.file_of_many_names(at, &stat),
            FileType::RegularFile => self.file(at),
            FileType::Symlink => {
                let target = readlinkat(at.from, at.name, Vec::new()).map_err(fail)?;
                symlinkat(&target, at.to, at.name).map_err(fail)?;
                self.owner_and_times(at, &stat).map_err(fail)
            }
            FileType::Fifo => {
                mknodat(at.to, at.name, FileType::Fifo, Mode::empty(), 0).map_err(fail)?;
                self.owner_and_times(at, &stat).map_err(fail)?;
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                chmodat(at.to, at.name, mode, AtFlags::empty()).map_err(fail)
            }
            _ => Ok(()),
        }
    }

    fn file(&self, at: At<'_>) -> Result<()> {
        let fail = |e: Errno| Error::io("copy", at.path, e);
        let from = open_file(at.from, at.name).map_err(fail)?;
        let stat = fstat(&from).map_err(fail)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = File::from(openat(at.to, at.name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?);
        copy_data(&from, &to, &|_| Ok(())).map_err(|e| Error::io("copy", at.path, e))?;
        look_like(&to, &from.into(), &stat, self.is_root).map_err(fail)
    }

    fn file_of_many_names(&self, at: At<'_>, stat: &Stat) -> Result<()> {
        let fail = |e: Errno| Error::io("copy", at.path, e);
        let name = format!("{}-{}", stat.st_dev, stat.st_ino);
        match linkat(self.names, &*name, at.to, at.name, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT) => {}
            // As many names as one file can have here: the next ones are those of a second copy.
            Err(Errno::MLINK) => unlinkat(self.names, &*name, AtFlags::empty()).map_err(fail)?,
            Err(e) => return Err(fail(e)),
        }
        self.file(at)?;
        match linkat(at.to, at.name, self.names, &*name, AtFlags::empty()) {
            // A file system without hard links has a copy for each name.
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => Ok(()),
            Err(e) => Err(fail(e)),
        }
    }

    fn owner_and_times(&self, at: At<'_>, stat: &Stat) -> rustix::io::Result<()> {
        if self.is_root {
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            chownat(at.to, at.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        utimensat(at.to, at.name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn forget_names(&self) -> Result<()> {
        let fail = |e| Error::io("remove names of", Path::new("copied files"), e);
        for entry in entries(self.names, Path::new("."), 0)? {
            let name = entry.map_err(fail)?;
            unlinkat(self.names, &*name, AtFlags::empty()).map_err(fail)?;
        }
        Ok(())
    }
}

fn entries(
    folder: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
) -> Result<impl Iterator<Item = rustix::io::Result<PathBuf>>> {
    if depth > DEPTH_MAX {
        let why = format!("{} lies in more than {DEPTH_MAX} folders", path.display());
        return Err(Error::bad("cannot copy a folder of the image", why));
    }
    let all = Dir::read_from(folder).map_err(|e| Error::io("read the folder", path, e))?;
    let name = |entry: rustix::fs::DirEntry| PathBuf::from(OsStr::from_bytes(entry.file_name().to_bytes()));
    let names = all.map(move |entry| entry.map(name));
    Ok(names.filter(|name| !matches!(name, Ok(name) if name == Path::new(".") || name == Path::new(".."))))
}

fn look(folder: BorrowedFd<'_>, name: impl AsRef<OsStr>, path: &Path) -> Result<Stat> {
    statat(folder, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| Error::io("look at", path, e))
}

/// Whatever it is by now, nobody is waited for.
fn open_file(folder: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty()).map(File::from)
}

fn open_folder(folder: BorrowedFd<'_>, name: impl AsRef<OsStr>, path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name.as_ref(), flags, Mode::empty()).map_err(|e| Error::io("open the folder", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_testkit::Folder;

    fn open(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn what_is_more_than_the_limits_is_refused_before_anything_is_copied() {
        let folder = Folder::new().with("a/file", &"x".repeat(9000)).with("a/b/c", "");
        let from = open(&folder.0);
        let limits = |bytes, entries| Limits { bytes, entries, ..Limits::default() };
        let measured = |amount: &mut Amount, limits| {
            measure(&from, amount, &limits).map(|()| amount.entries).map_err(|e| e.to_string())
        };
        let mut amount = Amount::default();
        assert_eq!(measured(&mut amount, limits(1 << 20, 8)), Ok(4));
        assert!(amount.bytes >= 9000, "{amount:?}");
        // Of all folders together.
        assert_eq!(measured(&mut amount, limits(1 << 20, 8)), Ok(8));
        assert!(measured(&mut amount, limits(1 << 20, 8)).unwrap_err().ends_with("more than 8 files"));
        let error = measured(&mut Amount::default(), limits(4096, 8)).unwrap_err();
        assert!(error.ends_with("more than 0 MiB"), "{error}");
        // Holes are nothing.
        let sparse = File::create(folder.path("a/sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"x", 1 << 30).unwrap();
        let mut amount = Amount::default();
        assert_eq!(measured(&mut amount, limits(1 << 20, 8)), Ok(5));
        assert!((9001..1 << 20).contains(&amount.bytes), "{amount:?}");
    }

    #[test]
    fn names_of_one_file_are_names_of_one_file_in_the_copy_too() {
        let folder = Folder::new().with("from/a/one", "x").with("to/.keep", "").with("names/.keep", "");
        for path in ["to/.keep", "names/.keep"] {
            std::fs::remove_file(folder.path(path)).unwrap();
        }
        std::fs::hard_link(folder.path("from/a/one"), folder.path("from/two")).unwrap();
        copy(open(&folder.path("from")), open(&folder.path("to")), open(&folder.path("names"))).unwrap();
        let of =
            |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(folder.path(path)).unwrap());
        assert_eq!(of("to/a/one"), of("to/two"));
        assert_eq!(std::fs::read_dir(folder.path("names")).unwrap().count(), 0);
    }
}

//! What a layer takes from those below it: the target of a hard link, and how a folder looks that it only passes through.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, getxattr, open, openat, openat2, readlinkat, seek,
    symlinkat, utimensat,
};
use rustix::io::Errno;

use super::Unpack;
use super::folders::{OPAQUE, fd_path, is_whiteout, times};
use super::member::is_kept;
use super::path::Place;
use crate::error::{Error, Kind as Failure, Result, from_reader};
use crate::tar::{Entry, Kind, Time, show};

/// The kernel's limits for an extended attribute and for a list of them.
const XATTR_BYTES: usize = 64 << 10;

impl Unpack {
    /// A hard link to what this layer has by now, or to a copy of what a layer below has.
    pub(super) fn copy_up(&mut self, lower: &[PathBuf], from: &Place, to: &Place) -> Result<()> {
        let entry = entry_for(from, to);
        if self.link(from, to, &entry)? {
            return Ok(());
        }
        let Some((found, stat)) = find(lower, from.path(), &|| self.share.look())? else {
            let why =
                format!("{}: a hard link to {}, which no layer has", show(&entry.path), show(&entry.target));
            return Err(Error::bad("the layer is refused", why));
        };
        let (folder, name) = to.split();
        // It may have been removed since: what is made again counts again.
        self.open(folder)?;
        self.folders.clear(folder, name, false)?;
        let place = PathBuf::from(show(&entry.path));
        let fail = |e: Errno| Error::io("copy from a layer below", &place, e);
        let (uid, gid) = owner(&stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let source =
                    open(fd_path(&found), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    openat(self.open(folder)?, name, flags, Mode::from_raw_mode(0o600)).map_err(fail)?;
                let file = File::from(file);
                copy_data(&File::from(source), &file, &|bytes| self.share.bytes(bytes))
                    .map_err(|e| from_reader(e, Failure::Host, "cannot copy from a layer below"))?;
                look_like(&file, &found, &stat, self.is_root).map_err(fail)
            }
            FileType::Symlink => {
                let target = readlinkat(&found, "", Vec::new()).map_err(fail)?;
                let is_root = self.is_root;
                let at = self.open(folder)?;
                symlinkat(&target, at, name).map_err(fail)?;
                if is_root {
                    chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
                }
                utimensat(at, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
            }
            _ => {
                let why = format!("{}: a hard link to what is no file", show(&entry.path));
                Err(Error::bad("the layer is refused", why))
            }
        }
    }

    /// A folder that was only on the way shows what the layers below say of it.
    pub(super) fn like_below(&mut self, lower: &[PathBuf], path: &Path) -> Result<()> {
        let Some((found, stat)) = find(lower, path, &|| self.share.look())? else { return Ok(()) };
        // Something else has come in its place.
        let Ok(folder) = self.folders.find(path) else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        look_like(&folder, &found, &stat, self.is_root)
            .map_err(|e| Error::io("set the attributes of", path, e))
    }
}

/// All that is data, and the holes between: a file of a few bytes may be of any length. `spend` is asked before each piece.
pub(crate) fn copy_data(from: &File, to: &File, spend: &dyn Fn(u64) -> Result<()>) -> io::Result<()> {
    each_piece(from, &mut |start, length| {
        spend(length)?;
        seek(from, rustix::fs::SeekFrom::Start(start))?;
        seek(to, rustix::fs::SeekFrom::Start(start))?;
        io::copy(&mut from.take(length), &mut &*to).map(drop)
    })?;
    to.set_len(from.metadata()?.len())
}

/// Calls `each` with the start and the length of each piece of data between holes.
pub(crate) fn each_piece(file: &File, each: &mut dyn FnMut(u64, u64) -> io::Result<()>) -> io::Result<()> {
    let mut at = 0;
    loop {
        let start = match seek(file, rustix::fs::SeekFrom::Data(at)) {
            // There is none from here on.
            Err(Errno::NXIO) => return Ok(()),
            other => other?,
        };
        at = seek(file, rustix::fs::SeekFrom::Hole(start))?;
        each(start, at.saturating_sub(start))?;
    }
}

/// The new file gets what the old one has: owner, extended attributes, mode, times.
pub(crate) fn look_like(new: impl AsFd, old: &OwnedFd, stat: &Stat, is_root: bool) -> rustix::io::Result<()> {
    let new = new.as_fd();
    let (uid, gid) = owner(stat);
    if is_root {
        fchown(new, uid, gid)?;
    }
    // What was found is open as a path alone, which has no attributes to read.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let old = open(fd_path(old), flags, Mode::empty())?;
    for (name, value) in xattrs(&old)? {
        match fsetxattr(new, name.as_slice(), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(e) => return Err(e),
        }
    }
    fchmod(new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    futimens(new, &times(stat))
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

/// For messages and counts.
fn entry_for(from: &Place, to: &Place) -> Entry {
    Entry {
        kind: Kind::HardLink,
        path: to.path().as_os_str().as_encoded_bytes().to_vec(),
        target: from.path().as_os_str().as_encoded_bytes().to_vec(),
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Time::default(),
        stored: 0,
        size: 0,
        segments: None,
        xattrs: Vec::new(),
        device: (0, 0),
    }
}

/// What an overlay of these layers, the nearest first, would show there. `look` is called for each look into one of them.
pub(crate) fn find(
    lower: &[PathBuf],
    path: &Path,
    look: &dyn Fn() -> Result<()>,
) -> Result<Option<(OwnedFd, Stat)>> {
    for layer in lower {
        look()?;
        let fail = |e| Error::io("look into the layer", layer, e);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = open(layer, flags | OFlags::DIRECTORY, Mode::empty()).map_err(fail)?;
        // overlayfs goes through folders alone: what a layer has behind a link of its own is not there.
        match open_below(&root, path, flags | OFlags::NOFOLLOW) {
            Ok(found) => {
                let stat = fstat(&found).map_err(fail)?;
                return Ok((!is_whiteout(&stat)).then_some((found, stat)));
            }
            Err(Errno::NOENT) if !hides(&root, path, look)? => {}
            // On the way there is a file or a whiteout, or a folder that hides those below.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(fail(e)),
        }
    }
    Ok(None)
}

fn open_below(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// Is one of the folders on the way opaque? Each is opened from the one around it: a path may have two thousand.
fn hides(root: &OwnedFd, path: &Path, look: &dyn Fn() -> Result<()>) -> Result<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = None;
    for name in path.components() {
        let at = folder.as_ref().unwrap_or(root);
        if is_opaque(at) {
            return Ok(true);
        }
        look()?;
        match open_below(at, Path::new(&name), flags) {
            Ok(next) => folder = Some(next),
            Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

fn is_opaque(folder: &OwnedFd) -> bool {
    let folder = fd_path(folder);
    OPAQUE.into_iter().any(|name| getxattr(&folder, name, &mut [0u8; 2]).is_ok_and(|n| n == 1))
}

/// Those that are kept.
fn xattrs(file: &OwnedFd) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; XATTR_BYTES];
    let n = match flistxattr(file, &mut names) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names.get(..n).unwrap_or_default().split(|b| *b == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; XATTR_BYTES];
        let n = fgetxattr(file, name, &mut value)?;
        value.truncate(n);
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

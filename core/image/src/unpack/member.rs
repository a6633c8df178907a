//! One member of the archive.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::Unpack;
use super::folders::{Before, is_whiteout, set_opaque};
use super::path::Place;
use crate::error::{Error, Result};
use crate::tar::{Archive, Entry, Kind, Segment, Time, show};
use crate::writeback::Written;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";

fn refused(entry: &Entry, why: &str) -> Error {
    Error::bad("the layer is refused", format!("{}: {why}", show(&entry.path)))
}

fn failed(doing: &str, entry: &Entry, errno: Errno) -> Error {
    let hint = match errno {
        Errno::INVAL if doing == "give an owner to" => "are its ids mapped in this user namespace?",
        Errno::FBIG => "the file system of the store takes no file as large",
        _ => "",
    };
    let error = Error::io(doing, Path::new(&show(&entry.path)), errno);
    if hint.is_empty() { error } else { error.hint(hint) }
}

impl Unpack {
    pub(super) fn member<R: Read>(&mut self, archive: &mut Archive<R>, entry: &Entry) -> Result<()> {
        let place = Place::parse(&entry.path)?;
        if place.is_root() {
            return match entry.kind {
                Kind::Folder => {
                    self.attributes(self.folders.root(), entry).map(|n| self.left_out.xattrs += n)
                }
                _ => Err(refused(entry, "the layer's root must be a folder")),
            };
        }
        let (folder, name) = place.split();
        self.open(folder)?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(folder, name, entry);
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(&place, entry);
        }
        let before = match entry.kind {
            Kind::Character | Kind::Block => {
                self.left_out.devices += 1;
                return Ok(());
            }
            kind => self.folders.clear(folder, name, kind == Kind::Folder)?,
        };
        match entry.kind {
            Kind::File => self.file(archive, folder, name, entry),
            Kind::Folder => self.folder(folder, name, entry, before),
            Kind::Symlink => self.symlink(folder, name, entry),
            _ => self.fifo(folder, name, entry),
        }
    }

    /// Those that had to be made are finished when the layers below are there.
    pub(super) fn open(&mut self, folder: &Path) -> Result<BorrowedFd<'_>> {
        let mut made = Vec::new();
        self.folders.open(folder, &mut made)?;
        for path in made {
            self.share.entry()?;
            if self.is_above {
                self.passes(path)?;
            }
        }
        self.folders.open(folder, &mut Vec::new())
    }

    fn file<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        folder: &Path,
        name: &OsStr,
        entry: &Entry,
    ) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(self.open(folder)?, name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(fd.map_err(|e| failed("make", entry, e))?);
        let whole = [Segment { offset: 0, length: entry.stored }];
        for segment in entry.segments.as_deref().unwrap_or(&whole) {
            self.segment(archive, &mut file, segment, entry)?;
        }
        if entry.segments.is_some() {
            file.set_len(entry.size).map_err(|e| Error::io("write", Path::new(&show(&entry.path)), e))?;
        }
        self.left_out.xattrs += self.attributes(file.as_fd(), entry)?;
        Ok(())
    }

    fn segment<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        file: &mut File,
        segment: &Segment,
        entry: &Entry,
    ) -> Result<()> {
        let fail = |e: std::io::Error| Error::io("write", Path::new(&show(&entry.path)), e);
        if entry.segments.is_some() {
            file.seek(SeekFrom::Start(segment.offset)).map_err(fail)?;
        }
        let mut written = Written::new(segment.offset);
        let mut left = segment.length;
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let piece = self.buffer.get_mut(..room).unwrap_or_default();
            archive.read_exact(piece)?;
            written.write(file, piece).map_err(fail)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }

    fn folder(&mut self, folder: &Path, name: &OsStr, entry: &Entry, before: Before) -> Result<()> {
        let at = self.open(folder)?;
        if before != Before::Folder {
            mkdirat(at, name, Mode::from_raw_mode(0o700)).map_err(|e| failed("make", entry, e))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(at, name, flags, Mode::empty()).map_err(|e| failed("open", entry, e))?;
        if before == Before::Whiteout && self.is_above {
            set_opaque(fd.as_fd()).map_err(|e| failed("hide what is below", entry, e))?;
        }
        self.left_out.xattrs += self.attributes(fd.as_fd(), entry)?;
        self.arrives(&folder.join(name));
        Ok(())
    }

    fn symlink(&mut self, folder: &Path, name: &OsStr, entry: &Entry) -> Result<()> {
        if entry.target.is_empty() {
            return Err(refused(entry, "a link that leads nowhere"));
        }
        let at = self.open(folder)?;
        symlinkat(entry.target.as_slice(), at, name).map_err(|e| failed("make the link", entry, e))?;
        self.owner_and_time_at(folder, name, entry)
    }

    fn fifo(&mut self, folder: &Path, name: &OsStr, entry: &Entry) -> Result<()> {
        let at = self.open(folder)?;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        mknodat(at, name, FileType::Fifo, mode, 0).map_err(|e| failed("make", entry, e))?;
        self.owner_and_time_at(folder, name, entry)?;
        let at = self.open(folder)?;
        rustix::fs::chmodat(at, name, mode, AtFlags::empty()).map_err(|e| failed("make", entry, e))
    }

    fn owner_and_time_at(&mut self, folder: &Path, name: &OsStr, entry: &Entry) -> Result<()> {
        let is_root = self.is_root;
        let at = self.open(folder)?;
        if is_root {
            let (uid, gid) = ids(entry);
            chownat(at, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| failed("give an owner to", entry, e))?;
        }
        utimensat(at, name, &stamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed("set the time of", entry, e))
    }

    /// Owner, xattrs, mode, times, in this order: a new owner takes setuid and capabilities away. How many xattrs were left out.
    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<u64> {
        let mut mode = entry.mode;
        if self.is_root {
            let (uid, gid) = ids(entry);
            fchown(fd, uid, gid).map_err(|e| failed("give an owner to", entry, e))?;
        } else if entry.kind == Kind::Folder {
            mode |= 0o700; // else nothing more could be put into it
        }
        let mut left_out = 0;
        for (name, value) in &entry.xattrs {
            match Some(name.as_slice()).filter(|name| is_kept(name)) {
                None => left_out += 1,
                Some(name) => match fsetxattr(fd, name, value, XattrFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) => left_out += 1,
                    Err(e) => return Err(failed("set an extended attribute of", entry, e)),
                },
            }
        }
        fchmod(fd, Mode::from_raw_mode(mode)).map_err(|e| failed("set the mode of", entry, e))?;
        futimens(fd, &stamps(entry.mtime)).map_err(|e| failed("set the time of", entry, e))?;
        Ok(left_out)
    }

    fn hard_link(&mut self, to: &Place, entry: &Entry) -> Result<()> {
        let from = Place::parse(&entry.target)?;
        if from.is_root() {
            return Err(refused(entry, "a hard link to the layer's root"));
        }
        if self.link(&from, to, entry)? {
            return Ok(());
        }
        if !self.is_above {
            let why = format!("a hard link to {}, which is not in the layer", show(&entry.target));
            return Err(refused(entry, &why));
        }
        self.defer(from, to.clone())
    }

    /// To what this layer has, if it has it.
    pub(super) fn link(&mut self, from: &Place, to: &Place, entry: &Entry) -> Result<bool> {
        let (source, source_name) = from.split();
        let Ok(source) = self.folders.find(source) else { return Ok(false) };
        let look = |at: BorrowedFd<'_>, name: &OsStr| match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(failed("look at", entry, e)),
        };
        let Some(stat) = look(source.as_fd(), source_name)?.filter(|stat| !is_whiteout(stat)) else {
            return Ok(false);
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(refused(entry, "a hard link to a folder"));
        }
        let (folder, name) = to.split();
        let there = look(self.open(folder)?, name)?;
        if there.is_some_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(true);
        }
        self.folders.clear(folder, name, false)?;
        let at = self.open(folder)?;
        match linkat(&source, source_name, at, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            // It was below what made room.
            Err(Errno::NOENT) => Err(refused(entry, "a hard link in the place of its own target")),
            Err(e) => Err(failed("make the hard link", entry, e)),
        }
    }

    /// What the name says of the layers below. Of this layer it says nothing, wherever in the archive it stands.
    fn whiteout(&mut self, folder: &Path, name: &OsStr, entry: &Entry) -> Result<()> {
        if !self.is_above {
            return Ok(());
        }
        let bytes = name.as_bytes();
        let fail = |e| failed("hide what is below", entry, e);
        if bytes == OPAQUE {
            return set_opaque(self.open(folder)?).map_err(fail);
        }
        if bytes.starts_with(AUFS) {
            return Ok(()); // aufs's own, of no use to others
        }
        let hidden = bytes.get(WHITEOUT.len()..).unwrap_or_default();
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(entry, "a whiteout of nothing"));
        }
        let hidden = OsStr::from_bytes(hidden);
        let at = self.open(folder)?;
        match mknodat(at, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(at, hidden, flags, Mode::empty()) {
                    Ok(fd) => set_opaque(fd.as_fd()).map_err(fail),
                    Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(()),
                    Err(e) => Err(fail(e)),
                }
            }
            Err(e) => Err(fail(e)),
        }
    }
}

/// Those that mean something in a container and nothing to overlayfs.
pub(super) fn is_kept(name: &[u8]) -> bool {
    let kept = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    kept || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn ids(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

fn stamps(time: Time) -> Timestamps {
    let at = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: at, last_modification: at }
}

//! May this file tell us what to do? A config, a plugin or a state file commands a process that is often root, so whoever
//! may write it, or put another in its place, commands that process too.
//!
//! ```text
//!   the file      a regular one, of a trusted owner; nobody else may write it
//!   its folder    of a trusted owner; nobody else may write it, unless it is sticky
//!   folders above, and links on the way: of a trusted owner; not writable by everybody, unless sticky
//! ```
//! A group may write to a folder further up: root has then given it a part of the machine, programs included, as Debian gives
//! /usr/local to the group staff (Debian policy, 9.1.2). To refuse that would refuse what is installed there.
//!
//! Trusted are root, our own user, and under sudo the user who called it: a checkout of theirs is run so. The walk goes by
//! descriptors, one component after the other, so no name is looked up twice. Nothing but a regular file is ever
//! opened: a FIFO would make us wait for its writer, and a device acts when it is opened.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, RawMode, Stat, fchmod, fgetxattr, fstat, mkdirat, openat, readlinkat,
};
use rustix::io::Errno;
use sampan_child::defence::{self, Defence};

/// As many symbolic links as the kernel follows in one path (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Owns, in a user namespace, everything whose owner has no number there (user_namespaces(7)).
const OVERFLOW_UID: u32 = 65534;

/// What a file's group may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Write, if nobody but the owner is in it (the umask 002 of Debian and Fedora); that is a warning.
    MayWriteIfPrivate,
    /// Not write: the file is code.
    MayNotWrite,
}

/// A file that may be trusted.
#[derive(Debug)]
pub struct Trusted {
    pub file: File,
    /// What is not as it should be, and no reason to refuse it.
    pub warning: Option<Error>,
}

#[derive(Debug)]
pub struct Error {
    pub path: PathBuf,
    pub why: Why,
}

#[derive(Debug)]
pub enum Why {
    Call(io::Error),
    /// Something else than a regular file.
    Kind(&'static str),
    Size {
        bytes_max: u64,
    },
    Owner(u32),
    EverybodyMayWrite {
        mode: u32,
    },
    GroupMayWrite {
        gid: u32,
        mode: u32,
    },
}

impl Error {
    fn new(path: &Path, why: Why) -> Error {
        Error { path: path.to_owned(), why }
    }

    fn call(path: &Path) -> impl Fn(Errno) -> Error {
        move |errno| Error::new(path, Why::Call(errno.into()))
    }

    /// The reason, for a sentence that has named `path` already; it names the file if that is another one.
    pub fn about(&self, path: &Path) -> String {
        if self.path == path { self.reason() } else { self.to_string() }
    }

    /// Somebody else could write it; else it is not there or not readable.
    pub fn is_about_trust(&self) -> bool {
        matches!(self.why, Why::Owner(_) | Why::EverybodyMayWrite { .. } | Why::GroupMayWrite { .. })
    }

    fn reason(&self) -> String {
        let path = self.path.display();
        match &self.why {
            Why::Call(error) => plain(error),
            Why::Kind(what) => format!("{what}, not a regular file"),
            Why::Size { bytes_max } => format!("larger than {} MiB", bytes_max >> 20),
            Why::Owner(uid) => {
                format!("it belongs to user {uid}, who is neither root nor us; chown it, or use a copy")
            }
            Why::EverybodyMayWrite { mode } => {
                format!("everybody may write to it (mode {mode:04o}); chmod o-w {path}")
            }
            Why::GroupMayWrite { gid, mode } => {
                format!("its group {gid} may write to it (mode {mode:04o}); chmod g-w {path}")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason())
    }
}

impl std::error::Error for Error {}

/// The system's words without Rust's `(os error 2)`.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

/// Opens a file that may be trusted.
pub fn open(path: &Path, group: Group) -> Result<Trusted, Error> {
    let found = find(path)?;
    let Some((name, there)) = found.file else {
        return Err(Error::new(path, Why::Kind("a folder")));
    };
    let path = there.path;
    is_regular(&path, &there.stat)?;
    found.folder.only_its_owner_writes(group)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&found.folder.fd, name, flags, Mode::empty()).map_err(Error::call(&path))?;
    // It may be another one than a moment ago; from here on it is this one.
    let stat = fstat(&file).map_err(Error::call(&path))?;
    is_regular(&path, &stat)?;
    has_trusted_owner(&path, &stat)?;
    let warning = only_its_owner_writes(&path, file.as_fd(), &stat, group)?;
    Ok(Trusted { file: file.into(), warning })
}

/// All of a file that may be trusted.
pub fn read(path: &Path, group: Group, bytes_max: u64) -> Result<(Vec<u8>, Option<Error>), Error> {
    let Trusted { file, warning } = open(path, group)?;
    Ok((read_whole(path, file, bytes_max)?, warning))
}

/// A folder whose contents may be trusted as far as their own owner and mode allow.
pub fn folder(path: &Path, group: Group) -> Result<OwnedFd, Error> {
    let place = find_folder(path)?;
    place.only_its_owner_writes(group)?;
    place.reopen().map_err(Error::call(path))
}

/// The same of one that only we can have made, as [`ours`] says.
pub fn own_folder(path: &Path) -> Result<OwnedFd, Error> {
    let place = find_folder(path)?;
    let fd = place.reopen().map_err(Error::call(path))?;
    is_ours(path, &fd, &place.stat)?;
    Ok(fd)
}

fn find_folder(path: &Path) -> Result<Place, Error> {
    let found = find(path)?;
    match found.file {
        Some(_) => Err(Error::new(path, Why::Call(Errno::NOTDIR.into()))),
        None => Ok(found.folder),
    }
}

/// Opens a file of any owner, if it is a regular one: what a bundle or an image brings.
pub fn regular(dir: impl AsFd, path: &Path, flags: OFlags) -> Result<File, Error> {
    let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(dir, path, flags, Mode::empty()).map_err(Error::call(path))?;
    is_regular(path, &fstat(&file).map_err(Error::call(path))?)?;
    Ok(file.into())
}

/// All of a regular file of any owner.
pub fn read_regular(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Error> {
    read_whole(path, regular(CWD, path, OFlags::empty())?, bytes_max)
}

/// As much as std's `read_to_end` asks for where it does not know how much is left.
const ROOM_TO_SEE_THE_END: usize = 32;

/// The rest of `file`, which is called `path`; more than `bytes_max` is an error, however the file grows meanwhile.
pub fn read_whole(path: &Path, file: File, bytes_max: u64) -> Result<Vec<u8>, Error> {
    // With room for all of it and some to spare std reads it by one call and finds its end by another; else by 32 bytes, then 64.
    let size = fstat(&file).map_or(0, |stat| stat.st_size as u64).min(bytes_max);
    let mut bytes = Vec::with_capacity(size as usize + ROOM_TO_SEE_THE_END);
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Error::new(path, Why::Call(error)))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Error::new(path, Why::Size { bytes_max }));
    }
    Ok(bytes)
}

/// Something open that only we can have written: what we made ourselves and find again. Neither root's nor, under sudo,
/// the caller's will do, and no sticky bit makes up for a folder that others write to.
pub fn ours(path: &Path, fd: impl AsFd) -> Result<(), Error> {
    let stat = fstat(&fd).map_err(Error::call(path))?;
    is_ours(path, fd, &stat)
}

fn is_ours(path: &Path, fd: impl AsFd, stat: &Stat) -> Result<(), Error> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Error::new(path, Why::Owner(stat.st_uid)));
    }
    only_its_owner_writes(path, fd, stat, Group::MayWriteIfPrivate).map(drop)
}

/// The mode of what we make for ourselves alone, or to be passed through by others.
pub fn closed(mode: u32) -> Mode {
    let open = if defence::on(Defence::ClosedToOthers) { 0 } else { 0o055 };
    Mode::from_raw_mode(mode | open)
}

/// mkdir -p; what is made has this mode, whatever the umask.
pub fn make_folders(path: &Path, mode: Mode) -> io::Result<()> {
    match mkdirat(CWD, path, mode) {
        Ok(()) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Ok(fchmod(openat(CWD, path, flags, Mode::empty())?, mode)?)
        }
        Err(Errno::EXIST) if path.is_dir() => Ok(()),
        Err(Errno::NOENT) => {
            make_folders(path.parent().ok_or(Errno::NOENT)?, mode)?;
            make_folders(path, mode)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Where a path leads.
struct Found {
    folder: Place,
    /// None: it leads to the folder itself.
    file: Option<(OsString, Place)>,
}

/// What a step of the walk has come to.
struct Place {
    fd: OwnedFd,
    stat: Stat,
    path: PathBuf,
}

impl Place {
    fn open(parent: impl AsFd, name: &OsStr, path: PathBuf) -> rustix::io::Result<Place> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Place { fd, stat, path })
    }

    fn root() -> Result<Place, Error> {
        let root = Place::open(CWD, OsStr::new("/"), "/".into()).map_err(Error::call(Path::new("/")))?;
        root.leads_where_it_says()?;
        Ok(root)
    }

    /// Nobody but a trusted owner can put something else in the place of what is in it; who owns that is looked at next.
    fn leads_where_it_says(&self) -> Result<(), Error> {
        // In a user namespace the host's root is one of many without a number.
        let is_hosts = self.stat.st_uid == OVERFLOW_UID && crate::kernel::host::in_user_namespace();
        if !is_hosts {
            has_trusted_owner(&self.path, &self.stat)?;
        }
        if self.stat.st_mode & 0o002 != 0 && !self.is_sticky() && defence::on(Defence::TrustedFiles) {
            return Err(Error::new(&self.path, Why::EverybodyMayWrite { mode: self.stat.st_mode & 0o7777 }));
        }
        Ok(())
    }

    /// As for a file; in a sticky folder others cannot touch what is not theirs.
    fn only_its_owner_writes(&self, group: Group) -> Result<(), Error> {
        if self.is_sticky() || self.stat.st_mode & 0o022 == 0 {
            return Ok(());
        }
        let fd = self.reopen().map_err(Error::call(&self.path))?;
        only_its_owner_writes(&self.path, fd.as_fd(), &self.stat, group).map(drop)
    }

    /// An O_PATH descriptor has no attributes and no entries to read: fgetxattr(2) and getdents(2) give EBADF.
    fn reopen(&self) -> rustix::io::Result<OwnedFd> {
        openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    fn is_sticky(&self) -> bool {
        self.stat.st_mode & RawMode::from(libc::S_ISVTX) != 0
    }
}

/// Follows `path`, and the links in it, as long as each step can be trusted.
fn find(path: &Path) -> Result<Found, Error> {
    let absolute = std::path::absolute(path).map_err(|error| Error::new(path, Why::Call(error)))?;
    let mut rest = components(&absolute);
    let mut folder = Place::root()?;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        // The end of the way is called as the caller calls it, unless a link has led elsewhere.
        let shown = if rest.is_empty() && links == 0 { path.to_owned() } else { folder.path.join(&name) };
        let here = Place::open(&folder.fd, &name, shown).map_err(Error::call(path))?;
        match FileType::from_raw_mode(here.stat.st_mode) {
            FileType::Directory => {
                here.leads_where_it_says()?;
                folder = here;
            }
            FileType::Symlink => {
                has_trusted_owner(&here.path, &here.stat)?;
                links += 1;
                if links > LINKS_MAX {
                    return Err(Error::new(path, Why::Call(Errno::LOOP.into())));
                }
                let target = readlinkat(&here.fd, c"", Vec::new()).map_err(Error::call(path))?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    folder = Place::root()?;
                }
                rest.extend(components(&target));
            }
            _ if rest.is_empty() => return Ok(Found { folder, file: Some((name, here)) }),
            _ => return Err(Error::new(path, Why::Call(Errno::NOTDIR.into()))),
        }
    }
    Ok(Found { folder, file: None })
}

/// Of a path, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let named = |c: &Component<'_>| matches!(c, Component::Normal(_) | Component::ParentDir);
    let mut names: Vec<OsString> =
        path.components().filter(named).map(|c| c.as_os_str().to_owned()).collect();
    names.reverse();
    names
}

fn is_regular(path: &Path, stat: &Stat) -> Result<(), Error> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Directory => "a folder",
        _ => "something else",
    };
    Err(Error::new(path, Why::Kind(what)))
}

fn has_trusted_owner(path: &Path, stat: &Stat) -> Result<(), Error> {
    // Most folders are root's, and a launch looks at a dozen.
    if stat.st_uid == 0 || !defence::on(Defence::TrustedFiles) {
        return Ok(());
    }
    let us = rustix::process::geteuid();
    let callers = || std::env::var("SUDO_UID").is_ok_and(|uid| uid == stat.st_uid.to_string());
    if stat.st_uid == us.as_raw() || us.is_root() && callers() {
        return Ok(());
    }
    Err(Error::new(path, Why::Owner(stat.st_uid)))
}

/// Some: its owner's private group may write to it, and that is allowed.
fn only_its_owner_writes(
    path: &Path,
    fd: impl AsFd,
    stat: &Stat,
    group: Group,
) -> Result<Option<Error>, Error> {
    let mode = stat.st_mode & 0o7777;
    if !defence::on(Defence::TrustedFiles) {
        return Ok(None);
    }
    if mode & 0o002 != 0 {
        return Err(Error::new(path, Why::EverybodyMayWrite { mode }));
    }
    if mode & 0o020 == 0 {
        return Ok(None);
    }
    let doubt = Error::new(path, Why::GroupMayWrite { gid: stat.st_gid, mode });
    // With an access control list the group's bits are the most that any entry may do (acl(5)), whoever it is for.
    if group == Group::MayNotWrite || has_access_control_list(fd) || !is_private(stat.st_uid, stat.st_gid) {
        return Err(doubt);
    }
    Ok(Some(doubt))
}

/// A long one does not fit, and is there all the same.
fn has_access_control_list(fd: impl AsFd) -> bool {
    match fgetxattr(fd, "system.posix_acl_access", &mut [0_u8; 64]) {
        Ok(bytes) => bytes > 0,
        Err(errno) => errno == Errno::RANGE,
    }
}

fn is_private(uid: u32, gid: u32) -> bool {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    is_private_in(&text("/etc/passwd"), &text("/etc/group"), uid, gid)
}

/// Is the owner alone in the group? One that these files do not know (LDAP) may have anybody in it.
fn is_private_in(passwd: &str, group: &str, uid: u32, gid: u32) -> bool {
    let (uid, gid) = (uid.to_string(), gid.to_string());
    // passwd(5): name:password:uid:gid:..
    let primary = |line| match fields(line).as_slice() {
        [name, _, user, primary, ..] if *primary == gid => Some((*name, *user)),
        _ => None,
    };
    // group(5): name:password:gid:members
    let members = |line| match fields(line).as_slice() {
        [_, _, number, members] if *number == gid => Some(*members),
        _ => None,
    };
    let users: Vec<(&str, &str)> = passwd.lines().filter_map(primary).collect();
    let lists: Vec<&str> = group.lines().filter_map(members).collect();
    let is_owner = |member: &str| users.iter().any(|(name, _)| *name == member);
    let alone = users.iter().all(|(_, user)| *user == uid)
        && lists.iter().all(|list| list.split(',').all(|member| member.is_empty() || is_owner(member)));
    alone && !users.is_empty() && !lists.is_empty()
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_group_has_its_owner_alone_in_it() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:\nbob:x:1001:100::/:\neve:x:1002:50::/:\n";
        let group = "root:x:0:\nann:x:1000:ann\nusers:x:100:\nstaff:x:50:eve,bob\n";
        let private = |uid, gid| is_private_in(passwd, group, uid, gid);
        assert!(private(0, 0) && private(1000, 1000), "with and without the owner as a member");
        assert!(!private(1002, 50), "bob is in staff too");
        assert!(!private(0, 1000), "ann's group is not root's");
        assert!(!private(77, 77), "nobody knows them");
        assert!(
            !is_private_in(&format!("{passwd}mary:x:9:1000::/:"), group, 1000, 1000),
            "mary's primary group too"
        );
        assert!(!is_private_in("ann:x:1000:1000", "", 1000, 1000), "no list of its members");
        assert!(!is_private_in("::\nann", ":::::\n", 1000, 1000), "odd lines");
    }
}

//! Copies a tree from one folder to another by descriptors: each name is opened once, without following it, and what was opened is what
//! is copied. So whoever changes either tree meanwhile gets something else copied, and nothing outside of both.
use super::maker::as_owner;
use super::place::{Source, Target};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chownat,
    fchmod, fchown, fstat, fstatfs, ftruncate, futimens, mkdirat, openat, readlinkat, renameat, seek,
    symlinkat, unlinkat,
};
use rustix::io::{Errno, pread, pwrite};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Folders in folders: each is two descriptors.
const DEPTH_MAX: usize = 200;
/// More are counted.
const ERRORS_SHOWN: usize = 20;
const CHUNK_BYTES: usize = 256 * 1024;
/// Not setuid, setgid or sticky: a program of a stranger's would run as whoever owns the copy.
const MODE: u32 = 0o777;

/// File systems of which the kernel makes up what is in them: a file there may say more to us than to the container, do something when it
/// is written to, or have no end (linux/magic.h).
const OF_THE_KERNEL: [(u64, &str); 8] = [
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x27_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
];

/// Whose the copies are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Of whoever copies.
    Ours,
    /// None: as it comes.
    Is { uid: Option<u32>, gid: Option<u32> },
}

impl Owner {
    fn ids(self) -> (Option<Uid>, Option<Gid>) {
        match self {
            Owner::Ours => (None, None),
            Owner::Is { uid, gid } => (uid.map(Uid::from_raw), gid.map(Gid::from_raw)),
        }
    }
}

#[derive(Debug, Default)]
pub struct Report {
    /// Of all kinds.
    pub files: u64,
    pub bytes: u64,
    pub failed: u64,
    /// The first of what failed, for people.
    pub errors: Vec<String>,
}

impl Report {
    fn fail(&mut self, text: String) {
        self.failed += 1;
        if self.errors.len() < ERRORS_SHOWN {
            self.errors.push(text);
        }
    }
}

/// What could not be done, where, and why.
pub fn failure(doing: &str, path: &Path, errno: Errno) -> String {
    format!("cannot {doing} {}: {}", shown(path), why(errno))
}

fn why(errno: Errno) -> String {
    match errno {
        Errno::LOOP => "a link of the kernel's leads there, or links without end".to_owned(),
        Errno::ROFS => "that is read-only, as roots are by default; a volume or tmpfs may not be".to_owned(),
        Errno::XDEV => "it leads outside".to_owned(),
        errno => std::io::Error::from(errno).to_string(),
    }
}

/// A stranger may call a file anything.
fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

pub fn copy(from: &Source, to: &Target, owner: Owner, report: &mut Report) {
    let top = to.name.is_none().then(|| fstat(&to.folder).ok()).flatten().map(|found| which(&found));
    let mut copying = Copying { owner, whole: &to.path, top, report };
    let path = from.path.clone();
    let copied = match &to.name {
        Some(name) => copying.one(from.fd.as_fd(), &path, to.folder.as_fd(), name, 0),
        None => copying.folder(from.fd.as_fd(), &path, to.folder.as_fd(), 0),
    };
    if let Err(text) = copied {
        copying.report.fail(text);
    }
}

struct Copying<'a> {
    owner: Owner,
    /// Where all of it goes, for people.
    whole: &'a Path,
    /// The folder of that, once it is there.
    top: Option<(u64, u64)>,
    report: &'a mut Report,
}

impl Copying<'_> {
    /// Why there is no copy of this.
    fn not_made(&self, path: &Path) -> impl Fn(Errno) -> String {
        let what = format!("cannot copy {} to {}", shown(path), shown(self.whole));
        move |errno| format!("{what}: {}", why(errno))
    }

    /// `from` was opened with O_PATH, and is what is at `path`.
    fn one(
        &mut self,
        from: BorrowedFd<'_>,
        path: &Path,
        to: BorrowedFd<'_>,
        name: &OsStr,
        depth: usize,
    ) -> Result<(), String> {
        let wrong = |doing: &'static str| move |errno| failure(doing, path, errno);
        let found = fstat(from).map_err(wrong("look at"))?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => self.file(from, &found, path, to, name)?,
            FileType::Symlink => {
                let text = readlinkat(from, "", Vec::new()).map_err(wrong("read the link"))?;
                let made = replace(to, name, self.owner, |temporary| {
                    as_owner(self.owner, || symlinkat(&*text, to, temporary))?;
                    let (uid, gid) = self.owner.ids();
                    chownat(to, temporary, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                });
                made.map_err(self.not_made(path))?;
            }
            FileType::Directory if self.top == Some(which(&found)) => {
                return Err(format!(
                    "{} is not copied: that is where the copy goes, and no folder goes into itself",
                    shown(path)
                ));
            }
            FileType::Directory => {
                let made = as_owner(self.owner, || mkdirat(to, name, Mode::RWXU));
                let is_new = made.is_ok();
                match made {
                    Err(Errno::EXIST) | Ok(()) => {}
                    Err(errno) => return Err(self.not_made(path)(errno)),
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let copy = openat(to, name, flags, Mode::empty()).map_err(self.not_made(path))?;
                if self.top.is_none() {
                    self.top = Some(which(&fstat(&copy).map_err(self.not_made(path))?));
                }
                if is_new {
                    let (uid, gid) = self.owner.ids();
                    fchown(&copy, uid, gid).map_err(self.not_made(path))?;
                }
                self.folder(from, path, copy.as_fd(), depth)?;
                if is_new {
                    finish(copy.as_fd(), &found).map_err(self.not_made(path))?;
                }
            }
            kind => return Err(format!("{} is not copied: it is a {}", shown(path), name_of(kind))),
        }
        self.report.files += 1;
        Ok(())
    }

    /// All that is in it; what fails is told, and the rest goes on.
    fn folder(
        &mut self,
        from: BorrowedFd<'_>,
        path: &Path,
        to: BorrowedFd<'_>,
        depth: usize,
    ) -> Result<(), String> {
        let wrong = |doing: &'static str| move |errno| failure(doing, path, errno);
        if depth == DEPTH_MAX {
            return Err(format!("{} is not copied: it is {DEPTH_MAX} folders deep", shown(path)));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(from, ".", flags, Mode::empty()).map_err(wrong("open"))?;
        is_not_the_kernels(folder.as_fd(), path)?;
        is_not_the_kernels(to, path)?;
        for entry in Dir::read_from(&folder).map_err(wrong("read"))? {
            let entry = entry.map_err(wrong("read"))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let inner = path.join(name);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let copied = match openat(&folder, name, flags, Mode::empty()) {
                // Gone since its name was read.
                Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(failure("open", &inner, errno)),
                Ok(fd) => self.one(fd.as_fd(), &inner, to, name, depth + 1),
            };
            if let Err(text) = copied {
                self.report.fail(text);
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        found: &Stat,
        path: &Path,
        to: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), String> {
        is_not_the_kernels(from, path)?;
        is_not_the_kernels(to, path)?;
        // The file itself, by no name that anybody can change.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let reopened = openat(CWD, format!("/proc/self/fd/{}", from.as_raw_fd()), flags, Mode::empty());
        let from = reopened.map_err(|errno| failure("open", path, errno))?;
        let owner = self.owner;
        let copied = replace(to, name, owner, |temporary| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let copy = as_owner(owner, || openat(to, temporary, flags, Mode::RUSR | Mode::WUSR))?;
            let bytes = contents(&from, &copy, found.st_size.try_into().unwrap_or(0))?;
            let (uid, gid) = owner.ids();
            fchown(&copy, uid, gid)?;
            finish(copy.as_fd(), found)?;
            Ok(bytes)
        });
        self.report.bytes += copied.map_err(self.not_made(path))?;
        Ok(())
    }
}

/// Whatever it is called.
fn which(found: &Stat) -> (u64, u64) {
    (found.st_dev, found.st_ino)
}

/// Makes something under a name of its own, which then takes the place of what is there: that stays if it fails.
fn replace<T>(
    folder: BorrowedFd<'_>,
    name: &OsStr,
    owner: Owner,
    make: impl FnOnce(&str) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    let temporary = format!(".sampanctl-cp-{:016x}", u64::from_ne_bytes(random));
    let made = make(&temporary)
        .and_then(|made| as_owner(owner, || renameat(folder, &temporary, folder, name)).map(|()| made));
    if made.is_err() {
        let _ = unlinkat(folder, &temporary, AtFlags::empty());
    }
    made
}

/// Mode and time of what it is a copy of.
fn finish(copy: BorrowedFd<'_>, found: &Stat) -> rustix::io::Result<()> {
    fchmod(copy, Mode::from_raw_mode(found.st_mode & MODE))?;
    let time = |tv_sec: i64, tv_nsec: i64| Timespec { tv_sec, tv_nsec };
    let last_access = time(found.st_atime, found.st_atime_nsec.try_into().unwrap_or(0));
    let last_modification = time(found.st_mtime, found.st_mtime_nsec.try_into().unwrap_or(0));
    futimens(copy, &Timestamps { last_access, last_modification })
}

/// So many bytes as there were, holes as holes: how much is written is what is there, whatever the size says. How many were written.
fn contents(from: &OwnedFd, to: &OwnedFd, size: u64) -> rustix::io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut at, mut written) = (0, 0);
    while at < size {
        let (data, hole) = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => (data, seek(from, SeekFrom::Hole(data))?.min(size)),
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            // Nobody knows of holes here.
            Err(Errno::INVAL) => (at, size),
            Err(errno) => return Err(errno),
        };
        at = data;
        while at < hole {
            let most = usize::try_from(hole - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let count = pread(from, buffer.get_mut(..most).unwrap_or_default(), at)?;
            if count == 0 {
                // It has become shorter.
                ftruncate(to, at)?;
                return Ok(written);
            }
            let mut rest = buffer.get(..count).unwrap_or_default();
            while !rest.is_empty() {
                let count = pwrite(to, rest, at)?;
                at += count as u64;
                written += count as u64;
                rest = rest.get(count..).unwrap_or_default();
            }
        }
    }
    ftruncate(to, size)?;
    Ok(written)
}

fn is_not_the_kernels(fd: BorrowedFd<'_>, path: &Path) -> Result<(), String> {
    let found = fstatfs(fd).map_err(|errno| failure("look at", path, errno))?;
    let kind = found.f_type as u64;
    match OF_THE_KERNEL.iter().find(|(number, _)| *number == kind & 0xffff_ffff) {
        Some((_, name)) => Err(format!("{} is not copied: that is in the kernel's own {name}", shown(path))),
        None => Ok(()),
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of a kind of its own",
    }
}

//! The folder of containers: `<root>/<id>/`, one per container, and the lock that orders the verbs on it.
//!
//! ```text
//!   create   mkdir (exclusive: one wins) -> flock(LOCK_EX) of the folder itself -> files, each by temp + rename
//!   delete   flock(LOCK_EX) -> files -> rmdir          exec   flock(LOCK_SH) while it joins
//!   list, state, kill   no lock: a file is whole or not there
//! ```
//! The lock is the folder, so it needs no file and goes with it; whoever waited for one that is gone meanwhile learns so
//! (its name leads nowhere, or elsewhere). A SIGKILLed verb loses its lock by dying.
//!
//! What is written here makes us kill processes and run hooks, so nothing is believed that somebody else can have put
//! here (trust.rs). Deliberately absent: what is in the files (state.rs).

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, RawDir, SeekFrom, flock, fstat, linkat, mkdirat, openat,
    renameat, seek, statat, unlinkat,
};
use rustix::io::Errno;
use sampan_child::defence::{self, Defence};

use crate::error::{Error, Kind, Result};
use crate::kernel::trust;

/// Where containers are when nobody says otherwise; the supervisor's are there too.
pub const DEFAULT: &str = "/run/sampan/containers";
/// The file that goes last, since it says what there is to remove (state.rs).
pub const LAST: &str = "state.json";
const ID_BYTES_MAX: usize = 255;
/// A config.json with a million variables has some 20 MB.
pub const FILE_BYTES_MAX: u64 = 128 << 20;

/// runc's words, which clients match on.
pub fn missing(id: &str) -> Error {
    Error::new("container does not exist").kind(Kind::Missing).of(id)
}

fn bad_id(id: &str, why: &str) -> Error {
    Error::new(format!("{id:?}: invalid container ID format: {why}")).kind(Kind::BadId)
}

fn busy(id: &str, waited: Duration) -> Error {
    let problem = "another command (create, start or delete) has been working on this container for over";
    Error::new(format!("{problem} {} s", waited.as_secs())).kind(Kind::Busy).of(id)
}

/// Somebody else can have written it; without an id it is the root.
fn foreign(id: &str, what: &trust::Error) -> Error {
    if id.is_empty() { Error::new(format!("--root {what}")) } else { Error::new(what.to_string()).of(id) }
}

/// The file at `path` is not what we wrote.
pub fn corrupt(id: &str, path: &Path, why: impl fmt::Display) -> Error {
    let likely = format!("`sampan delete --force {id}` removes what is left");
    Error::new(format!("{} cannot be understood: {why}", path.display()))
        .kind(Kind::Corrupt)
        .likely(likely)
        .of(id)
}

/// `<root>`.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
    /// Named by the user: then `list` minds if it is missing.
    explicit: bool,
    /// Where it stays open, once it was found to be ours.
    held: Option<Arc<OnceLock<Arc<OwnedFd>>>>,
}

impl Root {
    pub fn new(explicit: Option<&Path>) -> Result<Root> {
        let Some(path) = explicit else {
            return Ok(Root { path: default_path(), explicit: false, held: None });
        };
        let bad = |why: &str| Error::new(why).field(format!("--root {}", path.display()));
        if path.as_os_str().is_empty() {
            return Err(bad("must not be empty"));
        }
        let path = std::path::absolute(path).map_err(|_| bad("cannot be made absolute"))?;
        if path.parent().is_none() {
            return Err(bad("must not be the root of the file system"));
        }
        Ok(Root { path, explicit: true, held: None })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For whoever comes back: found once, with all that leads to it, the folder stays open.
    pub fn held(self) -> Root {
        Root { held: Some(Arc::default()), ..self }
    }

    /// Makes the container's folder, and holds its lock: exactly one caller wins.
    pub fn create(&self, id: &str) -> Result<Folder> {
        check_id(id)?;
        let dir = match self.open_dir()? {
            Some(dir) => dir,
            None => {
                make(&self.path)?;
                keep_in_xdg(&self.path);
                self.open_dir()?.ok_or_else(|| self.root_missing())?
            }
        };
        match mkdirat(&dir, id, trust::closed(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::new("container with given ID already exists").of(id)),
            Err(e) => return Err(file_error(id, "make", &self.path.join(id), e.into())),
        }
        let folder = self.open_in(&dir, id)?;
        // A forced delete may have come between mkdir and here; then it is not ours any more, and this says so.
        folder.lock(Lock::Exclusive, None)?;
        Ok(folder)
    }

    pub fn open(&self, id: &str) -> Result<Folder> {
        check_id(id)?;
        let dir = self.open_dir()?.ok_or_else(|| self.missing(id))?;
        self.open_in(&dir, id)
    }

    pub(super) fn open_in(&self, dir: &OwnedFd, id: &str) -> Result<Folder> {
        let path = self.path.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(dir, id, flags, Mode::empty()) {
            Ok(dir) => {
                believe(id, trust::ours(&path, &dir))?;
                Ok(Folder { id: id.into(), path, dir })
            }
            Err(Errno::NOENT) => Err(self.missing(id)),
            Err(e) => Err(file_error(id, "open", &path, e.into())),
        }
    }

    /// The root itself, if it is there.
    pub(super) fn open_dir(&self) -> Result<Option<Arc<OwnedFd>>> {
        // Removed meanwhile, it has no link left; another one may have its name.
        let held = self.held.as_ref().and_then(|held| held.get());
        if let Some(dir) = held.filter(|dir| fstat(dir).is_ok_and(|stat| stat.st_nlink > 0)) {
            return Ok(Some(dir.clone()));
        }
        let found = self.find_dir()?.map(Arc::new);
        if let (Some(held), Some(dir)) = (&self.held, &found) {
            let _ = held.set(dir.clone());
        }
        Ok(found)
    }

    fn find_dir(&self) -> Result<Option<OwnedFd>> {
        if !defence::on(Defence::StateOwner) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            return Ok(openat(CWD, &self.path, flags, Mode::empty()).ok());
        }
        match trust::own_folder(&self.path) {
            Ok(dir) => Ok(Some(dir)),
            Err(trust::Error { why: trust::Why::Call(e), .. }) if e.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(what) => Err(foreign("", &what)),
        }
    }

    /// Who named the root knows where it was looked for.
    fn missing(&self, id: &str) -> Error {
        let error = missing(id);
        match self.explicit {
            true => error,
            false => error.likely(format!(
                "looked for in {}; of a sampand with another run_dir: sampan --root RUN_DIR/containers",
                self.path.display()
            )),
        }
    }

    fn root_missing(&self) -> Error {
        file_error("", "list", &self.path, Errno::NOENT.into())
    }

    /// The names of the folders, sorted. A missing default root holds none.
    pub fn ids(&self) -> Result<Vec<String>> {
        match self.open_dir()? {
            None if self.explicit => return Err(self.root_missing()),
            None => return Ok(Vec::new()),
            Some(_) => {}
        }
        let entries = fs::read_dir(&self.path).map_err(|e| file_error("", "list", &self.path, e))?;
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| file_error("", "list", &self.path, e))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if check_id(&name).is_ok() && entry.file_type().is_ok_and(|t| t.is_dir()) {
                ids.push(name);
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// Those whose folder is ours and has a container, by the names alone: what is in the files is not looked at.
    pub fn ids_of_containers(&self) -> Result<Vec<String>> {
        let mut ids = self.ids()?;
        let dir = if ids.is_empty() { None } else { self.open_dir()? };
        let is_one = |id: &String| {
            let folder = dir.as_ref().and_then(|dir| self.open_in(dir, id).ok());
            folder.is_some_and(|folder| statat(&folder.dir, LAST, AtFlags::SYMLINK_NOFOLLOW).is_ok())
        };
        ids.retain(is_one);
        Ok(ids)
    }
}

/// Those above the root are there to be passed through; it is ours alone.
fn make(path: &Path) -> Result<()> {
    let parents = path.parent().map_or(Ok(()), |parent| trust::make_folders(parent, trust::closed(0o711)));
    parents
        .and_then(|()| trust::make_folders(path, trust::closed(0o700)))
        .map_err(|e| file_error("", "make", path, e))
}

/// Of what is below the root.
fn believe(id: &str, checked: std::result::Result<(), trust::Error>) -> Result<()> {
    match checked {
        Err(what) if defence::on(Defence::StateOwner) => Err(foreign(id, &what)),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    Shared,
    Exclusive,
}

/// `<root>/<id>`, held open: names below it are resolved from here, never again from the root.
#[derive(Debug)]
pub struct Folder {
    id: String,
    path: PathBuf,
    dir: OwnedFd,
}

impl Folder {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The same folder on a descriptor of its own, with no lock.
    pub fn reopen(&self) -> Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(&self.dir, ".", flags, Mode::empty())
            .map_err(|e| file_error(&self.id, "open", &self.path, e.into()))?;
        Ok(Folder { id: self.id.clone(), path: self.path.clone(), dir })
    }

    /// Takes the lock, for as long as this value lives; `limit`: wait no longer than that.
    pub fn lock(&self, kind: Lock, limit: Option<Duration>) -> Result<()> {
        let (wait, try_it) = match kind {
            Lock::Shared => (FlockOperation::LockShared, FlockOperation::NonBlockingLockShared),
            Lock::Exclusive => (FlockOperation::LockExclusive, FlockOperation::NonBlockingLockExclusive),
        };
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match flock(&self.dir, if limit.is_none() { wait } else { try_it }) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => {
                    // flock has no time limit of its own; the wait doubles up to 20 ms.
                    let waited = limit.unwrap_or_default();
                    if start.elapsed() >= waited {
                        return Err(busy(&self.id, waited));
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
                Err(e) => return Err(file_error(&self.id, "lock", &self.path, e.into())),
            }
        }
        if self.is_removed()? { Err(missing(&self.id)) } else { Ok(()) }
    }

    /// Is anybody in the middle of a verb that holds the lock for itself? Takes the lock shared if not.
    pub fn is_busy(&self) -> Result<bool> {
        match self.lock(Lock::Shared, Some(Duration::ZERO)) {
            Ok(()) => Ok(false),
            Err(e) if e.kind == Kind::Busy => Ok(true),
            Err(e) => Err(e),
        }
    }

    pub fn unlock(&self) {
        // Only fails for a bad descriptor.
        let _ = flock(&self.dir, FlockOperation::Unlock);
    }

    fn is_removed(&self) -> Result<bool> {
        let failed = |e: Errno| file_error(&self.id, "look at", &self.path, e.into());
        let own = fstat(&self.dir).map_err(failed)?;
        // Put aside (aside.rs), it is no container's any more, and another one may have its name.
        match statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((own.st_dev, own.st_ino) != (named.st_dev, named.st_ino)),
            Err(Errno::NOENT) => Ok(true),
            Err(e) => Err(failed(e)),
        }
    }

    /// The file's bytes; `None` if it is not there.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let foreign = |what: trust::Error| foreign(&self.id, &what);
        let file = match trust::regular(&self.dir, Path::new(name), OFlags::NOFOLLOW) {
            Ok(file) => file,
            Err(trust::Error { why: trust::Why::Call(e), .. }) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(trust::Error { why, .. }) => return Err(foreign(trust::Error { path, why })),
        };
        believe(&self.id, trust::ours(&path, &file))?;
        trust::read_whole(&path, file, FILE_BYTES_MAX).map(Some).map_err(foreign)
    }

    /// Replaces the file as a whole: a reader sees the old bytes or the new ones, whenever we die.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_whole(self.dir.as_fd(), name.as_ref(), bytes, trust::closed(0o600))
            .map_err(|e| file_error(&self.id, "write", &self.path.join(name), e))
    }

    /// The file is the one at `path`, by a second name; where that cannot be (another file system, or one without them), these bytes.
    pub fn link(&self, name: &str, path: &Path, bytes: &[u8]) -> Result<()> {
        linkat(CWD, path, &self.dir, name, AtFlags::empty()).or_else(|_| self.write(name, bytes))
    }

    /// A file that nobody reads before state.json speaks of it: written in place.
    pub fn write_first(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.dir, name, flags, trust::closed(0o600))
            .map_err(io::Error::from)
            .and_then(|fd| File::from(fd).write_all(bytes))
            .map_err(|e| file_error(&self.id, "write", &self.path.join(name), e))
    }

    /// Removes the folder and what is in it; the lock must be held. state.json goes last, so that a delete that is
    /// killed here can be repeated with everything it needs.
    pub fn remove(self) -> Result<()> {
        let failed = |e: Errno| file_error(&self.id, "remove", &self.path, e.into());
        // A folder of four or five files: one look, or a few. It is read from its start, whoever read it before.
        seek(&self.dir, SeekFrom::Start(0)).map_err(failed)?;
        let mut room = [MaybeUninit::uninit(); 1024];
        let mut entries = RawDir::new(&self.dir, &mut room);
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if [c".", c".."].contains(&entry.file_name()) => {}
                Ok(entry) if entry.file_name().to_bytes() == LAST.as_bytes() => {}
                Ok(entry) => self.remove_file(OsStr::from_bytes(entry.file_name().to_bytes()))?,
                // Removed by somebody else already.
                Err(Errno::NOENT) => return Ok(()),
                Err(e) => return Err(failed(e)),
            }
        }
        self.remove_file(OsStr::new(LAST))?;
        or_gone(unlinkat(CWD, &self.path, AtFlags::REMOVEDIR)).map_err(failed)
    }

    fn remove_file(&self, name: &OsStr) -> Result<()> {
        let path = || self.path.join(name);
        let removed = match unlinkat(&self.dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => fs::remove_dir_all(path()),
            result => result.map_err(io::Error::from),
        };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(file_error(&self.id, "remove", &path(), e)),
            _ => Ok(()),
        }
    }
}

/// What somebody else has removed is removed.
fn or_gone(removed: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Writes `name` in `dir` by way of a hidden temporary file beside it. Clients poll for pid files and decide by their
/// absence, so one must never be seen half written. In a folder where others write too, nothing of theirs is opened:
/// the temporary file is a new one, and the rename puts it in the place of a link or FIFO, not through it.
pub fn write_whole(dir: BorrowedFd<'_>, name: &Path, bytes: &[u8], mode: Mode) -> io::Result<()> {
    let (temp, file) = new_beside(dir, name, mode)?;
    let written = File::from(file).write_all(bytes).and_then(|()| Ok(renameat(dir, &temp, dir, name)?));
    if written.is_err() {
        let _ = unlinkat(dir, &temp, AtFlags::empty());
    }
    written
}

/// A file that was not there before. Of the names that end in our pid, the first few may be taken by a dead process
/// with the same number, or by somebody who wants us to fail.
fn new_beside(dir: BorrowedFd<'_>, name: &Path, mode: Mode) -> io::Result<(PathBuf, OwnedFd)> {
    const ATTEMPTS: u32 = 64;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut attempt = 0;
    loop {
        let mut temp = OsString::from(".");
        temp.push(name);
        temp.push(format!(".{}.{attempt}", std::process::id()));
        let temp = PathBuf::from(temp);
        match openat(dir, &temp, flags, mode) {
            Ok(file) => return Ok((temp, file)),
            Err(Errno::EXIST) if attempt < ATTEMPTS => attempt += 1,
            Err(e) => return Err(e.into()),
        }
    }
}

/// `[A-Za-z0-9_+.-]+`, not `.` or `..`, and no leading dot, as in crun: it would hide from `ls`.
pub fn check_id(id: &str) -> Result<()> {
    let bad = |why| Err(bad_id(id, why));
    if id.is_empty() {
        return bad("it is empty");
    }
    if id.len() > ID_BYTES_MAX {
        return bad("it is longer than 255 bytes");
    }
    if id.starts_with('.') {
        return bad("it begins with a dot");
    }
    if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b)) {
        return bad("only A-Z a-z 0-9 _ + . - are allowed");
    }
    Ok(())
}

fn default_path() -> PathBuf {
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").filter(|d| !d.is_empty());
    match xdg {
        Some(dir) if is_users() => Path::new(&dir).join("sampan/containers"),
        _ => PathBuf::from(DEFAULT),
    }
}

/// Whether XDG_RUNTIME_DIR is where our state belongs, decided as in runc: a container's root that calls us is root, podman in
/// its user namespace is not.
fn is_users() -> bool {
    !rustix::process::geteuid().is_root()
        || std::env::var_os("USER").is_none_or(|user| user != "root")
            && crate::kernel::host::in_user_namespace()
}

/// Folders below XDG_RUNTIME_DIR are pruned after six hours unless they are sticky (XDG base directories).
fn keep_in_xdg(path: &Path) {
    if is_users() {
        let _ = rustix::fs::chmodat(CWD, path, Mode::from(0o1700), AtFlags::empty());
    }
}

pub(super) fn file_error(id: &str, doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::io(format!("cannot {doing} {}", path.display()), &source).of(id)
}

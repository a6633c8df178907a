//! A lock that one process has at a time and loses by ending, however it ends: flock(2) on a file whose folder is closed to
//! everybody else. Anybody who can open a file can lock it, and anybody can take a name in the abstract socket namespace, so
//! neither may be within another user's reach.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Of the line that says who has it.
const HOLDER_BYTES: usize = 16;

/// Held for as long as a duplicate of its descriptor is open anywhere.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

#[derive(Debug)]
pub enum Refused {
    /// By this process, if it has written that down already.
    Held {
        path: PathBuf,
        holder: Option<u32>,
    },
    Folder {
        path: PathBuf,
        why: &'static str,
    },
    /// It cannot be made here, and so by nobody else: there is nobody to keep out.
    NoFolder {
        path: PathBuf,
        error: io::Error,
    },
    Call {
        path: PathBuf,
        doing: &'static str,
        error: io::Error,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Held { path, holder } => {
                let holder = holder.map(|pid| format!(" by process {pid}")).unwrap_or_default();
                write!(f, "{}: held{holder}", path.display())
            }
            Refused::Folder { path, why } => write!(f, "{}: {why}", path.display()),
            Refused::NoFolder { path, error } => write!(f, "{}: cannot make it: {error}", path.display()),
            Refused::Call { path, doing, error } => write!(f, "{}: cannot {doing}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Refused {}

impl Lock {
    /// Takes the lock at `path`, and writes down who has it. The file is made if need be.
    pub fn take(path: &Path, holder: u32) -> Result<Lock, Refused> {
        let fail = |doing| move |error| Refused::Call { path: path.to_owned(), doing, error };
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)
                .map_err(fail("open it"))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::AGAIN) => {
                    return Err(Refused::Held { path: path.to_owned(), holder: read_holder(&file) });
                }
                Err(errno) => return Err(fail("lock it")(errno.into())),
            }
            let lock = Lock { file, path: path.to_owned() };
            // Somebody may have removed it between open and flock: then we hold a file that no one else will find.
            if !is_at(&lock.file, path) {
                continue;
            }
            // An older version made it readable, and so lockable, for everybody.
            let mode = lock.file.metadata().map_err(fail("look at it"))?.mode() & 0o7777;
            if mode != 0o600 {
                let closed = lock.file.set_permissions(Permissions::from_mode(0o600));
                closed.map_err(fail("close it to others"))?;
            }
            sign(&lock.file, holder);
            return Ok(lock);
        }
    }

    /// Lets go, and leaves no file behind.
    pub fn remove(self) {
        if is_at(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Writes down who has the lock, for people, if that is not there. Over what is there, so that it needs no room on a full disk; where it
/// cannot be written, the lock holds all the same.
pub fn sign(file: &File, holder: u32) {
    if read_holder(file) != Some(holder) {
        let _ = file.write_all_at(format!("{holder:<0$}\n", HOLDER_BYTES - 1).as_bytes(), 0);
    }
}

/// Is this descriptor's file the one at `path`?
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(held), Ok(there)) => (held.dev(), held.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn read_holder(file: &File) -> Option<u32> {
    let mut text = [0; HOLDER_BYTES];
    let got = file.read_at(&mut text, 0).ok()?;
    core::str::from_utf8(text.get(..got)?).ok()?.trim().parse().ok()
}

/// Where a lock is at which all sampands of a host meet, whatever their configs say: root's, or an ordinary user's own. It is
/// made if it is not there; nobody else can enter it.
pub fn shared_folder() -> Result<PathBuf, Refused> {
    let us = rustix::process::geteuid();
    let users = || std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{us}").into());
    if !us.is_root() {
        return closed_folder(Path::new(&users()));
    }
    // Root of a user namespace is an ordinary user of the host, and has no /run to write to.
    match closed_folder(Path::new("/run")) {
        Err(refused @ Refused::NoFolder { .. }) => closed_folder(Path::new(&users())).map_err(|_| refused),
        other => other,
    }
}

fn closed_folder(base: &Path) -> Result<PathBuf, Refused> {
    use io::ErrorKind::{AlreadyExists, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let path = base.join("sampan.locks");
    let fail = |doing| {
        let path = path.clone();
        move |error| Refused::Call { path, doing, error }
    };
    if let Err(error) = DirBuilder::new().mode(0o700).create(&path) {
        match error.kind() {
            AlreadyExists => {}
            NotFound | PermissionDenied | ReadOnlyFilesystem => {
                return Err(Refused::NoFolder { path, error });
            }
            _ => return Err(fail("make it")(error)),
        }
    }
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let folder = OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(fail("open it"))?;
    let metadata = folder.metadata().map_err(fail("look at it"))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Refused::Folder { path, why: "another user owns it; remove it" });
    }
    folder.set_permissions(Permissions::from_mode(0o700)).map_err(fail("close it to others"))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_testkit::Folder;

    #[test]
    fn one_has_it_and_the_next_is_told_who() {
        let owner = Folder::new();
        let folder = &owner.0;
        let path = folder.join("lock");
        let first = Lock::take(&path, 17).unwrap();
        let refused = Lock::take(&path, 18).unwrap_err();
        assert_eq!(refused.to_string(), format!("{}: held by process 17", path.display()));
        // A duplicate holds it on.
        let kept = first.as_fd().try_clone_to_owned().unwrap();
        drop(first);
        assert!(matches!(Lock::take(&path, 18), Err(Refused::Held { holder: Some(17), .. })));
        drop(kept);
        Lock::take(&path, 18).unwrap().remove();
        assert!(!path.exists());
    }

    /// A file that can neither grow nor shrink is as one on a full disk, but for what is on it.
    #[test]
    fn the_next_signs_over_what_is_there_and_needs_no_room() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create(c"lock", flags).unwrap());
        sign(&file, 4_194_304);
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK).unwrap();
        for holder in [17, u32::MAX, 1] {
            sign(&file, holder);
            assert_eq!(read_holder(&file), Some(holder));
        }
        fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
        sign(&file, 18);
        assert_eq!(read_holder(&file), Some(1), "nobody fails over it");
    }

    #[test]
    fn its_file_and_its_folder_are_closed_to_others_also_where_they_were_not() {
        let owner = Folder::new();
        let folder = &owner.0;
        let closed = folder.join("sampan.locks");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, Permissions::from_mode(0o777)).unwrap();
        let path = closed_folder(folder).unwrap().join("lock");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let _lock = Lock::take(&path, 1).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode(&closed), mode(&path)), (0o700, 0o600));
    }

    #[test]
    fn no_link_is_followed_and_where_no_folder_can_be_that_is_told() {
        let owner = Folder::new();
        let folder = &owner.0;
        std::os::unix::fs::symlink("elsewhere", folder.join("link")).unwrap();
        assert!(matches!(Lock::take(&folder.join("link"), 1), Err(Refused::Call { doing: "open it", .. })));
        assert!(!folder.join("elsewhere").exists());
        assert!(matches!(closed_folder(&folder.join("nowhere")), Err(Refused::NoFolder { .. })));
        std::os::unix::fs::symlink(folder, folder.join("sampan.locks")).unwrap();
        assert!(matches!(closed_folder(folder), Err(Refused::Call { doing: "open it", .. })));
    }
}

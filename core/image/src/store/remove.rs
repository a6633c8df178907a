//! Removes what others may still write to: by descriptors, no name of a folder in it is ever followed, and nothing outside of it goes.
//! Neither memory nor stack nor descriptors grow with how many files there are, or how deep they lie.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::{Errno, Result};

use super::blobs::serial;

/// A file, or a folder with all that is in it. What cannot go keeps nothing else from going; the first such error is told.
/// The folder that it is in is found by its path: that one is ours.
pub fn remove_deep(path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else { return Err(Errno::INVAL.into()) };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = openat(CWD, parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    remove_in(&parent, name)
}

/// All of it, as far as it goes: what is left is tried again by the next writer.
pub(super) fn remove_tree(path: &Path) {
    let _ = remove_deep(path);
}

/// As [`remove_deep`], of what has this name in a folder that is open.
pub fn remove_in(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let parent = parent.as_fd();
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        done => return Ok(done?),
    }
    let top = open(parent, name)?;
    let mut removal = Removal { top: top.as_fd(), prefix: unused(), moved: 0, emptied: 0, first: Ok(()) };
    removal.all();
    let Removal { first, .. } = removal;
    // What it says without a reason is that more has come in meanwhile.
    first.and(unlinkat(parent, name, AtFlags::REMOVEDIR))?;
    Ok(())
}

/// Folders in folders, more than there can be descriptors, bytes in a path, or calls on a stack: each that is not empty is moved up into
/// the first, under the next number, and emptied when its turn comes.
struct Removal<'t> {
    top: BorrowedFd<'t>,
    /// Of the names of what was moved up: nobody can have guessed it.
    prefix: String,
    moved: u64,
    emptied: u64,
    first: Result<()>,
}

impl Removal<'_> {
    fn all(&mut self) {
        self.empty(self.top);
        while self.emptied < self.moved {
            let name = self.name(self.emptied);
            self.emptied += 1;
            match open(self.top, OsStr::new(&name)) {
                Ok(folder) => {
                    self.empty(folder.as_fd());
                    let gone = unlinkat(self.top, &*name, AtFlags::REMOVEDIR);
                    self.note(gone);
                }
                // Somebody has put something else there.
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let gone = unlinkat(self.top, &*name, AtFlags::empty());
                    self.note(gone);
                }
                Err(errno) => self.note(Err(errno)),
            }
        }
    }

    fn empty(&mut self, folder: BorrowedFd<'_>) {
        match Dir::read_from(folder) {
            Ok(entries) => {
                for entry in entries {
                    let gone = entry.and_then(|entry| {
                        let name = OsStr::from_bytes(entry.file_name().to_bytes());
                        self.one(folder, name, entry.file_type() == FileType::Directory)
                    });
                    self.note(gone);
                }
            }
            Err(errno) => self.note(Err(errno)),
        }
    }

    fn one(&mut self, folder: BorrowedFd<'_>, name: &OsStr, is_folder: bool) -> Result<()> {
        if name == "." || name == ".." || name.as_bytes().starts_with(self.prefix.as_bytes()) {
            return Ok(());
        }
        if !is_folder {
            match unlinkat(folder, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                done => return done,
            }
        }
        match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let up = self.name(self.moved);
                renameat(folder, name, self.top, up)?;
                self.moved += 1;
                Ok(())
            }
            done => done,
        }
    }

    fn name(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    /// What is gone already is as it shall be.
    fn note(&mut self, result: Result<()>) {
        if self.first.is_ok() && result != Err(Errno::NOENT) {
            self.first = result;
        }
    }
}

fn open(folder: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty())
}

/// A name that nobody can have guessed.
fn unused() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("deep-{}-{}-{}-", std::process::id(), serial(), now.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_testkit::Folder;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn whoever_changes_names_meanwhile_has_nothing_removed_elsewhere() {
        let kept = Folder::new();
        let (top, outside) = (kept.path("top"), kept.path("outside"));
        fs::create_dir_all(outside.join("folder/in it")).unwrap();
        fs::write(outside.join("folder/file"), "").unwrap();
        for round in 0..20 {
            for folder in 0..50 {
                fs::create_dir_all(top.join(format!("{folder}/a/b/c"))).unwrap();
            }
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for entry in fs::read_dir(&top).into_iter().flatten().flatten() {
                            let _ = fs::rename(entry.path(), kept.path("away"));
                            let _ = symlink(&outside, entry.path());
                            let _ = fs::remove_dir_all(kept.path("away"));
                        }
                    }
                });
                let _ = remove_deep(&top);
                done.store(true, Ordering::Relaxed);
            });
            let _ = remove_deep(&top);
            assert!(outside.join("folder/in it").exists(), "round {round}");
            assert!(outside.join("folder/file").exists(), "round {round}");
        }
    }

    #[test]
    fn what_was_moved_up_goes_whatever_kind_it_is_and_a_link_alone_goes_as_itself() {
        let kept = Folder::new();
        let outside = kept.path("outside");
        fs::create_dir_all(outside.join("x")).unwrap();
        symlink(&outside, kept.path("link")).unwrap();
        remove_deep(&kept.path("link")).unwrap();
        assert!(outside.join("x").exists());
        fs::create_dir_all(kept.path("top/a/b/c/d")).unwrap();
        fs::create_dir_all(kept.path("top/a/b/e/f")).unwrap();
        symlink(&outside, kept.path("top/a/b/c/link")).unwrap();
        fs::write(kept.path("top/a/b/file"), "").unwrap();
        remove_deep(&kept.path("top")).unwrap();
        assert!(!kept.path("top").exists() && outside.join("x").exists());
        assert_eq!(remove_deep(&kept.path("top")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

//! The groups below a group, whatever a container has made there: by any name, and so deep that no path leads to them (PATH_MAX).
//! So they are walked by descriptors, of which one is open at a time.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io;

use crate::error::{Doing, Errno, Error, Result};
use crate::group::Group;

impl Group<'_> {
    /// `enter` gets the folder of each group below this one, the outer before the inner; `leave` the folder that it is in and
    /// its name, the inner before the outer. This one is not among them, and what is gone meanwhile is left out.
    pub(crate) fn walk_below(
        &self,
        mut enter: impl FnMut(BorrowedFd<'_>) -> Result<()>,
        mut leave: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<()>,
    ) -> Result<()> {
        let failed = |call| move |errno| Error::new(Doing::Read, self.name()).call(call, errno);
        if self.has_below()? != Some(true) {
            return Ok(());
        }
        let mut here = match self.folder() {
            Ok(folder) => folder,
            Err(e) if is_gone(e) => return Ok(()),
            Err(e) => return Err(failed("openat")(e)),
        };
        let mut left = vec![folders(&here).map_err(failed("getdents64"))?];
        let mut names: Vec<CString> = Vec::new();
        loop {
            match left.last_mut().and_then(Vec::pop) {
                Some(name) => {
                    let below = match open(here.as_fd(), &name) {
                        Ok(below) => below,
                        Err(e) if is_gone(e) => continue,
                        Err(e) => return Err(failed("openat")(e)),
                    };
                    enter(below.as_fd())?;
                    left.push(folders(&below).map_err(failed("getdents64"))?);
                    names.push(name);
                    here = below;
                }
                None => {
                    left.pop();
                    let Some(name) = names.pop() else { return Ok(()) };
                    here = open(here.as_fd(), c"..").map_err(failed("openat"))?;
                    leave(here.as_fd(), &name)?;
                }
            }
        }
    }

    /// Whether there are groups below it, which its link count tells of; None: it is gone.
    pub(crate) fn has_below(&self) -> Result<Option<bool>> {
        match fs::statat(self.hierarchy.root(), self.path_or_dot(), AtFlags::empty()) {
            Ok(stat) => Ok(Some(stat.st_nlink > 2)),
            Err(e) if is_gone(e) => Ok(None),
            Err(e) => Err(Error::new(Doing::Read, self.name()).call("newfstatat", e)),
        }
    }

    /// Removes the groups below this one; an error if somebody is in one.
    pub(crate) fn remove_below(&self) -> Result<()> {
        self.walk_below(
            |_| Ok(()),
            |parent, name| match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Err(e) if !is_gone(e) => {
                    Err(Error::new(Doing::Remove, self.one_below(name)).call("rmdir", e))
                }
                _ => Ok(()),
            },
        )
    }

    /// How deep below is left out: the whole path may be longer than any message.
    fn one_below(&self, name: &CStr) -> String {
        format!("{}/**/{}", self.name(), name.to_string_lossy())
    }
}

fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}

fn open(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(at, name, flags, Mode::empty())
}

/// Their names; none if the group is gone. The link count tells of folders, so a group without any is not listed.
fn folders(of: &OwnedFd) -> io::Result<Vec<CString>> {
    if fs::fstat(of)?.st_nlink <= 2 {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(of)? {
        let entry = match entry {
            Err(e) if is_gone(e) => break,
            entry => entry?,
        };
        if entry.file_type() == FileType::Directory && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

//! One group in one hierarchy, and its files. A group is a path below the hierarchy's root descriptor and has no
//! descriptor of its own, so that thousands of containers cost none. The path cannot lead elsewhere: only root can rename
//! a group, and cgroup file systems have no symbolic links.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io;
use sampan_plan::host::Version;

use crate::detect::Hierarchy;
use crate::error::{Doing, Errno, Error, Result};
use crate::file::{Failed, read_at, write_all};

const FOR_ALL_TO_SEE: Mode = Mode::from_bits_retain(0o755);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) hierarchy: &'a Hierarchy,
    /// Without a leading slash; empty for the root.
    pub(crate) path: &'a str,
}

impl<'a> Group<'a> {
    pub(crate) fn name(&self) -> String {
        if self.path.is_empty() {
            self.hierarchy.mount.clone()
        } else {
            format!("{}/{}", self.hierarchy.mount, self.path)
        }
    }

    pub(crate) fn file(&self, file: &str) -> String {
        format!("{}/{file}", self.name())
    }

    pub(crate) fn parent(&self) -> Option<Group<'a>> {
        if self.path.is_empty() {
            return None;
        }
        let path = self.path.rsplit_once('/').map_or("", |(up, _)| up);
        Some(Group { hierarchy: self.hierarchy, path })
    }

    /// For calls that take no empty path.
    pub(crate) fn path_or_dot(&self) -> &str {
        if self.path.is_empty() { "." } else { self.path }
    }

    fn below(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) }
    }

    pub(crate) fn open(&self, file: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let path = self.below(file);
        fs::openat(self.hierarchy.root(), path.as_str(), flags | OFlags::CLOEXEC, Mode::empty())
    }

    /// The group's own folder, for getdents or CLONE_INTO_CGROUP.
    pub(crate) fn folder(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        fs::openat(self.hierarchy.root(), self.path_or_dot(), flags, Mode::empty())
    }

    pub(crate) fn read(&self, file: &str) -> Result<String> {
        read_at(self.hierarchy.root(), &self.below(file))
            .map_err(|(call, errno)| Error::new(Doing::Read, self.file(file)).call(call, errno))
    }

    /// `None` if the file, or by now the group, is not there.
    pub(crate) fn try_read(&self, file: &str) -> Result<Option<String>> {
        match read_at(self.hierarchy.root(), &self.below(file)) {
            Ok(text) => Ok(Some(text)),
            Err((_, Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP)) => Ok(None),
            Err((call, errno)) => Err(Error::new(Doing::Read, self.file(file)).call(call, errno)),
        }
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> std::result::Result<(), Failed> {
        let fd = self.open(file, OFlags::WRONLY).map_err(|e| ("openat", e))?;
        write_all(fd.as_fd(), value)
    }

    /// True if it was made, false if it existed. Whatever the umask, a container whose root is none of the host's finds its
    /// group: on v1 it is a folder that is bound from the host.
    pub(crate) fn mkdir(&self) -> io::Result<bool> {
        match fs::mkdirat(self.hierarchy.root(), self.path, FOR_ALL_TO_SEE) {
            Ok(()) if umask_leaves_it(self)? => Ok(true),
            Ok(()) => {
                fs::chmodat(self.hierarchy.root(), self.path, FOR_ALL_TO_SEE, AtFlags::empty()).map(|()| true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn rmdir(&self) -> io::Result<()> {
        fs::unlinkat(self.hierarchy.root(), self.path, AtFlags::REMOVEDIR)
    }

    pub(crate) fn exists(&self) -> bool {
        fs::accessat(self.hierarchy.root(), self.path_or_dot(), fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    pub(crate) fn inode(&self) -> Result<Option<u64>> {
        match fs::statat(self.hierarchy.root(), self.path_or_dot(), AtFlags::empty()) {
            Ok(stat) => Ok(Some(stat.st_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::new(Doing::Read, self.name()).call("newfstatat", e)),
        }
    }

    /// Names of the control files.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let failed = |call, errno| Error::new(Doing::Read, self.name()).call(call, errno);
        let folder = self.folder().map_err(|e| failed("openat", e))?;
        let mut names = Vec::new();
        for entry in fs::Dir::new(folder).map_err(|e| failed("getdents64", e))? {
            let entry = entry.map_err(|e| failed("getdents64", e))?;
            if let (FileType::RegularFile, Ok(name)) = (entry.file_type(), entry.file_name().to_str()) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// The processes of this group and of all below it.
    pub(crate) fn procs(&self) -> Result<Vec<i32>> {
        let failed = |(call, errno)| Error::new(Doing::Read, self.name()).call(call, errno);
        let is_v2 = self.hierarchy.version == Version::V2;
        let mut pids = procs_at(self.hierarchy.root(), |file| self.below(file), is_v2).map_err(failed)?;
        let found = |group: BorrowedFd<'_>| {
            pids.extend(procs_at(group, str::to_owned, is_v2).map_err(failed)?);
            Ok(())
        };
        self.walk_below(found, |_, _| Ok(()))?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}

/// Has a group the mode with which it was made? The first one of this process tells for all: nobody here changes the umask
/// between them.
fn umask_leaves_it(first: &Group<'_>) -> io::Result<bool> {
    static LEAVES_IT: OnceLock<bool> = OnceLock::new();
    if let Some(known) = LEAVES_IT.get() {
        return Ok(*known);
    }
    let made = fs::statat(first.hierarchy.root(), first.path, AtFlags::empty())?;
    Ok(*LEAVES_IT.get_or_init(|| Mode::from_raw_mode(made.st_mode) == FOR_ALL_TO_SEE))
}

/// The processes of one group alone; none if it is gone.
fn procs_at(
    root: BorrowedFd<'_>,
    path: impl Fn(&str) -> String,
    is_v2: bool,
) -> std::result::Result<Vec<i32>, Failed> {
    let read = |file| match read_at(root, &path(file)) {
        Ok(text) => Ok(Some(text)),
        Err((_, Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP)) => Ok(None),
        Err(failed) => Err(failed),
    };
    let text = match read("cgroup.procs")? {
        // A threaded v2 group does not list its processes (EOPNOTSUPP), only its threads.
        None if is_v2 => read("cgroup.threads")?,
        text => text,
    };
    Ok(text.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect())
}

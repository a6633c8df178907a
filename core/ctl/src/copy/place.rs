//! Where is copied from and to. In a container paths are looked up with its root as `/`, links and all, and never through /proc's.
use super::tree::{Owner, failure};
use crate::client::Error;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is copied: opened, not read.
#[derive(Debug)]
pub struct Source {
    pub fd: OwnedFd,
    /// For people.
    pub path: PathBuf,
    pub is_folder: bool,
    /// What it is called in a folder that it is copied to; none: what is in it is copied (`PATH/.`, or the root).
    name: Option<OsString>,
}

/// Where it goes.
#[derive(Debug)]
pub struct Target {
    pub folder: OwnedFd,
    /// None: into the folder itself.
    pub name: Option<OsString>,
    /// For people: of the whole.
    pub path: PathBuf,
}

/// A running container's files.
#[derive(Debug)]
pub struct Container {
    service: String,
    pid: i32,
    root: OwnedFd,
}

impl Container {
    pub fn open(service: &str, pid: i32) -> Result<Container, Error> {
        let path = format!("/proc/{pid}/root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &path, flags, Mode::empty()).map_err(|errno| {
            Error::Here(match errno {
                Errno::ACCESS | Errno::PERM => format!("only root can look into the container of {service}"),
                errno => failure("open the root of", Path::new(service), errno),
            })
        })?;
        Ok(Container { service: service.to_owned(), pid, root })
    }

    fn called(&self, path: &Path) -> PathBuf {
        PathBuf::from(format!("{}:", self.service)).join_as_text(path)
    }

    fn openat(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed meanwhile, so the kernel cannot be sure that it stays inside.
        for _ in 0..64 {
            match openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    pub fn source(&self, path: &Path) -> Result<Source, Error> {
        let opened = self.openat(path, OFlags::PATH);
        Source::of(opened, path, self.called(path))
    }

    pub fn target(&self, path: &Path, from: &Source) -> Result<Target, Error> {
        target(|path, flags| self.openat(path, flags), path, &self.called(path), from)
    }

    /// Root as the container knows it: what is copied in belongs to it, as in docker.
    pub fn owner(&self) -> Owner {
        let of = |map: &str| {
            let text = std::fs::read_to_string(format!("/proc/{}/{map}", self.pid)).unwrap_or_default();
            outside(&text, 0)
        };
        Owner::Is { uid: of("uid_map"), gid: of("gid_map") }
    }
}

/// The number outside of a number inside (user_namespaces(7)). None: nobody's.
fn outside(map: &str, inside: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let (first, other, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = inside.checked_sub(first).filter(|offset| *offset < count)?;
        other.checked_add(offset)
    })
}

pub fn source_here(path: &Path) -> Result<Source, Error> {
    let opened = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    Source::of(opened, path, path.to_owned())
}

impl Source {
    fn of(opened: rustix::io::Result<OwnedFd>, path: &Path, called: PathBuf) -> Result<Source, Error> {
        let fd = opened.map_err(|errno| Error::Here(failure("open", &called, errno)))?;
        let found = fstat(&fd).map_err(|errno| Error::Here(failure("look at", &called, errno)))?;
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let name = if ends_in_dot(path) { None } else { path.file_name().map(OsStr::to_owned) };
        if name.is_none() && !is_folder {
            return Err(Error::Here(failure("copy", &called, Errno::NOTDIR)));
        }
        Ok(Source { fd, path: called, is_folder, name })
    }
}

/// `PATH/.`, which Path takes for PATH.
fn ends_in_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

impl Target {
    pub fn here(path: &Path, from: &Source) -> Result<Target, Error> {
        let open = |path: &Path, flags| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        target(open, path, path, from)
    }
}

/// As cp(1): into a folder that is there, else under that name in the folder above.
fn target(
    open: impl Fn(&Path, OFlags) -> rustix::io::Result<OwnedFd>,
    path: &Path,
    called: &Path,
    from: &Source,
) -> Result<Target, Error> {
    let wrong = |doing: &str, errno| Error::Here(failure(doing, called, errno));
    let folder_flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match open(path, folder_flags) {
        Ok(folder) => {
            let path = from.name.as_ref().map_or(called.to_owned(), |name| called.join(name));
            return Ok(Target { folder, name: from.name.clone(), path });
        }
        Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(errno) => return Err(wrong("open", errno)),
    }
    let Some(name) = path.file_name().filter(|_| !ends_in_dot(path)) else {
        return Err(wrong("open", Errno::NOENT));
    };
    let says_folder = path.as_os_str().as_bytes().ends_with(b"/");
    if says_folder && !from.is_folder {
        return Err(wrong("copy a file to", Errno::NOTDIR));
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = open(above, folder_flags).map_err(|errno| wrong("open the folder of", errno))?;
    let is_there = statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if from.is_folder && is_there {
        return Err(wrong("copy a folder to", Errno::NOTDIR));
    }
    Ok(Target { folder, name: Some(name.to_owned()), path: called.to_owned() })
}

trait JoinAsText {
    fn join_as_text(self, path: &Path) -> PathBuf;
}

impl JoinAsText for PathBuf {
    /// `web:` and `//etc` -> `web:/etc`.
    fn join_as_text(self, path: &Path) -> PathBuf {
        let mut text = self.into_os_string();
        let clean: PathBuf = path.components().collect();
        text.push(clean);
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_number_outside_is_that_of_its_map() {
        assert_eq!(outside("         0          0 4294967295\n", 0), Some(0));
        assert_eq!(outside("0 100000 65536\n", 0), Some(100_000));
        assert_eq!(outside("1 1 10\n0 5000 1\n", 0), Some(5000));
        assert_eq!(outside("1000 1000 1\n", 0), None);
        assert_eq!(outside("", 0), None);
        assert_eq!(outside("0 4294967295 2\n", 1), None);
    }

    #[test]
    fn a_dot_at_the_end_is_what_is_inside() {
        for (path, is) in [("a/.", true), (".", true), ("a.", false), ("a", false), ("/a/b.", false)] {
            assert_eq!(ends_in_dot(Path::new(path)), is, "{path}");
        }
    }
}

#![forbid(unsafe_code)]
//! tmpcopyup: a new tmpfs starts with what the root has at its target.

use crate::sys::{self, Call, Fault, Fd, Result, Stat, uapi};
use crate::targets::PATH_MAX;

/// How deep copy-up follows directories: each level holds a frame of the stack and two descriptors.
const COPY_DEPTH_MAX: u32 = 64;

/// What is copied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Modes, owners, links and devices.
    Everything,
    /// Files, folders and links that we may read, and that are still there, for the source is live. They are ours.
    Readable,
}

/// Copies what lies at a mount's target into the new file system. The mode of its top is the mount's own.
pub(crate) fn copy_up(from: Fd, to: Fd, what: Copies) -> Result<()> {
    let source = sys::openat(from, b".\0", uapi::O_RDONLY | uapi::O_DIRECTORY, 0)?;
    let stat = sys::stat_fd(source)?;
    let copied = copy_dir(source, to, what, 0);
    sys::close(source);
    copied?;
    what.own(to, b"\0", &stat)
}

impl Copies {
    fn own(self, dir: Fd, name: &[u8], stat: &Stat) -> Result<()> {
        match self {
            Copies::Everything => sys::fchownat(dir, name, stat.uid, stat.gid),
            Copies::Readable => Ok(()),
        }
    }
}

fn copy_dir(from: Fd, to: Fd, what: Copies, depth: u32) -> Result<()> {
    if depth > COPY_DEPTH_MAX {
        return Err(Fault::new(Call::getdents64, uapi::ELOOP));
    }
    let mut entries = [0u8; 2048];
    loop {
        let n = sys::getdents(from, &mut entries)?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = entries.get(..n).unwrap_or(&[]);
        // struct linux_dirent64: inode 8, offset 8, length 2, type 1, then the name with its NUL.
        while let Some(&[low, high]) = rest.get(16..18).and_then(|b| b.first_chunk::<2>()) {
            let length = usize::from(u16::from_le_bytes([low, high]));
            let name = rest.get(19..length).unwrap_or(&[]);
            let end = name.iter().position(|b| *b == 0).map_or(0, |n| n.wrapping_add(1));
            let name = name.get(..end).unwrap_or(&[]);
            if !matches!(name, b".\0" | b"..\0" | b"") {
                match copy_one(from, to, name, what, depth) {
                    Err(Fault { errno: uapi::EACCES | uapi::ENOENT | uapi::ESTALE, .. })
                        if what == Copies::Readable => {}
                    other => other?,
                }
            }
            rest = rest.get(length..).unwrap_or(&[]);
        }
    }
}

fn copy_one(from: Fd, to: Fd, name: &[u8], what: Copies, depth: u32) -> Result<()> {
    let stat = sys::stat(from, name, false)?;
    match stat.kind() {
        uapi::S_IFDIR => {
            let source = open_as(from, name, uapi::S_IFDIR, uapi::O_DIRECTORY)?;
            sys::mkdirat(to, name, 0o700)?;
            let flags = uapi::O_RDONLY | uapi::O_DIRECTORY | uapi::O_NOFOLLOW;
            let dest = sys::openat(to, name, flags, 0)?;
            let copied = copy_dir(source, dest, what, depth.wrapping_add(1));
            sys::close(source);
            sys::close(dest);
            copied?;
        }
        uapi::S_IFREG => {
            let source = open_as(from, name, uapi::S_IFREG, 0)?;
            let dest = sys::openat(to, name, uapi::O_CREAT | uapi::O_EXCL | uapi::O_WRONLY, 0o600)?;
            let copied = copy_bytes(source, dest);
            sys::close(source);
            sys::close(dest);
            copied?;
        }
        uapi::S_IFLNK => {
            let mut link = [0u8; PATH_MAX];
            // The buffer starts as zeroes and readlink leaves at least one.
            let length = sys::readlinkat(from, name, &mut link)?.len();
            sys::symlinkat(link.get(..length.wrapping_add(1)).unwrap_or(b"\0"), to, name)?;
            return what.own(to, name, &stat);
        }
        _ if what == Copies::Readable => return Ok(()),
        kind => make_device(to, name, kind, &stat)?,
    }
    what.own(to, name, &stat)?;
    sys::fchmodat(to, name, stat.mode & 0o7777)
}

/// A neighbour who has the folder as a volume may put something else at the name after we have looked: a FIFO, where open would
/// wait for ever, or a device, which the host's root would read for it.
fn open_as(from: Fd, name: &[u8], kind: u32, flags: u32) -> Result<Fd> {
    let opened = sys::openat(from, name, flags | uapi::O_RDONLY | uapi::O_NOFOLLOW | uapi::O_NONBLOCK, 0)?;
    if sys::stat_fd(opened)?.kind() != kind {
        return Err(Fault::new(Call::openat, uapi::ESTALE));
    }
    Ok(opened)
}

fn copy_bytes(from: Fd, to: Fd) -> Result<()> {
    while sys::sendfile(to, from, 1 << 20)? > 0 {}
    Ok(())
}

fn make_device(to: Fd, name: &[u8], kind: u32, stat: &Stat) -> Result<()> {
    let (major, minor) = stat.rdev;
    let device = minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12;
    sys::mknodat(to, name, kind | stat.mode & 0o7777, device)
}

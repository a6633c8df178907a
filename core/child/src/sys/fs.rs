//! Descriptors, files and folders.

use super::raw::{Call, EMPTY, Fault, Fd, Result, again, cstr, fd, numbers, syscall};
use super::uapi::*;
use core::mem::{size_of, zeroed};

pub fn read(from: Fd, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes into `into`, at most its length.
    again(|| unsafe { syscall(Call::read, [from as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) })
}

pub fn write(to: Fd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads `bytes`, at most its length.
    again(|| unsafe { syscall(Call::write, [to as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) })
}

pub fn close(which: Fd) {
    let _ = numbers(Call::close, [which as usize, 0, 0, 0, 0, 0]);
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub fn openat2(dir: Fd, path: &[u8], flags: u32, mode: u32, resolve: u64) -> Result<Fd> {
    let how = OpenHow { flags: u64::from(flags | O_CLOEXEC), mode: u64::from(mode), resolve };
    let p = cstr(Call::openat2, path)?;
    // SAFETY: `path` ends in NUL; `how` is the kernel's open_how, passed with its size.
    again(|| unsafe {
        syscall(Call::openat2, [dir as usize, p, &raw const how as usize, size_of::<OpenHow>(), 0, 0])
    })
    .map(fd)
}

pub fn openat(dir: Fd, path: &[u8], flags: u32, mode: u32) -> Result<Fd> {
    let p = cstr(Call::openat, path)?;
    // SAFETY: `path` ends in NUL.
    again(|| unsafe {
        syscall(Call::openat, [dir as usize, p, (flags | O_CLOEXEC) as usize, mode as usize, 0, 0])
    })
    .map(fd)
}

pub fn mkdirat(dir: Fd, name: &[u8], mode: u32) -> Result<()> {
    let p = cstr(Call::mkdirat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { syscall(Call::mkdirat, [dir as usize, p, mode as usize, 0, 0, 0]) }.map(drop)
}

pub fn mknodat(dir: Fd, name: &[u8], mode: u32, device: u32) -> Result<()> {
    let p = cstr(Call::mknodat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { syscall(Call::mknodat, [dir as usize, p, mode as usize, device as usize, 0, 0]) }.map(drop)
}

pub fn symlinkat(to: &[u8], dir: Fd, name: &[u8]) -> Result<()> {
    let (t, p) = (cstr(Call::symlinkat, to)?, cstr(Call::symlinkat, name)?);
    // SAFETY: both end in NUL.
    unsafe { syscall(Call::symlinkat, [t, dir as usize, p, 0, 0, 0]) }.map(drop)
}

/// The link's target without a NUL; as long as it fits.
pub fn readlinkat<'b>(dir: Fd, name: &[u8], into: &'b mut [u8]) -> Result<&'b [u8]> {
    let p = cstr(Call::readlinkat, name)?;
    // SAFETY: `name` ends in NUL; the kernel writes at most `into.len()` bytes.
    let n = unsafe {
        syscall(Call::readlinkat, [dir as usize, p, into.as_mut_ptr() as usize, into.len(), 0, 0])
    }?;
    if n >= into.len() {
        return Err(Fault::new(Call::readlinkat, ENAMETOOLONG));
    }
    Ok(into.get(..n).unwrap_or(&[]))
}

pub fn unlinkat(dir: Fd, name: &[u8]) -> Result<()> {
    let p = cstr(Call::unlinkat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { syscall(Call::unlinkat, [dir as usize, p, 0, 0, 0, 0]) }.map(drop)
}

/// Owner of `name` itself; the empty name means `dir`.
pub fn fchownat(dir: Fd, name: &[u8], uid: u32, gid: u32) -> Result<()> {
    let p = cstr(Call::fchownat, name)?;
    let flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    // SAFETY: `name` ends in NUL.
    unsafe { syscall(Call::fchownat, [dir as usize, p, uid as usize, gid as usize, flags as usize, 0]) }
        .map(drop)
}

pub fn fchmodat(dir: Fd, name: &[u8], mode: u32) -> Result<()> {
    let p = cstr(Call::fchmodat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { syscall(Call::fchmodat, [dir as usize, p, mode as usize, 0, 0, 0]) }.map(drop)
}

pub fn fchmod(which: Fd, mode: u32) -> Result<()> {
    numbers(Call::fchmod, [which as usize, mode as usize, 0, 0, 0, 0]).map(drop)
}

pub fn umask(mask: u32) {
    let _ = numbers(Call::umask, [mask as usize, 0, 0, 0, 0, 0]);
}

/// What statx tells that a launch wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: (u32, u32),
    pub size: u64,
}

impl Stat {
    pub fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }
    pub fn is_dir(&self) -> bool {
        self.kind() == S_IFDIR
    }
    pub fn is_null_device(&self) -> bool {
        self.kind() == S_IFCHR && self.rdev == (1, 3)
    }
}

/// The kernel's struct statx: 256 bytes, named as far as it is used.
#[repr(C)]
struct Statx {
    mask: u32,
    blksize: u32,
    attributes: u64,
    nlink: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    pad: u16,
    ino: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    times: [u64; 8],
    rdev_major: u32,
    rdev_minor: u32,
    rest: [u64; 15],
}
const _: () = assert!(size_of::<Statx>() == 256);

/// Of `name` below `dir` (not following a link); of `dir` itself if the name is empty.
pub fn stat(dir: Fd, name: &[u8], follow: bool) -> Result<Stat> {
    let p = cstr(Call::statx, name)?;
    // SAFETY: all zeroes is a valid Statx: integers alone.
    let mut s: Statx = unsafe { zeroed() };
    let flags = AT_EMPTY_PATH | if follow { 0 } else { AT_SYMLINK_NOFOLLOW };
    // SAFETY: `name` ends in NUL; `s` is as large as the kernel's struct.
    unsafe { syscall(Call::statx, [dir as usize, p, flags as usize, 0x7ff, &raw mut s as usize, 0]) }?;
    Ok(Stat {
        mode: u32::from(s.mode),
        uid: s.uid,
        gid: s.gid,
        rdev: (s.rdev_major, s.rdev_minor),
        size: s.size,
    })
}

pub fn stat_fd(which: Fd) -> Result<Stat> {
    stat(which, EMPTY, false)
}

/// The magic number of the file system that a descriptor is on.
pub fn fs_magic(which: Fd) -> Result<u64> {
    let mut s = [0u64; 16];
    // SAFETY: struct statfs has 120 bytes on 64-bit machines; `s` has 128.
    unsafe { syscall(Call::fstatfs, [which as usize, s.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    let [magic, ..] = s;
    Ok(magic)
}

/// How the mount that a descriptor is on was mounted: nosuid, nodev and noexec have the same bits as MOUNT_ATTR_*.
pub fn mount_flags(which: Fd) -> Result<u32> {
    let mut s = [0u64; 16];
    // SAFETY: struct statfs has 120 bytes on 64-bit machines; `s` has 128.
    unsafe { syscall(Call::fstatfs, [which as usize, s.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    let [_type, _bsize, _blocks, _bfree, _bavail, _files, _ffree, _fsid, _namelen, _frsize, flags, ..] = s;
    Ok(flags as u32)
}

/// May we execute it, by the ids we have now?
pub fn executable(dir: Fd, path: &[u8]) -> Result<()> {
    let p = cstr(Call::faccessat2, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { syscall(Call::faccessat2, [dir as usize, p, 1, AT_EACCESS as usize, 0, 0]) }.map(drop)
}

pub fn getdents(dir: Fd, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the length of `into`.
    unsafe { syscall(Call::getdents64, [dir as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) }
}

pub fn sendfile(to: Fd, from: Fd, count: usize) -> Result<usize> {
    numbers(Call::sendfile, [to as usize, from as usize, 0, count, 0, 0])
}

pub fn memfd(name: &[u8]) -> Result<Fd> {
    let p = cstr(Call::memfd_create, name)?;
    // SAFETY: `name` ends in NUL.  1 is MFD_CLOEXEC.
    unsafe { syscall(Call::memfd_create, [p, 1, 0, 0, 0, 0]) }.map(fd)
}

pub fn rewind(which: Fd) -> Result<()> {
    numbers(Call::lseek, [which as usize, 0, 0, 0, 0, 0]).map(drop)
}

pub fn chdir(path: &[u8]) -> Result<()> {
    let p = cstr(Call::chdir, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { syscall(Call::chdir, [p, 0, 0, 0, 0, 0]) }.map(drop)
}

pub fn fchdir(which: Fd) -> Result<()> {
    numbers(Call::fchdir, [which as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// Is the working directory below the root?  The kernel says `(unreachable)/...` where it is not.
pub fn cwd_is_inside() -> Result<bool> {
    let mut path = [0u8; 4096];
    // SAFETY: the kernel writes at most the length of `path`.
    unsafe { syscall(Call::getcwd, [path.as_mut_ptr() as usize, path.len(), 0, 0, 0, 0]) }?;
    Ok(path.first() == Some(&b'/'))
}

/// Copies a descriptor to the number `to`, open over execve. The same number only loses CLOEXEC.
pub fn dup_to(from: Fd, to: Fd) -> Result<()> {
    if from == to {
        // dup3 refuses this.  2 is F_SETFD, without FD_CLOEXEC.
        return numbers(Call::fcntl, [from as usize, 2, 0, 0, 0, 0]).map(drop);
    }
    numbers(Call::dup3, [from as usize, to as usize, 0, 0, 0, 0]).map(drop)
}

/// Marks all descriptors from `first` on for closing at execve.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    numbers(Call::close_range, [first as usize, u32::MAX as usize, 4, 0, 0, 0]).map(drop)
}

/// Closes `first` to `last`, both included.
pub fn close_between(first: u32, last: u32) -> Result<()> {
    numbers(Call::close_range, [first as usize, last as usize, 0, 0, 0, 0]).map(drop)
}

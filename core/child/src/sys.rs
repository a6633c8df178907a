//! One function per system call, each a typed face on a raw trap: the only file here that holds `unsafe`
//! besides the entry.
//!
//! libc is absent on purpose.  Its wrappers touch errno and thread-local state, and its `fork`, `setuid`
//! and `exit` run handlers of the parent's; after clone3 none of that may happen.  Every path that comes in
//! is a slice ending in NUL, which is checked here, because everything below relies on it.

use core::arch::asm;
use core::convert::Infallible;
use core::mem::{size_of, zeroed};

use crate::step::Propagation;

macro_rules! calls {
    ($($code:literal $name:ident = $x86:literal $arm:literal;)*) => {
        /// A system call, as reports name it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        #[allow(non_camel_case_types)]
        pub enum Call { $($name = $code,)* }

        impl Call {
            pub fn name(self) -> &'static str {
                match self { $(Call::$name => stringify!($name),)* }
            }
            pub fn from_code(code: u16) -> Option<Call> {
                match code { $($code => Some(Call::$name),)* _ => None }
            }
            /// Its number on this machine.
            pub fn number(self) -> usize {
                #[cfg(target_arch = "x86_64")]
                match self { $(Call::$name => $x86,)* }
                #[cfg(target_arch = "aarch64")]
                match self { $(Call::$name => $arm,)* }
            }
        }
    };
}

// Name, number on x86_64, number on aarch64.
calls! {
    1 read = 0 63;            2 write = 1 64;           3 close = 3 57;           4 ioctl = 16 29;
    5 mmap = 9 222;           6 getpid = 39 172;        7 socket = 41 198;        8 sendmsg = 46 211;
    9 exit_group = 231 94;    10 fchdir = 81 50;        11 chdir = 80 49;         12 getcwd = 79 17;
    13 mkdirat = 258 34;      14 mknodat = 259 33;      15 fchownat = 260 54;     16 fchmodat = 268 53;
    17 unlinkat = 263 35;     18 symlinkat = 266 36;    19 openat = 257 56;       20 openat2 = 437 437;
    21 statx = 332 291;       22 fstatfs = 138 44;      23 faccessat2 = 439 439;  24 mount = 165 40;
    25 umount2 = 166 39;      26 pivot_root = 155 41;   27 open_tree = 428 428;   28 move_mount = 429 429;
    29 fsopen = 430 430;      30 fsconfig = 431 431;    31 fsmount = 432 432;     32 mount_setattr = 442 442;
    33 setns = 308 268;       34 unshare = 272 97;      35 sethostname = 170 161; 36 setdomainname = 171 162;
    37 setsid = 112 157;      38 setpgid = 109 154;     39 prctl = 157 167;       40 capset = 126 91;
    41 setresuid = 117 147;   42 setresgid = 119 149;   43 setgroups = 116 159;   44 umask = 95 166;
    45 prlimit = 302 261;     46 rt_sigaction = 13 134; 47 rt_sigprocmask = 14 135; 48 seccomp = 317 277;
    49 close_range = 436 436; 50 execve = 59 221;       51 clone3 = 435 435;      52 pidfd_open = 434 434;
    53 kill = 62 129;         54 waitid = 247 95;       55 ppoll = 271 73;        56 dup3 = 292 24;
    57 memfd_create = 319 279; 58 lseek = 8 62;         59 clock_gettime = 228 113; 60 keyctl = 250 219;
    61 personality = 135 92;  62 sched_setattr = 314 274; 63 ioprio_set = 251 30; 64 sched_setaffinity = 203 122;
    65 setpriority = 141 140; 66 getdents64 = 217 61;   67 readlinkat = 267 78;   68 fchmod = 91 52;
    69 sendfile = 40 71;      70 fcntl = 72 25;         71 pidfd_send_signal = 424 424; 72 exit = 60 93;
}

/// A call that failed, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    pub errno: u16,
    pub detail: u32,
}

impl Fault {
    pub fn new(call: Call, errno: u16) -> Fault {
        Fault { call, errno, detail: 0 }
    }
}

pub type Result<T> = core::result::Result<T, Fault>;
pub type Fd = i32;

/// Bits and numbers of the kernel's interface (include/uapi), under its own names.
pub mod uapi {
    pub const EPERM: u16 = 1;
    pub const ENOENT: u16 = 2;
    pub const EINTR: u16 = 4;
    pub const EBADF: u16 = 9;
    pub const EAGAIN: u16 = 11;
    pub const EACCES: u16 = 13;
    pub const EEXIST: u16 = 17;
    pub const EXDEV: u16 = 18;
    pub const ENODEV: u16 = 19;
    pub const ENOTDIR: u16 = 20;
    pub const EINVAL: u16 = 22;
    pub const ENAMETOOLONG: u16 = 36;
    pub const ENOSYS: u16 = 38;
    pub const ELOOP: u16 = 40;
    pub const ETIMEDOUT: u16 = 110;
    pub const EDQUOT: u16 = 122;
    pub const EKEYREVOKED: u16 = 128;
    pub const EOPNOTSUPP: u16 = 95;

    pub const AT_FDCWD: i32 = -100;
    pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
    pub const AT_EACCESS: u32 = 0x200;
    pub const AT_EMPTY_PATH: u32 = 0x1000;
    pub const AT_RECURSIVE: u32 = 0x8000;
    pub const O_RDONLY: u32 = 0;
    pub const O_WRONLY: u32 = 1;
    pub const O_RDWR: u32 = 2;
    pub const O_CREAT: u32 = 0o100;
    pub const O_EXCL: u32 = 0o200;
    pub const O_NOCTTY: u32 = 0o400;
    pub const O_NONBLOCK: u32 = 0o4000;
    #[cfg(target_arch = "x86_64")]
    pub const O_DIRECTORY: u32 = 0o200000;
    #[cfg(target_arch = "x86_64")]
    pub const O_NOFOLLOW: u32 = 0o400000;
    #[cfg(target_arch = "aarch64")]
    pub const O_DIRECTORY: u32 = 0o40000;
    #[cfg(target_arch = "aarch64")]
    pub const O_NOFOLLOW: u32 = 0o100000;
    pub const O_CLOEXEC: u32 = 0o2000000;
    pub const O_PATH: u32 = 0o10000000;
    pub const RESOLVE_NO_XDEV: u64 = 1;
    pub const RESOLVE_NO_MAGICLINKS: u64 = 2;
    pub const RESOLVE_NO_SYMLINKS: u64 = 4;
    pub const RESOLVE_BENEATH: u64 = 8;
    pub const RESOLVE_IN_ROOT: u64 = 16;

    pub const S_IFMT: u32 = 0o170000;
    pub const S_IFREG: u32 = 0o100000;
    pub const S_IFDIR: u32 = 0o040000;
    pub const S_IFLNK: u32 = 0o120000;
    pub const S_IFCHR: u32 = 0o020000;
    pub const S_IFBLK: u32 = 0o060000;
    pub const S_IFIFO: u32 = 0o010000;
    pub const S_IFSOCK: u32 = 0o140000;

    pub const CLONE_NEWTIME: u32 = 0x80;
    pub const CLONE_NEWNS: u32 = 0x2_0000;
    pub const CLONE_NEWCGROUP: u32 = 0x200_0000;
    pub const CLONE_NEWUTS: u32 = 0x400_0000;
    pub const CLONE_NEWIPC: u32 = 0x800_0000;
    pub const CLONE_NEWUSER: u32 = 0x1000_0000;
    pub const CLONE_NEWPID: u32 = 0x2000_0000;
    pub const CLONE_NEWNET: u32 = 0x4000_0000;
    pub const CLONE_PIDFD: u64 = 0x1000;
    pub const CLONE_PARENT: u64 = 0x8000;
    pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

    pub const MOUNT_ATTR_RDONLY: u32 = 0x1;
    pub const MOUNT_ATTR_NOSUID: u32 = 0x2;
    pub const MOUNT_ATTR_NODEV: u32 = 0x4;
    pub const MOUNT_ATTR_NOEXEC: u32 = 0x8;
    /// The atime settings are one field of three bits, with relatime as 0.
    pub const MOUNT_ATTR_ATIME: u32 = 0x70;
    pub const MOUNT_ATTR_NOATIME: u32 = 0x10;
    pub const MOUNT_ATTR_STRICTATIME: u32 = 0x20;
    pub const MOUNT_ATTR_NODIRATIME: u32 = 0x80;
    pub const MOUNT_ATTR_NOSYMFOLLOW: u32 = 0x20_0000;

    pub const MS_REC: u32 = 0x4000;
    pub const MS_UNBINDABLE: u32 = 1 << 17;
    pub const MS_PRIVATE: u32 = 1 << 18;
    pub const MS_SLAVE: u32 = 1 << 19;
    pub const MS_SHARED: u32 = 1 << 20;
    pub const MNT_DETACH: u32 = 2;

    pub const OPEN_TREE_CLONE: u32 = 1;
    pub const OPEN_TREE_CLOEXEC: u32 = O_CLOEXEC;
    pub const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    pub const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
    pub const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
}
use uapi::*;

/// The trap itself. Six arguments, always: the kernel ignores what a call does not take.
///
/// SAFETY of every caller: pointers passed are to memory that is live, and of the size the call reads or
/// writes; each function below says which reference that is.
unsafe fn trap(call: Call, args: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = args;
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's calling convention; rcx and r11 are what `syscall` destroys.
    unsafe {
        asm!("syscall", inlateout("rax") call.number() as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel's calling convention; `svc` destroys nothing but x0.
    unsafe {
        asm!("svc 0", in("x8") call.number(), inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack));
    }
    if (-4095..0).contains(&result) {
        return Err(Fault::new(call, result.wrapping_neg() as u16));
    }
    Ok(result as usize)
}

/// A call whose arguments are numbers alone.
fn numbers(call: Call, args: [usize; 6]) -> Result<usize> {
    // SAFETY: no argument is a pointer; the callers of this private function see to that.
    unsafe { trap(call, args) }
}

/// The address of a string, if it is one: the last byte must be NUL.
fn cstr(call: Call, s: &[u8]) -> Result<usize> {
    match s.last() {
        Some(0) => Ok(s.as_ptr() as usize),
        _ => Err(Fault::new(call, EINVAL)),
    }
}

const EMPTY: &[u8] = b"\0";

fn fd(result: usize) -> Fd {
    result as Fd
}

/// Repeats what a signal or a race interrupted. openat2 gives EAGAIN when a rename raced with `..`.
fn again<T>(mut f: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries = 0u32;
    loop {
        match f() {
            Err(fault) if fault.errno == EINTR || (fault.errno == EAGAIN && tries < 128) => {
                tries = tries.wrapping_add(1)
            }
            other => return other,
        }
    }
}

pub fn read(from: Fd, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes into `into`, at most its length.
    again(|| unsafe { trap(Call::read, [from as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) })
}

pub fn write(to: Fd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads `bytes`, at most its length.
    again(|| unsafe { trap(Call::write, [to as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) })
}

pub fn close(which: Fd) {
    let _ = numbers(Call::close, [which as usize, 0, 0, 0, 0, 0]);
}

/// Ends the process, under any seccomp filter: one that denies both calls cannot deny a fault.
pub fn exit(code: i32) -> ! {
    let _ = numbers(Call::exit_group, [code as usize, 0, 0, 0, 0, 0]);
    let _ = numbers(Call::exit, [code as usize, 0, 0, 0, 0, 0]);
    illegal_instruction()
}

/// The kernel forces SIGILL, which ends even a pid namespace's init (kernel/signal.c, force_sig_info).
fn illegal_instruction() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it touches no memory and never returns: the signal's disposition is the default by now.
    unsafe {
        asm!("ud2", options(noreturn, nomem, nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: it touches no memory and never returns: the signal's disposition is the default by now.
    unsafe {
        asm!("udf #0", options(noreturn, nomem, nostack));
    }
}

pub fn getpid() -> u32 {
    numbers(Call::getpid, [0; 6]).unwrap_or(0) as u32
}

pub fn clock_monotonic_ns() -> u64 {
    let mut time = [0i64; 2];
    // SAFETY: `time` has the size and layout of a 64-bit timespec.
    let _ = unsafe { trap(Call::clock_gettime, [1, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    let [seconds, nanos] = time;
    (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanos as u64)
}

// ---- files ----

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
        trap(Call::openat2, [dir as usize, p, &raw const how as usize, size_of::<OpenHow>(), 0, 0])
    })
    .map(fd)
}

pub fn openat(dir: Fd, path: &[u8], flags: u32, mode: u32) -> Result<Fd> {
    let p = cstr(Call::openat, path)?;
    // SAFETY: `path` ends in NUL.
    again(|| unsafe {
        trap(Call::openat, [dir as usize, p, (flags | O_CLOEXEC) as usize, mode as usize, 0, 0])
    })
    .map(fd)
}

pub fn mkdirat(dir: Fd, name: &[u8], mode: u32) -> Result<()> {
    let p = cstr(Call::mkdirat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { trap(Call::mkdirat, [dir as usize, p, mode as usize, 0, 0, 0]) }.map(drop)
}

pub fn mknodat(dir: Fd, name: &[u8], mode: u32, device: u32) -> Result<()> {
    let p = cstr(Call::mknodat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { trap(Call::mknodat, [dir as usize, p, mode as usize, device as usize, 0, 0]) }.map(drop)
}

pub fn symlinkat(to: &[u8], dir: Fd, name: &[u8]) -> Result<()> {
    let (t, p) = (cstr(Call::symlinkat, to)?, cstr(Call::symlinkat, name)?);
    // SAFETY: both end in NUL.
    unsafe { trap(Call::symlinkat, [t, dir as usize, p, 0, 0, 0]) }.map(drop)
}

/// The link's target without a NUL; as long as it fits.
pub fn readlinkat<'b>(dir: Fd, name: &[u8], into: &'b mut [u8]) -> Result<&'b [u8]> {
    let p = cstr(Call::readlinkat, name)?;
    // SAFETY: `name` ends in NUL; the kernel writes at most `into.len()` bytes.
    let n =
        unsafe { trap(Call::readlinkat, [dir as usize, p, into.as_mut_ptr() as usize, into.len(), 0, 0]) }?;
    if n >= into.len() {
        return Err(Fault::new(Call::readlinkat, ENAMETOOLONG));
    }
    Ok(into.get(..n).unwrap_or(&[]))
}

pub fn unlinkat(dir: Fd, name: &[u8]) -> Result<()> {
    let p = cstr(Call::unlinkat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { trap(Call::unlinkat, [dir as usize, p, 0, 0, 0, 0]) }.map(drop)
}

/// Owner of `name` itself; the empty name means `dir`.
pub fn fchownat(dir: Fd, name: &[u8], uid: u32, gid: u32) -> Result<()> {
    let p = cstr(Call::fchownat, name)?;
    let flags = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
    // SAFETY: `name` ends in NUL.
    unsafe { trap(Call::fchownat, [dir as usize, p, uid as usize, gid as usize, flags as usize, 0]) }
        .map(drop)
}

pub fn fchmodat(dir: Fd, name: &[u8], mode: u32) -> Result<()> {
    let p = cstr(Call::fchmodat, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { trap(Call::fchmodat, [dir as usize, p, mode as usize, 0, 0, 0]) }.map(drop)
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
    unsafe { trap(Call::statx, [dir as usize, p, flags as usize, 0x7ff, &raw mut s as usize, 0]) }?;
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
    unsafe { trap(Call::fstatfs, [which as usize, s.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    let [magic, ..] = s;
    Ok(magic)
}

/// How the mount that a descriptor is on was mounted: nosuid, nodev and noexec have the same bits as MOUNT_ATTR_*.
pub fn mount_flags(which: Fd) -> Result<u32> {
    let mut s = [0u64; 16];
    // SAFETY: struct statfs has 120 bytes on 64-bit machines; `s` has 128.
    unsafe { trap(Call::fstatfs, [which as usize, s.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    let [_type, _bsize, _blocks, _bfree, _bavail, _files, _ffree, _fsid, _namelen, _frsize, flags, ..] = s;
    Ok(flags as u32)
}

/// May we execute it, by the ids we have now?
pub fn executable(dir: Fd, path: &[u8]) -> Result<()> {
    let p = cstr(Call::faccessat2, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { trap(Call::faccessat2, [dir as usize, p, 1, AT_EACCESS as usize, 0, 0]) }.map(drop)
}

pub fn getdents(dir: Fd, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the length of `into`.
    unsafe { trap(Call::getdents64, [dir as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0]) }
}

pub fn sendfile(to: Fd, from: Fd, count: usize) -> Result<usize> {
    numbers(Call::sendfile, [to as usize, from as usize, 0, count, 0, 0])
}

pub fn memfd(name: &[u8]) -> Result<Fd> {
    let p = cstr(Call::memfd_create, name)?;
    // SAFETY: `name` ends in NUL.  1 is MFD_CLOEXEC.
    unsafe { trap(Call::memfd_create, [p, 1, 0, 0, 0, 0]) }.map(fd)
}

pub fn rewind(which: Fd) -> Result<()> {
    numbers(Call::lseek, [which as usize, 0, 0, 0, 0, 0]).map(drop)
}

pub fn chdir(path: &[u8]) -> Result<()> {
    let p = cstr(Call::chdir, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { trap(Call::chdir, [p, 0, 0, 0, 0, 0]) }.map(drop)
}

pub fn fchdir(which: Fd) -> Result<()> {
    numbers(Call::fchdir, [which as usize, 0, 0, 0, 0, 0]).map(drop)
}

/// Is the working directory below the root?  The kernel says `(unreachable)/...` where it is not.
pub fn cwd_is_inside() -> Result<bool> {
    let mut path = [0u8; 4096];
    // SAFETY: the kernel writes at most the length of `path`.
    unsafe { trap(Call::getcwd, [path.as_mut_ptr() as usize, path.len(), 0, 0, 0, 0]) }?;
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

// ---- mounts ----

pub fn open_tree(dir: Fd, path: &[u8], flags: u32) -> Result<Fd> {
    let p = cstr(Call::open_tree, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { trap(Call::open_tree, [dir as usize, p, (flags | OPEN_TREE_CLOEXEC) as usize, 0, 0, 0]) }.map(fd)
}

/// Clones what a descriptor stands for, as a detached mount.
pub fn clone_tree(of: Fd, recursive: bool) -> Result<Fd> {
    open_tree(of, EMPTY, OPEN_TREE_CLONE | AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 })
}

/// Attaches a detached tree on what `target` stands for: no path is looked up.
pub fn attach(tree: Fd, target: Fd) -> Result<()> {
    let p = EMPTY.as_ptr() as usize;
    // SAFETY: both paths are the empty string; F_EMPTY_PATH | T_EMPTY_PATH.
    unsafe { trap(Call::move_mount, [tree as usize, p, target as usize, p, 0x4 | 0x40, 0]) }.map(drop)
}

/// Attaches a detached tree at a path of the host's tree.
pub fn attach_at(tree: Fd, path: &[u8]) -> Result<()> {
    let t = cstr(Call::move_mount, path)?;
    // SAFETY: the first path is the empty string, `path` ends in NUL; F_EMPTY_PATH.
    unsafe { trap(Call::move_mount, [tree as usize, EMPTY.as_ptr() as usize, AT_FDCWD as usize, t, 0x4, 0]) }
        .map(drop)
}

pub fn fsopen(kind: &[u8]) -> Result<Fd> {
    let p = cstr(Call::fsopen, kind)?;
    // SAFETY: `kind` ends in NUL.  1 is FSOPEN_CLOEXEC.
    unsafe { trap(Call::fsopen, [p, 1, 0, 0, 0, 0]) }.map(fd)
}

pub fn fsconfig_flag(fs: Fd, key: &[u8]) -> Result<()> {
    let k = cstr(Call::fsconfig, key)?;
    // SAFETY: `key` ends in NUL.  0 is FSCONFIG_SET_FLAG.
    unsafe { trap(Call::fsconfig, [fs as usize, 0, k, 0, 0, 0]) }.map(drop)
}

pub fn fsconfig_string(fs: Fd, key: &[u8], value: &[u8]) -> Result<()> {
    let (k, v) = (cstr(Call::fsconfig, key)?, cstr(Call::fsconfig, value)?);
    // SAFETY: both end in NUL.  1 is FSCONFIG_SET_STRING.
    unsafe { trap(Call::fsconfig, [fs as usize, 1, k, v, 0, 0]) }.map(drop)
}

/// Makes the file system, and a detached mount of it.
pub fn fsmount(fs: Fd, attributes: u32) -> Result<Fd> {
    // 6 is FSCONFIG_CMD_CREATE, 1 is FSMOUNT_CLOEXEC.
    numbers(Call::fsconfig, [fs as usize, 6, 0, 0, 0, 0])?;
    numbers(Call::fsmount, [fs as usize, 1, attributes as usize, 0, 0, 0]).map(fd)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn mount_setattr(of: Fd, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let (p, a) = (EMPTY.as_ptr() as usize, &raw const *attr as usize);
    // SAFETY: the path is the empty string; `attr` is the kernel's mount_attr, passed with its size.
    unsafe { trap(Call::mount_setattr, [of as usize, p, flags as usize, a, size_of::<MountAttr>(), 0]) }
        .map(drop)
}

/// Attributes of the mount that a descriptor stands for.
pub fn set_attributes(of: Fd, set: u32, clear: u32, recursive: bool) -> Result<()> {
    mount_setattr(
        of,
        &MountAttr { set: set.into(), clear: clear.into(), propagation: 0, userns: 0 },
        recursive,
    )
}

/// Propagation of the mount that a descriptor stands for; it may be detached.
pub fn set_propagation(of: Fd, to: Propagation) -> Result<()> {
    let attr = MountAttr { set: 0, clear: 0, propagation: to.bit().into(), userns: 0 };
    mount_setattr(of, &attr, to.is_recursive())
}

/// Propagation of the mount at `path`: the old call, because the new one has no path but through a descriptor.
pub fn propagate(path: &[u8], to: Propagation) -> Result<()> {
    let p = cstr(Call::mount, path)?;
    let flags = to.bit() | if to.is_recursive() { MS_REC } else { 0 };
    // SAFETY: `path` ends in NUL; source, type and data may be null for a change of propagation.
    unsafe { trap(Call::mount, [0, p, 0, flags as usize, 0, 0]) }.map(drop)
}

/// pivot_root(".", "."): the old root ends up below the new one, at the same place.
pub fn pivot_here() -> Result<()> {
    let dot = c".".as_ptr() as usize;
    // SAFETY: both paths are ".".
    unsafe { trap(Call::pivot_root, [dot, dot, 0, 0, 0, 0]) }.map(drop)
}

pub fn detach(path: &[u8]) -> Result<()> {
    let p = cstr(Call::umount2, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { trap(Call::umount2, [p, MNT_DETACH as usize, 0, 0, 0, 0]) }.map(drop)
}

// ---- namespaces and processes ----

pub fn setns(what: Fd, kinds: u32) -> Result<()> {
    numbers(Call::setns, [what as usize, kinds as usize, 0, 0, 0, 0]).map(drop)
}

/// CLONE_NEW* of the namespace behind a descriptor (NS_GET_NSTYPE, Linux 4.11); ENOTTY: there is none.
pub fn namespace_kind(what: Fd) -> Result<u32> {
    numbers(Call::ioctl, [what as usize, 0xb703, 0, 0, 0, 0]).map(|kind| kind as u32)
}

pub fn unshare(kinds: u32) -> Result<()> {
    numbers(Call::unshare, [kinds as usize, 0, 0, 0, 0, 0]).map(drop)
}

pub fn sethostname(name: &[u8]) -> Result<()> {
    let length = name.len().saturating_sub(1);
    // SAFETY: the kernel reads `length` bytes of `name`.
    unsafe { trap(Call::sethostname, [name.as_ptr() as usize, length, 0, 0, 0, 0]) }.map(drop)
}

pub fn setdomainname(name: &[u8]) -> Result<()> {
    let length = name.len().saturating_sub(1);
    // SAFETY: the kernel reads `length` bytes of `name`.
    unsafe { trap(Call::setdomainname, [name.as_ptr() as usize, length, 0, 0, 0, 0]) }.map(drop)
}

pub fn setsid() -> Result<()> {
    numbers(Call::setsid, [0; 6]).map(drop)
}

pub fn own_group() -> Result<()> {
    numbers(Call::setpgid, [0; 6]).map(drop)
}

/// A pidfd of this process itself.
pub fn pidfd_self() -> Result<Fd> {
    numbers(Call::pidfd_open, [getpid() as usize, 0, 0, 0, 0, 0]).map(fd)
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones a process that runs `child` on its own copy of our memory: its pid, and a pidfd.
///
/// Private to this crate, because what `child` may do is this crate's property: no allocation, no lock (one
/// may be held for ever in the copy), no unwinding, and an end in execve or [`exit`], which its type says.
pub(crate) fn clone(flags: u64, cgroup: Option<Fd>, child: impl FnOnce() -> Infallible) -> Result<(u32, Fd)> {
    let mut pidfd: Fd = -1;
    let args = CloneArgs {
        flags: flags
            | CLONE_PIDFD
            | CLONE_CLEAR_SIGHAND
            | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 },
        pidfd: &raw mut pidfd as u64,
        exit_signal: 17, // SIGCHLD
        cgroup: cgroup.unwrap_or(0) as u64,
        ..CloneArgs::default()
    };
    // SAFETY: no CLONE_VM, so parent and child return on copies of the same stack; `args` and `pidfd` are
    // live; `child` is of this crate, which cannot do what a copied process must not.
    let pid = unsafe { trap(Call::clone3, [&raw const args as usize, size_of::<CloneArgs>(), 0, 0, 0, 0]) }?;
    if pid == 0 {
        #[allow(unreachable_code)] // it never returns, which is why it may be empty
        match child() {}
    }
    // SAFETY: a live local, written by the kernel behind the compiler's back.
    let pidfd = unsafe { core::ptr::read_volatile(&raw const pidfd) };
    Ok((pid as u32, pidfd))
}

/// Waits for the process of a pidfd: its exit code, or 128 + signal. Reaps it.
pub fn reap(pidfd: Fd) -> Result<u32> {
    let mut info = [0i32; 32];
    // SAFETY: siginfo_t has 128 bytes, as `info` has.  3 is P_PIDFD, 4 is WEXITED.
    again(|| unsafe { trap(Call::waitid, [3, pidfd as usize, info.as_mut_ptr() as usize, 4, 0, 0]) })?;
    // si_code is the third word, si_status the seventh.
    let (code, status) = (info.get(2).copied().unwrap_or(0), info.get(6).copied().unwrap_or(0));
    Ok(if code == 1 { status as u32 } else { 128u32.wrapping_add(status as u32) })
}

/// Is the descriptor readable within `timeout_ms`? Negative waits for ever.
pub fn readable(which: Fd, timeout_ms: i64) -> Result<bool> {
    let mut pollfd = [which, 1];
    let time = [timeout_ms / 1_000, (timeout_ms % 1_000).wrapping_mul(1_000_000)];
    let t = if timeout_ms < 0 { 0 } else { time.as_ptr() as usize };
    // SAFETY: pollfd is an int and two shorts, eight bytes; `time` is a 64-bit timespec.
    unsafe { trap(Call::ppoll, [pollfd.as_mut_ptr() as usize, 1, t, 0, 0, 0]) }.map(|n| n > 0)
}

/// SIGKILL to the process of a pidfd.
pub fn kill(pidfd: Fd) {
    let _ = numbers(Call::pidfd_send_signal, [pidfd as usize, 9, 0, 0, 0, 0]);
}

/// SIGKILL to a whole process group.
pub fn kill_group(pid: u32) {
    let _ = numbers(Call::kill, [(pid as isize).wrapping_neg() as usize, 9, 0, 0, 0, 0]);
}

/// Every signal to its default, none blocked.
pub fn reset_signals() {
    let default = [0u64; 4];
    let mut signal = 1usize;
    while signal <= 64 {
        // SAFETY: the kernel reads one sigaction (handler, flags, restorer, mask of 8 bytes): SIG_DFL.
        let _ = unsafe { trap(Call::rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0, 0]) };
        signal = signal.wrapping_add(1);
    }
    let none = 0u64;
    // SAFETY: SIG_SETMASK (2) reads the eight bytes of `none`.
    let _ = unsafe { trap(Call::rt_sigprocmask, [2, &raw const none as usize, 0, 8, 0, 0]) };
}

/// A private map for `words` pointers, zeroed.
fn pointers<'a>(words: usize) -> Result<&'a mut [usize]> {
    let bytes = words.wrapping_mul(size_of::<usize>());
    // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS.
    let at = numbers(Call::mmap, [0, bytes, 3, 0x22, usize::MAX, 0])?;
    // SAFETY: a fresh anonymous map of that size, zeroed, aligned to a page, never unmapped before execve.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut usize, words) })
}

/// A program with its arguments, laid out as execve takes them: made before a filter is loaded, which may deny mmap.
pub struct Program<'a> {
    path: &'a [u8],
    /// The arguments, null, the environment, null.
    table: &'a mut [usize],
    environment: usize,
}

impl<'a> Program<'a> {
    pub fn new(
        path: &'a [u8],
        argv: impl Iterator<Item = &'a [u8]> + Clone,
        env: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<Program<'a>> {
        cstr(Call::execve, path)?;
        let environment = argv.clone().count().wrapping_add(1);
        let words = environment.wrapping_add(env.clone().count()).wrapping_add(1);
        let table = pointers(words)?;
        let (args, vars) = table.split_at_mut_checked(environment).ok_or(Fault::new(Call::execve, EINVAL))?;
        for (place, s) in args.iter_mut().zip(argv) {
            *place = cstr(Call::execve, s)?;
        }
        for (place, s) in vars.iter_mut().zip(env) {
            *place = cstr(Call::execve, s)?;
        }
        Ok(Program { path, table, environment })
    }

    /// execve. Comes back only with the reason why not.
    pub fn execute(self) -> Fault {
        let vars = self.table.get(self.environment..).unwrap_or(&[]);
        let (path, args) = (self.path.as_ptr() as usize, self.table.as_ptr() as usize);
        // SAFETY: `path` ends in NUL, both tables in a zero word (the map was zeroed, each has one word more than strings),
        // and the strings live as long as `'a`.
        match unsafe { trap(Call::execve, [path, args, vars.as_ptr() as usize, 0, 0, 0]) } {
            Err(fault) => fault,
            Ok(_) => Fault::new(Call::execve, EINVAL),
        }
    }
}

/// A shared map of the trace: `words` times, written as the steps end.
pub fn map_trace<'a>(memfd: Fd, words: usize) -> Result<&'a mut [u64]> {
    let bytes = words.wrapping_mul(8);
    // PROT_READ | PROT_WRITE, MAP_SHARED.
    let at = numbers(Call::mmap, [0, bytes, 3, 1, memfd as usize, 0])?;
    // SAFETY: a map of that size; integers alone; the parent only reads it, after we ended or exec'd.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u64, words) })
}

// ---- credentials and limits ----

pub fn setresuid(uid: u32) -> Result<()> {
    numbers(Call::setresuid, [uid as usize, uid as usize, uid as usize, 0, 0, 0]).map(drop)
}

pub fn setresgid(gid: u32) -> Result<()> {
    numbers(Call::setresgid, [gid as usize, gid as usize, gid as usize, 0, 0, 0]).map(drop)
}

/// `groups` are words of four bytes, in the machine's order, at any alignment.
pub fn setgroups(groups: &[u8]) -> Result<()> {
    // SAFETY: the kernel copies len / 4 words from `groups`, byte by byte.
    unsafe { trap(Call::setgroups, [groups.len() / 4, groups.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// A prctl that takes numbers alone; `arguments` are those after the option.
fn prctl(option: u32, [a, b]: [usize; 2]) -> Result<()> {
    numbers(Call::prctl, [option as usize, a, b, 0, 0, 0]).map(drop)
}

/// PR_SET_DUMPABLE; with `false` nobody traces this process or reads its /proc/PID/{fd,mem}, but with CAP_SYS_PTRACE in the
/// user namespace of the program that it was cloned from.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(4, [usize::from(dumpable), 0])
}

/// PR_SET_KEEPCAPS: the permitted capabilities survive the change to a uid that is not 0; execve clears the flag.
pub fn keep_capabilities() -> Result<()> {
    prctl(8, [1, 0])
}

/// PR_CAPBSET_DROP; EINVAL: the kernel has no such capability.
pub fn drop_from_bounding_set(capability: u32) -> Result<()> {
    prctl(24, [capability as usize, 0])
}

/// PR_SET_NO_NEW_PRIVS.
pub fn no_new_privileges() -> Result<()> {
    prctl(38, [1, 0])
}

/// PR_CAP_AMBIENT_CLEAR_ALL.
pub fn clear_ambient() -> Result<()> {
    prctl(47, [4, 0])
}

/// PR_CAP_AMBIENT_RAISE; it must be permitted and inheritable.
pub fn raise_ambient(capability: u32) -> Result<()> {
    prctl(47, [2, capability as usize])
}

pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header = [0x2008_0522u32, 0];
    let (e, p, i) = (effective, permitted, inheritable);
    let data = [e as u32, p as u32, i as u32, (e >> 32) as u32, (p >> 32) as u32, (i >> 32) as u32];
    // SAFETY: version 3 of the header takes two blocks of three words, as `data` has.
    unsafe { trap(Call::capset, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: `limit` is struct rlimit64; the old one is not asked for.
    unsafe { trap(Call::prlimit, [0, resource as usize, limit.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

pub fn keyctl_join(name: &[u8]) -> Result<()> {
    let p = cstr(Call::keyctl, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { trap(Call::keyctl, [KEYCTL_JOIN_SESSION_KEYRING as usize, p, 0, 0, 0, 0]) }.map(drop)
}

pub fn personality(domain: u32) -> Result<()> {
    numbers(Call::personality, [domain as usize, 0, 0, 0, 0, 0]).map(drop)
}

pub fn sched_setattr(policy: u32, nice: i32, priority: u32, flags: u64) -> Result<()> {
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let size = size_of::<SchedAttr>() as u32;
    let attr = SchedAttr { size, policy, flags, nice, priority, runtime: 0, deadline: 0, period: 0 };
    // SAFETY: `attr` is the kernel's sched_attr of the size it names.
    unsafe { trap(Call::sched_setattr, [0, &raw const attr as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Of our own process group (IOPRIO_WHO_PGRP = 2).
pub fn ioprio_set(value: u32) -> Result<()> {
    numbers(Call::ioprio_set, [2, 0, value as usize, 0, 0, 0]).map(drop)
}

pub fn set_nice(nice: i32) -> Result<()> {
    numbers(Call::setpriority, [0, 0, nice as isize as usize, 0, 0, 0]).map(drop)
}

/// All CPUs: the kernel cuts the mask down to what the cpuset allows.
pub fn all_cpus() -> Result<()> {
    let mask = [u64::MAX; 128];
    // SAFETY: the kernel reads at most the 1,024 bytes given.
    unsafe { trap(Call::sched_setaffinity, [0, 1024, mask.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

/// Loads a filter of `program.len() / 8` instructions.
pub fn seccomp_filter(program: &[u8], flags: u32) -> Result<()> {
    #[repr(C)]
    struct Fprog {
        len: u16,
        filter: usize,
    }
    let fprog = Fprog { len: (program.len() / 8) as u16, filter: program.as_ptr() as usize };
    // SAFETY: SECCOMP_SET_MODE_FILTER (1) copies len instructions of eight bytes from `program`.
    unsafe { trap(Call::seccomp, [1, flags as usize, &raw const fprog as usize, 0, 0, 0]) }.map(drop)
}

// ---- terminals and the network ----

/// SIOCSIFFLAGS of `lo` to up.
pub fn loopback_up() -> Result<()> {
    // AF_INET, SOCK_DGRAM | SOCK_CLOEXEC.
    let socket = numbers(Call::socket, [2, (2 | O_CLOEXEC) as usize, 0, 0, 0, 0]).map(fd)?;
    // struct ifreq: a name of 16 bytes, then the flags; 1 is IFF_UP.
    let mut request = [0u64; 5];
    let [name, _, flags, ..] = &mut request;
    *name = u64::from_le_bytes(*b"lo\0\0\0\0\0\0");
    *flags = 1;
    // SAFETY: `request` has the 40 bytes of struct ifreq.  0x8914 is SIOCSIFFLAGS.
    let up = unsafe { trap(Call::ioctl, [socket as usize, 0x8914, request.as_ptr() as usize, 0, 0, 0]) };
    close(socket);
    up.map(drop)
}

/// Unlocks a pty and opens its peer without any path: TIOCSPTLCK, TIOCGPTPEER.
pub fn pty_peer(master: Fd) -> Result<Fd> {
    let unlock = 0i32;
    // SAFETY: TIOCSPTLCK reads the int `unlock`.
    unsafe { trap(Call::ioctl, [master as usize, 0x4004_5431, &raw const unlock as usize, 0, 0, 0]) }?;
    let flags = O_RDWR | O_NOCTTY | O_CLOEXEC;
    numbers(Call::ioctl, [master as usize, 0x5441, flags as usize, 0, 0, 0]).map(fd)
}

/// Rows in the low half of `size`, columns in the high one.
pub fn set_window(tty: Fd, size: u32) -> Result<()> {
    let window = [size as u16, (size >> 16) as u16, 0, 0];
    // SAFETY: TIOCSWINSZ reads four shorts.
    unsafe { trap(Call::ioctl, [tty as usize, 0x5414, window.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

pub fn controlling_tty(tty: Fd) -> Result<()> {
    numbers(Call::ioctl, [tty as usize, 0x540e, 0, 0, 0, 0]).map(drop)
}

/// Sends one descriptor over a Unix socket, with one byte.
pub fn send_fd(socket: Fd, what: Fd) -> Result<()> {
    let byte = [b'x'];
    let iov = [byte.as_ptr() as usize, 1usize];
    // struct cmsghdr: length 20, SOL_SOCKET, SCM_RIGHTS, then the descriptor, padded to 24.
    let control = [20u64, 1 | 1 << 32, u64::from(what as u32)];
    // struct msghdr: name, namelen, iov, iovlen, control, controllen, flags.
    let message = [0usize, 0, iov.as_ptr() as usize, 1, control.as_ptr() as usize, 24, 0];
    // SAFETY: every pointer in `message` is to a live local of the size that stands beside it.
    unsafe { trap(Call::sendmsg, [socket as usize, message.as_ptr() as usize, 0x4000, 0, 0, 0]) }.map(drop)
}

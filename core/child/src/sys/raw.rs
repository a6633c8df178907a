//! The syscall, and what comes back from it.

use super::uapi::*;
use core::arch::asm;

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
    65 sched_getaffinity = 204 123;
    66 getdents64 = 217 61;   67 readlinkat = 267 78;   68 fchmod = 91 52;
    69 sendfile = 40 71;      70 fcntl = 72 25;         71 pidfd_send_signal = 424 424; 72 exit = 60 93;
    73 munmap = 11 215;      74 madvise = 28 233;       75 rt_sigtimedwait = 128 137;
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

/// The syscall itself. Six arguments, always: the kernel ignores what a call does not take.
///
/// SAFETY of every caller: pointers passed are to memory that is live, and of the size the call reads or
/// writes; each function below says which reference that is.
pub(super) unsafe fn syscall(call: Call, args: [usize; 6]) -> Result<usize> {
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
pub(super) fn numbers(call: Call, args: [usize; 6]) -> Result<usize> {
    // SAFETY: no argument is a pointer; the callers of this private function see to that.
    unsafe { syscall(call, args) }
}

/// The address of a string, if it is one: the last byte must be NUL.
pub(super) fn cstr(call: Call, s: &[u8]) -> Result<usize> {
    match s.last() {
        Some(0) => Ok(s.as_ptr() as usize),
        _ => Err(Fault::new(call, EINVAL)),
    }
}

pub(super) const EMPTY: &[u8] = b"\0";

pub(super) fn fd(result: usize) -> Fd {
    result as Fd
}

/// Repeats what a signal or a race interrupted. openat2 gives EAGAIN when a rename raced with `..`.
pub(super) fn again<T>(mut f: impl FnMut() -> Result<T>) -> Result<T> {
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

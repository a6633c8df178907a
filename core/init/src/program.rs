//! Process 1 of a container, by system calls alone. It allocates nothing and has no libc.
//!
//! All signals are blocked and taken one by one (sigtimedwait(2)): one that is blocked reaches also a first process, which the
//! kernel spares those that it has no handler for.
#![no_std]
#![no_main]
#![no_builtins]

use core::arch::{asm, global_asm};
use core::ptr::{null, null_mut};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {begin}", "ud2", begin = sym begin);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {begin}", "brk #1", begin = sym begin);

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
}

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;
const SIGCHLD: isize = 17;
/// What a terminal sends to all of a process group: INT, QUIT, TSTP, TTIN, TTOU, WINCH, a bit for each.
const OF_TERMINALS: u32 = 1 << 2 | 1 << 3 | 1 << 20 | 1 << 21 | 1 << 22 | 1 << 28;
/// In a siginfo's `si_code`: no process has sent it.
const SI_KERNEL: i32 = 0x80;
const WNOHANG: usize = 1;
const PR_SET_CHILD_SUBREAPER: usize = 36;
const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;
/// Of a kernel's signal set.
const SET_BYTES: usize = 8;
/// The name and value with which sd_listen_fds(3) and sd_watchdog_enabled(3) know whom they are for, where that is process 1.
const FOR_FIRST: [&[u8]; 2] = [b"LISTEN_PID=1", b"WATCHDOG_PID=1"];
/// Room for one of them with any number.
const FOR_BYTES: usize = 32;
/// Of a path, with its end.
const PATH_MAX: usize = 4096;

/// As shells have it.
const NOT_FOUND: usize = 127;
const NOT_EXECUTABLE: usize = 126;

/// # Safety
/// As the system call's: what an argument points to is valid for what it does.
unsafe fn call(number: usize, args: [usize; 4]) -> isize {
    let [a, b, c, d] = args;
    let result: isize;
    // SAFETY: the registers that the kernel changes are named; none of the calls here has a fifth argument that counts, but
    // clone's, which is given as nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             in("r8") 0_usize, out("rcx") _, out("r11") _, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
             in("x4") 0_usize, options(nostack));
    }
    result
}

fn exit(status: usize) -> ! {
    loop {
        // SAFETY: it takes a number.
        unsafe { call(number::EXIT_GROUP, [status, 0, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(NOT_EXECUTABLE)
}

/// What the compiler calls to clear memory.
///
/// # Safety
/// `to` is valid for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    let mut at = 0;
    while at < length {
        // SAFETY: the caller's word.
        unsafe { to.add(at).write_volatile(byte as u8) };
        at += 1;
    }
    to
}

/// The core library's tables name it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

fn say(text: &[u8]) {
    // SAFETY: `text` is valid for its length.
    unsafe { call(number::WRITE, [2, text.as_ptr() as usize, text.len(), 0]) };
}

/// A text of C, without its end.
///
/// # Safety
/// `text` ends with a zero and lives on.
unsafe fn bytes(text: *const u8) -> &'static [u8] {
    let mut length = 0;
    // SAFETY: the caller's word: all up to the zero is there.
    unsafe {
        while *text.add(length) != 0 {
            length += 1;
        }
        core::slice::from_raw_parts(text, length)
    }
}

/// `stack`: as the kernel leaves it to a new program: the number of arguments, the arguments, nothing, the environment, nothing.
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the kernel's word for the shape of a new program's stack.
    let (count, argv) = unsafe { (*stack, stack.add(1).cast::<*const u8>()) };
    if count < 2 {
        say(b"sampan-init: no program to start\n");
        exit(NOT_FOUND);
    }
    // SAFETY: as above: the arguments are followed by a null, and that by the environment.
    let (program, environment) = unsafe { (argv.add(1), argv.add(count + 1)) };
    let (all, mut before) = (u64::MAX, 0_u64);
    let (set, old) = (&raw const all as usize, &raw mut before as usize);
    // SAFETY: two sets of the kernel's size, ours; then plain numbers. The new process has a copy of all memory, this stack
    // too: clone(2) without flags and stack is a fork.
    let (is_first, child) = unsafe {
        call(number::RT_SIGPROCMASK, [SIG_BLOCK, set, old, SET_BYTES]);
        let is_first = call(number::GETPID, [0; 4]) == 1;
        if !is_first {
            call(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0]);
        }
        (is_first, call(number::CLONE, [SIGCHLD as usize, 0, 0, 0]))
    };
    match child {
        0 => {
            // SAFETY: a set of the kernel's size, ours.
            unsafe { call(number::RT_SIGPROCMASK, [SIG_SETMASK, old, null_mut::<u64>() as usize, SET_BYTES]) };
            let mut places = [[0_u8; FOR_BYTES]; FOR_FIRST.len()];
            if is_first {
                name_us(environment.cast_mut(), &mut places);
            }
            execute(program, environment)
        }
        1.. => mind(child, set),
        _ => {
            say(b"sampan-init: cannot make a process\n");
            exit(NOT_EXECUTABLE)
        }
    }
}

/// Until the child ends.
fn mind(child: isize, set: usize) -> ! {
    // A siginfo of the kernel's size; `si_code` is its third number.
    let mut info = [0_i32; 32];
    loop {
        // SAFETY: a set of the kernel's size that lives as long as this process, and room for information; no time is asked for.
        let signal = unsafe {
            let info = &raw mut info as usize;
            call(number::RT_SIGTIMEDWAIT, [set, info, null::<u8>() as usize, SET_BYTES])
        };
        match signal {
            SIGCHLD => reap(child),
            // The terminal has sent it to the program, too, if it is meant: once more, and one ^C would be two.
            0..32 if info[2] == SI_KERNEL && OF_TERMINALS >> signal & 1 == 1 => {}
            // SAFETY: plain numbers; the child is not reaped yet, so its number is its own.
            1.. => drop(unsafe { call(number::KILL, [child as usize, signal as usize, 0, 0]) }),
            // Interrupted by a stop and its end.
            _ => {}
        }
    }
}

/// All that have ended: one signal may stand for many. Ends with the child.
fn reap(child: isize) {
    loop {
        let mut status = 0_i32;
        // SAFETY: `status` is ours; usage is not asked for.
        let ended = unsafe {
            call(number::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, null::<u8>() as usize])
        };
        match ended {
            _ if ended == child => {
                let (signal, code) = (status & 0x7f, (status >> 8) & 0xff);
                exit(if signal == 0 { code as usize } else { 128 + signal as usize })
            }
            1.. => {}
            _ => return,
        }
    }
}

/// What was for process 1 is for the program, whose number is known only now.
fn name_us(environment: *mut *const u8, places: &mut [[u8; FOR_BYTES]; FOR_FIRST.len()]) {
    // SAFETY: it takes nothing.
    let own = unsafe { call(number::GETPID, [0; 4]) };
    let mut entry = environment;
    // SAFETY: a list of the kernel's, in memory of this process, which ends with a null and holds texts of C.
    unsafe {
        while !(*entry).is_null() {
            let text = bytes(*entry);
            for (known, place) in FOR_FIRST.iter().zip(&mut *places) {
                if text.iter().eq(known.iter()) {
                    // Without the 1.
                    write_number(place, text.split_last().map_or(text, |(_, name)| name), own);
                    *entry = place.as_ptr();
                }
            }
            entry = entry.add(1);
        }
    }
}

/// `NAME=NUMBER` with a zero at its end, in what is all zeros.
fn write_number(place: &mut [u8; FOR_BYTES], name: &[u8], number: isize) {
    let mut divisor = 1;
    while number / divisor >= 10 {
        divisor *= 10;
    }
    let number = core::iter::from_fn(|| {
        let digit = number.checked_div(divisor)? % 10;
        divisor /= 10;
        Some(b'0' + digit as u8)
    });
    let all = name.iter().copied().chain(number);
    place.iter_mut().zip(all).for_each(|(to, from)| *to = from);
}

/// `argv`: the program and its arguments. A name without a slash is looked for in PATH.
fn execute(argv: *const *const u8, environment: *const *const u8) -> ! {
    // SAFETY: both are lists of the kernel's, which end with a null and hold texts of C.
    let name = unsafe { bytes(*argv) };
    let at = |path: *const u8| {
        // SAFETY: a text of C, and two such lists; where it succeeds nothing of this program is left.
        unsafe { call(number::EXECVE, [path as usize, argv as usize, environment as usize, 0]) }
    };
    let mut wrong = ENOENT;
    if name.contains(&b'/') {
        wrong = at(name.as_ptr());
    } else {
        for folder in path(environment).split(|byte| *byte == b':') {
            let mut place = [0_u8; PATH_MAX];
            if let Some(place) = join(&mut place, folder, name) {
                match at(place) {
                    ENOENT | ENOTDIR => {}
                    error => wrong = error,
                }
            }
        }
    }
    say(b"sampan-init: cannot execute ");
    say(name);
    match wrong {
        ENOENT | ENOTDIR => {
            say(b": not found\n");
            exit(NOT_FOUND)
        }
        EACCES => say(b": permission denied\n"),
        _ => say(b": the kernel refuses it (wrong format or architecture?)\n"),
    }
    exit(NOT_EXECUTABLE)
}

/// `FOLDER/NAME` with a zero at its end.
fn join(place: &mut [u8; PATH_MAX], folder: &[u8], name: &[u8]) -> Option<*const u8> {
    let folder = if folder.is_empty() { b"." } else { folder };
    let all = folder.iter().chain(b"/").chain(name).chain(b"\0");
    let length = folder.len().checked_add(name.len())?.checked_add(2)?;
    place.get_mut(..length)?.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
    Some(place.as_ptr())
}

fn path(environment: *const *const u8) -> &'static [u8] {
    let mut entry = environment;
    // SAFETY: a list of the kernel's, which ends with a null and holds texts of C.
    unsafe {
        while !(*entry).is_null() {
            if let Some(value) = bytes(*entry).strip_prefix(b"PATH=") {
                return value;
            }
            entry = entry.add(1);
        }
    }
    b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
}

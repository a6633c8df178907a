//! Namespaces, processes and their ends.

use super::raw::{Call, Fault, Fd, Result, again, cstr, fd, numbers, syscall};
use super::uapi::*;
use crate::defence::{self, Defence};
use core::arch::asm;
use core::convert::Infallible;
use core::mem::size_of;
use core::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// The exit code of a process whose parent was gone before it was told to go on: it has not executed its program.
pub const ABANDONED: i32 = 125;

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
    let _ = unsafe { syscall(Call::clock_gettime, [1, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    let [seconds, nanos] = time;
    (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanos as u64)
}

pub fn setns(what: Fd, kinds: u32) -> Result<()> {
    numbers(Call::setns, [what as usize, kinds as usize, 0, 0, 0, 0]).map(drop)
}

/// CLONE_NEW* of the namespace behind a descriptor (NS_GET_NSTYPE, Linux 4.11); ENOTTY: there is none.
pub fn namespace_kind(what: Fd) -> Result<u32> {
    numbers(Call::ioctl, [what as usize, 0xb703, 0, 0, 0, 0]).map(|kind| kind as u32)
}

/// The user namespace that owns the one behind a descriptor (NS_GET_USERNS, Linux 4.9). EPERM: it is out of our sight.
pub fn owner_of_namespace(what: Fd) -> Result<Fd> {
    numbers(Call::ioctl, [what as usize, 0xb701, 0, 0, 0, 0]).map(fd)
}

pub fn unshare(kinds: u32) -> Result<()> {
    numbers(Call::unshare, [kinds as usize, 0, 0, 0, 0, 0]).map(drop)
}

pub fn sethostname(name: &[u8]) -> Result<()> {
    let length = name.len().saturating_sub(1);
    // SAFETY: the kernel reads `length` bytes of `name`.
    unsafe { syscall(Call::sethostname, [name.as_ptr() as usize, length, 0, 0, 0, 0]) }.map(drop)
}

pub fn setdomainname(name: &[u8]) -> Result<()> {
    let length = name.len().saturating_sub(1);
    // SAFETY: the kernel reads `length` bytes of `name`.
    unsafe { syscall(Call::setdomainname, [name.as_ptr() as usize, length, 0, 0, 0, 0]) }.map(drop)
}

pub fn setsid() -> Result<()> {
    numbers(Call::setsid, [0; 6]).map(drop)
}

pub fn own_group() -> Result<()> {
    numbers(Call::setpgid, [0; 6]).map(drop)
}

/// A pidfd of this process itself.
pub fn pidfd_self() -> Result<Fd> {
    pidfd(getpid())
}

/// Of a child that nobody reaps meanwhile; close-on-exec.
pub fn pidfd(pid: u32) -> Result<Fd> {
    numbers(Call::pidfd_open, [pid as usize, 0, 0, 0, 0, 0]).map(fd)
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
    let pid =
        unsafe { syscall(Call::clone3, [&raw const args as usize, size_of::<CloneArgs>(), 0, 0, 0, 0]) }?;
    if pid == 0 {
        #[allow(unreachable_code)] // it never returns, which is why it may be empty
        match child() {}
    }
    // SAFETY: a live local, written by the kernel behind the compiler's back.
    let pidfd = unsafe { core::ptr::read_volatile(&raw const pidfd) };
    Ok((pid as u32, pidfd))
}

/// Where a process tells its spawner in which child it goes on: a word that both share, whoever of them ends first. The child
/// has no part in it: whoever traces it in a container could have the spawner take any process of the host for it.
pub struct Successor(*const AtomicI32);

impl Successor {
    const NONE: i32 = 0;
    const GIVEN_UP: i32 = -1;
    const BEGUN: i32 = -2;
    const BYTES: usize = size_of::<AtomicI32>();

    pub fn new() -> Result<Successor> {
        // PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS.
        let at = numbers(Call::mmap, [0, Successor::BYTES, 3, 0x21, usize::MAX, 0])?;
        Ok(Successor(at as *const AtomicI32))
    }

    fn word(&self) -> &AtomicI32 {
        // SAFETY: a zeroed shared map, aligned to a page, that is unmapped only by `drop`; all who have it use it as an atomic.
        unsafe { &*self.0 }
    }

    fn is_now(&self, state: i32) -> bool {
        self.word().compare_exchange(Successor::NONE, state, SeqCst, SeqCst).is_ok()
    }

    /// The child's pid, once there is one.
    pub fn pid(&self) -> Option<u32> {
        u32::try_from(self.word().load(SeqCst)).ok().filter(|pid| *pid > 0)
    }

    /// The child must not be made any more. False: it has been begun.
    pub fn give_up(&self) -> bool {
        self.is_now(Successor::GIVEN_UP)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // SAFETY: the map that `new` made; no reference to it outlives `self`.
        let _ = unsafe { syscall(Call::munmap, [self.0 as usize, Successor::BYTES, 0, 0, 0, 0]) };
    }
}

/// Goes on in a child, whose parent is the spawner too (CLONE_PARENT), and ends this process. Returns in the child alone.
pub(crate) fn go_on_in(successor: &Successor) -> Result<()> {
    if !successor.is_now(Successor::BEGUN) {
        // The spawner has given up waiting, and would never know of the child.
        exit(ABANDONED)
    }
    if defence::on(Defence::SuccessorOutOfReach) {
        // MADV_DONTFORK.
        numbers(Call::madvise, [successor.0 as usize, Successor::BYTES, 10, 0, 0, 0])?;
    }
    // The signal at its end is our own one.
    let args = CloneArgs {
        flags: CLONE_PARENT | CLONE_PARENT_SETTID,
        parent_tid: successor.0 as u64,
        ..CloneArgs::default()
    };
    // SAFETY: no CLONE_VM, so both return on copies of the same stack; `args` is live, and the word is the kernel's to write.
    let pid =
        unsafe { syscall(Call::clone3, [&raw const args as usize, size_of::<CloneArgs>(), 0, 0, 0, 0]) }?;
    if pid != 0 {
        exit(0)
    }
    Ok(())
}

/// Clones this process where it is. None: this is the child.
pub(crate) fn fork() -> Result<Option<u32>> {
    let args = CloneArgs { exit_signal: 17, ..CloneArgs::default() };
    // SAFETY: no CLONE_VM, so both return on copies of the same stack; `args` is live.
    let pid =
        unsafe { syscall(Call::clone3, [&raw const args as usize, size_of::<CloneArgs>(), 0, 0, 0, 0]) }?;
    Ok(if pid == 0 { None } else { Some(pid as u32) })
}

/// How a process ended, by waitid(2)'s words.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exited(i32),
    Killed(i32),
}

/// Reaps any child that has ended: its pid, and how it ended. None: no child has ended. ECHILD: there is no child.
pub fn reap_any() -> Result<Option<(u32, Ended)>> {
    let mut info = [0i32; 32];
    // SAFETY: siginfo_t has 128 bytes, as `info` has.  0 is P_ALL, 5 is WEXITED | WNOHANG.
    again(|| unsafe { syscall(Call::waitid, [0, 0, info.as_mut_ptr() as usize, 5, 0, 0]) })?;
    let [_signal, _errno, code, _pad, pid, _uid, status, ..] = info;
    let ended = if code == 1 { Ended::Exited(status) } else { Ended::Killed(status) };
    Ok(if pid == 0 { None } else { Some((pid as u32, ended)) })
}

/// Sets of signals, a bit each.
pub mod signal {
    pub const TERM: u64 = 1 << 14;
    pub const CHILD: u64 = 1 << 16;
}

/// Blocks these signals: those that arrive stay pending until [`take`].
pub fn block(signals: u64) -> Result<()> {
    // SAFETY: SIG_BLOCK (0) reads the eight bytes of `signals`.
    unsafe { syscall(Call::rt_sigprocmask, [0, &raw const signals as usize, 0, 8, 0, 0]) }.map(drop)
}

/// Waits for one of these signals, which must be blocked, and returns it as a set.
pub fn take(signals: u64) -> Result<u64> {
    again(|| wait_for_signal(signals, 0))
}

/// The same for `time_ns` at most; an interruption ends the wait sooner.
pub fn take_within(signals: u64, time_ns: u64) -> Result<u64> {
    let time = [time_ns / 1_000_000_000, time_ns % 1_000_000_000];
    wait_for_signal(signals, time.as_ptr() as usize)
}

/// `time`: 0, or the address of a live 64-bit timespec.
fn wait_for_signal(signals: u64, time: usize) -> Result<u64> {
    // SAFETY: the kernel reads the eight bytes of `signals` and the timespec; what it would write of the signal is not asked for.
    let number = unsafe { syscall(Call::rt_sigtimedwait, [&raw const signals as usize, 0, time, 8, 0, 0]) }?;
    Ok(1u64.checked_shl((number as u32).wrapping_sub(1)).unwrap_or(0))
}

/// SIGKILL to a child that is not reaped.
pub fn kill_child(pid: u32) {
    let _ = numbers(Call::kill, [pid as usize, 9, 0, 0, 0, 0]);
}

/// Ends by this signal, as the child did, but without a core dump.
pub fn end_by(signal: i32) -> ! {
    reset_signals();
    let _ = super::set_dumpable(false);
    let _ = numbers(Call::kill, [getpid() as usize, signal as usize, 0, 0, 0, 0]);
    exit(128i32.wrapping_add(signal))
}

/// Waits for the process of a pidfd: its exit code, or 128 + signal. Reaps it.
pub fn reap(pidfd: Fd) -> Result<u32> {
    wait_for_end(pidfd, 0)
}

/// The same, and its number stays its own.
pub fn await_end(pidfd: Fd) -> Result<u32> {
    // WNOWAIT
    wait_for_end(pidfd, 0x0100_0000)
}

fn wait_for_end(pidfd: Fd, flags: usize) -> Result<u32> {
    let mut info = [0i32; 32];
    // 3 is P_PIDFD, 4 is WEXITED.
    let options = flags | 4;
    let wait = |info: &mut [i32; 32]| {
        // SAFETY: siginfo_t has 128 bytes, as `info` has.
        unsafe { syscall(Call::waitid, [3, pidfd as usize, info.as_mut_ptr() as usize, options, 0, 0]) }
    };
    again(|| wait(&mut info))?;
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
    unsafe { syscall(Call::ppoll, [pollfd.as_mut_ptr() as usize, 1, t, 0, 0, 0]) }.map(|n| n > 0)
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
        let _ = unsafe { syscall(Call::rt_sigaction, [signal, default.as_ptr() as usize, 0, 8, 0, 0]) };
        signal = signal.wrapping_add(1);
    }
    let none = 0u64;
    // SAFETY: SIG_SETMASK (2) reads the eight bytes of `none`.
    let _ = unsafe { syscall(Call::rt_sigprocmask, [2, &raw const none as usize, 0, 8, 0, 0]) };
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
        match unsafe { syscall(Call::execve, [path, args, vars.as_ptr() as usize, 0, 0, 0]) } {
            Err(fault) => fault,
            Ok(_) => Fault::new(Call::execve, EINVAL),
        }
    }
}

/// A memfd of times that the parent reads when we have ended or executed our program, mapped: writing one is no system call
/// but the clock's.
pub struct Trace {
    times: *mut u64,
    length: usize,
}

impl Trace {
    /// Of `length` times of eight bytes; the memfd must be as large.
    pub fn map(memfd: Fd, length: usize) -> Result<Trace> {
        let bytes = length.checked_mul(8).ok_or(Fault::new(Call::mmap, EINVAL))?;
        // PROT_READ | PROT_WRITE, MAP_SHARED.
        let times = numbers(Call::mmap, [0, bytes, 3, 1, memfd as usize, 0])? as *mut u64;
        Ok(Trace { times, length })
    }

    /// Writes the time at `index`; one outside of the map is ignored.
    pub fn stamp(&mut self, index: u32) {
        if (index as usize) < self.length {
            // SAFETY: below the length of a map that nobody unmaps while this process runs its image; another process may
            // read it meanwhile, so no reference is made.
            unsafe { self.times.add(index as usize).write_volatile(clock_monotonic_ns()) };
        }
    }
}

//! The keel's raw calls, behind typed faces: the clones of the worker and of the holder, the memory that outlives the
//! keel, the pages of our program, a signal's default, the ownership of what they return. This is the only file of the keel that may hold `unsafe`.
//! Deliberately absent: how anything else is started; that is `sampan_child::spawn`.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::process::Pid;
use sampan_child::Spawned;
use sampan_child::image::Image;
use sampan_child::sys::Fault;
use std::ffi::{CString, OsString, c_char};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicU8, AtomicU32};

/// Where the worker finds its socket to the keel.
pub const WORKER_SOCKET: i32 = 3;

/// A vector of C strings as execve wants it, built once, before the keel runs.
pub struct Strings {
    /// What `pointers` point into. A CString's bytes stay where they are when the vector moves.
    _owner: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    /// None: one of them holds a NUL byte.
    pub fn new(strings: impl IntoIterator<Item = OsString>) -> Option<Strings> {
        let owner: Vec<CString> =
            strings.into_iter().map(|s| CString::new(s.into_vec()).ok()).collect::<Option<_>>()?;
        let pointers = owner.iter().map(|s| s.as_ptr()).chain([core::ptr::null()]).collect();
        Some(Strings { _owner: owner, pointers })
    }
}

/// SIGCHLD ignored (a launcher that does so passes it on over exec) would make the kernel reap our children
/// by itself and throw their exit status away.
pub fn keep_exit_statuses() -> Result<(), Errno> {
    set_disposition(libc::SIGCHLD, libc::SIG_DFL)
}

fn set_disposition(signal: i32, disposition: libc::sighandler_t) -> Result<(), Errno> {
    // SAFETY: sigaction is plain data; all zero is a valid one (no flags, empty mask, SIG_DFL).
    let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
    action.sa_sigaction = disposition;
    // SAFETY: the callers pass SIG_DFL or SIG_IGN: no code of ours ever runs as a handler.
    match unsafe { libc::sigaction(signal, &action, core::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(errno()),
    }
}

/// Clones the worker: `program` with `argv`, the socket at descriptor 3, in a process group of its own (Ctrl-C
/// must reach it once, through the keel), no signal blocked, ended by the kernel when the keel ends.
pub fn clone_worker(
    program: BorrowedFd<'_>,
    argv: &Strings,
    environment: &Strings,
    socket: BorrowedFd<'_>,
) -> Result<(Pid, OwnedFd), Errno> {
    debug_assert!(program.as_raw_fd() > WORKER_SOCKET, "dup3 in the child would replace the program");
    let keel = rustix::process::getpid();
    fork(0, || become_worker(keel, program, argv, environment, socket))
}

/// Clones a child that has the keel's table of descriptors, not a copy of it: what is open in either stays open as long as
/// one of them lives. It has memory of its own, so that the OOM killer does not take both.
pub fn clone_holder(hold: impl FnOnce()) -> Result<(Pid, OwnedFd), Errno> {
    fork(libc::CLONE_FILES, hold)
}

fn fork(flags: i32, child: impl FnOnce()) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: i32 = -1;
    // SAFETY: clone_args is plain integers; all zero means "no flags, no stack of its own".
    let mut args: libc::clone_args = unsafe { core::mem::zeroed() };
    args.flags = (flags | libc::CLONE_PIDFD) as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child is a copy of this single-threaded process (the keel starts no thread)
    // and goes on from here on a copy of the stack, as with fork. `args` and `pidfd` outlive the call. It does not return from
    // here, so with a shared table no descriptor is closed by two owners.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        0 => {
            child();
            // SAFETY: ends this process and runs no destructor.
            unsafe { libc::_exit(1) }
        }
        pid if pid > 0 => {
            // SAFETY: the kernel has just put a new descriptor there (CLONE_PIDFD); nobody else knows of it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Pid::from_raw(pid as i32).map(|pid| (pid, pidfd)).ok_or(Errno::CHILD)
        }
        _ => Err(errno()),
    }
}

/// Who is not root takes descriptors over by pidfd_getfd only from a process that lets itself be traced (Yama).
pub fn let_be_traced() {
    // SAFETY: prctl with integers only; it changes who may trace this process and nothing else.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::MAX, 0, 0, 0) };
}

/// Memory in a memfd, which whoever has the descriptor can read after our death. Its size is fixed; pages that were never
/// written to cost nothing.
pub struct Shared {
    fd: OwnedFd,
    map: *mut u8,
    len: usize,
}

impl Shared {
    pub fn new(len: usize) -> Result<Shared, Errno> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create(c"sampan-keel", flags)?;
        rustix::fs::ftruncate(&fd, len as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: a new mapping, nobody else's memory. The file keeps its size (sealed), so no access raises SIGBUS.
        let map = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::SHARED | MapFlags::NORESERVE;
            rustix::mm::mmap(core::ptr::null_mut(), len, protection, flags, &fd, 0)?
        };
        Ok(Shared { fd, map: map.cast(), len })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// `count` words from byte `at` on; none where that is not all inside.
    pub fn words(&self, at: usize, count: usize) -> &[AtomicU32] {
        if !at.is_multiple_of(4) || at.saturating_add(count.saturating_mul(4)) > self.len {
            return &[];
        }
        // SAFETY: inside of the mapping, which starts at a page, aligned, valid for any bits, and lives as long as `self`.
        unsafe { core::slice::from_raw_parts(self.map.add(at).cast(), count) }
    }

    /// `count` bytes from byte `at` on; none where that is not all inside.
    pub fn bytes(&self, at: usize, count: usize) -> &[AtomicU8] {
        if at.saturating_add(count) > self.len {
            return &[];
        }
        // SAFETY: inside of the mapping, valid for any bits, and it lives as long as `self`.
        unsafe { core::slice::from_raw_parts(self.map.add(at).cast(), count) }
    }
}

// SAFETY: the mapping is this value's own, and moves with it; all access is by atomics.
unsafe impl Send for Shared {}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, once; no slice outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.map.cast(), self.len) };
    }
}

/// Gives the kernel back the pages of our program's code and constants. Most of them were for the start alone, or for a burst that
/// is over; which those are only the next use tells, so all go, and what is needed is mapped again from the page cache. Nothing
/// is read from the disk again, unless memory is so short that the kernel has dropped them there too.
pub fn trim_program() {
    // SAFETY: it returns what the kernel has told this process at its start; 0: it did not.
    let told = |kind| unsafe { libc::getauxval(kind) } as usize;
    let (at, count, page) = (told(libc::AT_PHDR), told(libc::AT_PHNUM), told(libc::AT_PAGESZ));
    if at == 0 || page == 0 {
        return;
    }
    let table: *const libc::Elf64_Phdr = core::ptr::with_exposed_provenance(at);
    // SAFETY: the kernel has found the program's headers there, that many. They are mapped as long as the process lives, and
    // nobody writes to them.
    let headers = unsafe { core::slice::from_raw_parts(table, count) };
    let Some(own) = headers.iter().find(|header| header.p_type == libc::PT_PHDR) else { return };
    let base = at.wrapping_sub(own.p_vaddr as usize);
    // What can be written to holds what the linker has put there at the start, and that is in no file.
    let constant =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(constant) {
        let start = base.wrapping_add(header.p_vaddr as usize);
        let end = start.wrapping_add(header.p_filesz as usize);
        // A page that may be another segment's too stays.
        let (start, end) = (start.next_multiple_of(page), end - end % page);
        if start < end {
            // SAFETY: these pages are mapped from the program's file and were never written to (no text relocations in Rust), so
            // the kernel maps the same bytes again at the next access, also while other threads run in them.
            let _ = unsafe {
                let pages = core::ptr::with_exposed_provenance_mut(start);
                rustix::mm::madvise(pages, end - start, rustix::mm::Advice::LinuxDontNeed)
            };
        }
    }
}

/// In the new process. System calls alone: the environment that Rust's runtime expects is the keel's.
fn become_worker(
    keel: Pid,
    program: BorrowedFd<'_>,
    argv: &Strings,
    environment: &Strings,
    socket: BorrowedFd<'_>,
) -> ! {
    // SAFETY: plain system calls on integers; the two pointer tables end in NULL and their strings in NUL
    // (`Strings`), and both outlive the call, which replaces this process or leaves it as it was.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // The keel may have ended before the line above: then no signal will come. 0: it is outside of our
        // pid namespace, which cannot be, for we are its clone.
        if libc::getppid() != keel.as_raw_nonzero().get() {
            libc::_exit(1);
        }
        libc::setpgid(0, 0);
        // As a background group we could be stopped for writing to a terminal with `stty tostop`.
        let _ = set_disposition(libc::SIGTTOU, libc::SIG_IGN);
        let mut none: libc::sigset_t = core::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, core::ptr::null_mut());
        if socket.as_raw_fd() == WORKER_SOCKET {
            libc::fcntl(WORKER_SOCKET, libc::F_SETFD, 0);
        } else {
            libc::dup2(socket.as_raw_fd(), WORKER_SOCKET);
        }
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        libc::_exit(crate::EXIT_EXEC_FAILED.into())
    }
}

/// Clones a child that walks the image: `sampan_child`, with the pidfd owned.
pub fn spawn(image: &Image<'_>, slots: &[i32]) -> Result<(i32, OwnedFd), Fault> {
    let Spawned { pid, pidfd } = sampan_child::spawn(image, slots)?;
    // SAFETY: just made by clone3 and, as the contract of `spawn` says, the caller's to close.
    Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Takes over descriptor 3, on which the keel has put the worker's socket.
pub fn take_worker_socket() -> Result<OwnedFd, Errno> {
    // SAFETY: only borrowed to ask what it is. Whatever it is, it stays open until the next line.
    let fd = unsafe { BorrowedFd::borrow_raw(WORKER_SOCKET) };
    if rustix::net::sockopt::socket_type(fd)? != rustix::net::SocketType::SEQPACKET {
        return Err(Errno::NOTSOCK);
    }
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: called once, first thing in main (`enter`), when nothing else in this process knows of descriptor
    // 3; that it is a SEQPACKET socket says that our parent put it there.
    Ok(unsafe { OwnedFd::from_raw_fd(WORKER_SOCKET) })
}

/// Descriptors that whoever started us left open (make's job server, a shell's) are not for us and ours.
pub fn close_inherited() {
    // SAFETY: called first thing in the keel's main: no value in this process owns a descriptor above stderr yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
}

fn errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KiB of this program's file that are mapped now, where nothing can be written to.
    fn mapped() -> u64 {
        let exe = std::fs::read_link("/proc/self/exe").unwrap();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut ours, mut kib) = (false, 0);
        for line in smaps.lines() {
            match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
                [_, mode, _, _, _, path] => ours = !mode.contains('w') && path == exe.to_str().unwrap(),
                ["Rss:", size, "kB"] if ours => kib += size.parse::<u64>().unwrap(),
                _ => {}
            }
        }
        kib
    }

    #[test]
    fn pages_of_the_program_go_and_come_back_and_what_the_linker_has_written_stays() {
        // Pointers in it are the linker's.
        static WORDS: [&(dyn std::fmt::Display + Sync); 2] = [&"one", &2];
        let said = || std::hint::black_box(&WORDS).map(|word| word.to_string()).concat();
        assert_eq!(said(), "one2");
        let before = mapped();
        trim_program();
        let after = mapped();
        assert!(after < before * 3 / 4, "{after} KiB of {before} are still mapped");
        assert_eq!(said(), "one2");
    }
}

//! The first instructions of the process: the second run that sealing needs (seal.rs) begins before libc does.
//!
//! ```text
//!   kernel or ld.so -> sampan_entry -> a verb that goes near a container, our binary writable: execveat of a read-only clone
//!                                  \__ anything else, that second run included: _start, libc, main
//! ```
//! A libc that starts only to be replaced costs 0.4 ms. This is a shortcut and decides nothing: whatever fails here, libc
//! starts and seal.rs does all of it. **Before libc nothing is relocated, there is no thread-local storage, and memcpy,
//! strlen and their like are pointers not yet filled in**: so raw calls, integers and byte literals, no slices compared, no
//! array cleared, no table of strings. tests/entry.rs builds it at every level of optimization, looks at it, and runs it.

use core::arch::{asm, naked_asm};
use core::ffi::CStr;
use core::mem::{MaybeUninit, size_of};

use sampan_child::sys::uapi::{
    AT_EMPTY_PATH, AT_FDCWD, MOUNT_ATTR_RDONLY, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE,
};

const EXE: &CStr = c"/proc/self/exe";
const STATFS: usize = 137;
const FSTATFS: usize = 138;
const CLOSE: usize = 3;
const EXECVEAT: usize = 322;
const OPEN_TREE: usize = 428;
const MOUNT_SETATTR: usize = 442;
/// `ST_RDONLY` of statfs's `f_flags`, and where they are among its 15 words.
const RDONLY: usize = 1;
const FLAGS_WORD: usize = 10;

unsafe extern "C" {
    fn _start() -> !;
}

/// The entry point (build.rs tells the linker). The stack stays as the kernel laid it out, and so does rdx, in which ld.so
/// hands libc what to call at exit.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn sampan_entry() -> ! {
    naked_asm!(
        "mov rbx, rdx",
        "mov rdi, rsp",
        "call {run_again}",
        "mov rdx, rbx",
        "jmp {start}",
        run_again = sym run_again,
        start = sym _start,
    )
}

/// Comes back if there is nothing to do, or if it did not work.
///
/// # Safety
/// `stack` is what the kernel gave the process: argc, argv, null, the environment, null.
unsafe extern "C" fn run_again(stack: *const usize) {
    if cfg!(feature = "weaken") {
        // Sealing is a switch there, and main reads it.
        return;
    }
    // SAFETY: argc and argv by the caller's promise; argv has argc strings and a null behind them, then comes the environment.
    unsafe {
        let argc = stack.read();
        let argv = stack.add(1);
        let mut near = false;
        let mut i = 1;
        while i < argc && !near {
            near = goes_near_a_container(argv.add(i).read() as *const u8);
            i += 1;
        }
        let exe = EXE.as_ptr() as usize;
        if !near || read_only(STATFS, exe) {
            return;
        }
        let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
        let tree = call(OPEN_TREE, [AT_FDCWD as usize, exe, flags as usize, 0, 0]);
        if tree < 0 {
            return;
        }
        let tree = tree as usize;
        let (empty, at) = (c"".as_ptr() as usize, AT_EMPTY_PATH as usize);
        // struct mount_attr: set, clear, propagation, userns.
        let read_only_please: [u64; 4] = [MOUNT_ATTR_RDONLY as u64, 0, 0, 0];
        let attr = read_only_please.as_ptr() as usize;
        call(MOUNT_SETATTR, [tree, empty, at, attr, size_of::<[u64; 4]>()]);
        // Or we would run again for ever.
        if read_only(FSTATFS, tree) {
            call(EXECVEAT, [tree, empty, argv as usize, argv.add(argc + 1) as usize, at]);
        }
        call(CLOSE, [tree, 0, 0, 0, 0]);
    }
}

/// The verbs whose row in cli/table.rs has `seal`; tests/entry.rs compares. Such a word that is no verb, but an operand, costs a needless second run.
///
/// # Safety
/// `word` ends in NUL.
unsafe fn goes_near_a_container(word: *const u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe { is(word, b"run\0") || is(word, b"exec\0") || is(word, b"create\0") || is(word, b"enter\0") }
}

/// # Safety
/// Both end in NUL, so reading stops at the end of the shorter one.
#[inline(always)]
unsafe fn is(word: *const u8, other: &[u8]) -> bool {
    let mut i = 0;
    while i < other.len() {
        // SAFETY: all bytes before this one were equal, so `word` has not ended yet.
        if unsafe { word.add(i).read() != other.as_ptr().add(i).read() } {
            return false;
        }
        i += 1;
    }
    true
}

/// Is the mount read-only? By path (STATFS) or by descriptor (FSTATFS).
///
/// # Safety
/// `of` is a path that ends in NUL, or a descriptor.
unsafe fn read_only(number: usize, of: usize) -> bool {
    let mut words = MaybeUninit::<[usize; 16]>::uninit();
    // SAFETY: struct statfs has 15 words, which the kernel has written where the call succeeds.
    unsafe {
        call(number, [of, words.as_mut_ptr() as usize, 0, 0, 0]) == 0
            && words.as_ptr().cast::<usize>().add(FLAGS_WORD).read() & RDONLY != 0
    }
}

/// # Safety
/// What the system call of that number asks of its arguments.
#[inline(always)]
unsafe fn call(number: usize, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel's calling convention; rcx and r11 are what `syscall` destroys.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            in("r8") e, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

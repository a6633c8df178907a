//! `sampan`: see `sampan --help`.
#![no_main]

#[cfg(all(target_env = "musl", target_arch = "x86_64", not(debug_assertions)))]
mod copy;
#[cfg(sampan_entry)]
mod entry;
mod heap;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

use sampan_runtime::kernel::argv;

#[global_allocator]
static HEAP: heap::Heap = heap::Heap::new();

/// Called by libc, not by std: std's own start asks for the main thread's stack (/proc/self/maps, a signal stack) to explain an
/// overflow, 19 calls in a process of a millisecond. What it does besides is done here.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, words: *const *const c_char) -> c_int {
    sampan_runtime::kernel::stdio::open_missing();
    sampan_runtime::kernel::signals::ignore_broken_pipes();
    let word = |at: usize| -> OsString {
        // SAFETY: libc calls main with argc strings, which stay as long as the process.
        OsStr::from_bytes(unsafe { CStr::from_ptr(words.add(at).read()) }.to_bytes()).to_owned()
    };
    argv::given((0..argc as usize).map(word).collect());
    let mut words = argv::words().into_iter();
    let argv0 = words.next().unwrap_or_default();
    sampan_runtime::weaken_if_asked();
    sampan_runtime::cli::verbs::main(&argv0, words)
}

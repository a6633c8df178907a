//! `sampan`: see `sampan --help`.
#![no_main]

#[cfg(sampan_entry)]
mod entry;

use std::ffi::{c_char, c_int};

/// Called by libc, not by std: std's own start asks for the main thread's stack (/proc/self/maps, a signal stack) to explain an
/// overflow, 19 calls in a process of a millisecond. What it does besides is done here.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    sampan_runtime::kernel::stdio::open_missing();
    sampan_runtime::kernel::signals::ignore_broken_pipes();
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    sampan_runtime::weaken_if_asked();
    sampan_runtime::cli::verbs::main(&argv0, args)
}

//! `sampan`: see `sampan --help`.
#![no_main]

#[cfg(sampan_entry)]
mod entry;

use std::ffi::{c_char, c_int};

/// Called by libc, not by std: std's own start asks for the main thread's stack (/proc/self/maps, a signal stack) to explain an
/// overflow, 19 calls in a process of a millisecond. What it does besides is done here: descriptors 0 to 2 are open, so that
/// nothing of ours becomes one of them, and a reader who went away is an error, not our death.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    sampan_runtime::kernel::signals::as_std_would();
    let mut args = std::env::args_os();
    let argv0 = args.next().unwrap_or_default();
    sampan_runtime::weaken_if_asked();
    sampan_runtime::cli::verbs::main(&argv0, args)
}

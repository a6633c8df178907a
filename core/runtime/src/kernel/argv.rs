//! The words that this process was started with. std knows them where its own start has run, and where libc hands them to whoever
//! asks for them before `main`, which glibc does and musl does not. `sampan` is called by libc alone (main.rs), and gives them.

use std::ffi::OsString;
use std::sync::OnceLock;

static GIVEN: OnceLock<Vec<OsString>> = OnceLock::new();

/// By `main`, before anybody asks.
pub fn given(words: Vec<OsString>) {
    let _ = GIVEN.set(words);
}

/// The program's own name first.
pub fn words() -> Vec<OsString> {
    GIVEN.get().cloned().unwrap_or_else(|| std::env::args_os().collect())
}

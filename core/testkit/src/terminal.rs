//! A command on a terminal of its own.

use std::process::{Command, Stdio};

/// `line`, a line of sh, on a terminal of its own by script(1); the exit code is the line's. Ask for [`needed`] first.
/// The standard input is empty, and `script` types an end-of-file key for it in some versions.
///
/// Which shell that is must not depend on who runs the tests: script(1) takes the one that SHELL names, and whether a
/// shell replaces itself with its last command, or stays and hears of each key too, differs from one to the next.
pub fn on_a_terminal(line: &str) -> Command {
    let mut command = Command::new("script");
    command.args(["-qec", line, "/dev/null"]).env("SHELL", "/bin/sh").stdin(Stdio::null());
    command
}

/// Whether there is script(1) here; says so if not.
pub fn needed() -> bool {
    crate::need::programs(&["script"], "bsdutils")
}

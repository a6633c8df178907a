//! What went wrong with a hook: which one, how it ended, and the end of what it printed.
//! The sentence is made here, at the end; until then each part is a field.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::hook::Kind;

/// A hook that did not succeed.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    /// Its place in the list of its kind, counted from 0, as in `hooks.prestart[0]`.
    pub index: usize,
    pub path: PathBuf,
    pub cause: Cause,
    /// The end of what it wrote to stdout and stderr; empty if the caller kept the output.
    pub output: String,
}

#[derive(Debug)]
pub enum Cause {
    /// It could not be started.
    Start(std::io::Error),
    Exit(i32),
    Signal(i32),
    /// It had not ended by then; its process group was killed.
    Timeout(Duration),
    /// It ran, and we lost track of it.
    Watch(std::io::Error),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Start(e) => write!(f, "cannot be started: {e}"),
            Cause::Exit(code) => write!(f, "exited with {code}"),
            Cause::Signal(number) => write!(f, "was killed by signal {number}"),
            Cause::Timeout(limit) => {
                write!(f, "was still running after its timeout of {} s and was killed", limit.as_secs_f64())
            }
            Cause::Watch(e) => write!(f, "cannot be waited for: {e}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hooks.{}[{}]: {} {}", self.kind, self.index, self.path.display(), self.cause)?;
        let output = self.output.trim();
        if !output.is_empty() {
            write!(f, "; it printed: {output}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Start(e) | Cause::Watch(e) => Some(e),
            Cause::Exit(_) | Cause::Signal(_) | Cause::Timeout(_) => None,
        }
    }
}

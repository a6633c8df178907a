//! What the keel says: one line on stderr when something happens to a worker or to the holder.

use super::timespec;
use crate::{EXIT_EXEC_FAILED, wire};
use core::fmt::Write as _;
use rustix::event::{PollFd, PollFlags, poll};
use std::time::Duration;

/// One line on stderr, without allocating, and only if it does not block: a reader that has stopped must not
/// stop us.
pub fn say(what: core::fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 300], len: 0 };
    let _ = writeln!(line, "sampand: {what}");
    let stderr = rustix::stdio::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut fds, Some(&timespec(Duration::ZERO))) == Ok(1) {
        let _ = rustix::io::write(stderr, line.bytes.get(..line.len).unwrap_or_default());
    }
}

struct Line {
    bytes: [u8; 300],
    len: usize,
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let len = text.len().min(room.len());
        for (to, from) in room.iter_mut().zip(text.as_bytes()) {
            *to = *from;
        }
        self.len += len;
        Ok(())
    }
}

/// "died of signal 11": how the worker ended, for people.
pub struct Died(pub (i32, i32));

impl core::fmt::Display for Died {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            (wire::FATE_CODE, code) if code == i32::from(EXIT_EXEC_FAILED) => {
                write!(f, "could not be executed")
            }
            (wire::FATE_CODE, 101) => write!(f, "panicked"),
            (wire::FATE_CODE, code) => write!(f, "ended with code {code}"),
            (wire::FATE_SIGNAL, 9) => write!(f, "was killed (SIGKILL)"),
            (wire::FATE_SIGNAL, signal) => write!(f, "died of signal {signal}"),
            (wire::FATE_CORE, signal) => write!(f, "died of signal {signal} (core dumped)"),
            (wire::FATE_HUNG, _) => write!(f, "hung and was killed"),
            _ => write!(f, "is gone"),
        }
    }
}

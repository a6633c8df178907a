//! Where errors go: to stderr as text, and to `--log` as one JSON object (or one text line).
//!
//! Clients read both. podman parses the whole log file as ONE object, so at the default level nothing but the one error
//! is written; containerd takes the last entry whose level is `error` and decodes `time` as RFC 3339.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{io_name, printable};
use crate::kernel::time;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Error,
    Warning,
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Debug => "debug",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub file: Option<PathBuf>,
    pub json: bool,
    pub level: Level,
}

impl Log {
    /// The one error of this run: on stderr as it is, in the log on one line.
    pub fn error(&self, text: &str) {
        let _ = writeln!(io::stderr(), "sampan: {}", printable(text));
        self.write(Level::Error, text);
    }

    pub fn warning(&self, text: &str) {
        self.below_error(Level::Warning, text);
    }

    pub fn debug(&self, text: &str) {
        self.below_error(Level::Debug, text);
    }

    /// Only if asked for: clients merge stderr with what they parse.
    fn below_error(&self, level: Level, text: &str) {
        if self.level < level {
            return;
        }
        match self.file {
            Some(_) => self.write(level, text),
            None => {
                let _ = writeln!(io::stderr(), "sampan: {}: {}", level.name(), printable(text));
            }
        }
    }

    /// Clients that watch the file find it from the start, and one that cannot be written is known before anything is done.
    pub fn make(&self) -> io::Result<()> {
        self.file.as_deref().map_or(Ok(()), |path| open(path).map(drop))
    }

    fn write(&self, level: Level, text: &str) {
        let Some(path) = &self.file else { return };
        let mut line = self.line(level, text, &time::now());
        line.push('\n');
        // One write per line: several sampans may append to one file.
        if let Err(e) = open(path).and_then(|mut f| f.write_all(line.as_bytes())) {
            let _ = writeln!(io::stderr(), "sampan: --log {}: {}", path.display(), io_name(&e));
        }
    }

    fn line(&self, level: Level, text: &str, time: &str) -> String {
        let msg = one_line(&printable(text));
        if self.json {
            json!({ "level": level.name(), "msg": msg, "time": time }).to_string()
        } else {
            format!("time=\"{time}\" level={} msg={}", level.name(), json!(msg))
        }
    }
}

/// Opened for each line: a descriptor of the host's that stays open is one more that a container could get at. A FIFO
/// that nobody reads is an error, not a wait.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path)
}

/// The error's lines as one, since clients show only the first.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: bool) -> String {
        let log = Log { json, ..Log::default() };
        log.line(Level::Error, "web: cannot \"x\"\n  open: ENOENT\n", "2026-11-24T22:13:22Z")
    }

    #[test]
    fn json_is_one_object_with_the_keys_that_clients_decode() {
        assert_eq!(
            line(true),
            r#"{"level":"error","msg":"web: cannot \"x\"; open: ENOENT","time":"2026-11-24T22:13:22Z"}"#
        );
    }

    #[test]
    fn a_terminal_finds_nothing_to_act_on() {
        assert_eq!(printable("a\tb\n\u{1b}[31m\r\u{9b}\u{7f}é"), "a\tb\n\\u{1b}[31m\\r\\u{9b}\\u{7f}é");
    }

    #[test]
    fn text_is_one_logfmt_line() {
        assert_eq!(
            line(false),
            r#"time="2026-11-24T22:13:22Z" level=error msg="web: cannot \"x\"; open: ENOENT""#
        );
    }
}

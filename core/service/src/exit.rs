//! How a container's main process ended. *Unknown* is a value of its own: where nobody could read the status it is never
//! shown as 0.

use std::fmt;

/// The status that the kernel gave, or that it gave none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Code(i32),
    Signal(i32),
    Unknown,
}

/// A status and whether the kernel's OOM killer had a hand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exit {
    pub status: Status,
    pub oom: bool,
}

impl Exit {
    pub const UNKNOWN: Exit = Exit { status: Status::Unknown, oom: false };

    #[must_use]
    pub fn code(code: i32) -> Exit {
        Exit { status: Status::Code(code), oom: false }
    }

    #[must_use]
    pub fn signal(signal: i32) -> Exit {
        Exit { status: Status::Signal(signal), oom: false }
    }

    /// The number a shell would show: 128 + n for a signal.
    #[must_use]
    pub fn number(self) -> Option<i32> {
        match self.status {
            Status::Code(code) => Some(code),
            Status::Signal(signal) => Some(128 + signal),
            Status::Unknown => None,
        }
    }

    /// Reads back what [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Exit> {
        let (text, oom) = match text.strip_suffix(" oom") {
            Some(head) => (head, true),
            None => (text, false),
        };
        let status = match text.split_once(' ') {
            None if text == "unknown" => Status::Unknown,
            None => Status::Code(text.parse().ok()?),
            Some((_, name)) => Status::Signal(signal_number(name)?),
        };
        Some(Exit { status, oom })
    }
}

/// `0`, `3`, `137 SIGKILL`, `137 SIGKILL oom`, `unknown`: the words of the journal and of LAST-EXIT.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Status::Code(code) => write!(f, "{code}")?,
            Status::Signal(signal) => write!(f, "{} {}", 128 + signal, SignalName(signal))?,
            Status::Unknown => f.write_str("unknown")?,
        }
        if self.oom { f.write_str(" oom") } else { Ok(()) }
    }
}

/// Linux' numbers as on x86, arm and riscv (signal(7)).
const SIGNALS: [&str; 32] = [
    "",
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// A signal by its name; real-time and unknown ones as `SIG40`.
#[derive(Clone, Copy, Debug)]
pub struct SignalName(pub i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0).ok().and_then(|n| SIGNALS.get(n)) {
            Some(name) if !name.is_empty() => f.write_str(name),
            _ => write!(f, "SIG{}", self.0),
        }
    }
}

/// `SIGTERM`, `TERM`, `15`, `SIG40` -> number.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    if let Ok(number) = bare.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let at = SIGNALS.iter().skip(1).position(|s| s.strip_prefix("SIG") == Some(bare))?;
    i32::try_from(at + 1).ok()
}

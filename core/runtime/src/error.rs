//! What failed, as fields: the sentence is made at the end, by whoever prints it.
//!
//! ```text
//! web: mounts[3]: cannot bind /srv/data on /data
//!   move_mount: EPERM (step 14 of 31)
//!   likely: this user namespace may not split that mount; use "rbind"
//! ```
//! Errnos go by their names, never by libc's sentences: podman takes "operation not permitted" anywhere in an error
//! for "the program may not be executed".  The three texts that clients do match are runc's, in [`Error::exec`].

use std::fmt;

pub use rustix::io::Errno;
pub use sampan_cgroups::error::errno_name;

pub type Result<T> = std::result::Result<T, Error>;

/// A verb that did not succeed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Error(Box<Parts>);

impl std::ops::Deref for Error {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
impl std::ops::DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

/// What callers tell apart; the rest is for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Other,
    /// There is no such container.
    Missing,
    /// What was given as a container's id is none.
    BadId,
    /// Another verb holds the container and did not let go.
    Busy,
    /// What the state folder holds cannot be understood.
    Corrupt,
}

/// Every part but `doing` may be empty.
/// Read and written through [`Error`], which stands before it so that a `Result` stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    pub kind: Kind,
    pub container: String,
    /// The config field, as JSON paths go.
    pub field: String,
    /// What could not be done: `cannot mount tmpfs on /tmp`.
    pub doing: String,
    /// The system call, and what it answered; of some errors only the answer is known.
    pub call: &'static str,
    pub errno: Option<Errno>,
    /// Which step of how many.
    pub step: Option<(u32, u32)>,
    /// The likely cause, and what to do about it.
    pub likely: String,
}

impl Error {
    pub fn new(doing: impl Into<String>) -> Error {
        Error(Box::new(Parts { doing: doing.into(), ..Parts::default() }))
    }
    /// What std or the kernel answered to a call that is not known any more.
    pub fn io(doing: impl fmt::Display, source: &std::io::Error) -> Error {
        let Some(errno) = source.raw_os_error() else { return Error::new(format!("{doing}: {source}")) };
        let mut error = Error::new(doing.to_string());
        error.errno = Some(Errno::from_raw_os_error(errno));
        error
    }
    pub fn kind(mut self, kind: Kind) -> Error {
        self.kind = kind;
        self
    }
    pub fn call(mut self, call: &'static str, errno: impl Into<Errno>) -> Error {
        self.call = call;
        self.errno = Some(errno.into());
        self
    }
    pub fn field(mut self, field: impl Into<String>) -> Error {
        self.field = field.into();
        self
    }
    pub fn likely(mut self, likely: impl Into<String>) -> Error {
        self.likely = likely.into();
        self
    }
    pub fn of(mut self, container: impl Into<String>) -> Error {
        if self.container.is_empty() {
            self.container = container.into();
        }
        self
    }

    /// runc's words for a program that cannot be run, which podman, docker and containerd match on.
    pub fn exec(name: &str, in_path: bool, errno: Errno) -> Error {
        let problem = match errno {
            Errno::NOENT | Errno::NOTDIR if in_path => "executable file not found in $PATH".to_owned(),
            Errno::NOENT | Errno::NOTDIR => format!("stat {name}: no such file or directory"),
            Errno::ACCESS => "permission denied".to_owned(),
            Errno::NOEXEC => "exec format error".to_owned(),
            other => errno_name(other),
        };
        let likely = match errno {
            Errno::NOEXEC => "it is built for another architecture, or a script without \"#!\"",
            Errno::ACCESS => {
                "it has no x permission for this user, is a directory, or lies on a noexec mount"
            }
            _ => "",
        };
        Error::new(format!("exec: {name:?}: {problem}")).field("process.args[0]").likely(likely)
    }

    /// A program that was found, and that execve cannot find: what runs it is missing.
    pub fn interpreter(name: &str, errno: Errno) -> Error {
        if errno != Errno::NOENT {
            return Error::exec(name, false, errno);
        }
        Error::new(format!("exec {name}: no such file or directory")).field("process.args[0]").likely(
            "the program is there, but not its interpreter: the one behind \"#!\", or the dynamic loader that it is linked for",
        )
    }

    /// The first line, without the container: what clients match on.
    pub fn sentence(&self) -> String {
        let mut text = String::new();
        if !self.field.is_empty() {
            text = format!("{}: ", self.field);
        }
        text.push_str(&self.doing);
        if let Some(errno) = self.errno.filter(|_| self.call.is_empty()) {
            text.push_str(&format!(": {}", errno_name(errno)));
        }
        text
    }

    /// The second line: `move_mount: EPERM (step 14 of 31)`; empty where no call failed.
    pub fn answer(&self) -> String {
        let mut text = String::new();
        if let Some(errno) = self.errno.filter(|_| !self.call.is_empty()) {
            text = format!("{}: {}", self.call, errno_name(errno));
        }
        if let Some((step, of)) = self.step {
            let gap = if text.is_empty() { "" } else { " " };
            text.push_str(&format!("{gap}(step {step} of {of})"));
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.container.is_empty() {
            write!(f, "{}: ", self.container)?;
        }
        f.write_str(&self.sentence())?;
        let answer = self.answer();
        if !answer.is_empty() {
            write!(f, "\n  {answer}")?;
        }
        if !self.likely.is_empty() {
            write!(f, "\n  likely: {}", self.likely)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<sampan_plan::Error> for Error {
    fn from(e: sampan_plan::Error) -> Error {
        Error::new(e.problem).field(e.field)
    }
}

impl From<sampan_cgroups::error::Error> for Error {
    fn from(e: sampan_cgroups::error::Error) -> Error {
        Error(Box::new(Parts {
            field: e.field.clone().unwrap_or_default(),
            doing: e.sentence(),
            call: e.call,
            errno: e.errno,
            likely: e.likely.clone().unwrap_or_default(),
            ..Parts::default()
        }))
    }
}

impl From<sampan_hooks::Error> for Error {
    fn from(e: sampan_hooks::Error) -> Error {
        let field = format!("hooks.{}[{}]", e.kind, e.index);
        let text = e.to_string();
        let doing = text.strip_prefix(&field).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&text);
        Error::new(doing).field(field)
    }
}

/// An error of std by its errno's name, where it has one.
pub fn io_name(e: &std::io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), |n| errno_name(Errno::from_raw_os_error(n)))
}

/// Without what a terminal would act on: a text may have in it what an image, a hook or a process inside says.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => printable.push(character),
            control if control.is_control() => printable.extend(control.escape_default()),
            other => printable.push(other),
        }
    }
    printable
}

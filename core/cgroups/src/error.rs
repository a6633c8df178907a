//! What failed with a control group: the field of config.json, the file and the value, the system call and its errno, and
//! the likely cause. Each part is a field of [`Parts`]; the sentence is made when it is printed.
//!
//! Errnos are printed by name (`EPERM`), never as libc's sentence. podman searches errors for such sentences: "operation
//! not permitted" makes it exit with 126, "no such file or directory" with 127, as if the program could not be run.

use std::fmt;

pub use rustix::io::Errno;

pub type Result<T> = std::result::Result<T, Error>;

/// What was being done when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Finding out which hierarchies this machine has.
    Detect,
    /// Turning `linux.cgroupsPath` into folders.
    Path,
    /// The field is known, but this machine's cgroups cannot do it.
    Unavailable,
    /// The value is wrong on every machine.
    Value,
    Make,
    /// The group exists and is in use.
    Occupied,
    Join,
    Limit,
    /// Loading or attaching the v2 device program.
    Devices,
    Read,
    Freeze,
    Kill,
    Remove,
    Delegate,
}

#[derive(Debug, Clone)]
pub struct Error(Box<Parts>);

/// Where and why. Read it through [`Error`], which dereferences to it.
#[derive(Debug, Clone)]
pub struct Parts {
    pub doing: Doing,
    /// The field of config.json, relative to its root: `linux.resources.memory.limit`.
    pub field: Option<String>,
    /// Full path of the file or group.
    pub path: String,
    pub value: Option<String>,
    /// The system call that failed; empty when none was made.
    pub call: &'static str,
    pub errno: Option<Errno>,
    /// What is wrong, when the errno does not say it.
    pub problem: String,
    pub likely: Option<String>,
}

impl Error {
    pub(crate) fn new(doing: Doing, path: impl Into<String>) -> Error {
        Error(Box::new(Parts {
            doing,
            field: None,
            path: path.into(),
            value: None,
            call: "",
            errno: None,
            problem: String::new(),
            likely: None,
        }))
    }

    pub(crate) fn call(mut self, call: &'static str, errno: Errno) -> Error {
        self.0.call = call;
        self.0.errno = Some(errno);
        self
    }

    pub(crate) fn problem(mut self, text: impl Into<String>) -> Error {
        self.0.problem = text.into();
        self
    }

    pub(crate) fn field(mut self, field: impl Into<String>) -> Error {
        self.0.field = Some(field.into());
        self
    }

    pub(crate) fn value(mut self, value: impl Into<String>) -> Error {
        self.0.value = Some(value.into());
        self
    }

    pub(crate) fn likely(mut self, text: impl Into<String>) -> Error {
        self.0.likely = Some(text.into());
        self
    }

    pub(crate) fn likely_or(mut self, text: Option<impl Into<String>>) -> Error {
        if self.0.likely.is_none() {
            self.0.likely = text.map(Into::into);
        }
        self
    }

    /// The first line: what could not be done. `cannot set memory.max to 1048576 in /sys/fs/cgroup/web`.
    pub fn sentence(&self) -> String {
        let Parts { path, value, problem, .. } = &*self.0;
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let mut text = match (self.0.doing, value) {
            (Doing::Detect, _) => format!("cannot use the control groups at {path}"),
            (Doing::Path, _) => format!("cannot use the control group path {path:?}"),
            (Doing::Unavailable, _) => "not available on this machine".to_owned(),
            (Doing::Value, Some(v)) => format!("{v} is not a usable value"),
            (Doing::Value, None) => "not a usable value".to_owned(),
            (Doing::Make, _) => format!("cannot make the control group {path}"),
            (Doing::Occupied, _) => format!("the control group {path} is in use"),
            (Doing::Join, _) => format!("cannot join the control group {path}"),
            (Doing::Limit, Some(v)) => format!("cannot set {file} to {} in {folder}", one_line(v)),
            (Doing::Limit, None) => format!("cannot set {file} in {folder}"),
            (Doing::Devices, _) => format!("cannot restrict devices in {path}"),
            (Doing::Read, _) => format!("cannot read {path}"),
            (Doing::Freeze, Some(v)) if v == "0" || v == "THAWED" => format!("cannot thaw {path}"),
            (Doing::Freeze, _) => format!("cannot freeze {path}"),
            (Doing::Kill, _) => format!("cannot kill the processes of {path}"),
            (Doing::Remove, _) => format!("cannot remove the control group {path}"),
            (Doing::Delegate, _) => format!("cannot delegate {path}"),
        };
        if !problem.is_empty() {
            text.push_str(": ");
            text.push_str(problem);
        }
        text
    }

    /// The second line, empty when no call failed: `write: EBUSY`.
    pub fn answer(&self) -> String {
        match self.0.errno {
            Some(errno) => format!("{}: {}", self.0.call, errno_name(errno)),
            None => String::new(),
        }
    }
}

impl std::ops::Deref for Error {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.0.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.sentence())?;
        let answer = self.answer();
        if !answer.is_empty() {
            write!(f, ": {answer}")?;
        }
        if let Some(likely) = &self.0.likely {
            write!(f, " (likely: {likely})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

fn one_line(value: &str) -> String {
    format!("{:?}", value.trim_end())
}

/// An errno by its name in errno(3).
pub fn errno_name(errno: Errno) -> String {
    macro_rules! names {
        ($($name:ident)*) => {
            match errno.raw_os_error() { $(libc::$name => stringify!($name).to_owned(),)* other => format!("errno {other}") }
        };
    }
    names!(EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY
        EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK
        EPIPE EDOM ERANGE ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP EUSERS EOVERFLOW EOPNOTSUPP EDQUOT EKEYREVOKED
        ETIMEDOUT ESTALE ECONNREFUSED EADDRINUSE EDEADLK ENODATA ENOTSOCK EPROTO
        ETOOMANYREFS)
}

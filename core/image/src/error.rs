//! What went wrong: what was tried, on what, why, and what to do.

use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// `cannot unpack the layer sha256:12..: etc/../../x: its name leads out of the layer`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    doing: String,
    why: String,
    hint: Box<str>,
}

/// What a caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// There is no such image, blob or layer.
    NotFound,
    /// It may work another time: the registry or the way to it.
    Temporary,
    /// The image is broken, hostile, or not for this machine: it will not work another time either.
    BadImage,
    /// The registry wants other credentials.
    Denied,
    /// This machine: a full disk, a missing right.
    Host,
    /// What was asked for makes no sense.
    Usage,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, doing: impl Into<String>, why: impl fmt::Display) -> Error {
        Error { kind, doing: doing.into(), why: why.to_string(), hint: "".into() }
    }

    pub fn bad(doing: impl Into<String>, why: impl fmt::Display) -> Error {
        Error::new(Kind::BadImage, doing, why)
    }

    /// A system call's: `cannot DOING PATH: why`.
    pub fn io(doing: &str, path: &Path, error: impl Into<io::Error>) -> Error {
        let error = error.into();
        Error::new(Kind::Host, format!("cannot {doing} {}", path.display()), plain(&error))
            .hint(advice(&error))
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<Box<str>>) -> Error {
        self.hint = hint.into();
        self
    }

    /// The same, said of something larger.
    #[must_use]
    pub fn within(mut self, doing: impl fmt::Display) -> Error {
        self.why = format!("{}: {}", self.doing, self.why);
        self.doing = doing.to_string();
        self
    }

    /// Without the hint, which is of the store.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.doing, self.why)
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence())?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, " ({})", self.hint) }
    }
}

impl std::error::Error for Error {}

/// An error that passes through a reader.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}

/// What a reader gave: ours as it was, others as a failure of `doing`.
pub fn from_reader(error: io::Error, kind: Kind, doing: &str) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::new(kind, doing, plain(&error)).hint(advice(&error)),
    }
}

/// Without "(os error 2)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "make room there; `sampan-image prune` removes what no image needs; mounts and `sampan run --image` must be named to it (--keep)"
        }
        io::ErrorKind::QuotaExceeded => "the quota there is used up",
        io::ErrorKind::ReadOnlyFilesystem => "the file system there is read-only",
        io::ErrorKind::PermissionDenied => "is it another user's? --store names another place",
        _ => "",
    }
}

//! The verbs, one file each. A verb takes its options as a struct and returns what it found; cli prints it. Its error
//! is one sentence, in runc's words where clients match on them.

pub mod create;
pub mod delete;
pub mod enter;
pub mod events;
pub mod exec;
pub mod features;
pub mod foreground;
pub mod kill;
pub mod list;
pub mod ns;
pub mod pause;
pub mod plan;
pub mod ps;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;

use std::fmt;
use std::io;
use std::path::Path;

use crate::destroy;
use crate::error::io_name;
use crate::kernel::trust;
use crate::store::dir::{self, Folder, Root};
use crate::store::state::{Document, State, Status};

pub type Result<T> = std::result::Result<T, Error>;

/// Why a verb failed.
#[derive(Debug)]
pub enum Error {
    Root(dir::Error),
    Cgroup(sampan_cgroups::Error),
    /// Boxed: it has many parts, and success should stay small.
    Launch(Box<crate::error::Error>),
    Destroy(destroy::Error),
    /// The container is not in a state for this.
    State {
        id: String,
        problem: String,
    },
    /// What is wrong with what was asked for.
    Asked(String),
    Io {
        doing: String,
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Root(e) => e.fmt(f),
            Error::Cgroup(e) => e.fmt(f),
            Error::Launch(e) => e.fmt(f),
            Error::Destroy(e) => e.fmt(f),
            Error::State { id, problem } => write!(f, "{id}: {problem}"),
            Error::Asked(problem) => f.write_str(problem),
            Error::Io { doing, source } => write!(f, "{doing}: {}", io_name(source)),
        }
    }
}

impl std::error::Error for Error {}

impl From<dir::Error> for Error {
    fn from(e: dir::Error) -> Error {
        Error::Root(e)
    }
}

impl From<sampan_cgroups::Error> for Error {
    fn from(e: sampan_cgroups::Error) -> Error {
        Error::Cgroup(e)
    }
}

impl From<crate::error::Error> for Error {
    fn from(e: crate::error::Error) -> Error {
        Error::Launch(Box::new(e))
    }
}

impl From<destroy::Error> for Error {
    fn from(e: destroy::Error) -> Error {
        Error::Destroy(e)
    }
}

/// `.map_err(doing("cannot read X"))`.
pub fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |e| Error::Io { doing: what.into(), source: e.into() }
}

/// The text of a regular file that somebody gave us, `what` says how: `--process`.
pub fn read_text(what: &str, path: &Path) -> Result<String> {
    let reading = || format!("cannot read {what}{}", path.display());
    let failed = |problem: String| Error::Asked(format!("{}: {problem}", reading()));
    let bytes = trust::read_regular(path, dir::FILE_BYTES_MAX).map_err(|e| match e.why {
        trust::Why::Call(source) => Error::Io { doing: reading(), source },
        _ => failed(e.about(path)),
    })?;
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".into()))
}

/// A container as a verb found it.
#[derive(Debug)]
pub struct Container {
    pub state: State,
    pub status: Status,
}

impl Container {
    pub fn document(&self) -> Document<'_> {
        self.state.document(self.status)
    }
}

/// The container's folder and state. A folder without a state is one whose create never got anywhere.
pub fn find(root: &Root, id: &str) -> Result<(Folder, State)> {
    let folder = root.open(id)?;
    match State::load(&folder)? {
        Some(state) => Ok((folder, state)),
        None => Err(dir::Error::Missing { id: id.into() }.into()),
    }
}

/// The status, `paused` included; as in runc that goes before `created`, since whoever starts or enters a frozen group
/// would wait in it.
pub fn status(folder: &Folder, state: &State) -> Result<Status> {
    let status = state.status(folder)?;
    let lives = matches!(status, Status::Running | Status::Created);
    if lives && is_frozen(state)? { Ok(Status::Paused) } else { Ok(status) }
}

/// A cgroup that cannot be asked is not known to be frozen.
fn is_frozen(state: &State) -> Result<bool> {
    Ok(state.cgroup()?.is_some_and(|c| c.is_frozen().unwrap_or(false)))
}

/// The container's cgroup, for verbs that make no sense without.
pub fn cgroup(state: &State) -> Result<sampan_cgroups::Cgroup<'static>> {
    state.cgroup()?.ok_or_else(|| state_error(&state.id, "the container has no cgroup of its own"))
}

pub fn state_error(id: &str, problem: impl Into<String>) -> Error {
    Error::State { id: id.into(), problem: problem.into() }
}

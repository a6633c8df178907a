//! The verbs, one file each. A verb takes its options as a struct and returns what it found; cli prints it. Its error
//! is one sentence, in runc's words where clients match on them.

pub mod asked;
pub mod create;
pub mod delete;
pub mod enter;
pub mod events;
pub mod exec;
pub mod features;
pub mod foreground;
pub mod image;
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

use std::io;
use std::path::Path;

use crate::kernel::trust;
use crate::store::dir::{self, Folder, Root};
use crate::store::state::{Document, State, Status};

pub use crate::error::{Error, Result};

/// `.map_err(doing("cannot read X"))`.
pub fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    move |e| Error::io(what.into(), &e.into())
}

/// The text of a regular file that somebody gave us, `what` says how: `--process`.
pub fn read_text(what: &str, path: &Path) -> Result<String> {
    let reading = || format!("cannot read {what}{}", path.display());
    let failed = |problem: String| Error::new(format!("{}: {problem}", reading()));
    let bytes = trust::read_regular(path, dir::FILE_BYTES_MAX).map_err(|e| match e.why {
        trust::Why::Call(source) => Error::io(reading(), &source),
        _ => failed(e.about(path)),
    })?;
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".into()))
}

/// What is wrong in a file of JSON: the field, or where there is none the file.
pub fn in_file(path: &Path) -> impl FnOnce(sampan_plan::Error) -> Error {
    move |e| match e.field.as_str() {
        "" => Error::new(format!("{}: {}", path.display(), e.problem)),
        _ => Error::from(e),
    }
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
        None => Err(dir::missing(id)),
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
    Error::new(problem).of(id)
}

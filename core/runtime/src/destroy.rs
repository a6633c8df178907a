//! The end of a container, whatever state it is in: everything of it dies, is removed, and is forgotten.
//!
//! ```text
//!   init (SIGKILL by pidfd) -> cgroup (kill all, remove) -> poststop hooks -> state folder, state.json last
//! ```
//! Each step succeeds where there is nothing to do, so it can be repeated after a crash at any point. The lock must be
//! held. Deliberately absent: whether the container may be removed (ops/delete.rs).

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use sampan_hooks::Kind;

use crate::error::io_name;
use crate::launch::hooks::{Hands, run_all};
use crate::pidfd;
use crate::root::{self, Folder};
use crate::state::State;

/// How long killed processes may take to be gone.
pub const KILL_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum Error {
    Root(root::Error),
    Cgroup {
        id: String,
        source: sampan_cgroups::Error,
    },
    Process {
        id: String,
        pid: i32,
        source: io::Error,
    },
    /// SIGKILL was sent and nothing came of it.
    Immortal {
        id: String,
        pid: i32,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Root(e) => e.fmt(f),
            Error::Cgroup { id, source } => write!(f, "{id}: {source}"),
            Error::Process { id, pid, source } => {
                write!(f, "{id}: cannot kill its process {pid}: {}", io_name(source))
            }
            Error::Immortal { id, pid } => write!(
                f,
                "{id}: its process {pid} is still there {} s after SIGKILL\n  likely: it hangs in a system call; see /proc/{pid}/stack",
                KILL_WITHIN.as_secs()
            ),
        }
    }
}

impl std::error::Error for Error {}

impl From<root::Error> for Error {
    fn from(e: root::Error) -> Error {
        Error::Root(e)
    }
}

/// Removes the container; `None` is one whose create died before it wrote anything. What poststop hooks did wrong comes
/// back as warnings.
pub fn destroy(
    folder: Folder,
    state: Option<State>,
    hands: &mut Hands<'_>,
) -> Result<Vec<sampan_hooks::Error>, Error> {
    let mut warnings = Vec::new();
    if let Some(mut state) = state {
        end_processes(&state)?;
        // Poststop failures never abort (Kind::on_failure).
        match run_all(&mut state, Kind::Poststop, &folder, hands) {
            Ok(some) => warnings = some,
            Err(e) => warnings.push(e),
        }
    }
    folder.remove()?;
    Ok(warnings)
}

/// Kills init and everything in the cgroup, and removes the cgroup unless somebody else keeps it; one that had to be killed
/// in goes all the same ([`sampan_cgroups::Cgroup::kill_if_any`]).
pub fn end_processes(state: &State) -> Result<(), Error> {
    let id = || state.id.clone();
    let pid = state.init.map_or(0, |i| i.pid);
    let process = |source| Error::Process { id: id(), pid, source };
    let cgroup_error = |source| Error::Cgroup { id: id(), source };
    let init = state.init().map_err(process)?;
    if let Some(init) = &init {
        match pidfd::send(init.as_fd(), libc::SIGKILL) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => return Err(process(e)),
            _ => {}
        }
    }
    let cgroup = state.cgroup().map_err(cgroup_error)?;
    let kept = state.cgroup.as_ref().is_some_and(|c| c.kept);
    if let (None, false, Some(cgroup)) = (&init, kept, &cgroup)
        && cgroup.remove_if_empty()
    {
        return Ok(());
    }
    let killed = match &cgroup {
        // Also thaws: a process frozen by v1 does not die of SIGKILL before.
        Some(cgroup) => cgroup.kill_if_any(KILL_WITHIN).map_err(cgroup_error)?,
        None => false,
    };
    if let Some(init) = &init
        && !pidfd::wait(init.as_fd(), Some(KILL_WITHIN)).map_err(process)?
    {
        return Err(Error::Immortal { id: id(), pid });
    }
    match &cgroup {
        Some(cgroup) if killed || !kept => cgroup.remove().map_err(cgroup_error),
        _ => Ok(()),
    }
}

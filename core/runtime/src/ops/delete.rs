//! `sampan delete [--force] ID`.
//!
//! | status | delete | delete --force |
//! |---|---|---|
//! | no such container | error | nothing, 0 |
//! | half made (create died) | removed | removed |
//! | creating | error | killed, then removed as soon as create lets go |
//! | created | removed, as in runc and crun | removed |
//! | running, paused | error | killed, removed |
//! | stopped | removed | removed |

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use sampan_plan::Spec;

use super::{Result, state_error, status};
use crate::destroy::destroy;
use crate::error::Kind;
use crate::kernel::pidfd;
use crate::launch::HookRunner;
use crate::launch::spawn::Direct;
use crate::log::Log;
use crate::store::dir::{Folder, Lock, Root};
use crate::store::state::{self, State, Status};

/// How long a forced delete waits for a create or another delete to let go.
const BUSY_WITHIN: Duration = Duration::from_secs(30);

pub fn run(root: &Root, id: &str, force: bool, log: &Log) -> Result<()> {
    match remove(root, id, force, log) {
        Err(e) if e.kind == Kind::Missing && force => Ok(()),
        result => result,
    }
}

fn remove(root: &Root, id: &str, force: bool, log: &Log) -> Result<()> {
    let folder = root.open(id)?;
    lock(&folder, force)?;
    let state = match State::load(&folder) {
        Ok(state) => state,
        // Whatever cannot be read can still be removed, if we were told to and nothing runs of it.
        Err(e) if e.kind == Kind::Corrupt && force => {
            nothing_runs(&folder, &e.doing)?;
            None
        }
        Err(e) => return Err(e),
    };
    if let (Some(state), false) = (&state, force) {
        match running_status(&folder, state)? {
            Status::Created | Status::Stopped => {}
            other => {
                return Err(state_error(
                    id,
                    format!("cannot delete container {id} that is not stopped: {}", other.name()),
                ));
            }
        }
    }
    for warning in destroy(folder, state, &mut HookRunner::new(&mut Direct))? {
        log.warning(&warning);
    }
    Ok(())
}

/// We hold the lock, so nobody is creating it: a `creating` here is a create that died.
fn running_status(folder: &Folder, state: &State) -> Result<Status> {
    match status(folder, state)? {
        Status::Creating => Ok(Status::Stopped),
        other => Ok(other),
    }
}

/// A create that is in the middle of something loses its process, fails, and lets go.
fn lock(folder: &Folder, force: bool) -> Result<()> {
    match folder.lock(Lock::Exclusive, Some(Duration::ZERO)) {
        Err(e) if e.kind == Kind::Busy => {}
        result => return result,
    }
    if force && let Some(state) = State::load(folder)? {
        if !state.own_pid_namespace
            && let Some(cgroup) = state.own_cgroup()?
        {
            let _ = cgroup.kill_now();
        }
        if let Ok(Some(init)) = state.init() {
            let _ = pidfd::send(init.as_fd(), libc::SIGKILL);
        }
    }
    folder.lock(Lock::Exclusive, Some(BUSY_WITHIN))
}

/// Of a container whose state is lost: its config still names its groups, but nothing says who is in them. So nobody is
/// killed: either they are empty, and go, or the error names what is left.
fn nothing_runs(folder: &Folder, damage: &str) -> Result<()> {
    let config = folder.read(state::CONFIG)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&config);
    let spec = Spec::parse(&text).ok();
    let path = spec.as_ref().and_then(|spec| Some(spec.linux.cgroups_path.as_ref()?.as_str()));
    let place = sampan_cgroups::CgroupsPath::parse(path, folder.id())?;
    let cgroup = sampan_cgroups::Cgroup::at(sampan_cgroups::Hierarchies::detect()?, &place)?;
    let left = cgroup.members();
    if left.is_empty() {
        cgroup.remove_if_empty();
        return Ok(());
    }
    let name = |pid: &i32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // It names itself: without the escapes it could have more lines, or have root's terminal do things.
        format!("{pid} ({})", name.trim_end().escape_debug())
    };
    let processes = left.iter().map(name).collect::<Vec<_>>().join(", ");
    let groups = cgroup.paths().into_iter().map(|(_, path)| path).filter(|p| Path::new(p).exists());
    let groups = groups.collect::<Vec<_>>().join(", ");
    Err(state_error(
        folder.id(),
        format!(
            "{damage}, so nothing was done. Left: processes {processes} in the control groups {groups}; \
             if they are the container's, end them (kill -9) and delete it again",
        ),
    ))
}

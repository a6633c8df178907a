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
use std::time::Duration;

use super::{Error, Result, state_error, status};
use crate::cli::log::Log;
use crate::clone::Direct;
use crate::destroy::destroy;
use crate::launch::Hands;
use crate::pidfd;
use crate::root::{self, Folder, Lock, Root};
use crate::state::{State, Status};

/// How long a forced delete waits for a create or another delete to let go.
const BUSY_WITHIN: Duration = Duration::from_secs(30);

pub fn run(root: &Root, id: &str, force: bool, log: &Log) -> Result<()> {
    match remove(root, id, force, log) {
        Err(Error::Root(root::Error::Missing { .. })) if force => Ok(()),
        result => result,
    }
}

fn remove(root: &Root, id: &str, force: bool, log: &Log) -> Result<()> {
    let folder = root.open(id)?;
    lock(&folder, force)?;
    let state = match State::load(&folder) {
        Ok(state) => state,
        // Whatever cannot be read can still be removed, but only if we were told to.
        Err(e @ root::Error::Corrupt { .. }) if !force => return Err(e.into()),
        Err(root::Error::Corrupt { .. }) => None,
        Err(e) => return Err(e.into()),
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
    for warning in destroy(folder, state, &mut Hands::new(&mut Direct))? {
        log.warning(&warning.to_string());
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
        Err(root::Error::Busy { .. }) => {}
        result => return Ok(result?),
    }
    if force && let Some(state) = State::load(folder)? {
        if let Some(cgroup) = state.cgroup()? {
            let _ = cgroup.kill_now();
        }
        if let Ok(Some(init)) = state.init() {
            let _ = pidfd::send(init.as_fd(), libc::SIGKILL);
        }
    }
    Ok(folder.lock(Lock::Exclusive, Some(BUSY_WITHIN))?)
}

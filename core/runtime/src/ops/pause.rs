//! `sampan pause ID` and `sampan resume ID`: freezes and thaws every process of the container.

use std::time::Duration;

use super::{Result, cgroup, find, state_error, status};
use crate::store::dir::{Lock, Root};
use crate::store::state::Status;

/// How long the kernel may take to stop everything.
const WITHIN: Duration = Duration::from_secs(10);

pub fn pause(root: &Root, id: &str) -> Result<()> {
    let (folder, state) = find(root, id)?;
    folder.lock(Lock::Exclusive, Some(WITHIN))?;
    match status(&folder, &state)? {
        Status::Running | Status::Created => Ok(cgroup(&state)?.freeze(WITHIN)?),
        Status::Paused => Err(state_error(id, "container already paused")),
        Status::Creating | Status::Stopped => Err(state_error(id, "container not running")),
    }
}

pub fn resume(root: &Root, id: &str) -> Result<()> {
    let (folder, state) = find(root, id)?;
    folder.lock(Lock::Exclusive, Some(WITHIN))?;
    match status(&folder, &state)? {
        Status::Paused => Ok(cgroup(&state)?.thaw(WITHIN)?),
        _ => Err(state_error(id, "container not paused")),
    }
}

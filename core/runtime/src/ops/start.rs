//! `sampan start ID`: the created program goes. Of two starts exactly one wins: the lock orders them, and the second
//! finds a running container. Returns once the program's execve has succeeded, or says why it did not.

use super::{Result, find, state_error, status};
use crate::destroy;
use crate::launch::spawn::Direct;
use crate::launch::{self, HookRunner};
use crate::store::dir::{Lock, Root};
use crate::store::state::{State, Status};

pub fn run(root: &Root, id: &str) -> Result<()> {
    let (folder, _) = find(root, id)?;
    folder.lock(Lock::Exclusive, None)?;
    // Read again: whoever held the lock may have started it.
    let Some(state) = State::load(&folder)? else { return Err(state_error(id, "container does not exist")) };
    match status(&folder, &state)? {
        Status::Created => {}
        Status::Paused if state.status(&folder)? == Status::Created => {
            return Err(state_error(id, "cannot start a container in the paused state; resume it first"));
        }
        Status::Running | Status::Paused => {
            return Err(state_error(id, "cannot start an already running container"));
        }
        Status::Stopped => return Err(state_error(id, "cannot start a container that has stopped")),
        Status::Creating => {
            return Err(state_error(id, "cannot start a container that is still being created"));
        }
    }
    if state.no_process {
        return Err(state_error(id, "process: config.json has none, so there is nothing to start"));
    }
    launch::start_by_folder(&folder, &mut HookRunner::new(&mut Direct)).map_err(|e| e.of(id)).inspect_err(
        |_| {
            // A hook failed or the program could not be run: what is left of it goes (runtime.md, "Lifecycle"), but the
            // container stays, stopped, for the client to delete.
            let _ = destroy::end_processes(&state);
        },
    )
}

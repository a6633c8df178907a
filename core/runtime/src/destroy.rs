//! The end of a container, whatever state it is in: everything of it dies, is removed, and is forgotten.
//!
//! ```text
//!   init (SIGKILL by pidfd) -> cgroup (kill all, remove) -> poststop hooks -> state folder, state.json last
//! ```
//! Each step succeeds where there is nothing to do, so it can be repeated after a crash at any point. The lock must be
//! held. Deliberately absent: whether the container may be removed (ops/delete.rs).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use sampan_cgroups::{Cgroup, REMOVE_WITHIN};
use sampan_hooks::Kind;

use crate::error::{Error, Result};
use crate::kernel::pidfd;
use crate::launch::hooks::{HookRunner, run_all};
use crate::store::dir::Folder;
use crate::store::state::State;

/// How long killed processes may take to be gone.
pub const KILL_WITHIN: Duration = Duration::from_secs(10);

/// Removes the container; `None` is one whose create died before it wrote anything. What poststop hooks did wrong, and
/// what is left because it is somebody else's, comes back as warnings.
pub fn destroy(folder: Folder, state: Option<State>, runner: &mut HookRunner<'_>) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if let Some(mut state) = state {
        warnings = end_processes(&state)?;
        // Poststop failures never abort (Kind::on_failure).
        match run_all(&mut state, Kind::Poststop, &folder, runner) {
            Ok(some) => warnings.extend(some.iter().map(sampan_hooks::Error::to_string)),
            Err(e) => warnings.push(e.to_string()),
        }
    }
    folder.remove()?;
    Ok(warnings)
}

/// Kills init and everything else of the container, and removes its groups. What is left because it is somebody else's
/// comes back in words.
pub fn end_processes(state: &State) -> Result<Vec<String>> {
    let init = kill_init(state)?;
    let groups = Groups::of(state).map_err(|e| cgroup_error(state, e))?;
    match &groups {
        Groups::Own(cgroup) => end_own(state, init.as_ref(), cgroup),
        Groups::Used(cgroup) => {
            if init.is_some() {
                thaw(state, cgroup)?;
            }
            wait_for(state, init.as_ref(), Some(cgroup))?;
            Ok(left(state, cgroup))
        }
        Groups::Unclaimed(cgroup) => {
            wait_for(state, init.as_ref(), None)?;
            remove_if_empty_soon(cgroup);
            Ok(Vec::new())
        }
        Groups::Nobodys => wait_for(state, init.as_ref(), None).map(|()| Vec::new()),
    }
}

/// What may be done to the groups that a state names.
enum Groups {
    /// There are none, or others of that name have taken their place.
    Nobodys,
    /// Create died before it had put anybody there. It may have made them; a child that was to go there has died with it.
    /// So nobody in them is the container's, and they go if they are empty.
    Unclaimed(Cgroup<'static>),
    /// They were there before the container, or another one has taken them since: only init is known to be its own.
    Used(Cgroup<'static>),
    Own(Cgroup<'static>),
}

impl Groups {
    fn of(state: &State) -> sampan_cgroups::Result<Groups> {
        let found = match state.cgroup.as_ref().map(|cgroup| cgroup.claim) {
            None => None,
            Some(None) => state.named_cgroup()?.map(Groups::Unclaimed),
            Some(Some(_)) => state.cgroup()?.map(|cgroup| match state.owns(&cgroup) {
                true => Groups::Own(cgroup),
                false => Groups::Used(cgroup),
            }),
        };
        Ok(found.unwrap_or(Groups::Nobodys))
    }
}

/// SIGKILL, if it lives; its pidfd, to wait for.
fn kill_init(state: &State) -> Result<Option<OwnedFd>> {
    let init = state.init().map_err(|e| process_error(state, e))?;
    if let Some(init) = &init {
        match pidfd::send(init.as_fd(), libc::SIGKILL) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => return Err(process_error(state, e)),
            _ => {}
        }
    }
    Ok(init)
}

/// For the end of init, in these groups. It comes after that of everybody in its pid namespace, also of those whom the container
/// itself has frozen in a group below; and who is thawed may have been frozen again by one that has not died yet.
fn wait_for(state: &State, init: Option<&OwnedFd>, groups: Option<&Cgroup<'_>>) -> Result<()> {
    let Some(init) = init else { return Ok(()) };
    let until = Instant::now() + KILL_WITHIN;
    let mut pause = Duration::from_millis(20);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if pidfd::wait(init.as_fd(), Some(pause.min(left))).map_err(|e| process_error(state, e))? {
            return Ok(());
        }
        if left.is_zero() {
            break;
        }
        groups.inspect(|groups| groups.let_killed_die());
        pause = (pause * 2).min(Duration::from_millis(500));
    }
    let pid = state.init.map_or(0, |init| init.pid);
    let within = KILL_WITHIN.as_secs();
    Err(Error::new(format!("its process {pid} is still there {within} s after SIGKILL"))
        .likely(format!("it hangs in a system call; see /proc/{pid}/stack"))
        .of(&state.id))
}

/// Everybody in a pid namespace dies with its init (pid_namespaces(7)), so whoever is in the groups after that was put
/// there by somebody else, and is left alone. Without one, the groups alone say who belongs to the container; and
/// groups that somebody keeps for the next container must be empty.
fn end_own(state: &State, init: Option<&OwnedFd>, cgroup: &Cgroup<'_>) -> Result<Vec<String>> {
    let failed = |e| cgroup_error(state, e);
    let kept = state.cgroup.as_ref().is_some_and(|c| c.kept);
    if init.is_none() && !kept && cgroup.remove_if_empty() {
        return Ok(Vec::new());
    }
    let killed = match kept || !state.own_pid_namespace {
        // Also thaws: a process frozen by v1 does not die of SIGKILL before.
        true => cgroup.kill_if_any(KILL_WITHIN).map_err(failed)?,
        false => thaw(state, cgroup).map(|()| false)?,
    };
    wait_for(state, init, Some(cgroup))?;
    // Groups that were killed in are not for another container ([`Cgroup::kill_if_any`]).
    if kept && !killed {
        return Ok(Vec::new());
    }
    match cgroup.remove() {
        Err(_) if !kept && state.own_pid_namespace && !cgroup.members().is_empty() => Ok(left(state, cgroup)),
        result => result.map(|()| Vec::new()).map_err(failed),
    }
}

fn thaw(state: &State, cgroup: &Cgroup<'_>) -> Result<()> {
    match cgroup.is_frozen() {
        Ok(true) => cgroup.thaw(KILL_WITHIN).map_err(|e| cgroup_error(state, e)),
        _ => Ok(()),
    }
}

/// A process that has just ended may hold its group for a moment.
fn remove_if_empty_soon(cgroup: &Cgroup<'_>) {
    let until = Instant::now() + REMOVE_WITHIN;
    let mut pause = Duration::from_millis(1);
    while !cgroup.remove_if_empty() && Instant::now() < until {
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn left(state: &State, cgroup: &Cgroup<'_>) -> Vec<String> {
    let pids = cgroup.members();
    if pids.is_empty() {
        return Vec::new();
    }
    let pids = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    vec![format!(
        "{}: the control group {cgroup} is left: processes that are not known to be the container's are in it: {pids}",
        state.id
    )]
}

fn cgroup_error(state: &State, source: sampan_cgroups::Error) -> Error {
    Error::from(source).of(&state.id)
}

fn process_error(state: &State, source: io::Error) -> Error {
    let pid = state.init.map_or(0, |init| init.pid);
    Error::io(format!("cannot kill its process {pid}"), &source).of(&state.id)
}

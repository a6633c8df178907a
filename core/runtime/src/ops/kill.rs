//! `sampan kill [--all] ID [SIGNAL]`: to exactly the process that is the container's first one, or to all of them.
//! Takes no lock: it must work while a create hangs.

use std::os::fd::AsFd;
use std::time::Duration;

use super::{Result, doing, find, state_error};
use crate::kernel::pidfd;
use crate::store::dir::Root;

pub fn run(root: &Root, id: &str, signal: i32, all: bool) -> Result<()> {
    let (_folder, state) = find(root, id)?;
    let init = state.init().map_err(doing(format!("{id}: cannot find its process")))?;
    // All in a pid namespace die with its init; without one, others of the container may outlive it.
    let init_is_enough = signal == libc::SIGKILL && state.own_pid_namespace;
    let everybody = all || signal == libc::SIGKILL;
    if everybody
        && !init_is_enough
        && let Some(cgroup) = state.own_cgroup()?
        && to_all(&cgroup, signal)?
    {
        return Ok(());
    }
    let Some(init) = init else {
        // A client that asks for all wants nothing left; nothing is.
        return if all { Ok(()) } else { Err(state_error(id, "container not running")) };
    };
    match pidfd::send(init.as_fd(), signal) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {
            return Err(state_error(id, "container not running"));
        }
        Err(e) => return Err(doing(format!("{id}: cannot send signal {signal}"))(e)),
    }
    // A process that v1 has frozen gets its SIGKILL only once it is thawed (runc#3134).
    if signal == libc::SIGKILL
        && let Some(cgroup) = state.cgroup()?
    {
        if cgroup.is_frozen().unwrap_or(false) {
            cgroup.thaw(Duration::from_secs(1))?;
        }
        cgroup.let_killed_die();
    }
    Ok(())
}

/// False: nobody is there.
fn to_all(cgroup: &sampan_cgroups::Cgroup<'_>, signal: i32) -> Result<bool> {
    if cgroup.procs()?.is_empty() {
        return Ok(false);
    }
    if signal == libc::SIGKILL {
        cgroup.kill_now()?;
    } else {
        each(cgroup, signal)?;
    }
    Ok(true)
}

/// By pidfd, and only if the process is still in the cgroup once we hold it: a number may have gone to somebody else.
fn each(cgroup: &sampan_cgroups::Cgroup<'_>, signal: i32) -> Result<()> {
    for pid in cgroup.procs()? {
        let held = pidfd::open(pid).map_err(doing(format!("cannot open a pidfd of {pid}")))?;
        let Some(process) = held.filter(|_| cgroup.procs().is_ok_and(|now| now.contains(&pid))) else {
            continue;
        };
        match pidfd::send(process.as_fd(), signal) {
            Err(e) if e.raw_os_error() != Some(libc::ESRCH) => {
                return Err(doing(format!("cannot send signal {signal} to {pid}"))(e));
            }
            _ => {}
        }
    }
    Ok(())
}

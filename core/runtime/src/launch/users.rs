//! The user namespace that a config names by its path: its maps, from inside.
//!
//! A path tells no pid, and the kernel shows the maps of a process alone.  So one goes in for a moment, a child of our own, as
//! for the id map of a mount.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{fstat, stat};
use sampan_child::report::Report;
use sampan_child::sys;
use sampan_child::sys::uapi::{CLONE_NEWNET, CLONE_NEWUSER};
use sampan_plan::host::{Host, JoinedUsers};
use sampan_plan::render;
use sampan_plan::spec::{IdMapping, Spec};
use sampan_plan::visitor::visitor;

use crate::error::{Errno, Error, Result};
use crate::kernel::host;
use crate::launch::explain::{Circumstances, explain};
use crate::launch::pipe::pipe;
use crate::launch::report::{Told, next_report};
use crate::launch::slots::namespace;
use crate::launch::spawn::{Direct, Spawn};

/// All facts that the plan of a launch goes by, for the container `id` of this config and bundle; `cgroups`: whether it gets
/// groups at all.
pub fn host_facts(spec: &Spec<'_>, bundle: &Path, id: &str, cgroups: bool) -> Result<Host> {
    let mut host = host::facts(spec, bundle, id, cgroups)?;
    let Some((path, field)) = path_of(spec, "user") else { return Ok(host) };
    let users = namespace(path, CLONE_NEWUSER, &field)?;
    let mut joined = joined(&users, path, &field)?;
    if let Some((path, field)) = path_of(spec, "network") {
        joined.owns_network = owns(&users, &namespace(path, CLONE_NEWNET, &field)?);
    }
    host.joined_users = Some(joined);
    Ok(host)
}

/// The path of the namespace of that type to join, and its field.
fn path_of<'s>(spec: &'s Spec<'_>, kind: &str) -> Option<(&'s str, String)> {
    let (index, found) = spec.linux.namespaces.iter().enumerate().find(|(_, ns)| ns.kind.as_str() == kind)?;
    let path = found.path.as_deref().filter(|path| !path.is_empty())?;
    Some((path, format!("linux.namespaces[{index}].path")))
}

/// An owner that we may not see is another one.
fn owns(users: &OwnedFd, network: &OwnedFd) -> bool {
    let Ok(owner) = sys::owner_of_namespace(network.as_raw_fd()) else { return false };
    let found = stat(format!("/proc/self/fd/{owner}"));
    sys::close(owner);
    found.is_ok_and(|owner| {
        fstat(users).is_ok_and(|users| (users.st_dev, users.st_ino) == (owner.st_dev, owner.st_ino))
    })
}

fn joined(users: &OwnedFd, path: &str, field: &str) -> Result<JoinedUsers> {
    let plan = visitor(path, field);
    let failed =
        |e: Errno| Error::new(format!("cannot look at the namespace {path}")).field(field).call("fstat", e);
    let (theirs, ours) = (fstat(users).map_err(failed)?, stat("/proc/thread-self/ns/user").map_err(failed)?);
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
        let problem = format!("{path} is the user namespace that we are in ourselves, which nobody can join");
        return Err(Error::new(problem)
            .field(field)
            .likely("leave the entry out: then the container stays in it"));
    }
    let (report, theirs) = pipe()?;
    let (gate, opener) = pipe()?;
    let child = Direct.spawn(&plan.image, &[theirs.as_fd(), users.as_fd(), gate.as_fd()])?;
    drop((theirs, gate));
    let read = match next_report(&report) {
        Ok(Some(Told { report: Report::Reached { .. }, .. })) => maps(child.pid, field),
        Ok(Some(told)) => Err(match render::reader(&plan) {
            Some(reader) => {
                let circumstances = Circumstances { privileged: true, ..Circumstances::default() };
                explain(&told, &reader, &plan.origins, circumstances)
            }
            None => Error::new("the plan is damaged"),
        }),
        Ok(None) => Err(Error::new("the process that looks at the user namespace was killed").field(field)),
        Err(e) => Err(e),
    };
    drop(opener);
    Direct.reap(&child)?;
    read
}

/// Of a process in it, as the kernel shows them to us: the ids outside are those of our own user namespace.
fn maps(pid: i32, field: &str) -> Result<JoinedUsers> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        std::fs::read_to_string(&path).map_err(|e| Error::io(format!("cannot read {path}"), &e).field(field))
    };
    let lines = |text: String| -> Vec<IdMapping> { text.lines().filter_map(line).collect() };
    Ok(JoinedUsers {
        uids: lines(read("uid_map")?),
        gids: lines(read("gid_map")?),
        groups_denied: read("setgroups")?.trim() == "deny",
        owns_network: false,
    })
}

fn line(line: &str) -> Option<IdMapping> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
}

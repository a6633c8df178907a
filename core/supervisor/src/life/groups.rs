//! A service's control groups outside of its launch: looked at, emptied, thawed, given other limits.
use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies, Identity, Members};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// How long a kill of the whole cgroup may take before it is reported and tried again.
pub const KILL_MAX: Duration = Duration::from_secs(2);

/// (OOM kills so far, nobody left). Where it cannot be read, nobody is assumed dead: the kill that follows looks again.
pub fn last_look(hierarchies: &Hierarchies, cgroup: &str) -> (u64, bool) {
    match group(hierarchies, cgroup) {
        Ok(group) => (group.oom_kills().ok().flatten().unwrap_or(0), group.is_empty().unwrap_or(false)),
        Err(_) => (0, false),
    }
}

/// The groups of a life as they are at this moment, to be killed by and by: the next life has groups of the same name.
pub fn identity(hierarchies: &Hierarchies, cgroup: &str) -> Result<Identity, sampan_cgroups::Error> {
    group(hierarchies, cgroup).and_then(|group| group.identity())
}

/// Ends every process of a life; `groups` as `identity` gave them.
pub fn kill_all(
    hierarchies: &Hierarchies,
    cgroup: &str,
    groups: Result<Identity, sampan_cgroups::Error>,
    pidfd: Option<BorrowedFd<'_>>,
) -> Result<(), sampan_cgroups::Error> {
    let held = groups.and_then(|identity| group(hierarchies, cgroup)?.hold_identified(&identity));
    let killed = held.and_then(|held| held.groups().kill(KILL_MAX));
    if let Some(pidfd) = pidfd {
        // Also where there is no cgroup: with its init a pid namespace ends.
        let _ = sampan_runtime::kernel::pidfd::send(pidfd, libc::SIGKILL);
    }
    killed
}

/// Changes the limits of a group that exists; `resources` as in config.json. All of them, or none.
pub fn update(hierarchies: &Hierarchies, cgroup: &str, resources: &str) -> Result<Vec<String>, String> {
    let resources = sampan_plan::spec::Resources::parse(resources).map_err(|error| error.to_string())?;
    group(hierarchies, cgroup).and_then(|group| group.update(&resources)).map_err(|error| error.to_string())
}

/// All of a life, `groups` as `identity` gave them, or none of it.
pub fn set_frozen(
    hierarchies: &Hierarchies,
    cgroup: &str,
    groups: Result<Identity, sampan_cgroups::Error>,
    frozen: bool,
) -> Result<(), sampan_cgroups::Error> {
    let groups = group(hierarchies, cgroup)?.hold_identified(&groups?)?;
    if frozen { groups.groups().freeze(KILL_MAX) } else { groups.groups().thaw(KILL_MAX) }
}

pub fn is_frozen(hierarchies: &Hierarchies, cgroup: &str) -> bool {
    group(hierarchies, cgroup).and_then(|group| group.is_frozen()).unwrap_or(false)
}

/// Whoever has frozen it. A look is cheaper than a write, and almost nothing is ever frozen.
pub fn thaw(hierarchies: &Hierarchies, cgroup: &str) {
    let thaw = |group: Cgroup<'_>| if group.is_frozen()? { group.thaw(KILL_MAX) } else { Ok(()) };
    if let Err(error) = group(hierarchies, cgroup).and_then(thaw) {
        tracing::warn!(cgroup, "cannot thaw: {error}");
    }
}

/// The folder above our groups, once nothing of ours is in it.
pub fn remove_cgroup_parent(hierarchies: &Hierarchies, parent: &str) {
    if let Ok(group) = group(hierarchies, parent)
        && group.exists()
        && let Err(error) = group.remove()
    {
        tracing::warn!(cgroup = parent, "not removed: {error}");
    }
}

pub fn group<'h>(hierarchies: &'h Hierarchies, path: &str) -> Result<Cgroup<'h>, sampan_cgroups::Error> {
    Cgroup::at(hierarchies, &CgroupsPath::Absolute(path.to_owned()))
}

/// To ask which processes are a service's.
pub fn members<'h>(hierarchies: &'h Hierarchies, path: &str) -> Result<Members<'h>, sampan_cgroups::Error> {
    hierarchies.members(&CgroupsPath::Absolute(path.to_owned()))
}

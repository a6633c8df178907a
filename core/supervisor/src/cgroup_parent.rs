//! Below which control group the services are: `cgroup_parent` of config.toml, and what `auto` is on this host.
//!
//! Where systemd is init the groups are in a scope of their own, `sampan.scope`, that is delegated to us. Below our own unit systemd
//! would end them with the unit (KillMode=mixed), or could not start the unit again while they are there (KillMode=process,
//! before systemd 254); outside of all units it takes controllers away that none of its units needs. The scope needs a process
//! to live: the holder. It sits in a group beside the services, because a v2 group with processes in it cannot be divided.
//!
//! Without systemd it is `/sampan`. What was found is written down in run_dir, so that a start that finds containers looks
//! where they are, whatever the host has become.
use sampan_cgroups::Hierarchies;
use sampan_config::schema::Supervisor;
use sampan_systemd::{Error, Manager, Scope, manager};
use std::path::Path;

/// Where there is no systemd.
const TOP: &str = "/sampan";
/// The holder's group below the scope. No service has this name: `+` is in none.
const HOLDER: &str = "/+holder";
/// The scope of the sampand that has the default run_dir.
const SCOPE: &str = "sampan.scope";
const SLICE: &str = "system.slice";
const DEFAULT_RUN_DIR: &str = "/run/sampan";
/// In run_dir.
const RECORD: &str = "cgroup_parent";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// The group, absolute in each hierarchy. `holder` is the process that keeps the scope.
pub fn find(config: &Supervisor, hierarchies: &Hierarchies, holder: Option<u32>) -> String {
    if let Some(parent) = &config.cgroup_parent {
        return parent.clone();
    }
    let recorded = std::fs::read_to_string(config.run_dir.join(RECORD)).ok();
    let otherwise = || recorded.clone().unwrap_or_else(|| TOP.to_owned());
    let found = match holder.filter(|_| manager::booted() && rustix::process::geteuid().is_root()) {
        Some(holder) if recorded.as_deref() != Some(TOP) => {
            scope(&config.run_dir, hierarchies, holder).unwrap_or_else(|error| {
                tracing::warn!(
                    "no scope of systemd's for the services, their control groups are in {TOP}, where systemd may take controllers away: {error}"
                );
                otherwise()
            })
        }
        _ => otherwise(),
    };
    // A worker that follows another finds it written: no start waits for the disk without need.
    if recorded.as_deref() != Some(found.as_str())
        && let Err(error) = sampan_journal::atomic::replace(&config.run_dir, RECORD, found.as_bytes())
    {
        tracing::warn!(
            "cannot write {RECORD} in run_dir, a sampand that follows may look elsewhere: {error}"
        );
    }
    found
}

/// Makes sure that the scope is there with the holder in it.
fn scope(run_dir: &Path, hierarchies: &Hierarchies, holder: u32) -> Result<String, String> {
    let name = scope_name(run_dir);
    let group = group_of(holder).map_err(|e| e.to_string())?;
    if let Some(parent) = group.strip_suffix(HOLDER).filter(|parent| parent.ends_with(&format!("/{name}"))) {
        return Ok(parent.to_owned());
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut manager = Manager::connect().map_err(|e| e.to_string())?;
    let started = manager.start_scope(&Scope {
        name: &name,
        description: "Containers of sampand",
        slice: SLICE,
        before: &unit_of(&own).into_iter().collect::<Vec<_>>(),
        pids: &[holder],
    });
    match started {
        Ok(()) => {}
        // Of a sampand before us, with its containers.
        Err(Error::Failed { name, .. }) if name == UNIT_EXISTS => {}
        Err(error) => return Err(error.to_string()),
    }
    // systemd moves processes into groups that are there, and makes none below a delegated one.
    let scope = group_of(holder).map_err(|e| e.to_string())?;
    make_groups(hierarchies, scope.strip_suffix(HOLDER).unwrap_or(&scope)).map_err(|e| e.to_string())?;
    manager.attach(&name, HOLDER, &[holder]).map_err(|e| e.to_string())?;
    let group = group_of(holder).map_err(|e| e.to_string())?;
    let parent = group.strip_suffix(HOLDER);
    parent.map(str::to_owned).ok_or_else(|| format!("systemd put our process into {group}"))
}

/// The holder's group, in each hierarchy that has the scope.
fn make_groups(hierarchies: &Hierarchies, scope: &str) -> std::io::Result<()> {
    let scopes = hierarchies.iter().map(|hierarchy| format!("{}{scope}", hierarchy.mount));
    for scope in scopes.filter(|scope| Path::new(scope).is_dir()) {
        match std::fs::create_dir(format!("{scope}{HOLDER}")) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A second sampand has a scope of its own, known by its run_dir.
fn scope_name(run_dir: &Path) -> String {
    if run_dir == Path::new(DEFAULT_RUN_DIR) {
        return SCOPE.to_owned();
    }
    format!("sampan-{:08x}.scope", sampan_journal::crc32(run_dir.as_os_str().as_encoded_bytes()))
}

/// The group of a process in the hierarchy that systemd keeps its units in.
fn group_of(pid: u32) -> std::io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(systemds(&text).unwrap_or("/").to_owned())
}

/// The path of systemd's hierarchy in /proc/PID/cgroup: `name=systemd` of v1, else v2 (cgroups(7)).
fn systemds(text: &str) -> Option<&str> {
    let path =
        |of: &str| text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(of)?.strip_prefix(':'));
    path("name=systemd").or_else(|| path(""))
}

/// The service unit that a process is in, by its /proc/PID/cgroup.
fn unit_of(text: &str) -> Option<&str> {
    systemds(text)?.rsplit('/').find(|part| part.ends_with(".service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "0::/system.slice/sampand.service\n";
    const HYBRID: &str = "12:pids:/system.slice\n1:name=systemd:/system.slice/sampand.service/x\n0::/system.slice/other.service\n";

    #[test]
    fn our_unit_is_the_one_of_systemds_hierarchy() {
        assert_eq!(systemds(V2), Some("/system.slice/sampand.service"));
        assert_eq!(systemds(HYBRID), Some("/system.slice/sampand.service/x"));
        assert_eq!(unit_of(V2), Some("sampand.service"));
        assert_eq!(unit_of(HYBRID), Some("sampand.service"));
        assert_eq!(unit_of("0::/user.slice/user-0.slice/session-3.scope\n"), None);
        assert_eq!(unit_of(""), None);
    }

    #[test]
    fn every_run_dir_has_a_scope_of_its_own() {
        assert_eq!(scope_name(Path::new("/run/sampan")), "sampan.scope");
        let second = scope_name(Path::new("/run/sampan2"));
        assert!(second.starts_with("sampan-") && second.ends_with(".scope"), "{second}");
        assert_ne!(second, scope_name(Path::new("/run/sampan3")));
    }
}

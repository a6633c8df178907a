//! Where the holder lives: where systemd is init, in a scope of its own, `sampan.scope`, that is delegated to us. In our own unit
//! systemd would end it with the unit (KillMode=mixed), and all that sampand has open with it. That holds wherever the services'
//! groups are, and for each holder: one that follows another begins in the keel's group.
//!
//! The scope needs a process to live: the holder. It sits in a group beside the services, because a v2 group with processes in it
//! cannot be divided.
use sampan_cgroups::Hierarchies;
use sampan_keel::Keel;
use sampan_systemd::{Error, Manager, Scope, manager};
use std::path::Path;
use std::time::{Duration, Instant};

/// The holder's group below the scope. No service has this name: `+` is in none.
const HOLDER: &str = "/+holder";
/// The scope of the sampand that has the default run_dir.
const SCOPE: &str = "sampan.scope";
const SLICE: &str = "system.slice";
const DEFAULT_RUN_DIR: &str = "/run/sampan";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// systemd's own group, at the top of those that it has.
const INIT: &str = "/init.scope";
/// A scope that has lost its last process is still there for a moment: then it takes no other, and there is no new one.
const GOING_MAX: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(100);

/// Whether there are scopes here, and for us.
pub fn is_wanted() -> bool {
    manager::booted() && rustix::process::geteuid().is_root()
}

/// Makes sure that the scope is there with this holder in it. Returns its group. Blocks, as long as systemd takes.
pub fn place(run_dir: &Path, hierarchies: &Hierarchies, holder: u32) -> Result<String, String> {
    let name = scope_name(run_dir);
    let first = std::fs::read_to_string("/proc/1/cgroup").map_err(|e| format!("/proc/1/cgroup: {e}"))?;
    let scope = format!("{}/{SLICE}/{name}", top_of(&first));
    let own_place = format!("{scope}{HOLDER}");
    if group_of(holder)? == own_place {
        return Ok(scope);
    }
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut manager = Manager::connect().map_err(|e| e.to_string())?;
    let begin = Instant::now();
    while let Err(error) = put(&mut manager, &name, &scope, hierarchies, holder, unit_of(&own)) {
        if begin.elapsed() > GOING_MAX {
            return Err(error);
        }
        std::thread::sleep(AGAIN);
    }
    match group_of(holder)? {
        group if group == own_place => Ok(scope),
        group => Err(format!("systemd put the holder into {group}, not {own_place}")),
    }
}

fn put(
    manager: &mut Manager,
    name: &str,
    scope: &str,
    hierarchies: &Hierarchies,
    holder: u32,
    unit: Option<&str>,
) -> Result<(), String> {
    let started = manager.start_scope(&Scope {
        name,
        description: "Containers of sampand",
        slice: SLICE,
        before: &unit.into_iter().collect::<Vec<_>>(),
        pids: &[holder],
    });
    match started {
        Ok(()) => {}
        // Of a holder before this one, or of a sampand before us, with its containers.
        Err(Error::Failed { name, .. }) if name == UNIT_EXISTS => {}
        Err(error) => return Err(error.to_string()),
    }
    // systemd moves processes into groups that are there, and makes none below a delegated one.
    make_groups(hierarchies, scope).map_err(|e| format!("{scope}{HOLDER}: {e}"))?;
    manager.attach(name, HOLDER, &[holder]).map_err(|e| e.to_string())
}

/// The keel has another holder.
pub fn place_another(keel: &Keel, run_dir: &Path, hierarchies: &Hierarchies) {
    if !is_wanted() {
        return;
    }
    // None: it has ended already, and the keel says so when the next one is there.
    let Ok(Some(holder)) = keel.holder() else { return };
    if let Err(error) = place(run_dir, hierarchies, holder)
        && keel.holder().is_ok_and(|now| now == Some(holder))
    {
        tracing::warn!(
            "the process that holds what sampand has open is not in {}: where systemd stops or restarts our unit, output of services is lost: {error}",
            scope_name(run_dir)
        );
    }
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
fn group_of(pid: u32) -> Result<String, String> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    Ok(systemds(&text).unwrap_or("/").to_owned())
}

/// The group in which systemd has its slices, by PID 1's /proc/PID/cgroup.
fn top_of(text: &str) -> &str {
    let group = systemds(text).unwrap_or_default();
    group.strip_suffix(INIT).unwrap_or(group).trim_end_matches('/')
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
    fn slices_are_beside_systemds_own_group() {
        assert_eq!(top_of("0::/init.scope\n"), "");
        assert_eq!(top_of("11:pids:/\n1:name=systemd:/lxc/one/init.scope\n0::/init.scope\n"), "/lxc/one");
        assert_eq!(top_of("0::/\n"), "");
        assert_eq!(top_of(""), "");
    }

    #[test]
    fn every_run_dir_has_a_scope_of_its_own() {
        assert_eq!(scope_name(Path::new("/run/sampan")), "sampan.scope");
        let second = scope_name(Path::new("/run/sampan2"));
        assert!(second.starts_with("sampan-") && second.ends_with(".scope"), "{second}");
        assert_ne!(second, scope_name(Path::new("/run/sampan3")));
    }
}

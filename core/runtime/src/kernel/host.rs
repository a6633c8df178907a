//! The facts about this machine that plans depend on, asked of the kernel once.

use std::os::fd::BorrowedFd;
use std::path::Path;

use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies};
use sampan_plan::Spec;
use sampan_plan::host::Host;

use crate::error::{Error, Result};
use crate::kernel::host_root::{self, is_host_root};
use crate::kernel::lookup::first_page;
use crate::kernel::pidfd;

/// Facts for the container `id` of this config and bundle; `cgroups`: whether it gets groups at all. Those of a user namespace
/// to be joined are not among them: `launch::host_facts` has all.
pub(crate) fn facts(spec: &Spec<'_>, bundle: &Path, id: &str, cgroups: bool) -> Result<Host> {
    let mut host = match cgroups {
        false => facts_of(None),
        true => {
            let place = CgroupsPath::parse(spec.linux.cgroups_path.as_deref(), id)?;
            facts_of(Some(&Cgroup::at(Hierarchies::detect()?, &place)?))
        }
    };
    if spec.root.as_ref().is_some_and(|root| is_host_root(&bundle.join(root.path.as_str()))) {
        host.root = Some(host_root::facts()?);
    }
    Ok(host)
}

/// Facts for one more process in the container that runs as `init`, in the groups that its state names.
pub fn facts_of_running(spec: &Spec<'_>, cgroup: Option<&Cgroup<'_>>, init: BorrowedFd<'_>) -> Result<Host> {
    let mut host = facts_of(cgroup);
    if let Some(index) = spec.linux.namespaces.iter().position(|ns| ns.kind.as_str() == "user") {
        let text = pidfd::read(init, "setgroups").map_err(|e| {
            Error::io("cannot read /proc/PID/setgroups of the container's process", &e)
                .field(format!("linux.namespaces[{index}]"))
        })?;
        host.groups_denied = text.trim_ascii() == b"deny";
    }
    Ok(host)
}

/// What does not depend on a container's config.
fn facts_of(cgroup: Option<&Cgroup<'_>>) -> Host {
    let euid = rustix::process::geteuid().as_raw();
    Host {
        cgroups: cgroup.map(Cgroup::host_facts).unwrap_or_default(),
        privileged: euid == 0,
        in_user_namespace: in_user_namespace(),
        // It cannot fail for ourselves.
        capabilities: rustix::thread::capabilities(None).map_or(u64::MAX, |sets| sets.permitted.bits()),
        uid: euid,
        gid: rustix::process::getegid().as_raw(),
        kcore: Path::new("/proc/kcore").exists(),
        root: None,
        joined_users: None,
        groups_denied: false,
    }
}

/// The root of a user namespace is somebody else outside (user_namespaces(7)): so podman calls us without root.
pub fn in_user_namespace() -> bool {
    // A longer one is of many ranges.
    first_page("/proc/self/uid_map").is_ok_and(|map| is_partial(&map))
}

/// The initial namespace's map is the whole of the ids.
fn is_partial(map: &str) -> bool {
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Major and minor version of the running kernel.
pub fn kernel() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_user_namespace_is_told_by_its_map() {
        assert!(!is_partial("         0          0 4294967295\n"));
        assert!(is_partial("         0       1000          1\n         1     100000      65536\n"));
        assert!(is_partial(""));
    }
}

//! The facts about this machine that plans depend on, asked of the kernel once.

use std::path::Path;

use sampan_cgroups::{Cgroup, Hierarchies, Place, Version};
use sampan_plan::host::{Cgroup as Group, Host, Version as Of};

use crate::error::Result;

/// Facts for a container whose `linux.cgroupsPath` and id are these; `cgroups`: whether it gets groups at all.
pub fn facts(cgroups_path: Option<&str>, id: &str, cgroups: bool) -> Result<Host> {
    let euid = rustix::process::geteuid().as_raw();
    let groups = if cgroups { groups(cgroups_path, id)? } else { Vec::new() };
    Ok(Host {
        cgroups: groups,
        privileged: euid == 0,
        uid: euid,
        gid: rustix::process::getegid().as_raw(),
        kcore: Path::new("/proc/kcore").exists(),
    })
}

fn groups(cgroups_path: Option<&str>, id: &str) -> Result<Vec<Group>> {
    let cgroup = Cgroup::at(Hierarchies::detect()?, &Place::parse(cgroups_path, id)?)?;
    Ok(cgroup
        .groups()
        .map(|g| Group {
            version: match g.hierarchy.version {
                Version::V1 => Of::V1,
                Version::V2 => Of::V2,
            },
            mount: g.hierarchy.mount.clone(),
            path: g.path.to_owned(),
        })
        .collect())
}

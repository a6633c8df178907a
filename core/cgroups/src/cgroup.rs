//! A container's control group: one path in every hierarchy, used as one thing. It holds paths and no descriptors, so a
//! thousand of them cost nothing, and one that a state file names is as good as one just made.
//!
//! What can be done with it is in the modules that follow, one each: freeze, kill, remove, create, apply, update, stats.

use std::fmt;
use std::os::fd::OwnedFd;

use sampan_plan::host::{self, Version};

use crate::cgroups_path::{CgroupsPath, clean};
use crate::detect::{Hierarchies, Hierarchy};
use crate::error::{Doing, Errno, Error, Result};
use crate::group::Group;
use crate::v2;

#[derive(Debug, Clone)]
pub struct Cgroup<'h> {
    pub(crate) hierarchies: &'h Hierarchies,
    /// One for each hierarchy, in their order, without a leading slash.
    folders: Vec<String>,
    /// All of the groups were made by the call that returned this value.
    pub(crate) is_new: bool,
}

impl<'h> Cgroup<'h> {
    /// The groups of that path, whether they exist or not.
    pub fn at(hierarchies: &'h Hierarchies, path: &CgroupsPath) -> Result<Cgroup<'h>> {
        Ok(Cgroup { hierarchies, folders: hierarchies.folders(path)?, is_new: false })
    }

    /// From what [`Cgroup::location`] wrote, perhaps in another process.
    pub fn found(hierarchies: &'h Hierarchies, location: &str) -> Result<Cgroup<'h>> {
        let mut parts = location.split('|');
        let common = clean(parts.next().unwrap_or_default())?;
        let mut folders = vec![common; hierarchies.iter().len()];
        for part in parts {
            let (mount, folder) = part.split_once('=').unwrap_or_default();
            if let Some(i) = hierarchies.iter().position(|h| h.mount == mount) {
                folders[i] = clean(folder)?;
            }
        }
        Ok(Cgroup { hierarchies, folders, is_new: false })
    }

    /// For a state file: `/web`, and `|MOUNT=/other` for each hierarchy in which the path differs.
    pub fn location(&self) -> String {
        let common = self.folders.last().map_or("", String::as_str);
        let mut text = format!("/{common}");
        for (hierarchy, folder) in self.hierarchies.iter().zip(&self.folders) {
            if folder != common {
                text.push_str(&format!("|{}=/{folder}", hierarchy.mount));
            }
        }
        text
    }

    /// (controllers, full path) of each group, for `state.json` and messages. The name of v2 is empty, as in runc.
    pub fn paths(&self) -> Vec<(String, String)> {
        let name = |h: &Hierarchy| match h.version {
            Version::V2 => String::new(),
            Version::V1 if h.controllers.is_empty() => {
                format!("name={}", h.mount.rsplit('/').next().unwrap_or_default())
            }
            Version::V1 => h.controllers.join(","),
        };
        self.groups().map(|g| (name(g.hierarchy), g.name())).collect()
    }

    /// The groups as a plan wants to know them.
    pub fn host_facts(&self) -> Vec<host::Cgroup> {
        let fact = |group: Group<'_>| host::Cgroup {
            version: group.hierarchy.version,
            mount: group.hierarchy.mount.clone(),
            path: group.path.to_owned(),
        };
        self.groups().map(fact).collect()
    }

    pub fn exists(&self) -> bool {
        self.groups().any(|g| g.exists())
    }

    /// The inode of the group by which processes are found; `None` if it is gone. Inode numbers of cgroup file systems have
    /// 64 bits and are not used twice, so a group that is made later under the same name has another one.
    pub fn inode(&self) -> Result<Option<u64>> {
        self.primary().map_or(Ok(None), |group| group.inode())
    }

    /// The v2 group's folder, for CLONE_INTO_CGROUP.
    pub fn v2_fd(&self) -> Result<Option<OwnedFd>> {
        let Some(group) = self.v2() else { return Ok(None) };
        let folder = group.folder().map_err(|e| Error::new(Doing::Join, group.name()).call("openat", e))?;
        Ok(Some(folder))
    }

    /// The processes of the group and of all groups below it.
    pub fn procs(&self) -> Result<Vec<i32>> {
        self.primary().map_or(Ok(Vec::new()), |g| g.procs())
    }

    /// The same for the groups of every hierarchy: on v1 a process may be in one of them alone. A group that cannot be read
    /// counts as empty.
    pub fn members(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.groups().flat_map(|group| group.procs().unwrap_or_default()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// No process is in the group or below it. A group that does not exist is empty. A zombie has left its group.
    pub fn is_empty(&self) -> Result<bool> {
        match self.v2() {
            Some(group) => match v2::event(&group, "populated")? {
                Some(populated) => Ok(!populated),
                None => Ok(!group.exists() || group.procs()?.is_empty()),
            },
            None => Ok(self.procs()?.is_empty()),
        }
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.hierarchies.iter().zip(&self.folders).map(|(hierarchy, path)| Group { hierarchy, path })
    }

    /// The group that has `controller`. v2's also has what no v1 hierarchy has: its own files (`cgroup.*`), and controllers
    /// that we do not know.
    pub(crate) fn group_of(&self, version: Version, controller: &str) -> Option<Group<'_>> {
        let on_v1 = self.groups().find(|g| g.hierarchy.version == Version::V1 && g.hierarchy.has(controller));
        match version {
            Version::V1 => on_v1,
            Version::V2 => self.v2().filter(|_| on_v1.is_none()),
        }
    }

    pub(crate) fn v2(&self) -> Option<Group<'_>> {
        self.groups().last().filter(|g| g.hierarchy.version == Version::V2)
    }

    /// The group by which the container's processes are found: v2's, else that of a v1 hierarchy that every container joins.
    pub(crate) fn primary(&self) -> Option<Group<'_>> {
        let by_name =
            || ["freezer", "pids", "devices", "memory"].iter().find_map(|c| self.group_of(Version::V1, c));
        self.v2().or_else(by_name).or_else(|| self.groups().next())
    }
}

/// The groups that were there when it was made, by their descriptors.
#[derive(Debug)]
pub struct Held {
    hierarchies: Hierarchies,
}

impl Held {
    /// What is done to it is done to those groups alone. One that has been removed since is empty, whatever has its name now.
    pub fn groups(&self) -> Cgroup<'_> {
        let folders = vec![String::new(); self.hierarchies.iter().len()];
        Cgroup { hierarchies: &self.hierarchies, folders, is_new: false }
    }
}

/// Which groups were there when it was made, by their numbers, which the kernel gives to no other group: nothing is open.
#[derive(Debug)]
pub struct Identity {
    /// One for each hierarchy, in their order.
    inodes: Vec<Option<u64>>,
}

impl Cgroup<'_> {
    /// The folders, open: for a kill that may come when other groups have been made by the same name.
    pub fn hold(&self) -> Result<Held> {
        self.hold_identified(&self.identity()?)
    }

    /// For what may be done later still, and for many: no descriptor until it is held.
    pub fn identity(&self) -> Result<Identity> {
        Ok(Identity { inodes: self.groups().map(|group| group.inode()).collect::<Result<_>>()? })
    }

    /// Those of the identified ones that are still there.
    pub fn hold_identified(&self, identity: &Identity) -> Result<Held> {
        let identified =
            self.groups().zip(&identity.inodes).filter_map(|(group, inode)| Some((group, (*inode)?)));
        let folders = identified.filter_map(|(group, inode)| match group.folder() {
            Ok(root) => match rustix::fs::fstat(&root) {
                Ok(stat) if stat.st_ino == inode => Some(Ok(group.hierarchy.rooted(group.name(), root))),
                Ok(_) => None,
                Err(e) => Some(Err(Error::new(Doing::Read, group.name()).call("fstat", e))),
            },
            Err(Errno::NOENT | Errno::NODEV) => None,
            Err(e) => Some(Err(Error::new(Doing::Read, group.name()).call("openat", e))),
        });
        Ok(Held { hierarchies: Hierarchies::of_folders(folders)? })
    }
}

impl fmt::Display for Cgroup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location())
    }
}

/// The first few pids, for a message: a fork bomb has thousands.
pub(crate) fn list(pids: &[i32]) -> String {
    let mut text = pids.iter().take(8).map(i32::to_string).collect::<Vec<_>>().join(", ");
    if pids.len() > 8 {
        text.push_str(&format!(" and {} more", pids.len() - 8));
    }
    text
}

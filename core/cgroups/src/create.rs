//! Making a container's control group, and using one again.

use rustix::fs::{Access, AtFlags, CWD, Uid, accessat, chownat};
use sampan_plan::host::Version;

use crate::cgroup::{Cgroup, list};
use crate::cgroups_path::CgroupsPath;
use crate::detect::Hierarchies;
use crate::error::{Doing, Errno, Error, Result};
use crate::file::read_at;
use crate::{v1, v2};

impl<'h> Cgroup<'h> {
    /// Makes the groups. One that exists is used if no process is in it and it is not frozen.
    pub fn create(hierarchies: &'h Hierarchies, path: &CgroupsPath) -> Result<Cgroup<'h>> {
        Cgroup::at(hierarchies, path)?.make()
    }

    /// Makes new groups in place of any that exist. Refused while a process is in one.
    pub fn recreate(hierarchies: &'h Hierarchies, path: &CgroupsPath) -> Result<Cgroup<'h>> {
        let cgroup = Cgroup::at(hierarchies, path)?;
        if cgroup.exists() { cgroup.replaced() } else { cgroup.make() }
    }

    /// For the next run of a service whose groups were kept: no process may be in them, and the groups below them are removed.
    /// True: the groups are the old ones, so the limits written to them hold, and their counters go on from where they
    /// were (read [`Cgroup::oom_kills`] before the start). False: they had to be made anew.
    pub fn reuse(hierarchies: &'h Hierarchies, path: &CgroupsPath) -> Result<(Cgroup<'h>, bool)> {
        let cgroup = Cgroup::at(hierarchies, path)?;
        if cgroup.reset().is_ok() {
            return Ok((cgroup, true));
        }
        // One is missing or frozen, or has enabled controllers for groups below it.
        Ok((cgroup.replaced()?, false))
    }

    /// All of the groups were made by `create`, so nobody else can have a claim on them. A group that existed before may be
    /// used by others, who put processes into it a moment later.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    fn make(mut self) -> Result<Cgroup<'h>> {
        let mut made = Vec::new();
        let mut existing = false;
        let outcome = self.groups().enumerate().try_for_each(|(i, group)| {
            let new = match group.hierarchy.version {
                Version::V1 => v1::make(&group)?,
                Version::V2 => v2::make(&group, self.hierarchies.is_v2_only())?,
            };
            if new {
                made.push(i);
            }
            existing |= !new;
            Ok(())
        });
        let outcome = outcome.and_then(|()| if existing { self.check_free() } else { Ok(()) });
        if let Err(e) = outcome {
            for (i, group) in self.groups().enumerate() {
                if made.contains(&i) {
                    let _ = group.rmdir();
                }
            }
            return Err(e);
        }
        self.is_new = !existing;
        Ok(self)
    }

    fn replaced(self) -> Result<Cgroup<'h>> {
        self.check_empty()?;
        self.remove()?;
        self.make()
    }

    /// Brings an empty group back to how it was made, but for its limits and counters.
    fn reset(&self) -> Result<()> {
        // One look at each: nearly always all are there, with nothing below them.
        let mut have_below = Vec::new();
        for group in self.groups() {
            match group.has_below()? {
                Some(true) => have_below.push(group),
                Some(false) => {}
                None => return Err(self.occupied("one of its groups is missing")),
            }
        }
        self.check_free()?;
        have_below.iter().try_for_each(|group| group.remove_below())?;
        // A container with systemd in it enables controllers in its own group, and such a group takes no process.
        match self.v2().map(|group| group.try_read("cgroup.subtree_control")).transpose()?.flatten() {
            Some(enabled) if !enabled.trim().is_empty() => {
                Err(self.occupied("it has enabled controllers for groups below it"))
            }
            _ => Ok(()),
        }
    }

    fn check_free(&self) -> Result<()> {
        self.check_empty()?;
        if self.is_frozen()? { Err(self.occupied("it is frozen")) } else { Ok(()) }
    }

    fn check_empty(&self) -> Result<()> {
        let pids = self.procs()?;
        if pids.is_empty() {
            return Ok(());
        }
        Err(self.occupied(&format!("processes are in it: {}", list(&pids))))
    }

    fn occupied(&self, problem: &str) -> Error {
        let name = self.primary().map(|g| g.name()).unwrap_or_default();
        Error::new(Doing::Occupied, name).problem(problem)
    }

    /// Whether we have the right to make the groups: in each hierarchy, the nearest folder that exists is writable for us.
    pub fn may_be_made(&self) -> bool {
        self.groups().all(|group| {
            let mut at = Some(group);
            while let Some(group) = at {
                match accessat(
                    group.hierarchy.root(),
                    group.path_or_dot(),
                    Access::WRITE_OK,
                    AtFlags::EACCESS,
                ) {
                    Err(Errno::NOENT) => at = group.parent(),
                    answer => return answer.is_ok(),
                }
            }
            false
        })
    }

    /// Delegates the v2 group to a user (cgroup-v2.rst, Delegation), so that a container with a user namespace can make groups
    /// below it: its folder and the files that the kernel lists in /sys/kernel/cgroup/delegate. v1 cannot be delegated safely.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let Some(group) = self.v2() else { return Ok(()) };
        // The list is there since Linux 4.15; these two files were always in it.
        let files = read_at(CWD, "/sys/kernel/cgroup/delegate")
            .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\n".to_owned());
        for file in [""].into_iter().chain(files.lines()) {
            let path = if file.is_empty() { group.path.to_owned() } else { format!("{}/{file}", group.path) };
            let owner = Some(Uid::from_raw(uid));
            match chownat(group.hierarchy.root(), path.as_str(), owner, None, AtFlags::empty()) {
                // The list also names files of controllers that are not enabled for this group.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(Error::new(Doing::Delegate, group.file(file)).call("fchownat", e)),
            }
        }
        Ok(())
    }
}

//! A container's control group: the same path in every hierarchy, used as one thing. It holds no descriptors, only
//! its paths; so a thousand of them cost nothing, and one found in a state file is as good as one just made.
//!
//! Created, filled, frozen and ended by core alone; plugins only say what the limits should be.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::detect::{Hierarchies, Hierarchy, Version};
use crate::error::{Doing, Errno, Error, Result};
use crate::group::Group;
use crate::path::Place;
use crate::{freezer, v1, v2};

/// How long `remove` waits for the last process to leave the kernel.
pub const REMOVE_WITHIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Cgroup<'h> {
    pub(crate) hierarchies: &'h Hierarchies,
    /// One per hierarchy, in their order, without leading slashes.
    folders: Vec<String>,
    /// This value made all of them.
    is_new: bool,
}

impl<'h> Cgroup<'h> {
    // ---- making and finding -------------------------------------------------------------------------------------

    /// The groups of that place, made or not.
    pub fn at(hierarchies: &'h Hierarchies, place: &Place) -> Result<Cgroup<'h>> {
        Ok(Cgroup { hierarchies, folders: hierarchies.folders(place)?, is_new: false })
    }

    /// Makes the groups. One that is there already is used if nobody is in it and it is not frozen.
    pub fn create(hierarchies: &'h Hierarchies, place: &Place) -> Result<Cgroup<'h>> {
        Cgroup::at(hierarchies, place)?.make()
    }

    /// Whether the groups were made with this value: then nobody else can have a claim on them. One that was used as it was
    /// found may be another's, who put his processes into it a moment later.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The inode of the group in which processes are looked for; `None` if it is gone. kernfs numbers folders with 64 bits,
    /// so another group that is made later under the same name has another one.
    pub fn inode(&self) -> Result<Option<u64>> {
        self.tracking().map_or(Ok(None), |group| group.inode())
    }

    /// From what [`Cgroup::location`] wrote, perhaps in another process.
    pub fn found(hierarchies: &'h Hierarchies, location: &str) -> Result<Cgroup<'h>> {
        let mut parts = location.split('|');
        let common = crate::path::clean(parts.next().unwrap_or_default())?;
        let mut folders = vec![common; hierarchies.iter().len()];
        for part in parts {
            let (mount, folder) = part.split_once('=').unwrap_or_default();
            if let Some(i) = hierarchies.iter().position(|h| h.mount == mount) {
                folders[i] = crate::path::clean(folder)?;
            }
        }
        Ok(Cgroup { hierarchies, folders, is_new: false })
    }

    /// For a state file: `/web`, with `|MOUNT=/other` for each hierarchy that differs.
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

    /// (controllers, full path) of each group, for `state.json` and messages; v2 has the empty name, as in runc.
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

    fn make(self) -> Result<Cgroup<'h>> {
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
        Ok(Cgroup { is_new: !existing, ..self })
    }

    fn check_free(&self) -> Result<()> {
        let name = || self.tracking().map(|g| g.name()).unwrap_or_default();
        let occupied = |problem: String| Err(Error::new(Doing::Occupied, name()).problem(problem));
        let pids = self.procs()?;
        if !pids.is_empty() {
            return occupied(format!("processes are in it: {}", list(&pids)));
        }
        if self.is_frozen()? {
            return occupied("it is frozen".to_owned());
        }
        Ok(())
    }

    /// For groups kept over the lives of a service, once the life before has ended: nobody may be in them; sub-groups that it
    /// left are removed. True: all were there, so they have the limits that were written to them; the counters go on from
    /// where they were (note [`Cgroup::oom_kills`] first).
    pub fn again(hierarchies: &'h Hierarchies, place: &Place) -> Result<(Cgroup<'h>, bool)> {
        let cgroup = Cgroup::at(hierarchies, place)?;
        if cgroup.groups().all(|g| g.exists()) && cgroup.reuse().is_ok() {
            return Ok((cgroup, true));
        }
        // Some are missing, or one is frozen or hands out controllers.
        Ok((cgroup.renewed()?, false))
    }

    /// Groups as if they had never been there; refused while somebody is in one.
    pub fn renew(hierarchies: &'h Hierarchies, place: &Place) -> Result<Cgroup<'h>> {
        let cgroup = Cgroup::at(hierarchies, place)?;
        if cgroup.exists() { cgroup.renewed() } else { cgroup.make() }
    }

    fn renewed(self) -> Result<Cgroup<'h>> {
        let pids = self.procs()?;
        if !pids.is_empty() {
            let name = self.tracking().map(|g| g.name()).unwrap_or_default();
            let e = Error::new(Doing::Occupied, name);
            return Err(e.problem(format!("processes are in it: {}", list(&pids))));
        }
        self.remove()?;
        self.make()
    }

    /// Makes a group that nobody is in as its maker left it, but for limits and counters.
    fn reuse(&self) -> Result<()> {
        self.check_free()?;
        for group in self.groups() {
            for path in group.descendants()? {
                let below = Group { hierarchy: group.hierarchy, path: &path };
                below.rmdir().map_err(|e| Error::new(Doing::Remove, below.name()).call("rmdir", e))?;
            }
        }
        // A container that hands out controllers in its own group (systemd in it does) leaves one that takes no process.
        match self.v2().map(|group| group.try_read("cgroup.subtree_control")).transpose()?.flatten() {
            Some(held) if !held.trim().is_empty() => {
                let name = self.v2().map(|g| g.name()).unwrap_or_default();
                Err(Error::new(Doing::Occupied, name).problem("it hands out controllers"))
            }
            _ => Ok(()),
        }
    }

    pub fn exists(&self) -> bool {
        self.groups().any(|g| g.exists())
    }

    /// Whether we may make them: the nearest folder that is there can be written to, in each hierarchy.
    pub fn may_be_made(&self) -> bool {
        use rustix::fs::{Access, AtFlags, accessat};
        self.groups().all(|group| {
            let mut at = Some(group);
            while let Some(group) = at {
                let path = if group.path.is_empty() { "." } else { group.path };
                match accessat(group.hierarchy.root(), path, Access::WRITE_OK, AtFlags::EACCESS) {
                    Err(Errno::NOENT) => at = group.parent(),
                    answer => return answer.is_ok(),
                }
            }
            false
        })
    }

    // ---- joining ------------------------------------------------------------------------------------------------

    /// The v2 group's folder, for CLONE_INTO_CGROUP. v2 has no `tasks`.
    pub fn v2_fd(&self) -> Result<Option<OwnedFd>> {
        let Some(group) = self.v2() else { return Ok(None) };
        let folder = group.folder().map_err(|e| Error::new(Doing::Join, group.name()).call("openat", e))?;
        Ok(Some(folder))
    }

    /// Hands the v2 group over to a user, so that a container with a user namespace can make sub-groups of its own: the
    /// folder and the files that the kernel lists in /sys/kernel/cgroup/delegate. v1 cannot be handed over safely.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        use rustix::fs::{AtFlags, Uid, chownat};
        let Some(group) = self.v2() else { return Ok(()) };
        // Before 4.15 there was no list; these two it always was.
        let files = crate::file::read_at(rustix::fs::CWD, "/sys/kernel/cgroup/delegate")
            .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\n".to_owned());
        for file in [""].into_iter().chain(files.lines()) {
            let path = if file.is_empty() { group.path.to_owned() } else { format!("{}/{file}", group.path) };
            match chownat(
                group.hierarchy.root(),
                path.as_str(),
                Some(Uid::from_raw(uid)),
                None,
                AtFlags::empty(),
            ) {
                // The list also names files of controllers that this group does not have.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(Error::new(Doing::Delegate, group.file(file)).call("fchownat", e)),
            }
        }
        Ok(())
    }

    // ---- who is in it -------------------------------------------------------------------------------------------

    /// The processes of the group and of those below it.
    pub fn procs(&self) -> Result<Vec<i32>> {
        self.tracking().map_or(Ok(Vec::new()), |g| g.procs())
    }

    /// The processes of any of its hierarchies' groups: somebody may be in one of v1's alone. What cannot be read holds nobody.
    pub fn members(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.groups().flat_map(|group| group.procs().unwrap_or_default()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Nobody is in it or below it. A group that does not exist is empty; a zombie is not in it any more.
    pub fn is_empty(&self) -> Result<bool> {
        match self.v2() {
            Some(group) => match v2::event(&group, "populated")? {
                Some(populated) => Ok(!populated),
                None => Ok(!group.exists() || group.procs()?.is_empty()),
            },
            None => Ok(self.procs()?.is_empty()),
        }
    }

    // ---- stopping -----------------------------------------------------------------------------------------------

    pub fn freeze(&self, within: Duration) -> Result<()> {
        self.set_frozen(true, within)
    }

    pub fn thaw(&self, within: Duration) -> Result<()> {
        self.set_frozen(false, within)
    }

    fn set_frozen(&self, frozen: bool, within: Duration) -> Result<()> {
        match (self.v2(), self.group_of(Version::V1, "freezer")) {
            (Some(group), _) => freezer::v2(&group, frozen, within),
            (None, Some(group)) => freezer::v1(&group, frozen, within),
            (None, None) => Err(Error::new(Doing::Freeze, "freezer").problem("no freezer is mounted")),
        }
    }

    pub fn is_frozen(&self) -> Result<bool> {
        if let Some(group) = self.v2()
            && group.try_read("cgroup.freeze")?.is_some_and(|t| t.trim() == "1")
        {
            return Ok(true);
        }
        // Another runtime may have used v1's on a hybrid host.
        self.group_of(Version::V1, "freezer").map_or(Ok(false), |g| freezer::v1_frozen(&g))
    }

    /// Sends SIGKILL to all, once, without waiting: one write where v2 is mounted (5.14).
    pub fn kill_now(&self) -> Result<()> {
        if let Some(group) = self.v2() {
            match group.write("cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                // Gone, or a kernel before 5.14, or a threaded group.
                Err((_, Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP)) => {}
                Err((call, e)) => return Err(Error::new(Doing::Kill, group.name()).call(call, e)),
            }
        }
        self.tracking().map_or(Ok(()), |g| self.kill_each(&g))
    }

    /// Freezing first keeps a fork bomb from outrunning us. A v1-frozen process does not get its SIGKILL before it is
    /// thawed (runc#3134).
    fn kill_each(&self, group: &Group<'_>) -> Result<()> {
        let _ = self.freeze(Duration::from_millis(50));
        let outcome = group.procs().and_then(|pids| {
            // In parts, so that thousands of processes do not take thousands of descriptors.
            pids.chunks(64).try_for_each(|part| signal_members(group, part))
        });
        let _ = self.thaw(Duration::from_millis(50));
        outcome
    }

    /// Ends everything in the group and waits until it is empty.
    pub fn kill(&self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        let mut pause = Duration::from_millis(1);
        loop {
            self.kill_now()?;
            let left = until.saturating_duration_since(Instant::now());
            match self.v2() {
                Some(group) => {
                    freezer::wait_for(&group, "populated", false, left)?;
                }
                None if self.procs()?.is_empty() => {}
                None => {
                    std::thread::sleep(pause.min(left));
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
            }
            // Somebody may sit in a v1 group alone: brought in by hand, or by a runtime that knows only v1.
            let stray = self.groups().find_map(|g| g.procs().ok().filter(|p| !p.is_empty()).map(|p| (g, p)));
            let Some((group, pids)) = stray else { return Ok(()) };
            if left.is_zero() {
                let e = Error::new(Doing::Kill, group.name()).call("kill", Errno::TIMEDOUT);
                return Err(e
                    .problem(format!("still there after {} ms: {}", within.as_millis(), list(&pids)))
                    .likely("they are in uninterruptible system calls: see /proc/PID/stack"));
            }
            if group.hierarchy.version == Version::V1 && self.v2().is_some() {
                self.kill_each(&group)?;
            }
        }
    }

    /// The same if anybody is there at all; true if so. Groups that were killed in are not for another life: on Linux 6.18 a
    /// child that CLONE_INTO_CGROUP puts into a group that ever saw a write to cgroup.kill, even while it was empty, dies of
    /// SIGKILL at once; a group made anew under the same name takes it.
    pub fn kill_if_any(&self, within: Duration) -> Result<bool> {
        if self.is_empty()? && self.groups().all(|g| g.procs().is_ok_and(|pids| pids.is_empty())) {
            return Ok(false);
        }
        self.kill(within)?;
        Ok(true)
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    /// The common end: all processes are gone, and rmdir itself is the look that says so. False: somebody is in a group
    /// (or a group below); nothing was done to them, `kill` and `remove` come next. Where processes are looked for goes first,
    /// so that it stays whole while anybody is in it.
    pub fn remove_if_empty(&self) -> bool {
        let gone = |g: &Group<'_>| matches!(g.rmdir(), Ok(()) | Err(Errno::NOENT | Errno::NODEV));
        let Some(first) = self.tracking().filter(|g| !g.path.is_empty()) else { return false };
        let mut all = gone(&first);
        if all {
            for group in
                self.groups().filter(|g| !g.path.is_empty() && !std::ptr::eq(g.hierarchy, first.hierarchy))
            {
                all &= gone(&group);
            }
        }
        all
    }

    /// Removes the groups and all below them. A process that has just ended may hold its group for a moment (EBUSY).
    pub fn remove(&self) -> Result<()> {
        let mut until = None; // no clock is asked while all goes well
        let mut pause = Duration::from_micros(500);
        let mut left: Vec<Group<'_>> = self.groups().filter(|g| !g.path.is_empty()).collect();
        loop {
            let mut errors = Vec::new();
            left.retain(|group| match remove_tree(group) {
                Ok(()) => false,
                Err(e) => {
                    errors.push(e);
                    true
                }
            });
            if left.is_empty() {
                return Ok(());
            }
            let busy = errors.iter().all(|e| e.errno == Some(Errno::BUSY));
            let now = Instant::now();
            if !busy || now >= *until.get_or_insert(now + REMOVE_WITHIN) {
                return Err(self.left_over(&left, errors));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn left_over(&self, left: &[Group<'_>], errors: Vec<Error>) -> Error {
        let names: Vec<String> = left.iter().map(Group::name).collect();
        let pids = self.members();
        let mut problem = format!("left: {}", names.join(", "));
        if !pids.is_empty() {
            problem.push_str(&format!("; with processes {}", list(&pids)));
        }
        let first = errors.into_iter().next().unwrap_or_else(|| Error::new(Doing::Remove, "cgroup"));
        first.problem(problem).likely("processes are still in it; end them first (kill)")
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.hierarchies.iter().zip(&self.folders).map(|(hierarchy, path)| Group { hierarchy, path })
    }

    /// The group that has `controller`. On v2 also the group itself (`cgroup.*`) and controllers we do not know.
    pub(crate) fn group_of(&self, version: Version, controller: &str) -> Option<Group<'_>> {
        match version {
            Version::V1 => {
                self.groups().find(|g| g.hierarchy.version == Version::V1 && g.hierarchy.has(controller))
            }
            Version::V2 => {
                let elsewhere =
                    self.groups().any(|g| g.hierarchy.version == Version::V1 && g.hierarchy.has(controller));
                self.v2().filter(|_| !elsewhere)
            }
        }
    }

    pub(crate) fn v2(&self) -> Option<Group<'_>> {
        self.groups().last().filter(|g| g.hierarchy.version == Version::V2)
    }

    /// Where processes are looked for: v2 if there is one, else a v1 hierarchy that every container joins.
    fn tracking(&self) -> Option<Group<'_>> {
        let by_name =
            || ["freezer", "pids", "devices", "memory"].iter().find_map(|c| self.group_of(Version::V1, c));
        self.v2().or_else(by_name).or_else(|| self.groups().next())
    }
}

impl fmt::Display for Cgroup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location())
    }
}

/// By pidfd, and only who is still in the group once we hold it: a number may have gone to somebody else meanwhile.
fn signal_members(group: &Group<'_>, pids: &[i32]) -> Result<()> {
    let hold = |pid: &i32| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?));
    let held: Vec<(i32, OwnedFd)> = pids.iter().filter_map(hold).collect();
    let now = group.procs()?;
    for (pid, process) in held {
        if now.binary_search(&pid).is_ok() {
            let _ = pidfd_send_signal(&process, Signal::KILL); // ESRCH: it was faster
        }
    }
    Ok(())
}

/// Deepest first. The common case is one call.
fn remove_tree(group: &Group<'_>) -> Result<()> {
    let failed = |g: &Group<'_>, e| Err(Error::new(Doing::Remove, g.name()).call("rmdir", e));
    match group.rmdir() {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(e) => return failed(group, e),
    }
    for path in group.descendants()? {
        let below = Group { hierarchy: group.hierarchy, path: &path };
        match below.rmdir() {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return failed(&below, e),
        }
    }
    match group.rmdir() {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(e) => failed(group, e),
    }
}

/// The first few pids; a fork bomb has thousands.
fn list(pids: &[i32]) -> String {
    let mut text = pids.iter().take(8).map(i32::to_string).collect::<Vec<_>>().join(", ");
    if pids.len() > 8 {
        text.push_str(&format!(" and {} more", pids.len() - 8));
    }
    text
}

//! A container's control group: the same path in every hierarchy, used as one thing. It holds no descriptors, only
//! its paths; so a thousand of them cost nothing, and one found in a state file is as good as one just made.
//!
//! Created, filled, frozen and ended by core alone; plugins only say what the limits should be.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::detect::{Hierarchies, Hierarchy, Mode, Version};
use crate::devices::{Program, Rules, V1};
use crate::error::{Doing, Errno, Error, Result};
use crate::file::write_all;
use crate::group::Group;
use crate::limits::{self, IfMissing, Limits, Write};
use crate::path::Place;
use crate::{explain, freezer, v1, v2};
use sampan_plan::spec::Resources;

/// How long `remove` waits for the last process to leave the kernel.
pub const REMOVE_WITHIN: Duration = Duration::from_millis(500);

#[derive(Debug, Clone)]
pub struct Cgroup<'h> {
    hierarchies: &'h Hierarchies,
    /// One per hierarchy, in their order, without leading slashes.
    folders: Vec<String>,
}

impl<'h> Cgroup<'h> {
    // ---- making and finding -------------------------------------------------------------------------------------

    /// The groups of that place, made or not.
    pub fn at(hierarchies: &'h Hierarchies, place: &Place) -> Result<Cgroup<'h>> {
        Ok(Cgroup { hierarchies, folders: hierarchies.folders(place)? })
    }

    /// Makes the groups. One that is there already is used if nobody is in it and it is not frozen.
    pub fn create(hierarchies: &'h Hierarchies, place: &Place) -> Result<Cgroup<'h>> {
        Cgroup::at(hierarchies, place)?.make(false)
    }

    /// Makes the groups, and refuses one that is there already.
    pub fn create_new(hierarchies: &'h Hierarchies, place: &Place) -> Result<Cgroup<'h>> {
        Cgroup::at(hierarchies, place)?.make(true)
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
        Ok(Cgroup { hierarchies, folders })
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

    fn make(self, must_be_new: bool) -> Result<Cgroup<'h>> {
        let mut made = Vec::new();
        let mut existing = false;
        let outcome = self.groups().enumerate().try_for_each(|(i, group)| {
            let new = match group.hierarchy.version {
                Version::V1 => v1::make(&group)?,
                Version::V2 => v2::make(&group, self.hierarchies.mode)?,
            };
            if new {
                made.push(i);
            } else if must_be_new {
                return Err(Error::new(Doing::Occupied, group.name()).problem("it is there already"));
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
        Ok(self)
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

    /// For a group kept over generations: checks that nobody is in it and removes the sub-groups that the last
    /// container left. Counters go on from where they were: note [`Cgroup::oom_kills`] first.
    pub fn reuse(&self) -> Result<()> {
        self.check_free()?;
        for group in self.groups() {
            for path in group.descendants()? {
                let below = Group { hierarchy: group.hierarchy, path: &path };
                below.rmdir().map_err(|e| Error::new(Doing::Remove, below.name()).call("rmdir", e))?;
            }
        }
        Ok(())
    }

    pub fn exists(&self) -> bool {
        self.groups().any(|g| g.exists())
    }

    // ---- joining ------------------------------------------------------------------------------------------------

    /// One `tasks` file per v1 hierarchy: the child writes "0" to each.
    pub fn tasks_fds(&self) -> Result<Vec<OwnedFd>> {
        self.groups().filter(|g| g.hierarchy.version == Version::V1).map(|g| v1::tasks(&g)).collect()
    }

    /// The v2 group's folder, for CLONE_INTO_CGROUP. v2 has no `tasks`.
    pub fn v2_fd(&self) -> Result<Option<OwnedFd>> {
        let Some(group) = self.v2() else { return Ok(None) };
        let folder = group.folder().map_err(|e| Error::new(Doing::Join, group.name()).call("openat", e))?;
        Ok(Some(folder))
    }

    /// Moves a process that runs already, with all its threads. The slow way: see [`Cgroup::tasks_fds`].
    pub fn add(&self, pid: i32) -> Result<()> {
        for group in self.groups() {
            let mut attempt = 0;
            // v1 answers EINVAL for a task that is just being made.
            while let Err((call, errno)) = group.write("cgroup.procs", &pid.to_string()) {
                attempt += 1;
                if errno != Errno::INVAL || attempt > 5 {
                    let e = Error::new(Doing::Join, group.name()).call(call, errno);
                    return Err(e
                        .problem(format!("process {pid} stays out"))
                        .likely_or(explain::join(errno)));
                }
                std::thread::sleep(Duration::from_millis(30));
            }
        }
        Ok(())
    }

    /// Hands the v2 group over to a user, so that a container with a user namespace can make sub-groups of its own: the
    /// folder and the files that the kernel lists in /sys/kernel/cgroup/delegate. v1 cannot be handed over safely.
    pub fn delegate(&self, uid: u32, gid: u32) -> Result<()> {
        use rustix::fs::{AtFlags, Gid, Uid, chownat};
        let Some(group) = self.v2() else { return Ok(()) };
        // Before 4.15 there was no list; these two it always was.
        let files = crate::file::read_at(rustix::fs::CWD, "/sys/kernel/cgroup/delegate")
            .unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\n".to_owned());
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        for file in [""].into_iter().chain(files.lines()) {
            let path = if file.is_empty() { group.path.to_owned() } else { format!("{}/{file}", group.path) };
            match chownat(group.hierarchy.root(), path.as_str(), uid, gid, AtFlags::empty()) {
                // The list also names files of controllers that this group does not have.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(e) => return Err(Error::new(Doing::Delegate, group.file(file)).call("fchownat", e)),
            }
        }
        Ok(())
    }

    // ---- limits -------------------------------------------------------------------------------------------------

    /// Writes them all, in order; stops at the first that is refused.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        self.hand_down(limits)?;
        self.write_in_order(&limits.writes, &mut Vec::new())?;
        if let Some(program) = &limits.devices {
            self.attach(program)?;
        }
        Ok(())
    }

    /// Changes the fields that are given and no other: all of them, or none.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>> {
        let layout = self.hierarchies.layout();
        let mut limits = limits::changes(&self.completed(resources)?, &layout)?;
        self.check_memory(&limits)?;
        // Device rules go last: they cannot be read back on v2, but replacing the program is atomic.
        let mut devices = Vec::new();
        if !resources.devices.is_empty() {
            let rules = Rules::new(&resources.devices)?;
            match self.group_of(Version::V1, "devices") {
                Some(group) => {
                    let now = V1::read(&group.read("devices.list")?);
                    devices = V1::new(&rules)?.writes(Some(&now)).into_iter().map(device_write).collect();
                }
                None => limits.devices = Some(Program::new(&rules)),
            }
        }
        let old = limits.writes.iter().map(|w| self.current(w)).collect::<Result<Vec<_>>>()?;
        let changed: Vec<Write> = limits
            .writes
            .iter()
            .zip(&old)
            .filter(|(w, o)| o.as_ref() != Some(&w.value))
            .map(|(w, _)| w.clone())
            .collect();

        let mut done = Vec::new();
        let outcome = self
            .hand_down(&limits)
            .and_then(|()| self.write_in_order(&changed, &mut done))
            .and_then(|()| match self.group_of(Version::V1, "devices") {
                Some(group) if !devices.is_empty() => self.update_devices_v1(&group, &devices),
                _ => limits.devices.as_ref().map_or(Ok(()), |program| self.attach(program)),
            });
        let Err(error) = outcome else { return Ok(limits.warnings) };

        let back: Vec<Write> = limits
            .writes
            .iter()
            .zip(old)
            .rev()
            .filter(|(w, _)| done.contains(w))
            .filter_map(|(w, old)| Some(Write { value: old?, ..w.clone() }))
            .collect();
        match self.write_in_order(&back, &mut Vec::new()) {
            Ok(()) => Err(error),
            Err(second) => {
                let text = format!("what had been changed could not all be put back: {second}");
                Err(error.likely(text))
            }
        }
    }

    fn update_devices_v1(&self, group: &Group<'_>, writes: &[Write]) -> Result<()> {
        let before = V1::read(&group.read("devices.list")?);
        let Err(error) = self.write_in_order(writes, &mut Vec::new()) else { return Ok(()) };
        let now = V1::read(&group.read("devices.list")?);
        let back: Vec<Write> = before.writes(Some(&now)).into_iter().map(device_write).collect();
        let _ = self.write_in_order(&back, &mut Vec::new());
        Err(error)
    }

    /// Where one file holds two fields, the one that is not given keeps its value.
    fn completed<'r>(&self, resources: &Resources<'r>) -> Result<Resources<'r>> {
        let mut full = resources.clone();
        if let (Some(cpu), Some(group)) = (&mut full.cpu, self.group_of(Version::V2, "cpu"))
            && cpu.quota.is_some() != cpu.period.is_some()
        {
            let now = group.try_read("cpu.max")?.unwrap_or_default();
            let mut words = now.split_ascii_whitespace();
            let (quota, period) = (words.next(), words.next());
            cpu.quota = cpu.quota.or(quota.map(|q| q.parse().unwrap_or(-1)));
            cpu.period = cpu.period.or(period.and_then(|p| p.parse().ok()));
        }
        if let (Some(memory), Some(group)) = (&mut full.memory, self.group_of(Version::V2, "memory"))
            && memory.swap.is_some_and(|s| s > 0)
            && memory.limit.is_none()
        {
            memory.limit = group.try_read("memory.max")?.and_then(|t| t.trim().parse().ok());
        }
        Ok(full)
    }

    /// v2 ends processes to get below a new limit at once, so it is asked beforehand (memory.checkBeforeUpdate).
    fn check_memory(&self, limits: &Limits) -> Result<()> {
        if !limits.check_before_update {
            return Ok(());
        }
        for write in
            limits.writes.iter().filter(|w| matches!(&*w.file, "memory.max" | "memory.limit_in_bytes"))
        {
            let Some(group) = self.group_of(write.version, "memory") else { continue };
            let file = if write.version == Version::V2 { "memory.current" } else { "memory.usage_in_bytes" };
            let used: u64 = group.read(file)?.trim().parse().unwrap_or(0);
            if write.value.parse::<u64>().is_ok_and(|limit| limit < used) {
                let e = Error::new(Doing::Limit, group.file(&write.file))
                    .field(write.field.as_ref())
                    .controller("memory");
                return Err(e
                    .value(write.value.as_str())
                    .problem(format!("{used} bytes are in use (checkBeforeUpdate)")));
            }
        }
        Ok(())
    }

    /// What to write to get back to now; `None` if nothing can be read (the write itself will say what is wrong).
    fn current(&self, write: &Write) -> Result<Option<String>> {
        let Some(group) = self.group_of(write.version, &write.controller) else { return Ok(None) };
        let Some(text) = group.try_read(&write.file)? else { return Ok(None) };
        Ok(limits::restoring(write, &text))
    }

    fn hand_down(&self, limits: &Limits) -> Result<()> {
        let Some(group) = self.v2() else { return Ok(()) };
        let mut wanted = limits.v2_controllers();
        wanted.retain(|c| group.hierarchy.has(c));
        if wanted.is_empty() { Ok(()) } else { v2::enable(&group, &wanted) }
    }

    /// One write call per value; the file stays open while its values follow each other. `done` gets what was taken.
    fn write_in_order(&self, writes: &[Write], done: &mut Vec<Write>) -> Result<()> {
        let mut rest = writes;
        while let Some(first) = rest.first() {
            let same = |w: &Write| w.version == first.version && w.controller == first.controller;
            let end = rest.iter().position(|w| !same(w)).unwrap_or(rest.len());
            let (run, later) = rest.split_at(end);
            rest = later;
            let group = self.group_of(first.version, &first.controller).ok_or_else(|| {
                Error::new(Doing::Unavailable, &*first.controller)
                    .controller(&*first.controller)
                    .field(&*first.field)
                    .problem("that controller is on no mounted hierarchy")
            })?;
            if first.controller == "devices" {
                self.write_run(&group, run.iter().collect(), false, done)?;
            } else {
                self.write_run(&group, run.iter().collect(), true, done)?;
            }
        }
        Ok(())
    }

    /// EINVAL of a value may mean "not before that other one": such are tried again while others get through.
    fn write_run(
        &self,
        group: &Group<'_>,
        run: Vec<&Write>,
        any_order: bool,
        done: &mut Vec<Write>,
    ) -> Result<()> {
        let mut pending = run;
        while !pending.is_empty() {
            let mut open: Option<(&str, OwnedFd)> = None;
            let mut again = Vec::new();
            let mut first_error = None;
            for write in &pending {
                match put(group, write, &mut open) {
                    Ok(()) => done.push((*write).clone()),
                    Err((_, Errno::NOENT)) if write.if_missing == IfMissing::Skip => {}
                    Err((call, errno)) => {
                        let error = Error::new(Doing::Limit, group.file(&write.file))
                            .field(&*write.field)
                            .controller(&*write.controller)
                            .value(write.value.as_str())
                            .call(call, errno);
                        let error = error.likely_or(explain::limit(group, write, errno));
                        if errno != Errno::INVAL || !any_order {
                            return Err(error);
                        }
                        first_error.get_or_insert(error);
                        again.push(*write);
                    }
                }
            }
            if let Some(error) = first_error
                && again.len() == pending.len()
            {
                return Err(error);
            }
            pending = again;
        }
        Ok(())
    }

    fn attach(&self, program: &Program) -> Result<()> {
        let Some(group) = self.v2() else { return Ok(()) };
        let folder =
            group.folder().map_err(|e| Error::new(Doing::Devices, group.name()).call("openat", e))?;
        program.attach(std::os::fd::AsFd::as_fd(&folder), &group.name())
    }

    // ---- who is in it -------------------------------------------------------------------------------------------

    /// The processes of the group and of those below it.
    pub fn procs(&self) -> Result<Vec<i32>> {
        self.tracking().map_or(Ok(Vec::new()), |g| g.procs())
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

    // ---- the end ------------------------------------------------------------------------------------------------

    /// Removes the groups and all below them. A process that has just ended may hold its group for a moment (EBUSY).
    pub fn remove(&self) -> Result<()> {
        let until = Instant::now() + REMOVE_WITHIN;
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
            if !busy || Instant::now() >= until {
                return Err(self.left_over(&left, errors));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Removes the folders above the group as far as they are unused: for the last service of a parent such as /sampan.
    pub fn remove_unused_parents(&self) {
        for group in self.groups() {
            let mut above = group.parent();
            while let Some(parent) = above.filter(|p| !p.path.is_empty()) {
                if !matches!(parent.rmdir(), Ok(()) | Err(Errno::NOENT)) {
                    break; // EBUSY: somebody else's groups or processes
                }
                above = parent.parent();
            }
        }
    }

    fn left_over(&self, left: &[Group<'_>], errors: Vec<Error>) -> Error {
        let names: Vec<String> = left.iter().map(Group::name).collect();
        let pids: Vec<i32> = left.iter().flat_map(|g| g.procs().unwrap_or_default()).collect();
        let mut problem = format!("left: {}", names.join(", "));
        if !pids.is_empty() {
            let mut pids = pids;
            pids.sort_unstable();
            pids.dedup();
            problem.push_str(&format!("; with processes {}", list(&pids)));
        }
        let first = errors.into_iter().next().unwrap_or_else(|| Error::new(Doing::Remove, "cgroup"));
        first.problem(problem).likely("processes are still in it; end them first (kill)")
    }

    // ---- inside -------------------------------------------------------------------------------------------------

    pub fn hierarchies(&self) -> &'h Hierarchies {
        self.hierarchies
    }

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

    pub fn mode(&self) -> Mode {
        self.hierarchies.mode
    }
}

impl fmt::Display for Cgroup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location())
    }
}

fn device_write((file, value): (&'static str, String)) -> Write {
    Write {
        version: Version::V1,
        controller: "devices".into(),
        file: file.into(),
        value,
        field: "linux.resources.devices".into(),
        if_missing: IfMissing::Refuse,
    }
}

fn put<'w>(
    group: &Group<'_>,
    write: &'w Write,
    open: &mut Option<(&'w str, OwnedFd)>,
) -> std::result::Result<(), crate::file::Failed> {
    use std::os::fd::AsFd;
    if let Some((file, fd)) = open
        && *file == write.file
    {
        return write_all(fd.as_fd(), &write.value);
    }
    match (group.open(&write.file, OFlags::WRONLY), &write.if_missing) {
        (Ok(fd), _) => {
            let written = write_all(fd.as_fd(), &write.value);
            *open = Some((&write.file, fd));
            written
        }
        (Err(Errno::NOENT), IfMissing::Instead(file, value)) => group.write(file, value),
        (Err(e), _) => Err(("openat", e)),
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

//! From the plan to the OCI state `created`: the child is cloned and accompanied to the point where only `start` is missing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Signal, pidfd_send_signal};
use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies, Limits};
use sampan_child::report::Report;
use sampan_child::step::mark;
use sampan_hooks::Kind;
use sampan_plan::plan::Users;
use sampan_plan::render;
use sampan_plan::slots::{Gate, SlotSource};

use super::hooks::{HookRunner, hooks_of, run_all};
use super::report::{Told, failed_io, next_report, open_gate, set_oom_score_adj};
use super::start::keep_plan;
use super::{
    Attached, Barrier, Console, Created, HookOutputs, Keep, Request, Spawn, Spawned, Stages, StartGate,
};
use crate::error::{Error, Result};
use crate::kernel::pidfd;
use crate::launch::console;
use crate::launch::explain::{Circumstances, explain};
use crate::launch::maps::{self, Maps};
use crate::launch::slots::{SlotInputs, Slots};
use crate::store::state::{Stage, State};

/// Up to the OCI state `created`: state.json says so when this returns, if the container outlives us; else it is the
/// caller's to write ([`Created::state`]), who may be about to start it.
///
/// After an error the process is gone, groups made here are removed, and poststop hooks ran if earlier ones had; the
/// folder is the caller's. After success all of it is (`destroy`).
pub fn create(request: &Request<'_>, spawn: &mut dyn Spawn, stages: &mut dyn Stages) -> Result<Created> {
    let id = request.folder.id();
    let mut groups = Groups::wanted(request).map_err(|e| e.of(id))?;
    groups.warnings().for_each(|warning| stages.warn(warning));
    let late = groups.may_be_late();
    if !late {
        stages.record().and_then(|()| groups.make()).map_err(|e| e.of(id))?;
    }
    let given = SlotInputs {
        plan: request.plan,
        fifos: (request.barrier == Barrier::Folder).then_some(request.folder),
        stdio: request.stdio,
        given: request.given,
        netns: request.netns,
        container: None,
    };
    let slots = Slots::open(&given, groups.cgroup.as_ref());
    let state = state_of(request);
    let mut launch = Launch { request, spawn, stages, groups, late, state, hooks_ran: false };
    let created = slots.and_then(|slots| launch.child(slots));
    let Launch { mut state, hooks_ran, spawn, stages, groups, .. } = launch;
    created.map_err(|e| {
        groups.undo();
        if hooks_ran {
            // config.md: what the earlier hooks set up is taken down by poststop, even now.
            let mut runner = HookRunner { spawn, log: request.hook_log };
            match run_all(&mut state, Kind::Poststop, request.folder, &mut runner) {
                Ok(warnings) => warnings.iter().for_each(|warning| stages.warn(&warning.to_string())),
                Err(e) => stages.warn(&e.to_string()),
            }
        }
        e.of(id)
    })
}

/// The control groups of a launch, and whether they are ours to remove.
struct Groups<'r> {
    request: &'r Request<'r>,
    wanted: Option<(CgroupsPath, Option<Limits>)>,
    /// What `undo` may touch: made, by us or for us.
    cgroup: Option<Cgroup<'static>>,
    kept: bool,
    /// What lives before this one were killed for.
    oom_before: u64,
}

impl<'r> Groups<'r> {
    /// Nothing is made yet, but whatever is wrong with the limits is known.
    fn wanted(request: &'r Request<'r>) -> Result<Groups<'r>> {
        let mut groups = Groups { request, wanted: None, cgroup: None, kept: false, oom_before: 0 };
        if !request.host.cgroups.is_empty() {
            let parent = &request.plan.parent;
            let limits = match parent.resources {
                Some(resources) => Some(Limits::new(resources, &Hierarchies::detect()?.layout())?),
                None => None,
            };
            groups.wanted = Some((CgroupsPath::parse(parent.cgroups_path, request.folder.id())?, limits));
            groups.kept = request.groups != Keep::No;
        }
        Ok(groups)
    }

    /// Limits that are accepted and do nothing here.
    fn warnings(&self) -> impl Iterator<Item = &str> {
        let limits = self.wanted.iter().filter_map(|(_, limits)| limits.as_ref());
        limits.flat_map(|limits| limits.warnings.iter().map(String::as_str))
    }

    /// The child mounts while we make them, and waits at its gate before it joins. Not where it is born in one (v2, where a
    /// controller enabled for a group with a process in it waits for an RCU grace period), nor where we open what it mounts.
    fn may_be_late(&self) -> bool {
        let needs = |source: &SlotSource| {
            matches!(source, SlotSource::Group | SlotSource::Tree { .. } | SlotSource::Layers { .. })
        };
        // One that joins a user namespace is in its groups before that.
        self.request.plan.parent.users != Users::Joined && !self.request.plan.slots.iter().any(needs)
    }

    /// Makes them, with their limits; once is enough.
    fn make(&mut self) -> Result<()> {
        let Some((place, limits)) = self.wanted.take() else { return Ok(()) };
        let hierarchies = Hierarchies::detect()?;
        let (cgroup, as_they_were) = match self.request.groups {
            Keep::No => (Cgroup::create(hierarchies, &place)?, false),
            Keep::Fresh => (Cgroup::recreate(hierarchies, &place)?, false),
            Keep::Ready => Cgroup::reuse(hierarchies, &place)?,
        };
        if as_they_were {
            self.oom_before = cgroup.oom_kills()?.unwrap_or(0);
        }
        let cgroup = self.cgroup.insert(cgroup);
        if let (Some(limits), false) = (&limits, as_they_were) {
            cgroup.apply(limits).inspect_err(|_| self.undo())?;
        }
        let cgroup = self.cgroup.as_ref().zip(self.request.plan.parent.cgroup_owner);
        if let Some((cgroup, owner)) = cgroup {
            cgroup.delegate(owner).inspect_err(|_| self.undo())?;
        }
        Ok(())
    }

    /// One that was there before is left as it is: the child is dead already, and others may be in it by now.
    fn undo(&self) {
        if let Some(cgroup) = &self.cgroup
            && (self.kept || cgroup.is_new())
        {
            let _ = cgroup.kill_now();
            if !self.kept {
                let _ = cgroup.remove();
            }
        }
    }
}

/// One launch on its way.
struct Launch<'r, 'a> {
    request: &'r Request<'a>,
    spawn: &'r mut dyn Spawn,
    stages: &'r mut dyn Stages,
    groups: Groups<'r>,
    /// The groups are made while the child mounts.
    late: bool,
    state: State,
    hooks_ran: bool,
}

impl Launch<'_, '_> {
    /// From the clone to `created`. A child that does not get there is ended and reaped.
    fn child(&mut self, mut slots: Slots<'_>) -> Result<Created> {
        let child = self.spawn.spawn(&self.request.plan.image, &slots.fds())?;
        slots.handed_over();
        match self.accompany(&child, &mut slots) {
            Ok((report, console, netns)) => Ok(Created {
                id: self.request.folder.id().to_owned(),
                child,
                gate: match (self.request.barrier, slots.gate.take()) {
                    (Barrier::Pipe, Some(gate)) => StartGate::Pipe(gate),
                    (Barrier::Open, _) => StartGate::IsOpen,
                    _ => StartGate::InFolder,
                },
                report,
                console,
                netns,
                state: std::mem::take(&mut self.state),
                trace: slots.trace.take(),
                inside: std::mem::take(&mut slots.inside),
            }),
            Err(e) => {
                let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
                let _ = self.spawn.reap(&child);
                Err(e)
            }
        }
    }

    /// Everything that the child waits for, in its order.
    fn accompany(
        &mut self,
        child: &Spawned,
        slots: &mut Slots<'_>,
    ) -> Result<(OwnedFd, Option<OwnedFd>, Option<OwnedFd>)> {
        let report = slots.report.take().ok_or_else(|| Error::new("no report"))?;
        let gate = slots.gate.as_ref().ok_or_else(|| Error::new("no gate"))?;
        self.user_namespace(child, gate)?;
        self.identify(child)?;
        self.groups(gate)?;
        let mut netns = None;
        if self.request.plan.slots.contains(&SlotSource::Gate(Gate::Attached)) {
            self.expect(&report, self.request.plan.parent.attached_at, child, &mut slots.inside)?;
            let attached = self.attach(child);
            // The child may have failed beside it, and says why.
            if attached.is_err() && has_told(&report) {
                self.expect(&report, mark::READY, child, &mut slots.inside)?;
            }
            netns = attached?;
            open_gate(gate)?;
        }
        let console = match &slots.console {
            Some(socket) => console::receive(socket.as_fd())?,
            None => None,
        };
        self.expect(&report, mark::READY, child, &mut slots.inside)?;
        slots.inside.finish(Kind::CreateContainer.name(), self.request.hook_log);
        let console = self.hand_over(console)?;
        if self.request.barrier != Barrier::Open {
            self.state.stage = Stage::Created;
        }
        if self.request.barrier == Barrier::Folder {
            keep_plan(self.request.folder, self.request.plan)?;
            self.state.save(self.request.folder)?;
        }
        Ok((report, console, netns))
    }

    /// oom_score_adj and the id maps, which only the parent may write.
    fn user_namespace(&self, child: &Spawned, gate: &OwnedFd) -> Result<()> {
        let parent = &self.request.plan.parent;
        if let Some(score) = parent.oom_score_adj {
            set_oom_score_adj(child.pid, score)?;
        }
        if parent.users == Users::Hosts {
            return Ok(());
        }
        if !parent.terminal {
            self.own_stdio();
        }
        if parent.users == Users::Joined {
            return Ok(());
        }
        let maps = Maps {
            uids: &parent.uid_mappings,
            gids: &parent.gid_mappings,
            deny_setgroups: parent.deny_setgroups,
            field: "linux",
        };
        maps::write(child.pid, &maps)?;
        open_gate(gate)
    }

    /// Before the child is told to go on: a delete must find it, even if we are killed now.
    fn identify(&mut self, child: &Spawned) -> Result<()> {
        let identity = pidfd::identify(child.pid, child.pidfd.as_fd());
        let failed = |e| failed_io("cannot look at the container's process", "read", &e);
        self.state.init = Some(identity.map_err(failed)?);
        Ok(())
    }

    /// Until its gate opens the child ends with us; from then on the groups are its own, and a delete may kill in them.
    fn groups(&mut self, gate: &OwnedFd) -> Result<()> {
        if self.late {
            self.stages.record()?;
        }
        self.groups.make()?;
        if let (Some(groups), Some(cgroup)) = (&self.groups.cgroup, &mut self.state.cgroup) {
            cgroup.claim(groups)?;
        }
        // Where its gate is a pipe the child ends when we do, and without hooks nobody looks at the container before its start.
        let ends_with_us = !self.request.host.cgroups.is_empty()
            && (self.groups.kept || self.request.barrier == Barrier::Pipe);
        let opens = self.request.barrier == Barrier::Open;
        if opens {
            self.state.stage = Stage::Running;
        }
        if !ends_with_us || !self.state.hooks.is_empty() {
            self.state.save(self.request.folder)?;
        }
        // From here on one may have run; those in the container tell us only of failure.
        let first = [Kind::Prestart, Kind::CreateRuntime, Kind::CreateContainer];
        self.hooks_ran = first.iter().any(|kind| !self.state.hooks.of(*kind).is_empty());
        if self.groups.cgroup.is_some() {
            open_gate(gate)?;
        }
        if opens { open_gate(gate) } else { Ok(()) }
    }

    /// The terminal's master goes to the caller's socket, where there is one.
    fn hand_over(&self, console: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
        match (&console, self.request.console) {
            (Some(master), Console::Socket(path)) => console::hand_over(path, master).map(|()| None),
            _ => Ok(console),
        }
    }

    /// The child does it for pipes that are the host's root's; in a user namespace it has no power over those.
    fn own_stdio(&self) {
        use std::os::fd::BorrowedFd;
        let Some(uid) = self.request.plan.parent.host_uid().filter(|uid| *uid != 0) else { return };
        let own = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
        let stdio: [BorrowedFd<'_>; 3] = self.request.stdio.unwrap_or([own.0, own.1, own.2]);
        for fd in stdio {
            let kind = rustix::fs::fstat(fd).map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode));
            if matches!(kind, Ok(rustix::fs::FileType::Fifo | rustix::fs::FileType::Socket)) {
                let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
            }
        }
    }

    /// The next report must be this mark.
    fn expect(&self, report: &OwnedFd, wanted: u32, child: &Spawned, inside: &mut HookOutputs) -> Result<()> {
        inside.wait(report.as_fd(), self.request.hook_log)?;
        match next_report(report)? {
            Some(Told { report: Report::Reached { mark }, .. }) if mark == wanted => Ok(()),
            Some(told) => Err(self.explained(&told, inside)),
            None => Err(self.vanished(child)),
        }
    }

    fn explained(&self, told: &Told, inside: &mut HookOutputs) -> Error {
        let plan = self.request.plan;
        let circumstances = Circumstances {
            new_user_namespace: plan.parent.users != Users::Hosts,
            privileged: self.request.host.privileged,
        };
        match render::reader(plan) {
            Some(reader) => {
                inside.explain(explain(told, &reader, &plan.origins, circumstances), self.request.hook_log)
            }
            None => Error::new("the plan is damaged"),
        }
    }

    /// It ended without a word: somebody killed it, most likely the kernel for memory.
    fn vanished(&self, _child: &Spawned) -> Error {
        let error = Error::new("the container's process was killed before it was ready");
        match self.groups.cgroup.as_ref().and_then(|c| c.oom_kills().ok()) {
            Some(Some(kills)) if kills > self.groups.oom_before => error
                .field("linux.resources.memory.limit")
                .likely("it ran out of memory: the limit is too low even to start"),
            _ => error,
        }
    }

    fn attach(&mut self, child: &Spawned) -> Result<Option<OwnedFd>> {
        let mut runner = HookRunner { spawn: self.spawn, log: self.request.hook_log };
        for kind in [Kind::Prestart, Kind::CreateRuntime] {
            run_all(&mut self.state, kind, self.request.folder, &mut runner)?;
        }
        let netns = match self.request.plan.parent.own_network {
            true => Some(open_netns(child.pid)?),
            false => None,
        };
        self.stages.attach(&Attached {
            id: self.request.folder.id(),
            pid: child.pid,
            pidfd: child.pidfd.as_fd(),
            netns: netns.as_ref().map(AsFd::as_fd),
            rootfs: &self.state.rootfs,
        })?;
        Ok(netns)
    }
}

/// Or has ended.
fn has_told(report: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(report, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn open_netns(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|e| Error::new("cannot open the container's network namespace").call("open", e))
}

/// state.json as it is before there is a process.
fn state_of(request: &Request<'_>) -> State {
    let parent = &request.plan.parent;
    let mut state = State::creating(request.folder.id(), request.bundle.to_path_buf());
    state.rootfs = PathBuf::from(&parent.root);
    state.own_pid_namespace = parent.own_pid_namespace;
    state.no_process = parent.no_process;
    state.rootless = !request.host.privileged;
    state.hooks = parent.hooks.map(hooks_of).unwrap_or_default();
    if let Some(annotations) = parent.annotations {
        state.annotations = annotations.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    }
    if !request.host.cgroups.is_empty() {
        let place = CgroupsPath::parse(parent.cgroups_path, request.folder.id());
        let found = Hierarchies::detect().and_then(|h| Cgroup::at(h, &place?));
        state.cgroup = found.ok().map(|c| crate::store::state::Cgroup {
            location: c.location(),
            kept: request.groups != Keep::No,
            ..crate::store::state::Cgroup::default()
        });
    }
    state
}

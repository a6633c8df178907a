//! The parent's side of a launch.
//!
//! ```text
//!   slots -> spawn -> maps, oom_score_adj -> groups, limits -> state.json -> hooks, attach -> "created" -> start
//!            child: ......mounts...............................waits.........pivot, ids, program found...exec
//! ```
//! Blocking, without threads.  Whatever fails, the child is killed and reaped here, and groups made here are removed.
//! Who clones is a [`Spawn`]: this process ([`crate::clone::Direct`]), or the keel on behalf of the supervisor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::process::{Signal, pidfd_send_signal};
use sampan_cgroups::{Cgroup, Hierarchies, Place};
use sampan_child::image::Image;
use sampan_child::report::{self, Report};
use sampan_child::step::mark;
use sampan_hooks::{Kind, Output};
use sampan_plan::plan::{Gate, Want};
use sampan_plan::{Host, Plan, show};

use crate::error::{Errno, Error, Result};
use crate::explain::{Around, explain};
use crate::open::{Given, Slots};
use crate::root::Folder;
use crate::state::{Stage, State};
use crate::{console, maps, open, pidfd};

/// A child that walks its image.
#[derive(Debug)]
pub struct Spawned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Who clones. The slots are valid until `spawn` returns.
pub trait Spawn {
    fn spawn(&mut self, image: &[u8], slots: &[BorrowedFd<'_>]) -> Result<Spawned>;
    /// The child ended before it was handed over: take its status, so that no zombie stays.
    fn reap(&mut self, child: &Spawned) -> Result<()>;
}

/// What others may do in the middle of a launch.
pub trait Stages {
    /// Namespaces and mounts exist, prestart and createRuntime hooks have run; the pivot has not happened.
    /// Only called where `Options::attach` asked for the stop.
    fn attach(&mut self, _container: &Attached<'_>) -> Result<()> {
        Ok(())
    }
}

/// For launches without such others.
impl Stages for () {}

/// The container as `attach` sees it.
#[derive(Debug)]
pub struct Attached<'a> {
    pub id: &'a str,
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    /// Its network namespace; None where it has the host's.
    pub netns: Option<BorrowedFd<'a>>,
    pub rootfs: &'a Path,
}

/// How `start` will reach the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// FIFOs in the state folder: the container stays `created` when we die (`sampan create`).
    Folder,
    /// A pipe held by us: the child exits when we die (`sampan run`, the supervisor).
    Pipe,
}

/// Where the master of the terminal goes.
#[derive(Clone, Copy, Debug)]
pub enum Console<'a> {
    /// Back in [`Created::console`]; without a terminal, nowhere.
    Keep,
    /// To the listener at this path, as containerd and conmon want it.
    Socket(&'a Path),
}

/// One container to create.
#[derive(Debug)]
pub struct Request<'a> {
    pub plan: &'a Plan<'a>,
    pub host: &'a Host,
    /// Made and locked by the caller; state.json (and FIFOs) go there.
    pub folder: &'a Folder,
    pub bundle: &'a Path,
    pub barrier: Barrier,
    pub console: Console<'a>,
    /// stdin, stdout, stderr, where `Options::given_stdio` said so; else ours are inherited.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    /// To join, where `Options::given_netns` said so.
    pub netns: Option<BorrowedFd<'a>>,
    /// The control groups are somebody's who keeps them over restarts: joined, never removed here.
    pub keep_groups: bool,
}

/// A container in the state `created`.
#[derive(Debug)]
pub struct Created {
    pub id: String,
    pub child: Spawned,
    /// The gate of [`start`], where the barrier is a pipe.
    pub gate: Option<OwnedFd>,
    /// The reports, up to execve.
    pub report: OwnedFd,
    pub console: Option<OwnedFd>,
    /// The network namespace, for those who asked by `Options::attach`.
    pub netns: Option<OwnedFd>,
    pub rootfs: PathBuf,
    pub trace: Option<OwnedFd>,
    /// What hooks in the container printed.
    pub hook_output: Option<OwnedFd>,
}

/// Up to the OCI state `created`: state.json says so when this returns.
///
/// After an error the process is gone, groups made here are removed, and poststop hooks ran if earlier ones had; the
/// folder is the caller's. After success all of it is (`destroy`).
pub fn create(request: &Request<'_>, spawn: &mut dyn Spawn, stages: &mut dyn Stages) -> Result<Created> {
    let id = request.folder.id();
    let groups = Groups::make(request).map_err(|e| e.of(id))?;
    let given = Given {
        plan: request.plan,
        fifos: (request.barrier == Barrier::Folder).then_some(request.folder),
        stdio: request.stdio,
        netns: request.netns,
        container: None,
    };
    let mut launch =
        Launch { request, spawn, stages, groups: &groups, state: state_of(request), hooks_ran: false };
    let created = Slots::open(&given, groups.cgroup.as_ref()).and_then(|slots| launch.child(slots));
    let Launch { state, hooks_ran, .. } = launch;
    created.map_err(|e| {
        groups.undo();
        if hooks_ran {
            // config.md: what the earlier hooks set up is taken down by poststop, even now.
            let _ = run_hooks(&state, Kind::Poststop);
        }
        e.of(id)
    })
}

/// The control groups of a launch, and whether they are ours to remove.
struct Groups {
    cgroup: Option<Cgroup<'static>>,
    kept: bool,
}

impl Groups {
    fn make(request: &Request<'_>) -> Result<Groups> {
        if request.host.cgroups.is_empty() {
            return Ok(Groups { cgroup: None, kept: false });
        }
        let hierarchies = Hierarchies::detect()?;
        let parent = &request.plan.parent;
        let limits = match parent.resources {
            Some(resources) => Some(sampan_cgroups::limits(resources, &hierarchies.layout())?),
            None => None,
        };
        let place = Place::parse(parent.cgroups_path, request.folder.id())?;
        let cgroup = match request.keep_groups {
            true => {
                let cgroup = Cgroup::at(hierarchies, &place)?;
                if cgroup.exists() {
                    cgroup.reuse()?;
                }
                Cgroup::create(hierarchies, &place)?
            }
            false => Cgroup::create(hierarchies, &place)?,
        };
        let groups = Groups { cgroup: Some(cgroup), kept: request.keep_groups };
        if let (Some(cgroup), Some(limits)) = (&groups.cgroup, &limits) {
            cgroup.apply(limits).inspect_err(|_| groups.undo())?;
        }
        Ok(groups)
    }

    fn undo(&self) {
        if let Some(cgroup) = &self.cgroup {
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
    groups: &'r Groups,
    state: State,
    hooks_ran: bool,
}

impl Launch<'_, '_> {
    /// From the clone to `created`. A child that does not get there is ended and reaped.
    fn child(&mut self, mut slots: Slots<'_>) -> Result<Created> {
        let child = self.spawn.spawn(&self.request.plan.image, &slots.fds())?;
        slots.handed_over();
        // From here on one may have run; those in the container tell us only of failure.
        let first = [Kind::Prestart, Kind::CreateRuntime, Kind::CreateContainer];
        self.hooks_ran = first.iter().any(|kind| !self.state.hooks.of(*kind).is_empty());
        match self.accompany(&child, &mut slots) {
            Ok((report, console, netns)) => Ok(Created {
                id: self.request.folder.id().to_owned(),
                child,
                gate: match self.request.barrier {
                    Barrier::Pipe => slots.gate.take(),
                    Barrier::Folder => None,
                },
                report,
                console,
                netns,
                rootfs: self.state.rootfs.clone(),
                trace: slots.trace.take(),
                hook_output: slots.hook_output.take(),
            }),
            Err(e) => {
                let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
                let _ = self.spawn.reap(&child);
                Err(e)
            }
        }
    }

    fn accompany(
        &mut self,
        child: &Spawned,
        slots: &mut Slots<'_>,
    ) -> Result<(OwnedFd, Option<OwnedFd>, Option<OwnedFd>)> {
        let parent = &self.request.plan.parent;
        let gate = slots.gate.as_ref().ok_or_else(|| Error::new("no gate"))?;
        let report = slots.report.take().ok_or_else(|| Error::new("no report"))?;
        if let Some(score) = parent.oom_score_adj {
            set_oom_score_adj(child.pid, score)?;
        }
        if !parent.uid_mappings.is_empty() {
            maps::write(child.pid, parent)?;
            open_gate(gate)?;
        }
        // Before the child is told to go on: a delete must find it, even if we are killed now.
        let identity = pidfd::identify(child.pid, child.pidfd.as_fd());
        self.state.init =
            Some(identity.map_err(|e| failed_io("cannot look at the container's process", "read", &e))?);
        self.state.save(self.request.folder)?;
        if self.groups.cgroup.is_some() {
            open_gate(gate)?;
        }

        let mut netns = None;
        if self.request.plan.slots.contains(&Want::Gate(Gate::Attached)) {
            self.expect(&report, mark::MOUNTED, child, slots)?;
            netns = self.attach(child)?;
            open_gate(gate)?;
        }
        let mut console = match &slots.console {
            Some(socket) => console::receive(socket.as_fd())?,
            None => None,
        };
        self.expect(&report, mark::READY, child, slots)?;
        if let (Some(master), Console::Socket(path)) = (&console, self.request.console) {
            console::hand_over(path, master)?;
            console = None;
        }
        self.state.stage = Stage::Created;
        if self.request.barrier == Barrier::Folder {
            keep_plan(self.request.folder, self.request.plan)?;
        }
        self.state.save(self.request.folder)?;
        Ok((report, console, netns))
    }

    /// The next report must be this mark.
    fn expect(&self, report: &OwnedFd, wanted: u32, child: &Spawned, slots: &Slots<'_>) -> Result<()> {
        match next_report(report)? {
            Some(Report::Reached { mark }) if mark == wanted => Ok(()),
            Some(report) => Err(self.explained(report, slots)),
            None => Err(self.vanished(child)),
        }
    }

    fn explained(&self, report: Report, slots: &Slots<'_>) -> Error {
        let plan = self.request.plan;
        let around = Around {
            new_user_namespace: !plan.parent.uid_mappings.is_empty(),
            privileged: self.request.host.privileged,
        };
        match show::reader(plan) {
            Some(reader) => {
                with_output(explain(report, &reader, &plan.origins, around), slots.hook_output.as_ref())
            }
            None => Error::new("the plan is damaged"),
        }
    }

    /// It ended without a word: somebody killed it, most likely the kernel for memory.
    fn vanished(&self, _child: &Spawned) -> Error {
        let error = Error::new("the container's process was killed before it was ready");
        match self.groups.cgroup.as_ref().and_then(|c| c.oom_kills().ok()) {
            Some(Some(1..)) => error
                .field("linux.resources.memory.limit")
                .likely("it ran out of memory: the limit is too low even to start"),
            _ => error,
        }
    }

    fn attach(&mut self, child: &Spawned) -> Result<Option<OwnedFd>> {
        run_hooks(&self.state, Kind::Prestart)?;
        run_hooks(&self.state, Kind::CreateRuntime)?;
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

/// One more process for a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// Of [`Plan::exec`].
    pub plan: &'a Plan<'a>,
    pub id: &'a str,
    /// Init's pidfd.
    pub container: BorrowedFd<'a>,
    pub cgroup: Option<&'a Cgroup<'a>>,
    pub console: Console<'a>,
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
}

/// It runs its program.
#[derive(Debug)]
pub struct Executed {
    pub child: Spawned,
    pub console: Option<OwnedFd>,
    pub trace: Option<OwnedFd>,
}

/// Returns once execve has succeeded; after an error there is no process.
pub fn exec(request: &ExecRequest<'_>, spawn: &mut dyn Spawn) -> Result<Executed> {
    let given = Given {
        plan: request.plan,
        fifos: None,
        stdio: request.stdio,
        netns: None,
        container: Some(request.container),
    };
    let of = |e: Error| e.of(request.id);
    let mut slots = Slots::open(&given, request.cgroup).map_err(of)?;
    let child = spawn.spawn(&request.plan.image, &slots.fds()).map_err(of)?;
    slots.handed_over();
    match joined(request, &child, &mut slots) {
        Ok(console) => Ok(Executed { child, console, trace: slots.trace.take() }),
        Err(e) => {
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ = spawn.reap(&child);
            Err(of(e))
        }
    }
}

fn joined(request: &ExecRequest<'_>, child: &Spawned, slots: &mut Slots<'_>) -> Result<Option<OwnedFd>> {
    if let Some(score) = request.plan.parent.oom_score_adj {
        set_oom_score_adj(child.pid, score)?;
    }
    let report = slots.report.take().ok_or_else(|| Error::new("no report"))?;
    let mut console = match &slots.console {
        Some(socket) => console::receive(socket.as_fd())?,
        None => None,
    };
    if let Some(report) = next_report(&report)? {
        let reader = show::reader(request.plan).ok_or_else(|| Error::new("the plan is damaged"))?;
        return Err(explain(
            report,
            &reader,
            &request.plan.origins,
            Around { privileged: true, ..Around::default() },
        ));
    }
    if let (Some(master), Console::Socket(path)) = (&console, request.console) {
        console::hand_over(path, master)?;
        console = None;
    }
    Ok(console)
}

/// Runs the program of a container that this process created; returns once execve has succeeded and poststart hooks ran.
pub fn start(created: &mut Created, plan: &Plan<'_>, folder: &Folder) -> Result<()> {
    let mut state = State::load(folder)?.unwrap_or_else(|| State::creating(&created.id, PathBuf::new()));
    let gate = match created.gate.take() {
        Some(gate) => gate,
        None => start_fifo(folder)?,
    };
    let reader = show::reader(plan).ok_or_else(|| Error::new("the plan is damaged"))?;
    let go = Go {
        gate,
        report: &created.report,
        reader,
        origins: &plan.origins,
        output: created.hook_output.as_ref(),
    };
    go.start(&mut state, folder, created.child.pidfd.as_fd()).map_err(|e| e.of(&created.id))
}

/// The same for a container whose creator is gone (its barrier was [`Barrier::Folder`]).
pub fn start_by_folder(folder: &Folder) -> Result<()> {
    let id = folder.id().to_owned();
    let of = |e: Error| e.of(&id);
    let Some(mut state) = State::load(folder)? else {
        return Err(of(Error::new("the container was never fully created; delete it")));
    };
    if state.no_process {
        return Err(of(
            Error::new("is missing: this container can be created, but not started").field("process")
        ));
    }
    let init =
        state.init().map_err(|e| failed_io("cannot look at the container's process", "pidfd_open", &e))?;
    let Some(init) = init else { return Err(of(Error::new("cannot start a container that has stopped"))) };
    // Before the go: the end of an execve that failed must find a reader.
    let report = open::open_in(folder, open::REPORT, OFlags::RDONLY | OFlags::NONBLOCK).map_err(of)?;
    let (image, slots, origins) = kept_plan(folder).map_err(of)?;
    let image = Image::check(&image)
        .map_err(|fault| of(Error::new(format!("the kept plan is damaged: {fault:?}"))))?;
    let reader = show::Reader { image, slots: &slots };
    let gate = start_fifo(folder).map_err(of)?;
    let go = Go { gate, report: &report, reader, origins: &origins, output: None };
    go.start(&mut state, folder, init.as_fd()).map_err(of)
}

/// The last stretch, however we came to it.
struct Go<'g> {
    gate: OwnedFd,
    report: &'g OwnedFd,
    reader: show::Reader<'g>,
    origins: &'g [String],
    output: Option<&'g OwnedFd>,
}

impl Go<'_> {
    fn start(self, state: &mut State, folder: &Folder, init: BorrowedFd<'_>) -> Result<()> {
        state.stage = Stage::Running;
        state.save(folder)?;
        open_gate(&self.gate)?;
        drop(self.gate);
        wait_readable(self.report)?;
        match next_report(self.report)? {
            // Closed by execve: the program runs (or ran).
            None => {}
            Some(report) => {
                let error = explain(
                    report,
                    &self.reader,
                    self.origins,
                    Around { privileged: true, ..Around::default() },
                );
                return Err(with_output(error, self.output));
            }
        }
        run_hooks(state, Kind::Poststart).inspect_err(|_| {
            // Fatal since 1.3 (runtime-spec#1262).
            let _ = pidfd_send_signal(init, Signal::KILL);
        })
    }
}

fn start_fifo(folder: &Folder) -> Result<OwnedFd> {
    open::open_in(folder, open::START, OFlags::WRONLY | OFlags::NONBLOCK).map_err(|e| match e.errno {
        // Nobody reads it: the process that waited there is gone.
        Some(Errno::NXIO) => Error::new("cannot start a container that has stopped"),
        Some(Errno::NOENT) => Error::new("cannot start a container that its creator has not left to others"),
        _ => e,
    })
}

// ---- parts ----

fn open_gate(gate: &OwnedFd) -> Result<()> {
    loop {
        match rustix::io::write(gate, b"g") {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            // Its report says why it is gone.
            Err(Errno::PIPE) => return Ok(()),
            Err(e) => return Err(Error::new("cannot tell the container's process to go on").call("write", e)),
        }
    }
}

/// None: the last writer is gone.
fn next_report(from: &OwnedFd) -> Result<Option<Report>> {
    let mut bytes = [0u8; report::SIZE];
    let mut have = 0;
    while have < bytes.len() {
        let rest = bytes.get_mut(have..).unwrap_or_default();
        match rustix::io::read(from, rest) {
            Ok(0) => return Ok(None),
            Ok(n) => have += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait_readable(from)?,
            Err(e) => return Err(Error::new("cannot read the container's report").call("read", e)),
        }
    }
    let decoded =
        Report::decode(bytes).ok_or_else(|| Error::new("the container's report cannot be understood"))?;
    Ok(Some(decoded))
}

fn wait_readable(fd: &OwnedFd) -> Result<()> {
    loop {
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::new("cannot wait for the container's report").call("poll", e)),
        }
    }
}

/// What a hook printed belongs to its error.
fn with_output(mut error: Error, output: Option<&OwnedFd>) -> Error {
    if let Some(fd) = output {
        let mut bytes = [0u8; 1024];
        let printed = rustix::io::pread(fd, &mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..printed).unwrap_or_default()).trim().to_owned();
        if !text.is_empty() {
            error.doing = format!("{}: {text}", error.doing);
        }
    }
    error
}

fn open_netns(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    rustix::fs::open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|e| Error::new("cannot open the container's network namespace").call("open", e))
}

fn failed_io(doing: &str, call: &'static str, e: &std::io::Error) -> Error {
    Error::new(doing).call(call, Errno::from_io_error(e).unwrap_or(Errno::IO))
}

fn set_oom_score_adj(pid: i32, score: i32) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string()).map_err(|e| {
        failed_io(&format!("cannot set oom_score_adj to {score}"), "write", &e)
            .field("process.oomScoreAdj")
            .likely("lowering it below our own needs CAP_SYS_RESOURCE")
    })
}

fn run_hooks(state: &State, kind: Kind) -> Result<()> {
    if state.hooks.of(kind).is_empty() {
        return Ok(());
    }
    sampan_hooks::run_all(&state.hooks, kind, &state.for_hook(kind), None, Output::Tail)?;
    Ok(())
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
        let place = Place::parse(parent.cgroups_path, request.folder.id());
        let found = Hierarchies::detect().and_then(|h| Cgroup::at(h, &place?));
        state.cgroup = found.ok().map(|c| crate::state::Cgroup {
            location: c.location(),
            kept: request.keep_groups,
            ..crate::state::Cgroup::default()
        });
    }
    state
}

fn hooks_of(hooks: &sampan_plan::spec::Hooks<'_>) -> sampan_hooks::Hooks {
    let list = |hooks: &[sampan_plan::spec::Hook<'_>]| -> Vec<sampan_hooks::Hook> {
        let strings = |list: &[sampan_plan::spec::Str<'_>]| list.iter().map(|s| s.to_string()).collect();
        hooks
            .iter()
            .map(|h| sampan_hooks::Hook {
                path: h.path.to_string(),
                args: strings(&h.args),
                env: strings(&h.env),
                timeout: h.timeout.and_then(|t| u64::try_from(t).ok()),
            })
            .collect()
    };
    sampan_hooks::Hooks {
        prestart: list(&hooks.prestart),
        create_runtime: list(&hooks.create_runtime),
        create_container: list(&hooks.create_container),
        start_container: list(&hooks.start_container),
        poststart: list(&hooks.poststart),
        poststop: list(&hooks.poststop),
    }
}

/// What `start` in another process needs to explain a failure: origins as one line of JSON, then the image.
const PLAN: &str = "plan";

fn keep_plan(folder: &Folder, plan: &Plan<'_>) -> Result<()> {
    let mut bytes = serde_json::to_vec(&plan.origins).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(&plan.image);
    Ok(folder.write(PLAN, &bytes)?)
}

fn kept_plan(folder: &Folder) -> Result<(Vec<u8>, Vec<Want>, Vec<String>)> {
    let bytes = folder.read(PLAN)?.unwrap_or_default();
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
    let (origins, image) = bytes.split_at(end);
    let origins = serde_json::from_slice(origins).unwrap_or_default();
    Ok((image.get(1..).unwrap_or_default().to_vec(), Vec::new(), origins))
}

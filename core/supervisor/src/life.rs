//! One life of one service, as jobs: create, start, clean up. What blocks runs on a pool thread; plugins are asked on the
//! loop; what fails says whose fault it is.
//!
//! ```text
//!   loop:   bundle ─► plugins' create ─┐            ┌─ plugins' attach ─┐           ┌─ plugins' start
//!   thread:                            └─► compile ─┤ clone, hooks      └─► created ─┤ (waits) ─► exec, poststart
//! ```
//! The launching thread holds the barrier: if it goes, for whatever reason, the child reads the end of a pipe and exits.
//! Absent on purpose: any decision about what comes next (`core/service`).
use crate::bundle;
use crate::config::schema::{self, LogDriver};
use crate::executor::Ground;
use crate::fleet::Live;
use crate::keel::Keel;
use crate::plugins::{Ctx, Failure, FailureKind, Role};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use sampan_cgroups::{Cgroup, Hierarchies, Place};
use sampan_plan::{Options, Plan, Spec};
use sampan_runtime::launch::{self, Attached, Barrier, Console, Created, Request, Stages};
use sampan_runtime::root::{self, Lock, Root};
use sampan_runtime::state::{CONFIG, State};
use sampan_service::{Problem, Status};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// How long a kill of the whole cgroup may take before it is reported and tried again.
const KILL_MAX: Duration = Duration::from_secs(2);

/// How long a PID 1 may take to reap what it inherited; after that the exit status is unknown.
const REAPED_MAX: Duration = Duration::from_secs(3);

/// What a new life is made from.
#[derive(Debug)]
pub struct Order {
    pub config: Arc<schema::Service>,
    pub generation: u64,
    pub ctx: Ctx,
}

/// A main process, wherever it came from.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub own: bool,
    pub oom_before: u64,
    pub started_at: Option<SystemTime>,
}

/// A container in the OCI state `created`.
#[derive(Debug)]
pub struct Born {
    pub process: Process,
    pub netns: Option<OwnedFd>,
    pub owners: BTreeMap<String, String>,
    /// Its start. Dropped, the container's process exits.
    pub gate: StartGate,
}

/// The way to the thread that holds the barrier of a created container.
#[derive(Debug)]
pub struct StartGate(blocking::SyncSender<oneshot::Sender<Result<(), Problem>>>);

/// What the launching thread needs of the loop in the middle of a launch.
struct Ask {
    pid: i32,
    fds: Vec<(Role, OwnedFd)>,
    answer: blocking::SyncSender<Result<(), Failure>>,
}

/// Plugins' `create`, bundle, launch up to OCI state created with `attach` on the way.
pub async fn create(ground: &Rc<Ground>, order: Order) -> Result<Box<Born>, Problem> {
    let Order { config, generation, ctx } = order;
    let settings = ground.config();
    let supervisor = settings.supervisor.clone();
    let (service, parent) = (config.clone(), ground.cgroup_parent.clone());
    let built = on_pool(move || {
        let request = bundle::Request {
            service: &service,
            supervisor: &supervisor,
            generation,
            cgroup_parent: &parent,
        };
        bundle::build(&request).map_err(|error| Problem::Config(error.to_string()))
    })
    .await?;
    for warning in &built.warnings {
        ground.warn(&config.name, warning);
    }
    let mut spec = built.spec;
    let table = service_table(&config, &settings);
    let made = ground.plugins.create(&ctx, &table, &mut spec).await.map_err(of_plugin)?;
    for (plugin, message) in &made.messages {
        ground.warn(&config.name, &format!("plugin {plugin}: {message}"));
    }
    let stdio = if config.logging.driver == LogDriver::None {
        Output::Nowhere
    } else if made.claims.contains_key("stdio") {
        Output::Plugin
    } else {
        Output::Files
    };

    let (ask, mut asked) = mpsc::channel::<Ask>(1);
    let (start, started) = blocking::sync_channel(1);
    let (born, answer) = oneshot::channel();
    let job = Job {
        keel: ground.keel.clone(),
        run: ground.dirs.run.clone(),
        containers: ground.dirs.containers(),
        io: ground.dirs.io(&config.name),
        logs: ground.dirs.logs(&config.name),
        service: config.clone(),
        generation,
        spec,
        stdio,
        hierarchies: ground.hierarchies,
        ask,
        started,
    };
    tokio::task::spawn_blocking(move || job.run(born));
    let mut answer = answer;
    let launched = loop {
        tokio::select! {
            Some(ask) = asked.recv() => attach(ground, &ctx, ask).await,
            launched = &mut answer => break launched,
        }
    };
    let (process, netns, warnings) =
        launched.unwrap_or_else(|_| Err(Problem::Io("the launching thread failed".into())))?;
    for warning in &warnings {
        ground.warn(&config.name, warning);
    }
    Ok(Box::new(Born { process, netns, owners: made.owners, gate: StartGate(start) }))
}

async fn attach(ground: &Rc<Ground>, ctx: &Ctx, ask: Ask) {
    let ctx = Ctx { pid: ask.pid, ..ctx.clone() };
    let fds: Vec<(Role, BorrowedFd<'_>)> = ask.fds.iter().map(|(role, fd)| (*role, fd.as_fd())).collect();
    let result = ground.plugins.attach(&ctx, &fds).await;
    let _ = ask.answer.send(result);
}

/// Plugins' `start`, release of the barrier, poststart hooks, plugins' `started`.
pub async fn start(ground: &Rc<Ground>, ctx: &Ctx, gate: Option<StartGate>) -> Result<(), Problem> {
    ground.plugins.start(ctx).await.map_err(of_plugin)?;
    let gone = || Problem::Io("the process ended before it was started".into());
    let gate = gate.ok_or_else(gone)?;
    let (answer, answered) = oneshot::channel();
    gate.0.send(answer).map_err(|_| gone())?;
    answered.await.unwrap_or_else(|_| Err(gone()))?;
    ground.plugins.started(ctx).await.map_err(of_plugin)
}

/// What is left of a life.
#[derive(Debug)]
pub struct Remains {
    pub ctx: Ctx,
    pub config: Arc<schema::Service>,
    pub generation: u64,
    pub keep: bool,
}

/// `detach`, the container's remains, poststop hooks, `removed`. Does no harm where there is nothing.
pub async fn cleanup(ground: &Rc<Ground>, remains: Remains) -> Result<(), Problem> {
    let Remains { ctx, config, generation, keep } = remains;
    ground.report(&config.name, &ground.plugins.detach(&ctx, !keep).await);
    let (containers, run) = (ground.dirs.containers(), ground.dirs.run.clone());
    let (hierarchies, cgroup) = (ground.hierarchies, ground.cgroup(&config.name));
    let name = config.name.clone();
    on_pool(move || remove(hierarchies, &containers, &run, &cgroup, &name, generation)).await?;
    ground.plugins.notify_removed(&ctx);
    Ok(())
}

/// Ends and removes what is left of a service that has no entry any more.
pub async fn discard(
    ground: &Rc<Ground>,
    name: &str,
    generation: u64,
    pid: Option<i32>,
) -> Result<(), Problem> {
    let (keel, hierarchies) = (ground.keel.clone(), ground.hierarchies);
    let (containers, run) = (ground.dirs.containers(), ground.dirs.run.clone());
    let (cgroup, name) = (ground.cgroup(name), name.to_owned());
    on_pool(move || {
        kill_all(hierarchies, &cgroup, None).map_err(of_io)?;
        if let Some(pid) = pid {
            end(&keel, pid);
        }
        remove(hierarchies, &containers, &run, &cgroup, &name, generation)
    })
    .await
}

/// Kills and reaps a child of the keel.
pub fn end(keel: &Keel, pid: i32) {
    if let Ok(Some(pidfd)) = sampan_runtime::pidfd::open(pid) {
        let _ = sampan_runtime::pidfd::send(pidfd.as_fd(), libc::SIGKILL);
        let _ = sampan_runtime::pidfd::wait(pidfd.as_fd(), Some(KILL_MAX));
    }
    if let Err(error) = keel.reap(pid) {
        tracing::warn!(pid, "cannot reap: {error}");
    }
}

/// The network namespace of a process, if it has one of its own.
pub fn netns_of(pid: i32) -> Option<OwnedFd> {
    let own = std::fs::read_link("/proc/self/ns/net").ok()?;
    let path = format!("/proc/{pid}/ns/net");
    (std::fs::read_link(&path).ok()? != own)
        .then(|| rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok())?
}

/// The container's state and hooks, its groups, its bundle.
fn remove(
    hierarchies: &Hierarchies,
    containers: &Path,
    run: &Path,
    cgroup: &str,
    name: &str,
    generation: u64,
) -> Result<(), Problem> {
    let root = Root::new(Some(containers)).map_err(of_io)?;
    match root.open(name) {
        Ok(folder) => {
            folder.lock(Lock::Exclusive, Some(KILL_MAX)).map_err(of_io)?;
            // A state that cannot be read is no reason to keep the container.
            let state = State::load(&folder).unwrap_or_default();
            for warning in sampan_runtime::destroy::destroy(folder, state.as_ref()).map_err(of_io)? {
                tracing::warn!(service = name, "{warning}");
            }
        }
        Err(root::Error::Missing { .. }) => {}
        Err(error) => return Err(of_io(error)),
    }
    // A launch that did not get as far as a state may have made its groups.
    if let Ok(group) = group(hierarchies, cgroup) {
        group.kill(KILL_MAX).and_then(|()| group.remove()).map_err(of_io)?;
    }
    bundle::remove(run, name, generation).map_err(of_io)
}

/// Where a container's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// FIFOs, whose read ends a plugin and the keel hold.
    Plugin,
    /// Straight into files: nothing of ours stands between, so nothing is lost whoever dies.
    Files,
    Nowhere,
}

/// The launching thread's work.
struct Job {
    keel: Keel,
    run: std::path::PathBuf,
    containers: std::path::PathBuf,
    io: std::path::PathBuf,
    logs: std::path::PathBuf,
    service: Arc<schema::Service>,
    generation: u64,
    spec: serde_json::Value,
    stdio: Output,
    hierarchies: &'static Hierarchies,
    ask: mpsc::Sender<Ask>,
    started: blocking::Receiver<oneshot::Sender<Result<(), Problem>>>,
}

type Launched = Result<(Process, Option<OwnedFd>, Vec<String>), Problem>;

impl Job {
    fn run(self, born: oneshot::Sender<Launched>) {
        let name = self.service.name.clone();
        let folder = match bundle::write(&self.run, &name, self.generation, &self.spec) {
            Ok(folder) => folder,
            Err(error) => return drop(born.send(Err(of_io(error)))),
        };
        let text = self.spec.to_string();
        let spec = match Spec::parse(&text) {
            Ok(spec) => spec,
            Err(error) => return drop(born.send(Err(of_config(error)))),
        };
        let options = Options {
            id: name.clone(),
            bundle: folder.display().to_string(),
            new_keyring: true,
            attach: true,
            given_stdio: true,
            ..Options::default()
        };
        let path = spec.linux.cgroups_path.as_deref();
        let compiled = sampan_runtime::host::facts(path, &name, true).map_err(of_io).and_then(|host| {
            let plan = Plan::compile(&spec, &host, &options).map_err(of_config)?;
            Ok((host, plan))
        });
        let (host, plan) = match compiled {
            Ok(compiled) => compiled,
            Err(problem) => return drop(born.send(Err(problem))),
        };
        let bundle = folder;
        match self.launch(&bundle, &text, &host, &plan) {
            Err(problem) => drop(born.send(Err(problem))),
            Ok((mut created, folder, oom_before)) => {
                let process = created.child.pidfd.try_clone().map_err(of_io).map(|pidfd| Process {
                    pid: created.child.pid,
                    pidfd,
                    own: true,
                    oom_before,
                    started_at: Some(SystemTime::now()),
                });
                let netns = created.netns.take();
                if born.send(process.map(|process| (process, netns, plan.warnings.clone()))).is_err() {
                    return;
                }
                // Until `start`, or until nobody can ask for it any more: then the barrier goes with us.
                if let Ok(answer) = self.started.recv() {
                    let _ = answer.send(launch::start(&mut created, &plan, &folder).map_err(of_launch));
                }
            }
        }
    }

    fn launch(
        &self,
        bundle: &Path,
        text: &str,
        host: &sampan_plan::Host,
        plan: &Plan<'_>,
    ) -> Result<(Created, sampan_runtime::root::Folder, u64), Problem> {
        let stdio = self.stdio(plan)?;
        let root = Root::new(Some(&self.containers)).map_err(of_io)?;
        let folder = root.create(&self.service.name).map_err(of_io)?;
        // What later verbs (`sampan exec`, health checks) go by: the config as it was now.
        folder.write(CONFIG, text.as_bytes()).map_err(of_io)?;
        let request = Request {
            plan,
            host,
            folder: &folder,
            bundle,
            barrier: Barrier::Pipe,
            console: Console::Keep,
            stdio: Some([stdio.input.as_fd(), stdio.output.as_fd(), stdio.error.as_fd()]),
            netns: None,
            keep_groups: false,
        };
        let tag = format!("service/{}/{}", self.service.name, self.generation);
        let mut launcher = self.keel.launcher(&tag);
        let mut bridge = Bridge { ask: &self.ask, reads: stdio.reads };
        let created = match launch::create(&request, &mut launcher, &mut bridge) {
            Ok(created) => created,
            Err(error) => {
                // It has taken down what it made and run the poststop hooks: with the folder nothing is left for cleaning up
                // to do them again. Groups that would not go are looked for there by name.
                let _ = folder.remove();
                return Err(of_launch(error));
            }
        };
        folder.unlock();
        let oom_before = plan
            .parent
            .cgroups_path
            .and_then(|path| group(self.hierarchies, path).ok()?.oom_kills().ok()?)
            .unwrap_or(0);
        Ok((created, folder, oom_before))
    }

    /// Opens the three standard descriptors.
    fn stdio(&self, plan: &Plan<'_>) -> Result<Stdio, Problem> {
        let null =
            |flags| rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty()).map_err(of_io);
        let input = null(OFlags::RDONLY)?;
        let (output, error, reads) = match self.stdio {
            Output::Nowhere => (null(OFlags::WRONLY)?, null(OFlags::WRONLY)?, Vec::new()),
            Output::Files => {
                make_folder(&self.logs)?;
                (append(&self.logs.join("stdout.log"))?, append(&self.logs.join("stderr.log"))?, Vec::new())
            }
            Output::Plugin => {
                make_folder(&self.io)?;
                let owner = owner(&self.spec, plan);
                let (out, out_read) = fifo(&self.keel, &self.io, &self.service.name, "stdout", owner)?;
                let (err, err_read) = fifo(&self.keel, &self.io, &self.service.name, "stderr", owner)?;
                (out, err, vec![(Role::Stdout, out_read), (Role::Stderr, err_read)])
            }
        };
        Ok(Stdio { input, output, error, reads })
    }
}

struct Stdio {
    input: OwnedFd,
    output: OwnedFd,
    error: OwnedFd,
    /// The read ends, for whoever claimed them.
    reads: Vec<(Role, OwnedFd)>,
}

/// A FIFO of the run folder: the container's end and ours. The container's is open for reading and writing, so that it never
/// meets a pipe without a reader whoever of us dies; the keel keeps ours, so that nothing that is in it is lost.
fn fifo(
    keel: &Keel,
    folder: &Path,
    service: &str,
    stream: &str,
    owner: (u32, u32),
) -> Result<(OwnedFd, OwnedFd), Problem> {
    let path = folder.join(stream);
    match rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(Problem::Io(format!("cannot make {}: {error}", path.display()))),
    }
    let opened = |error: rustix::io::Errno| Problem::Io(format!("cannot open {}: {error}", path.display()));
    let theirs = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .map_err(opened)?;
    // /dev/stdout can be opened again by the user it belongs to.
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
    let _ = rustix::fs::fchown(&theirs, Some(uid), Some(gid));
    let key = format!("io/{service}/{stream}");
    let ours = match keel.fetch(&key).map_err(of_io)? {
        Some(ours) => ours,
        None => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let ours = rustix::fs::open(&path, flags, Mode::empty()).map_err(opened)?;
            keel.keep(&key, Some(ours.as_fd())).map_err(of_io)?;
            ours
        }
    };
    Ok((theirs, ours))
}

/// The read ends of a container that runs already.
pub fn reads(keel: &Keel, service: &str) -> Vec<(Role, OwnedFd)> {
    [("stdout", Role::Stdout), ("stderr", Role::Stderr)]
        .into_iter()
        .filter_map(|(stream, role)| Some((role, keel.fetch(&format!("io/{service}/{stream}")).ok()??)))
        .collect()
}

/// Lets go of a service's FIFOs.
pub fn drop_stdio(keel: &Keel, folder: &Path, service: &str) {
    for stream in ["stdout", "stderr"] {
        let _ = keel.keep(&format!("io/{service}/{stream}"), None);
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// The container's user as the host numbers it.
fn owner(spec: &serde_json::Value, plan: &Plan<'_>) -> (u32, u32) {
    let id = |name: &str, maps: &[sampan_plan::spec::IdMapping]| {
        let pointer = format!("/process/user/{name}");
        let inside = spec.pointer(&pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let inside = u32::try_from(inside).unwrap_or(0);
        let map = maps.iter().find(|map| inside.checked_sub(map.container_id).is_some_and(|n| n < map.size));
        map.map_or(inside, |map| map.host_id.saturating_add(inside - map.container_id))
    };
    (id("uid", &plan.parent.uid_mappings), id("gid", &plan.parent.gid_mappings))
}

fn append(path: &Path) -> Result<OwnedFd, Problem> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| Problem::Io(format!("cannot open {}: {error}", path.display())))
}

fn make_folder(path: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Problem::Io(format!("cannot make {}: {error}", path.display())))
}

/// The launch's stop for plugins, from the launching thread to the loop and back.
struct Bridge<'a> {
    ask: &'a mpsc::Sender<Ask>,
    reads: Vec<(Role, OwnedFd)>,
}

impl Stages for Bridge<'_> {
    fn attach(&mut self, container: &Attached<'_>) -> sampan_runtime::error::Result<()> {
        let own = |fd: BorrowedFd<'_>| {
            fd.try_clone_to_owned().map_err(|e| sampan_runtime::error::Error::new(e.to_string()))
        };
        let mut fds = vec![(Role::Pidfd, own(container.pidfd)?)];
        if let Some(netns) = container.netns {
            fds.push((Role::Netns, own(netns)?));
        }
        for (role, fd) in &self.reads {
            fds.push((*role, own(fd.as_fd())?));
        }
        let (answer, answered) = blocking::sync_channel(1);
        let ended = || sampan_runtime::error::Error::new("sampand ends");
        self.ask.blocking_send(Ask { pid: container.pid, fds, answer }).map_err(|_| ended())?;
        match answered.recv().map_err(|_| ended())? {
            Ok(()) => Ok(()),
            Err(failure) => Err(sampan_runtime::error::Error::new(failure.to_string()).field("attach")),
        }
    }
}

/// The status of a process that is nobody's child any more (the keel that cloned it died). Known for sure from Linux 6.15 on.
pub fn foreign_status(pidfd: BorrowedFd<'_>) -> Status {
    match sampan_runtime::pidfd::exit(pidfd) {
        sampan_runtime::pidfd::Exit::Code(code) => Status::Code(code),
        sampan_runtime::pidfd::Exit::Signal(signal) => Status::Signal(signal),
        sampan_runtime::pidfd::Exit::Unknown => Status::Unknown,
    }
}

/// Waits for the end of a process that is nobody's child any more, and a moment longer: that it ended well is told for sure
/// when whoever inherited it has reaped it (pidfd_poll says so by EPOLLHUP), not yet while it is a zombie.
pub async fn reaped(pidfd: &tokio::io::unix::AsyncFd<crate::fence::Held>) {
    drop(pidfd.readable().await);
    let told = async {
        while let Ok(mut ready) = pidfd.readable().await {
            let known = foreign_status(pidfd.get_ref().as_fd()) != Status::Unknown;
            if known || ready.ready().is_read_closed() {
                break;
            }
            ready.clear_ready();
        }
    };
    let _ = tokio::time::timeout(REAPED_MAX, told).await;
}

/// (OOM kills so far, nobody left). Where it cannot be read, nobody is assumed dead: the kill that follows looks again.
pub fn last_look(hierarchies: &Hierarchies, cgroup: &str) -> (u64, bool) {
    match group(hierarchies, cgroup) {
        Ok(group) => (group.oom_kills().ok().flatten().unwrap_or(0), group.is_empty().unwrap_or(false)),
        Err(_) => (0, false),
    }
}

/// Ends every process of a service.
pub fn kill_all(
    hierarchies: &Hierarchies,
    cgroup: &str,
    pidfd: Option<BorrowedFd<'_>>,
) -> Result<(), sampan_cgroups::Error> {
    let killed = group(hierarchies, cgroup).and_then(|group| group.kill(KILL_MAX));
    if let Some(pidfd) = pidfd {
        // Also where there is no cgroup: with its init a pid namespace ends.
        let _ = sampan_runtime::pidfd::send(pidfd, libc::SIGKILL);
    }
    killed
}

/// Changes the limits of a group that exists; `resources` as in config.json. All of them, or none.
pub fn update(hierarchies: &Hierarchies, cgroup: &str, resources: &str) -> Result<Vec<String>, String> {
    let resources = sampan_plan::spec::Resources::parse(resources).map_err(|error| error.to_string())?;
    group(hierarchies, cgroup).and_then(|group| group.update(&resources)).map_err(|error| error.to_string())
}

pub fn thaw(hierarchies: &Hierarchies, cgroup: &str) {
    if let Err(error) = group(hierarchies, cgroup).and_then(|group| group.thaw(KILL_MAX)) {
        tracing::warn!(cgroup, "cannot thaw: {error}");
    }
}

/// The folder above our groups, once nothing of ours is in it.
pub fn remove_cgroup_parent(hierarchies: &Hierarchies, parent: &str) {
    if let Ok(group) = group(hierarchies, parent)
        && group.exists()
        && let Err(error) = group.remove()
    {
        tracing::warn!(cgroup = parent, "not removed: {error}");
    }
}

/// To the main process. A stopped process does not see a stop signal before it continues.
pub fn signal(live: &Live, signal: i32) {
    if let Err(error) = sampan_runtime::pidfd::send(live.pidfd.as_fd(), signal) {
        tracing::debug!(pid = live.pid, signal, "not signalled: {error}");
    }
    if signal != libc::SIGKILL {
        let _ = sampan_runtime::pidfd::send(live.pidfd.as_fd(), libc::SIGCONT);
    }
}

fn group<'h>(hierarchies: &'h Hierarchies, path: &str) -> Result<Cgroup<'h>, sampan_cgroups::Error> {
    Cgroup::at(hierarchies, &Place::Absolute(path.to_owned()))
}

/// What plugins see of a service: its table of config.toml, resolved, and the networks it may name.
pub fn service_table(service: &schema::Service, config: &crate::config::Config) -> serde_json::Value {
    let mut table = serde_json::to_value(service).unwrap_or_default();
    if let Some(table) = table.as_object_mut() {
        table.insert("name".into(), service.name.as_str().into());
        let networks = serde_json::to_value(&config.networks).unwrap_or_default();
        table.insert("network_definitions".into(), networks);
    }
    table
}

async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Problem::Io(format!("a thread of the pool failed: {error}"))))
}

fn of_io(error: impl std::fmt::Display) -> Problem {
    Problem::Io(error.to_string())
}

fn of_config(error: impl std::fmt::Display) -> Problem {
    Problem::Config(error.to_string())
}

fn of_plugin(failure: Failure) -> Problem {
    match failure.kind {
        FailureKind::Veto => Problem::Veto { plugin: failure.plugin, text: failure.reason },
        FailureKind::Conflict | FailureKind::Denied => Problem::Config(failure.to_string()),
        FailureKind::Open | FailureKind::Failed | FailureKind::Timeout | FailureKind::Waiting => {
            Problem::Io(failure.to_string())
        }
    }
}

fn of_launch(error: sampan_runtime::error::Error) -> Problem {
    if let Some(kind) = error.field.strip_prefix("hooks.") {
        let kind = kind.split(['[', '.']).next().unwrap_or(kind).to_owned();
        return Problem::Hook { kind, text: error.to_string() };
    }
    if error.field.starts_with("process.args") {
        return Problem::Exec(error.to_string());
    }
    Problem::Io(error.to_string())
}

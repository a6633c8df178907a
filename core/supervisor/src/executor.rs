//! Actions carried out: quick ones at once, the rest as jobs that answer by a message.
//!
//! `Ground` is what jobs stand on: the keel, the plugins, the folders, the config. It is shared by reference count on
//! the loop's one thread; only the keel's client and plain data go to the pool of blocking threads.
use crate::clock;
use crate::fleet::{Entry, Live, Task};
use crate::hooks;
use crate::inside::Inside;
use crate::life::{self, Launchers, UnderWay, Wanted};
use crate::places;
use crate::probe::{Exec, Target};
use crate::request::{Answer, ControlReply, failure};
use crate::settings::Event;
use crate::worker::{Message, Worker};
use sampan_api as api;
use sampan_cgroups::Hierarchies;
use sampan_config::explain::Origins;
use sampan_config::schema::Service;
use sampan_config::{Config, Loaded};
use sampan_journal as journal;
use sampan_keel::{Child, Handle, Keel, rundir};
use sampan_plugin_host::{Ctx, ExitFacts, Failure, Plugins, Reset, Role};
use sampan_service::sabotage::{Invariant, broken};
use sampan_service::{Action, Exit, Life, Ms, Problem, Status, Verdict};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Where things are (docs/config.md, folders).
#[derive(Debug, Clone)]
pub struct Dirs {
    pub run: PathBuf,
    pub state: PathBuf,
}

impl Dirs {
    /// The runtime's root: `sampan --root` on it sees our containers.
    pub fn containers(&self) -> PathBuf {
        rundir::containers(&self.run)
    }

    pub fn bundle(&self, service: &str) -> PathBuf {
        sampan_bundle::folder(&self.run, service)
    }

    pub fn io(&self, service: &str) -> PathBuf {
        self.run.join("io").join(service)
    }

    pub fn logs(&self, service: &str) -> PathBuf {
        self.state.join("logs").join(service)
    }
}

pub struct Ground {
    pub keel: Keel,
    pub plugins: Arc<Plugins>,
    pub hierarchies: &'static Hierarchies,
    pub dirs: Dirs,
    pub send: mpsc::UnboundedSender<Message>,
    /// Runs health checks' commands.
    pub exec: Arc<dyn Exec>,
    /// Absolute path below which our cgroups are, in every hierarchy.
    pub cgroup_parent: String,
    config: RefCell<Rc<Config>>,
    source: crate::source::Source,
    wishes: Wishes,
    /// Warnings that were given: each is given once.
    warned: RefCell<BTreeSet<String>>,
    gate_timer: RefCell<Option<(Ms, Task)>>,
    pub launchers: Rc<Launchers>,
    kept: RefCell<BTreeMap<String, life::Shelf>>,
    /// Services whose groups saw a kill of all: the next life does not take them over (`Cgroup::kill_if_any` says why).
    killed_in: RefCell<BTreeSet<String>>,
}

impl Ground {
    pub fn new(
        keel: Keel,
        plugins: Arc<Plugins>,
        hierarchies: &'static Hierarchies,
        cgroup_parent: String,
        config: Config,
        source: crate::source::Source,
        send: mpsc::UnboundedSender<Message>,
    ) -> Ground {
        let supervisor = &config.supervisor;
        let dirs = Dirs { run: supervisor.run_dir.clone(), state: supervisor.state_dir.clone() };
        Ground {
            cgroup_parent,
            exec: Arc::new(Inside { keel: keel.clone(), containers: dirs.containers() }),
            wishes: Wishes::start(dirs.state.clone()),
            launchers: Rc::new(Launchers::new(keel.clone())),
            keel,
            plugins,
            hierarchies,
            dirs,
            send,
            warned: RefCell::default(),
            config: RefCell::new(Rc::new(config)),
            source,
            gate_timer: RefCell::new(None),
            kept: RefCell::default(),
            killed_in: RefCell::default(),
        }
    }

    pub fn config(&self) -> Rc<Config> {
        self.config.borrow().clone()
    }

    pub fn set_config(&self, config: Config) -> Rc<Config> {
        self.config.replace(Rc::new(config))
    }

    pub fn keeps_on_exit(&self) -> bool {
        self.config().supervisor.on_exit == sampan_config::schema::OnExit::Keep
    }

    /// Reads the config again; the text is all its errors as `--check` prints them.
    pub fn reload(&self) -> Result<Loaded, String> {
        let mut warnings = Vec::new();
        let loaded = self.source.load(&mut warnings);
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        loaded
    }

    /// A launch's problem with the line of config.toml that it is about.
    pub fn located(&self, problem: Problem, service: &Service) -> Problem {
        let origin = |key: &str| self.source.place(&format!("services.{}.{key}", service.name));
        places::located(problem, service, &self.spec_of(&service.name), origin)
    }

    /// `sampanctl config` shows these.
    pub fn set_origins(&self, origins: Origins) {
        self.source.holds(origins);
    }

    /// Says it once, however often the service starts.
    pub fn warn(&self, service: &str, warning: &str) {
        if self.warned.borrow_mut().insert(format!("{service}: {warning}")) {
            tracing::warn!(service, "{warning}");
        }
    }

    pub fn explain(&self, service: Option<&str>, json: bool) -> String {
        self.source.explain(&self.config(), service, json)
    }

    /// The service's cgroup, relative to each hierarchy's mount.
    pub fn cgroup(&self, service: &str) -> String {
        sampan_bundle::cgroups_path(&self.cgroup_parent, service)
    }

    /// Waits for a main process to end; the answer is `Message::Exited`.
    pub fn watch(
        &self,
        name: &Arc<str>,
        generation: u64,
        process: life::Process,
        netns: Option<OwnedFd>,
        gate: Option<life::StartGate>,
    ) -> Live {
        let pidfd = Arc::new(process.pidfd);
        if broken(Invariant::LeakedDescriptor) {
            std::mem::forget(pidfd.clone());
        }
        let (send, service, watched) = (self.send.clone(), name.clone(), pidfd.clone());
        let own = matches!(process.handle, Some(Handle::Own(_)));
        let watch = Task::from(tokio::task::spawn_local(async move {
            match crate::fence::readable(watched) {
                Ok(fd) if own => drop(fd.readable().await),
                Ok(fd) => life::reaped(&fd).await,
                Err(error) => tracing::error!(service = &*service, "cannot watch its process: {error}"),
            }
            let _ = send.send(Message::Exited { name: service, generation });
        }));
        Live {
            generation,
            pid: process.pid,
            pidfd,
            handle: process.handle,
            oom_before: process.oom_before,
            started_at: process.started_at,
            netns: netns.map(Arc::new),
            gate,
            watch,
        }
    }

    /// The status of a main process that has ended, without reaping it.
    pub fn exit_status(&self, keel: &Keel, live: &Live) -> Status {
        let Some(Handle::Own(pid)) = live.handle else {
            return life::foreign_status(live.pidfd.as_fd());
        };
        match keel.peek(pid) {
            Ok(Some(sampan_keel::Exit::Code(code))) => Status::Code(code),
            Ok(Some(sampan_keel::Exit::Signal { number, .. })) => Status::Signal(number),
            Ok(None) => Status::Unknown,
            Err(error) => {
                tracing::error!(pid = live.pid, "cannot read its exit status: {error}");
                Status::Unknown
            }
        }
    }

    /// What the cgroup says before it is removed: OOM kills so far, and whether anybody is left.
    pub fn last_look(&self, name: &str) -> (u64, bool) {
        life::last_look(self.hierarchies, &self.cgroup(name))
    }

    pub fn ctx(&self, entry: &Entry) -> Ctx {
        Ctx {
            service: entry.name.to_string(),
            container_id: entry.name.to_string(),
            handle: entry.handle,
            attempt: entry.machine.attempts,
            pid: entry.live.as_ref().map_or(0, |live| live.pid),
        }
    }

    pub fn tell_ready(&self, entry: &Entry) {
        self.plugins.notify_ready(&self.ctx(entry));
    }

    pub fn tell_oom(&self, entry: &Entry, kills: u64) {
        self.plugins.notify_oom(&self.ctx(entry), &serde_json::json!({ "oom_kill": kills }));
    }

    pub fn tell_exit(&self, entry: &Entry, exit: Exit, lived: Option<Duration>) {
        let (code, signal, unknown) = match exit.status {
            Status::Code(code) => (code, 0, false),
            Status::Signal(signal) => (128 + signal, signal, false),
            Status::Unknown => (0, 0, true),
        };
        let runtime = lived.unwrap_or_default();
        let facts = ExitFacts { code, signal, oom: exit.oom, unknown, runtime, cause: exit.to_string() };
        self.plugins.notify_exit(&self.ctx(entry), &facts);
    }

    pub fn tell_health(&self, entry: &Entry, verdict: &Verdict) {
        let (status, output) = match verdict {
            Verdict::Healthy => ("healthy", ""),
            Verdict::Unhealthy(output) => ("unhealthy", output.as_str()),
        };
        self.plugins.notify_health(&self.ctx(entry), status, output);
    }

    pub fn missing_plugin(&self, service: &str) -> Option<String> {
        let config = self.config();
        let needs = config.services.get(service).map_or(&[][..], |service| crate::life::needs(service));
        self.plugins.waiting_for(service, needs).map(|failure| failure.plugin)
    }

    pub fn plugin_statuses(&self) -> Vec<api::PluginStatus> {
        let show = |plugin: sampan_plugin_host::Status| api::PluginStatus {
            name: plugin.name,
            version: plugin.version,
            path: plugin.path.display().to_string(),
            state: plugin.state.into(),
            reason: plugin.why,
            required: self
                .config()
                .plugins
                .values()
                .any(|config| config.required && config.path == plugin.path),
            calls: plugin.figures.calls,
            errors: plugin.figures.errors,
        };
        self.plugins.statuses().into_iter().map(show).collect()
    }

    /// Says what went wrong beside the way.
    pub fn report(&self, service: &str, failures: &[Failure]) {
        for failure in failures {
            tracing::warn!(service, "{failure}");
        }
    }

    /// On a thread of the pool: the list of those that are quarantined is a file.
    pub fn reset_plugin(self: &Rc<Self>, name: String, answer: Answer<api::PluginReset>) {
        let plugins = self.plugins.clone();
        tokio::task::spawn_blocking(move || {
            let (state, text) = match plugins.reset(&name) {
                Ok(Reset::Enabled) => ("enabled", "is enabled again"),
                Ok(Reset::Unlocked) => {
                    ("unlocked", "is not quarantined any more; it is loaded when sampand starts next")
                }
                Ok(Reset::Active) => ("active", "is active; there was nothing to reset"),
                Err(error) => return drop(answer.send(Err(failure("refused", error.to_string())))),
            };
            let text = format!("plugin {name} {text}");
            let _ = answer.send(Ok(api::PluginReset { state: state.into(), text }));
        });
    }

    pub fn control(self: &Rc<Self>, plugin: String, body: serde_json::Value, answer: Answer<ControlReply>) {
        let ground = self.clone();
        tokio::task::spawn_local(async move {
            let reply = match ground.plugins.control(&plugin, &body).await {
                Ok((body, fds)) => Ok(ControlReply { body, stream: fds.into_iter().next() }),
                Err(error) => Err(failure("refused", error.to_string())),
            };
            let _ = answer.send(reply);
        });
    }

    /// The lines of some or all services, by the plugin that has them.
    pub fn logs(
        self: &Rc<Self>,
        services: Vec<String>,
        follow: bool,
        tail: Option<u64>,
        answer: Answer<OwnedFd>,
    ) {
        let ground = self.clone();
        tokio::task::spawn_local(async move {
            let _ = answer.send(ground.read_logs(services, follow, tail).await);
        });
    }

    pub async fn read_logs(
        &self,
        services: Vec<String>,
        follow: bool,
        tail: Option<u64>,
    ) -> Result<OwnedFd, api::Failure> {
        let Some(plugin) = self.plugins.claimant("stdio") else {
            return Err(failure(
                "refused",
                format!("no plugin keeps logs; the output is in {}", self.dirs.state.join("logs").display()),
            ));
        };
        let services = if services.is_empty() { serde_json::Value::Null } else { services.into() };
        let body =
            serde_json::json!({ "verb": "read", "services": services, "follow": follow, "tail": tail });
        match self.plugins.control(&plugin, &body).await {
            Ok((_, fds)) => fds
                .into_iter()
                .next()
                .ok_or_else(|| failure("internal", format!("plugin {plugin} returned no log stream"))),
            Err(error) => Err(failure("refused", error.to_string())),
        }
    }

    /// Looks at the gate (and at clients with a limit) again at this time.
    pub fn wake_gate(&self, at: Ms) {
        let mut timer = self.gate_timer.borrow_mut();
        if timer.as_ref().is_some_and(|(armed, _)| *armed <= at && *armed > clock::boottime()) {
            return;
        }
        let send = self.send.clone();
        *timer = Some((at, sleep_until(at, move || drop(send.send(Message::Gate)))));
    }

    pub fn save_desired(&self, desired: journal::Desired) {
        self.wishes.newest.send_replace(Some(desired));
    }

    /// Waits until what was saved last is on the disk.
    pub async fn flush_desired(&self) {
        let mut written = self.wishes.written.clone();
        let asked = self.wishes.newest.borrow().clone();
        let _ = written.wait_for(|written| *written == asked).await;
    }

    /// The config.json of a life; null where there is none any more.
    pub fn spec_of(&self, service: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.dirs.bundle(service).join("config.json"));
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Attaches a container that ran on while no worker, or another one, looked.
    pub async fn replay_attach(&self, entry: &Entry, live: &Live) {
        let (mut fds, lost) = life::reads(&self.keel, &self.dirs.io(&entry.name), &entry.name);
        fds.extend(live.pidfd.try_clone().ok().map(|fd| (Role::Pidfd, fd)));
        fds.extend(live.netns.as_ref().and_then(|fd| fd.try_clone().ok()).map(|fd| (Role::Netns, fd)));
        let fds: Vec<_> = fds.iter().map(|(role, fd)| (*role, fd.as_fd())).collect();
        if let Err(failure) = self.plugins.replay(&self.ctx(entry), &fds).await {
            tracing::error!(service = &*entry.name, "attached again after a crash of sampand: {failure}");
        }
        if lost {
            self.mark_lost(&entry.name);
        }
    }

    /// For a life that ended while nobody held its output: what stood in the pipes is gone, what is written now is read.
    pub async fn attach_lost_output(&self, entry: &Entry) {
        let Some(plugin) = self.plugins.claimant("stdio") else { return };
        let (ends, lost) = life::reads(&self.keel, &self.dirs.io(&entry.name), &entry.name);
        if !lost {
            return;
        }
        if let Err(failure) = self.plugins.attach_output(&self.ctx(entry), &plugin, ends).await {
            tracing::error!(service = &*entry.name, "its output is not read: {failure}");
        }
        self.mark_lost(&entry.name);
    }

    fn mark_lost(&self, service: &str) {
        let mark = "[sampand: every process of it was killed at once; lines may be missing before this one]";
        tracing::warn!(
            service,
            "every process of sampand was killed at once: lines may be missing in its log"
        );
        let service = service.to_owned();
        let log = hooks::Log::Pipe(self.dirs.io(&service).join("stderr"));
        tokio::task::spawn_blocking(move || match log.open() {
            Some(pipe) if life::write_line(&pipe, mark) => {}
            _ => tracing::error!(service, "the mark is not in its log: its pipe takes no more"),
        });
    }

    /// Writes changed limits into what runs.
    pub fn update_resources(&self, entry: &Entry) {
        let resources = sampan_bundle::live_resources(&entry.config().resources);
        let (hierarchies, cgroup, name) =
            (self.hierarchies, self.cgroup(&entry.name), entry.name.to_string());
        let (plugins, ctx) = (self.plugins.clone(), self.ctx(entry));
        tokio::task::spawn_blocking(move || {
            match life::update(hierarchies, &cgroup, &resources.to_string()) {
                Ok(warnings) => {
                    warnings.iter().for_each(|warning| tracing::warn!(service = name, "{warning}"));
                    plugins.notify_updated(&ctx, &serde_json::json!(resources));
                }
                Err(error) => tracing::error!(service = name, "limits not changed: {error}"),
            }
        });
    }

    /// What the service keeps from one life to the next. Whoever works on that holds the lock: a life is made, cleaned up or
    /// what it kept is let go of, one after the other.
    pub fn shelf(&self, name: &str) -> life::Shelf {
        self.kept.borrow_mut().entry(name.to_owned()).or_default().clone()
    }

    pub fn note_kill(&self, name: &str) {
        self.killed_in.borrow_mut().insert(name.to_owned());
    }

    /// Whether its groups saw a kill of all since this was asked last.
    pub fn was_killed_in(&self, name: &str) -> bool {
        self.killed_in.borrow_mut().remove(name)
    }

    /// A service has left for good: what the run folder has of it goes.
    pub fn forget(&self, name: &str) {
        self.plugins.forget(name);
        self.kept.borrow_mut().remove(name);
        self.killed_in.borrow_mut().remove(name);
        let (io, keel, name) = (self.dirs.io(name), self.keel.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || {
            life::drop_stdio(&keel, &io, &name);
        });
    }

    /// Where hooks of a service write now, after a life or without one.
    pub fn hook_log(&self, service: &sampan_config::schema::Service) -> hooks::Log {
        if service.logging.driver == sampan_config::schema::LogDriver::None {
            hooks::Log::Nowhere
        } else if self.plugins.claimant("stdio").is_some() {
            hooks::Log::Pipe(self.dirs.io(&service.name).join("stderr"))
        } else {
            hooks::Log::File(self.dirs.logs(&service.name).join("stderr.log"))
        }
    }

    /// Goes on with the poststart hooks of a container that an earlier worker started.
    pub fn finish_poststart(&self, service: &sampan_config::schema::Service, generation: u64) {
        let (keel, containers, log) = (self.keel.clone(), self.dirs.containers(), self.hook_log(service));
        let name = service.name.clone();
        tokio::task::spawn_blocking(move || {
            hooks::go_on(&keel, &containers, &name, &life::tag(&name, generation), &log)
        });
    }

    /// A child of the keel that nobody waits for: killed and reaped.
    pub fn end_stray(&self, child: Child) {
        let keel = self.keel.clone();
        tokio::task::spawn_blocking(move || life::end(&keel, &child));
    }

    /// A worker before us was interrupted when it let go of what a service had kept.
    pub fn let_go(self: &Rc<Self>, name: &str) {
        let (ground, name) = (self.clone(), name.to_owned());
        tokio::task::spawn_local(async move {
            if let Err(problem) = life::let_go(&ground, &name, None).await {
                tracing::warn!(service = name, "cannot remove what it kept: {problem}");
            }
        });
    }

    /// Ends and removes what is left of a service that has no entry.
    pub fn discard(self: &Rc<Self>, name: &str, generation: u64, child: Option<Child>) {
        let (ground, name) = (self.clone(), name.to_owned());
        tokio::task::spawn_local(async move {
            if let Err(problem) = life::discard(&ground, &name, generation, child).await {
                tracing::error!(service = name, "cannot remove what is left of it: {problem}");
            }
            // Unless the config names it again.
            if !ground.config().services.contains_key(&name) {
                ground.forget(&name);
            }
        });
    }

    fn answer(&self, name: &Arc<str>, generation: u64, life: Life) {
        let _ = self.send.send(Message::Service { name: name.clone(), event: Event::life(generation, life) });
    }
}

/// A task that does something at an instant of CLOCK_BOOTTIME. tokio's clock stands still while the host sleeps, so
/// the rest of the wait is looked at again when it wakes.
fn sleep_until(at: Ms, then: impl FnOnce() + 'static) -> Task {
    Task::from(tokio::task::spawn_local(async move {
        loop {
            let left = at.since(clock::boottime());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left).await;
        }
        then();
    }))
}

/// One task writes desired.json: always the newest, never two at once.
#[derive(Debug)]
struct Wishes {
    newest: watch::Sender<Option<journal::Desired>>,
    written: watch::Receiver<Option<journal::Desired>>,
}

impl Wishes {
    fn start(state: PathBuf) -> Wishes {
        let (newest, mut asked) = watch::channel(None::<journal::Desired>);
        let (done, written) = watch::channel(None);
        tokio::task::spawn_local(async move {
            while asked.changed().await.is_ok() {
                let Some(desired) = asked.borrow_and_update().clone() else { continue };
                let (folder, copy) = (state.clone(), desired.clone());
                match tokio::task::spawn_blocking(move || copy.save(&folder)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!("cannot save {}: {error}", state.join("desired.json").display());
                    }
                    Err(error) => tracing::error!("saving desired.json: {error}"),
                }
                done.send_replace(Some(desired));
            }
        });
        Wishes { newest, written }
    }
}

impl Worker {
    /// Does one action of the machine, in the order given and after the transition is on record.
    pub(crate) fn act(&mut self, name: &str, action: Action) {
        let ground = self.ground.clone();
        let Some(entry) = self.fleet.get_mut(name) else { return };
        let (service, generation) = (entry.name.clone(), entry.machine.generation);
        match action {
            Action::Create => {
                entry.owners.clear();
                // Each life has its own number in the plugins' eyes, so that a late reply never meets the next one.
                entry.handle = self.next_handle;
                self.next_handle += 1;
                let under_way = entry.under_way.insert(UnderWay::new(service.clone())).clone();
                let config = entry.machine.config().shared();
                let wanted = Wanted { config, generation, ctx: ground.ctx(entry), under_way };
                tokio::task::spawn_local(async move {
                    let result = life::create(&ground, wanted).await;
                    let _ = ground.send.send(Message::Born { name: service, generation, result });
                });
            }
            Action::Start => {
                let ctx = ground.ctx(entry);
                let gate = entry.live.as_mut().and_then(|live| live.gate.take());
                let config = entry.machine.config().shared();
                let under_way = entry.under_way.insert(UnderWay::new(service.clone())).clone();
                tokio::task::spawn_local(async move {
                    let answer = match life::start(&ground, &ctx, gate, &under_way).await {
                        Ok(()) => Life::Started,
                        Err(problem) => {
                            let problem = ground.located(problem, &config);
                            tracing::warn!(service = &*service, "cannot start: {problem}");
                            Life::StartFailed(problem)
                        }
                    };
                    ground.answer(&service, generation, answer);
                });
            }
            Action::Drain => {
                let ctx = ground.ctx(entry);
                let (reason, grace) = (entry.machine.cause.clone(), entry.config().stop_grace_period);
                tokio::task::spawn_local(async move {
                    ground.report(&service, &ground.plugins.stop(&ctx, &reason, grace).await);
                    ground.answer(&service, generation, Life::Drained);
                });
            }
            Action::Signal(signal) => {
                if let Some(live) = &entry.live {
                    life::signal(live, signal);
                    ground.plugins.notify_stopping(&ground.ctx(entry));
                }
            }
            Action::KillCgroup => {
                // Those of this life, now: by the time that a thread is free others may have their name. The next life does not
                // take these over, so that nobody is put into a group whose kill is still to come.
                ground.note_kill(name);
                let groups = life::hold(ground.hierarchies, &ground.cgroup(name));
                let pidfd = entry.live.as_ref().and_then(|live| live.pidfd.try_clone().ok());
                let under_way = entry.under_way.clone();
                tokio::task::spawn_local(async move {
                    // First whoever may still put somebody in there, or make the groups anew: then those are this life's.
                    let groups = match under_way {
                        Some(under_way) => {
                            under_way.end().await;
                            life::hold(ground.hierarchies, &ground.cgroup(&service))
                        }
                        None => groups,
                    };
                    let killed = tokio::task::spawn_blocking(move || {
                        life::kill_all(groups, pidfd.as_ref().map(AsFd::as_fd))
                    });
                    let empty = match killed.await {
                        Ok(Ok(())) => true,
                        Ok(Err(error)) => {
                            tracing::warn!(service = &*service, "cannot kill all of it: {error}");
                            false
                        }
                        Err(error) => {
                            tracing::error!(service = &*service, "killing it: {error}");
                            false
                        }
                    };
                    ground.answer(&service, generation, Life::Killed { empty });
                });
            }
            Action::Thaw => {
                let (cgroup, hierarchies) = (ground.cgroup(name), ground.hierarchies);
                tokio::task::spawn_blocking(move || life::thaw(hierarchies, &cgroup));
            }
            Action::Cleanup { keep } => {
                let order = life::Remains {
                    ctx: ground.ctx(entry),
                    generation,
                    config: entry.machine.config().shared(),
                    keep,
                };
                tokio::task::spawn_local(async move {
                    let answer = match life::cleanup(&ground, order).await {
                        Ok(()) => Life::CleanedUp,
                        Err(problem) => {
                            ground.warn(&service, &format!("cannot clean up: {problem}"));
                            Life::CleanupFailed(problem)
                        }
                    };
                    ground.answer(&service, generation, answer);
                });
            }
            Action::DropKept => {
                let ctx = ground.ctx(entry);
                tokio::task::spawn_local(async move {
                    if let Err(problem) = life::let_go(&ground, &service, Some(&ctx)).await {
                        tracing::warn!(service = &*service, "cannot remove what it kept: {problem}");
                    }
                });
            }
            Action::Arm { at } => {
                let send = ground.send.clone();
                entry.timer = Some(sleep_until(at, move || {
                    let event = Event::life(generation, Life::Timer);
                    let _ = send.send(Message::Service { name: service, event });
                }));
            }
            Action::Disarm => entry.timer = None,
            Action::HealthBegin => {
                if let (Some(check), Some(live)) = (&entry.config().healthcheck, &entry.live) {
                    let target = Target {
                        service: name.to_owned(),
                        generation,
                        pid: live.pid,
                        pidfd: live.pidfd.clone(),
                        netns: live.netns.clone(),
                        exec: ground.exec.clone(),
                    };
                    self.probes.begin(target, check, entry.machine.state.health());
                }
            }
            Action::HealthEnd => self.probes.end(name),
            Action::RequestStart => {
                self.gate.request(name, entry.machine.attempts > 0);
                self.gate_dirty = true;
            }
            Action::ReleaseStart => {
                self.gate.release(name);
                self.gate_dirty = true;
            }
            Action::Announce => self.gate_dirty = true,
        }
    }
}

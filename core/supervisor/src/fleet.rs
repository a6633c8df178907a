//! The services of this sampand: each with its config, its machine, and what belongs to its present life.
//!
//! Plain data and look-ups; what moves it is `worker`, what touches the world is `life`. A service keeps its entry
//! until it has left the config and is at rest.
use crate::life::UnderWay;
use crate::probe::Last;
use crate::sd_notify::Notifications;
use crate::settings::{Service, condition};
use crate::task::Task;
use jiff::Timestamp;
use sampan_api as api;
use sampan_bundle::image::Used;
use sampan_config::Config;
use sampan_config::schema;
use sampan_keel::Handle;
use sampan_plugin_host::Ctx;
use sampan_service::graph::{Graph, Need};
use sampan_service::limits::Bucket;
use sampan_service::{Down, Exit, Failure, Ms, Problem, Rest, State, Status, WaitFor, Wanted};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A launch that takes so long waits for something.
const SLOW: Duration = Duration::from_secs(1);

/// The container of the present generation.
#[derive(Debug)]
pub struct Live {
    pub generation: u64,
    pub pid: i32,
    pub pidfd: Arc<OwnedFd>,
    /// How the keel knows it; none: it outlived a keel and its holder, and only we have a pidfd.
    pub handle: Option<Handle>,
    /// OOM kills that its cgroup had counted when it began.
    pub oom_before: u64,
    /// Frozen by us, and not checked.
    pub paused_since: Option<Ms>,
    /// As `update` has changed them; none: the config's.
    pub limits: Option<Box<schema::Resources>>,
    /// Real time, for people; none for an adopted one whose beginning nobody noted.
    pub started_at: Option<SystemTime>,
    /// Its network namespace; none where it has the host's.
    pub netns: Option<Arc<OwnedFd>>,
    /// How to start it; none once it is started. Dropped, the process exits.
    pub gate: Option<crate::life::StartGate>,
    /// Waits for the pidfd.
    pub watch: Task,
    /// Its lifecycle.post_start; whatever of it is not over ends with the life.
    pub steps: Option<Task>,
    /// What it says of itself; none: it cannot, or does not run yet.
    pub says: Option<Notifications>,
}

/// The end of a main process, as plugins are told of it.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub exit: Exit,
    /// None where nobody noted when it began.
    pub lived: Option<Duration>,
    /// OOM kills in its group in this life.
    pub oom_kills: u64,
}

#[derive(Debug)]
pub struct Entry {
    pub name: Arc<str>,
    pub machine: Service,
    /// The container as plugins know it. Never reused.
    pub handle: u64,
    pub live: Option<Live>,
    pub timer: Option<Task>,
    /// How its program ended, before the start had its answer: plugins are told when that has come, so that they hear of the
    /// start first.
    pub untold: Option<Ended>,
    /// The launch or start that was ordered last.
    pub under_way: Option<Rc<UnderWay>>,
    /// Leaf of the container's config -> the plugin that set it.
    pub owners: BTreeMap<String, String>,
    /// What the root of the present life is made of, where that is an image.
    pub image: Option<Used>,
    /// Before the next life's turn.
    pub fetch: Option<Fetch>,
    /// Why the image of the next life could not be got.
    pub no_image: Option<String>,
    /// When it begins by time.
    pub next_run: Option<Timestamp>,
}

/// An image that is being got, or looked for. Dropped, nobody of this service waits for it any more.
#[derive(Debug)]
pub struct Fetch {
    pub number: u64,
    pub image: schema::Image,
    /// For people; none as long as nothing is got.
    pub how_far: Rc<RefCell<Option<String>>>,
    pub _task: Task,
}

impl Entry {
    pub fn new(config: Arc<schema::Service>, handle: u64) -> Entry {
        Entry {
            name: config.name.as_str().into(),
            machine: Service::new(config.into()),
            handle,
            live: None,
            timer: None,
            untold: None,
            under_way: None,
            owners: BTreeMap::new(),
            image: None,
            fetch: None,
            no_image: None,
            next_run: None,
        }
    }

    /// Its program is told to start, and whoever does it has not answered yet.
    pub fn is_being_started(&self) -> bool {
        let gate_is_taken = self.live.as_ref().is_some_and(|live| live.gate.is_none());
        self.under_way.is_some() && gate_is_taken && self.machine.state.is_launching()
    }

    /// Of the present life; where there is none, of the next.
    pub fn config(&self) -> &schema::Service {
        self.machine.config()
    }

    /// As plugins know it.
    pub fn ctx(&self) -> Ctx {
        Ctx {
            service: self.name.to_string(),
            container_id: self.name.to_string(),
            handle: self.handle,
            attempt: self.machine.attempts,
            pid: self.live.as_ref().map_or(0, |live| live.pid),
        }
    }

    fn status(&self, now: Ms) -> api::Status {
        let machine = &self.machine;
        api::Status {
            name: self.name.to_string(),
            state: if self.paused_since().is_some() { "paused" } else { machine.state.name() }.into(),
            text: self.text(now),
            health: match (&machine.state, self.config().healthcheck.is_some()) {
                (State::Starting { .. } | State::Running { .. }, true) => machine.state.health().to_string(),
                _ => "-".into(),
            },
            wanted: match machine.wanted {
                Wanted::Up => "up".into(),
                Wanted::Down(_) => "down".into(),
            },
            restarts: machine.restarts,
            last_exit: machine.last_exit.map(show_exit),
            pid: self.live.as_ref().map(|live| live.pid),
            ports: self.config().ports.iter().map(show_port).collect(),
            generation: machine.generation,
            exit_code: machine.last_exit.and_then(|exit| exit.number()),
            labels: self.config().labels.clone(),
            next_run: self.next_run.map(|at| at.to_string()),
            not_started: not_started(&machine.state),
            one_off_of: self.config().of.clone(),
        }
    }

    /// None also while it is stopped: that thaws it first.
    fn paused_since(&self) -> Option<Ms> {
        self.live.as_ref()?.paused_since.filter(|_| matches!(self.machine.state, State::Running { .. }))
    }

    /// It rests, and nothing of it is being done any more.
    pub fn is_at_rest(&self) -> bool {
        self.machine.state.is_at_rest() && self.machine.job.is_none()
    }

    /// Its state; a launch that takes a while says what it waits for.
    fn text(&self, now: Ms) -> String {
        let state = &self.machine.state;
        let how_far = self.fetch.as_ref().and_then(|fetch| fetch.how_far.borrow().clone());
        if let (State::Waiting { .. }, Some(how_far)) = (state, how_far) {
            return format!("waiting image {how_far}");
        }
        if let Some(since) = self.paused_since() {
            return format!("paused {}", sampan_service::time::Span(now.since(since)));
        }
        let mut text = match state {
            State::Stopped { why: Rest::Finished } => "done".into(),
            State::Stopped { why: Rest::Scheduled } => state.name().into(),
            State::Stopped { .. } if self.machine.generation == 0 => "never started".into(),
            State::Stopped { why: Rest::Down(Down::Hand) } => "stopped by hand".into(),
            _ => state.show(now).to_string(),
        };
        let says = self
            .live
            .as_ref()
            .and_then(|live| live.says.as_ref())
            .map(Notifications::aside)
            .unwrap_or_default();
        if let Some(at) = self.next_run.filter(|_| state.is_at_rest()) {
            text.push_str(&format!(", next {}", crate::clock::local(at)));
        }
        match &self.under_way {
            Some(under_way) if state.is_launching() && under_way.age() >= SLOW => {
                format!("{text} {}s: {}", under_way.age().as_secs(), under_way.doing())
            }
            Some(_) | None => text + &says,
        }
    }

    /// Those that hold: the config's, or what `update` has made of them for this life.
    pub fn limits(&self) -> &schema::Resources {
        let changed = self.live.as_ref().and_then(|live| live.limits.as_deref());
        changed.unwrap_or(&self.config().resources)
    }

    pub fn inspect(&self, status: api::Status, bundle: Option<String>, check: Option<Last>) -> api::Inspect {
        let exit = self.machine.last_exit;
        let totals = self.machine.totals();
        api::Inspect {
            status,
            signal: exit.and_then(|exit| match exit.status {
                Status::Signal(signal) => Some(signal),
                Status::Code(_) | Status::Unknown => None,
            }),
            oom: exit.is_some_and(|exit| exit.oom),
            totals: api::Totals { restarts: totals.restarts, last_exit: totals.last_exit.map(show_exit) },
            container_id: self.name.to_string(),
            bundle,
            attempt: self.machine.attempts,
            started_at: self.live.as_ref().and_then(|live| live.started_at).map(crate::clock::rfc3339),
            addresses: Vec::new(),
            mounts: mounts(self.config()),
            environment: self.config().environment.keys().cloned().collect(),
            limits: serde_json::to_value(self.limits()).unwrap_or_default(),
            owners: self.owners.clone(),
            image: self.image.as_ref().map(|used| api::Image {
                reference: used.reference.clone(),
                digest: used.digest.clone(),
                exposed_ports: used.exposed_ports.clone(),
            }),
            notified: self.live.as_ref().and_then(|live| live.says.as_ref()).map(Notifications::as_api),
            last_check: check.map(|last| api::HealthResult {
                ok: last.outcome.ok,
                output: last.outcome.output,
                took_ms: u64::try_from(last.outcome.took.as_millis()).unwrap_or(u64::MAX),
                failures: last.failures,
            }),
        }
    }
}

/// As docker run ends where it could not run what it was to.
fn not_started(state: &State) -> Option<u8> {
    let State::Failed { why } = state else { return None };
    match why {
        Failure::Problem(Problem::Exec(text)) if is_no_program(text) => Some(127),
        Failure::Problem(Problem::Exec(_)) => Some(126),
        Failure::Problem(_) | Failure::StartTimeout => Some(125),
        Failure::Exit(_) | Failure::Attempts(_) | Failure::Unhealthy | Failure::Oom => None,
    }
}

/// By the runtime's words for it (`sampan_runtime::error::Error::exec`).
fn is_no_program(text: &str) -> bool {
    ["not found in $PATH", "no such file or directory"].iter().any(|words| text.contains(words))
}

fn mounts(config: &schema::Service) -> Vec<api::Mount> {
    let mount = |kind: &str, source: String, target: &str, read_only| api::Mount {
        kind: kind.into(),
        source,
        target: target.to_owned(),
        read_only,
    };
    let volumes = config.volumes.iter().map(|volume| {
        mount("volume", volume.source.path().display().to_string(), &volume.target, volume.read_only)
    });
    let tmpfs = config.tmpfs.iter().map(|tmpfs| mount("tmpfs", String::new(), &tmpfs.target, false));
    let secrets =
        config.secrets.iter().map(|secret| mount("secret", secret.source.clone(), &secret.target, true));
    volumes.chain(tmpfs).chain(secrets).collect()
}

/// `0`, `137 SIGKILL`, `137 oom`, `unknown`.
fn show_exit(exit: Exit) -> String {
    match (exit.number(), exit.oom) {
        (Some(number), true) => format!("{number} oom"),
        _ => exit.to_string(),
    }
}

/// `127.0.0.1:8080->80/tcp`.
pub fn show_port(port: &schema::Port) -> String {
    let protocol = match port.protocol {
        schema::Protocol::Tcp => "tcp",
        schema::Protocol::Udp => "udp",
    };
    let address = port.host_ip.map_or_else(|| "0.0.0.0".into(), |ip| ip.to_string());
    format!("{address}:{}->{}/{protocol}", port.published, port.target)
}

/// All entries, by name.
#[derive(Debug, Default)]
pub struct Fleet {
    pub entries: BTreeMap<Arc<str>, Entry>,
}

impl Fleet {
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// The row of `ps`; of what waits in vain it says why.
    pub fn status(&self, entry: &Entry, now: Ms) -> api::Status {
        let mut status = entry.status(now);
        if let State::Waiting { on: WaitFor::Dependency { service, .. }, .. } = &entry.machine.state
            && let Some(on) = self.get(service)
            && matches!(on.machine.state, State::Failed { .. })
        {
            status.text.push_str(&format!(" ({service}: {})", on.machine.state.show(now)));
        }
        status
    }

    pub fn names(&self) -> Vec<Arc<str>> {
        self.entries.keys().cloned().collect()
    }

    pub fn all_at_rest(&self) -> bool {
        self.entries.values().all(Entry::is_at_rest)
    }
}

/// Who needs whom. The config has no cycles and no unknown names: `config::load` refuses both. What a one-off needs may have left.
pub fn graph(config: &Config) -> Graph {
    let need = |(on, how): (&String, &schema::Dependency)| Need {
        on: on.clone(),
        condition: condition(how.condition),
        required: how.required,
        restart: how.restart,
        bind: how.bind,
    };
    let is_there = |(on, _): &(&String, &schema::Dependency)| config.services.contains_key(*on);
    let needs = |service: &schema::Service| {
        let all = service.depends_on.iter();
        all.filter(|need| service.of.is_none() || is_there(need)).map(need).collect()
    };
    let all = config.services.iter().map(|(name, service)| (name.clone(), needs(service))).collect();
    Graph::new(all).unwrap_or_default()
}

/// The start gate's limits: slots, and the bucket of restarts.
pub fn limits(config: &schema::Supervisor, now: Ms) -> (usize, Option<Bucket>) {
    let slots = match config.max_parallel_starts {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    (slots, Bucket::new(config.restart_storm.burst, config.restart_storm.interval, now))
}

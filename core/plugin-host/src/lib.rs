//! The plugin host: loads plugins, asks them in order at each step of a container's life, and judges their answers.
//!
//! ```text
//!  worker's loop --> Plugins (life.rs): order, policy, merge --> Plugin (call.rs): queue, own thread, deadline --> C table
//!                                                           <-- table.rs: complete, log, put, keep_fd, ... <-- any thread
//! ```
//! A plugin is as trusted as sampand; what is guarded against are mistakes: a hang costs one plugin, a panic one request, a
//! crash is blamed on the page that outlives it (quarantine.rs). Known, not built: isolation = "process", loop = true, hot
//! reload, command plugins, sandbox.
pub mod digest;
pub mod queue;
mod call;
mod containers;
mod kv;
mod library;
mod life;
mod order;
mod quarantine;
mod table;

pub use life::{Created, ExitFacts, Running};
pub use table::{Kind as MetricKind, Metric};

use call::{Message, Plugin};
use containers::Containers;
use library::Library;
use order::Wish;
use quarantine::{List, Page};
use sampan_config as config;
use sampan_plugin::abi;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Bound;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

pub use sampan_plugin::types::Role;

/// They load from `plugin_dir` unasked.
pub const SHIPPED: [&str; 3] = ["network", "logging", "cgroups"];
/// Containers in one `synchronize` call.
const SYNCHRONIZE_CHUNK: usize = 64;
/// What the keel takes as a key.
const KEEL_KEY_BYTES_MAX: usize = sampan_keel::NAME_MAX;

/// The container that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ctx {
    pub service: String,
    /// Stable over restarts of the worker.
    pub container_id: String,
    /// Never reused while this worker lives, never 0.
    pub handle: u64,
    /// 0 on the first start, then one more for each restart in a row.
    pub attempt: u32,
    /// 0 before the process exists.
    pub pid: i32,
}

/// Who holds descriptors while the worker is away: the keel.
pub trait KeepFd: Send + Sync {
    /// Replaces an older one under the same key; `None` drops it.
    fn keep(&self, key: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()>;
    fn fetch(&self, key: &str) -> io::Result<Option<OwnedFd>>;
    fn keys(&self) -> io::Result<Vec<String>>;
}

impl KeepFd for sampan_keel::Keel {
    fn keep(&self, key: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        sampan_keel::Keel::keep(self, key, fd).map_err(io::Error::other)
    }
    fn fetch(&self, key: &str) -> io::Result<Option<OwnedFd>> {
        sampan_keel::Keel::fetch(self, key).map_err(io::Error::other)
    }
    fn keys(&self) -> io::Result<Vec<String>> {
        Ok(self.list().map_err(io::Error::other)?.keys)
    }
}

/// What a failure of a plugin means for the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    Fail,
    #[default]
    Ignore,
    Disable,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub required: bool,
    pub on_error: OnError,
    pub timeout: Duration,
    pub hard_timeout: Duration,
    pub open_timeout: Duration,
    /// Globs over service names.
    pub services: Vec<String>,
    pub grants: Vec<String>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            required: false,
            on_error: OnError::Ignore,
            timeout: Duration::from_secs(5),
            hard_timeout: Duration::from_secs(60),
            open_timeout: Duration::from_secs(10),
            services: vec!["*".to_owned()],
            grants: Vec::new(),
        }
    }
}

impl Policy {
    fn covers(&self, service: &str) -> bool {
        self.services.iter().any(|glob| config::glob::fits(glob, service))
    }
}

/// One plugin of the config.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    pub name: String,
    pub path: PathBuf,
    pub config: Value,
    pub after: Vec<String>,
    pub policy: Policy,
}

impl PluginConfig {
    pub fn new(name: &str, path: impl Into<PathBuf>) -> PluginConfig {
        PluginConfig {
            name: name.to_owned(),
            path: path.into(),
            config: json!({}),
            after: Vec::new(),
            policy: Policy::default(),
        }
    }
}

/// The shipped three that are in `plugin_dir`, then those of config.toml; what the config disables is left out.
pub fn discover(plugin_dir: &Path, tables: &BTreeMap<String, config::schema::Plugin>) -> Vec<PluginConfig> {
    let shipped = SHIPPED.iter().filter(|name| !tables.contains_key(**name)).filter_map(|name| {
        let path = plugin_dir.join(format!("lib{name}.so"));
        path.exists().then(|| PluginConfig::new(name, path))
    });
    let place = |name: &str| SHIPPED.iter().position(|shipped| *shipped == name).unwrap_or(SHIPPED.len());
    let named = tables.iter().filter(|(_, table)| table.enabled).map(|(name, table)| PluginConfig {
        name: name.clone(),
        path: table.path.clone(),
        config: table.config.clone(),
        after: table.after.clone(),
        policy: Policy {
            required: table.required,
            on_error: match table.on_error {
                config::schema::OnError::Fail => OnError::Fail,
                config::schema::OnError::Ignore => OnError::Ignore,
                config::schema::OnError::Disable => OnError::Disable,
            },
            timeout: table.timeout,
            hard_timeout: table.hard_timeout,
            open_timeout: table.open_timeout,
            services: table.services.clone(),
            grants: table.grants.clone(),
        },
    });
    let mut all: Vec<PluginConfig> = shipped.chain(named).collect();
    all.sort_by_key(|plugin| place(&plugin.name));
    all
}

/// Where and for whom plugins run.
pub struct HostEnv {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    pub boot_id: String,
    /// Why plugins are opened: `start`, or `crash` (of the worker before).
    pub reason: &'static str,
    pub keep: Arc<dyn KeepFd>,
}

/// Why a step cannot go on, or what went wrong beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub plugin: String,
    pub event: &'static str,
    pub kind: FailureKind,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It cannot be loaded or opened.
    Open,
    /// The answer "no".
    Veto,
    Failed,
    Timeout,
    /// Two plugins want different things.
    Conflict,
    /// It wants what it has no grant for.
    Denied,
    /// Of no plugin: sampand itself could not do its part.
    Host,
    /// A required plugin is not there: the start waits, it has not failed.
    Waiting,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { plugin, event, reason, kind } = self;
        match kind {
            FailureKind::Open => write!(f, "plugin {plugin}: {reason}"),
            FailureKind::Veto => write!(f, "plugin {plugin} vetoed {event}: {reason}"),
            FailureKind::Host => write!(f, "{event}: {reason}"),
            FailureKind::Conflict => f.write_str(reason),
            FailureKind::Waiting => write!(f, "waiting for plugin {plugin}: {reason}"),
            FailureKind::Timeout | FailureKind::Failed | FailureKind::Denied => {
                write!(f, "plugin {plugin}: {event}: {reason}")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// Something that a plugin wants done (`abi::OP_SIGNAL`, `OP_START`, `OP_STOP`, `OP_RESTART`). Dropped: cancelled.
#[derive(Debug)]
pub struct Ask {
    pub op: u32,
    pub service: String,
    pub args: Value,
    pub asker: Asker,
}

pub struct Asker {
    plugin: &'static Plugin,
    token: u64,
    answered: bool,
}

impl Asker {
    pub fn plugin(&self) -> &str {
        &self.plugin.name
    }

    pub fn answer(mut self, result: Result<Value, String>) {
        self.answered = true;
        match result {
            Ok(value) => self.plugin.result(self.token, abi::OK, value.to_string().as_bytes()),
            Err(text) => self.plugin.result(self.token, abi::E_FAIL, text.as_bytes()),
        }
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}", self.plugin.name)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if !self.answered {
            self.plugin.result(self.token, abi::E_CANCELLED, b"sampand ends");
        }
    }
}

/// What all plugins share.
pub struct World {
    containers: Mutex<Containers>,
    kept: Kept,
    kv_writer: kv::Writer,
    rt: tokio::runtime::Handle,
    asks: mpsc::UnboundedSender<Ask>,
    back: Arc<Notify>,
    seq: AtomicU64,
    page: Page,
    peers: RwLock<Vec<&'static Plugin>>,
}

impl World {
    fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> RwLockReadGuard<'_, Vec<&'static Plugin>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed)
    }

    /// All that lives, in chunks, for one plugin; what was kept goes with the first.
    fn synchronize_messages(&self, plugin: &Plugin, kept: Vec<KeptFd>) -> Vec<Message> {
        let containers = self.containers();
        let lines: Vec<Value> = containers
            .all()
            .filter(|container| plugin.policy.covers(&container.ctx.service))
            .map(containers::Container::line)
            .collect();
        let mut chunks: Vec<&[Value]> = lines.chunks(SYNCHRONIZE_CHUNK).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        let mut kept = Some(kept);
        chunks
            .into_iter()
            .enumerate()
            .map(|(n, chunk)| {
                let kept = kept.take().unwrap_or_default();
                let lines: Vec<Value> = kept
                    .iter()
                    .map(|kept| {
                        json!({ "container": containers.handle_of(&kept.id), "container_id": kept.id, "key": kept.key })
                    })
                    .collect();
                let fds = kept.into_iter().enumerate().map(|(n, kept)| (Role::Other(n as u32).number(), kept.fd));
                let flags = if n < last { abi::F_MORE } else { 0 };
                let body = json!({ "containers": chunk, "kept": lines });
                Message { flags, fds: fds.collect(), ..Message::new(abi::EV_SYNCHRONIZE) }.body(&body)
            })
            .collect()
    }

    /// What this plugin gave to the keel.
    fn kept(&self, plugin: &str) -> io::Result<Vec<KeptFd>> {
        let mut found = Vec::new();
        for key in self.kept.keys(&format!("plugin/{plugin}/")) {
            let Some((id, name)) = of_keel_key(&key, plugin) else { continue };
            if let Some(fd) = self.kept.keel.fetch(&key)? {
                found.push(KeptFd { id: id.to_owned(), key: name.to_owned(), fd: Arc::new(fd) });
            }
        }
        Ok(found)
    }
}

/// What plugins gave to the keel. The keys are known here, so that the end of a container does not list all that the keel has.
struct Kept {
    keel: Arc<dyn KeepFd>,
    keys: Mutex<BTreeSet<String>>,
}

impl Kept {
    fn of(keel: Arc<dyn KeepFd>) -> io::Result<Kept> {
        let keys = keel.keys()?.into_iter().filter(|key| key.starts_with("plugin/")).collect();
        Ok(Kept { keel, keys: Mutex::new(keys) })
    }

    fn keep(&self, key: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        // Held over the call, so that the set has the order of the keel.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = fd.is_some();
        self.keel.keep(key, fd)?;
        match kept {
            true => _ = keys.insert(key.to_owned()),
            false => _ = keys.remove(key),
        }
        Ok(())
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let from = keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(|key| key.starts_with(prefix)).cloned().collect()
    }
}

struct KeptFd {
    id: String,
    key: String,
    fd: Arc<OwnedFd>,
}

fn keel_key(plugin: &str, id: &str, key: &str) -> String {
    format!("plugin/{plugin}/{id}/{key}")
}

fn of_keel_key<'a>(key: &'a str, plugin: &str) -> Option<(&'a str, &'a str)> {
    key.strip_prefix("plugin/")?.strip_prefix(plugin)?.strip_prefix('/')?.split_once('/')
}

/// All plugins of this worker.
pub struct Plugins {
    world: Arc<World>,
    /// In the order up.
    open: Vec<&'static Plugin>,
    /// Those that are not there, and why.
    absent: Vec<Absent>,
    list: Mutex<List>,
}

#[derive(Clone, Debug)]
struct Absent {
    /// Of its manifest, if that could be read.
    claims: Vec<String>,
    name: String,
    required: bool,
    services: Policy,
    why: String,
}

pub struct Opened {
    pub plugins: Plugins,
    /// Those that could not be opened. sampand goes on without them; a required one holds starts.
    pub failures: Vec<Failure>,
    /// What plugins want done.
    pub asks: mpsc::UnboundedReceiver<Ask>,
    /// A plugin that starts were waiting for is enabled again.
    pub back: Arc<Notify>,
}

/// What came of a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// It was disabled, and is asked again.
    Enabled,
    /// It was quarantined, and is loaded when sampand's worker starts next.
    Unlocked,
    /// There was nothing to forget.
    Active,
}

/// For `sampanctl plugin list`.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub name: String,
    pub version: String,
    pub path: PathBuf,
    pub sha256: String,
    /// `active`, `disabled` or `absent`.
    pub state: &'static str,
    pub why: String,
    pub queued: usize,
    pub zombies: usize,
    /// Its thread is in a call that should have ended.
    pub stuck: bool,
    /// Threads of the process that it started.
    pub threads: usize,
    pub figures: call::Figures,
    pub metrics: Vec<Metric>,
}

impl Plugins {
    /// Loads and opens plugins in their order. Call it in the tokio runtime in which the others are called.
    pub async fn open(configs: &[PluginConfig], env: HostEnv) -> io::Result<Opened> {
        let (page, crash) = Page::open(env.keep.as_ref())?;
        page.watch()?;
        let mut list = List::open(&env.state_dir);
        let (asks, asks_receiver) = mpsc::unbounded_channel();
        let back = Arc::new(Notify::new());
        let world = Arc::new(World {
            containers: Mutex::new(Containers::new(&env.run_dir)),
            kept: Kept::of(env.keep.clone())?,
            kv_writer: kv::Writer::default(),
            rt: tokio::runtime::Handle::current(),
            asks,
            back: back.clone(),
            seq: AtomicU64::new(1),
            page,
            peers: RwLock::default(),
        });
        let mut absent: Vec<(usize, String)> = Vec::new();
        let mut loaded = load_all(configs, &world.page, crash.as_ref(), &mut list, &mut absent);
        let claims: Vec<Vec<String>> = loaded.iter().map(claims_of).collect();
        let mut open: Vec<&'static Plugin> = Vec::new();
        for n in in_order(configs, &loaded, &mut absent) {
            let (Some(config), Some(library)) = (configs.get(n), loaded.get_mut(n).and_then(Option::take))
            else {
                continue;
            };
            let lacks =
                library.manifest.requires.iter().find(|name| !open.iter().any(|other| other.name == **name));
            if let Some(lacks) = lacks {
                absent.push((n, format!("it requires plugin {lacks}, which did not open")));
                continue;
            }
            match open_one(config, library, n, &world, &env).await {
                Ok(plugin) => open.push(plugin),
                Err(why) => absent.push((n, why)),
            }
        }
        world.peers.write().unwrap_or_else(PoisonError::into_inner).clone_from(&open);
        absent.sort_by_key(|(n, _)| *n);
        let describe = |(n, why): (usize, String)| {
            let config = configs.get(n)?;
            Some(Absent {
                name: config.name.clone(),
                required: config.policy.required,
                claims: claims.get(n).cloned().unwrap_or_default(),
                services: config.policy.clone(),
                why,
            })
        };
        let absent: Vec<Absent> = absent.into_iter().filter_map(describe).collect();
        let failures = absent
            .iter()
            .map(|absent| Failure {
                plugin: absent.name.clone(),
                event: "open",
                kind: FailureKind::Open,
                reason: absent.why.clone(),
            })
            .collect();
        let plugins = Plugins { world, open, absent, list: Mutex::new(list) };
        Ok(Opened { plugins, failures, asks: asks_receiver, back })
    }

    /// The names in the order up.
    pub fn names(&self) -> Vec<&str> {
        self.open.iter().map(|plugin| plugin.name.as_str()).collect()
    }

    /// Forgets what a plugin has done: quarantine, panics, timeouts. It waits for the disk.
    pub fn reset(&self, name: &str) -> Result<Reset, Failure> {
        let failure = |reason: String| Failure {
            plugin: name.to_owned(),
            event: "reset",
            kind: FailureKind::Failed,
            reason,
        };
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let was_quarantined =
            list.reset(name).map_err(|error| failure(format!("quarantine.json: {error}")))?;
        let open = self.open.iter().find(|plugin| plugin.name == name);
        match open {
            Some(plugin) if plugin.disabled().is_some() => match plugin.enable() {
                true => Ok(Reset::Enabled),
                false => {
                    Err(failure("it still owes answers, and comes back when it has given them".to_owned()))
                }
            },
            Some(_) => Ok(Reset::Active),
            None if was_quarantined => Ok(Reset::Unlocked),
            None => Err(failure(match self.absent.iter().find(|absent| absent.name == name) {
                Some(absent) => format!("there is nothing to reset: {}", absent.why),
                None => "there is no such plugin".to_owned(),
            })),
        }
    }

    pub fn statuses(&self) -> Vec<Status> {
        let comms = thread_names();
        let open = self.open.iter().map(|plugin| {
            let disabled = plugin.disabled();
            let own = plugin.thread_name();
            let runtime: String = format!("{}-rt", plugin.name).chars().take(15).collect();
            Status {
                name: plugin.name.clone(),
                version: plugin.library.version.clone(),
                path: plugin.library.path.clone(),
                sha256: plugin.library.sha256.clone(),
                state: if disabled.is_some() { "disabled" } else { "active" },
                why: disabled.unwrap_or_default(),
                queued: plugin.queued(),
                zombies: plugin.zombies(),
                stuck: plugin.is_stuck(),
                threads: comms.iter().filter(|comm| **comm == own || **comm == runtime).count(),
                figures: plugin.health().figures.clone(),
                metrics: plugin.metrics.snapshot(),
            }
        });
        let absent = self.absent.iter().map(|absent| Status {
            name: absent.name.clone(),
            version: String::new(),
            path: PathBuf::new(),
            sha256: String::new(),
            state: "absent",
            why: absent.why.clone(),
            queued: 0,
            zombies: 0,
            stuck: false,
            threads: 0,
            figures: call::Figures::default(),
            metrics: Vec::new(),
        });
        open.chain(absent).collect()
    }
}

/// Those that cannot be loaded get into `absent`, by their place in the config.
fn load_all(
    configs: &[PluginConfig],
    page: &Page,
    crash: Option<&quarantine::Crash>,
    list: &mut List,
    absent: &mut Vec<(usize, String)>,
) -> Vec<Option<Library>> {
    if let Some(crash) = crash.filter(|crash| !configs.iter().any(|config| config.name == crash.plugin)) {
        tracing::warn!("plugin {}: {}; it is not in the config any more", crash.plugin, crash.text());
    }
    let mut one = |(n, config): (usize, &PluginConfig)| {
        let result = match n < quarantine::SLOTS_MAX {
            true => load(config, n, page, crash, list),
            false => Err(format!("more than {} plugins", quarantine::SLOTS_MAX)),
        };
        result.map_err(|why| absent.push((n, why))).ok()
    };
    configs.iter().enumerate().map(&mut one).collect()
}

fn claims_of(library: &Option<Library>) -> Vec<String> {
    library.as_ref().map(|library| library.manifest.claims.clone()).unwrap_or_default()
}

/// The places of those that can be opened, in the order up; the others get into `absent`.
fn in_order(
    configs: &[PluginConfig],
    loaded: &[Option<Library>],
    absent: &mut Vec<(usize, String)>,
) -> Vec<usize> {
    let both =
        loaded.iter().enumerate().filter_map(|(n, library)| Some((n, configs.get(n)?, library.as_ref()?)));
    let (places, wishes): (Vec<usize>, Vec<Wish>) =
        both.map(|(n, config, library)| (n, wish(config, library))).unzip();
    let place = |n: usize| places.get(n).copied().unwrap_or(n);
    let order = order::order(&wishes);
    absent.extend(order.refused.into_iter().map(|(n, why)| (place(n), why)));
    order.up.into_iter().map(place).collect()
}

fn load(
    config: &PluginConfig,
    slot: usize,
    page: &Page,
    crash: Option<&quarantine::Crash>,
    list: &mut List,
) -> Result<Library, String> {
    let (bytes, sha256) =
        library::read(&config.path).map_err(|why| format!("{}: {why}", config.path.display()))?;
    if let Some(crash) = crash.filter(|crash| crash.plugin == config.name) {
        list.add(&config.name, &sha256, &crash.text());
    }
    if let Some(reason) = list.reason(&config.name, &sha256) {
        return Err(reason);
    }
    // A crash in a constructor is blamed too.
    page.claim(slot, &config.name, &[]);
    let _in_call = page.enter(slot, abi::EV_OPEN);
    let library = library::load(&config.path, &bytes, sha256)
        .map_err(|why| format!("{}: {why}", config.path.display()))?;
    if library.name != config.name {
        return Err(format!(
            "{} is plugin {}: call its table [plugins.{}]",
            config.path.display(),
            library.name,
            library.name
        ));
    }
    Ok(library)
}

fn wish(config: &PluginConfig, library: &Library) -> Wish {
    let manifest = &library.manifest;
    Wish {
        name: config.name.clone(),
        after: manifest.after.iter().chain(&config.after).cloned().collect(),
        before: manifest.before.clone(),
        requires: manifest.requires.clone(),
        conflicts: manifest.conflicts.clone(),
    }
}

async fn open_one(
    config: &PluginConfig,
    library: Library,
    slot: usize,
    world: &Arc<World>,
    env: &HostEnv,
) -> Result<&'static Plugin, String> {
    let dir = env.state_dir.join("kv").join(&config.name);
    let kv = kv::Kv::open(&dir).map_err(|error| format!("its values in {}: {error}", dir.display()))?;
    let plugin = Plugin::new(library, config.policy.clone(), kv, world.clone(), slot);
    let version = format!("sampand {}", env!("CARGO_PKG_VERSION"));
    let body = json!({
        "config": config.config, "boot_id": env.boot_id, "reason": env.reason,
        "host": { "version": version, "run_dir": env.run_dir, "state_dir": env.state_dir },
    });
    plugin.open(body).await.map_err(|text| match text.strip_prefix("config") {
        // The SDK names the place below `config`.
        Some(rest) => format!("plugins.{}.config{rest}", config.name),
        None => text,
    })?;
    Ok(plugin)
}

fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .map(|comm| comm.trim_end().to_owned())
        .collect()
}

/// Handles for `Ctx`, for whoever has no numbering of his own.
pub fn next_handle() -> u64 {
    static NEXT: OnceLock<AtomicU64> = OnceLock::new();
    NEXT.get_or_init(|| AtomicU64::new(1)).fetch_add(1, Ordering::Relaxed)
}

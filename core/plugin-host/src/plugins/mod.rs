//! All plugins of a worker: loaded and opened in their order, listed, and reset.
mod life;

pub use life::{Created, ExitFacts, Printed, Running};

use crate::call::{self, Plugin};
use crate::containers::Containers;
use crate::kv;
use crate::library::{self, Library};
use crate::order::{self, Wish};
use crate::quarantine::{self, List, Page};
use crate::table::Metric;
use crate::types::{Failure, FailureKind, HostEnv, PluginConfig, Policy};
use crate::world::{Ask, Kept, World};
use sampan_plugin::abi;
use serde_json::json;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tokio::sync::{Notify, mpsc};

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

impl Absent {
    fn failure(&self) -> Failure {
        Failure {
            plugin: self.name.clone(),
            event: "open",
            kind: FailureKind::Open,
            reason: self.why.clone(),
        }
    }
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
        let failures = absent.iter().map(Absent::failure).collect();
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

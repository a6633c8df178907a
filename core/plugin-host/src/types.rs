//! What the host and its users say to each other: containers, policies, failures, and what plugins want done.
use sampan_config as config;
use sampan_plugin::types::Role;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// They load from `plugin_dir` unasked.
pub const SHIPPED: [&str; 3] = ["network", "logging", "cgroups"];

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

/// A descriptor of a container, as plugins get it with `attach`.
#[derive(Clone, Debug)]
pub struct Lent {
    pub(crate) role: Role,
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) at_keel: Option<String>,
}

impl Lent {
    /// The host keeps it too, for `get_fd`, until the container is gone.
    pub fn new(role: Role, fd: Arc<OwnedFd>) -> Lent {
        Lent { role, fd, at_keel: None }
    }

    /// The descriptor, if it has this role.
    pub fn fd_of(&self, role: Role) -> Option<Arc<OwnedFd>> {
        (self.role.number() == role.number()).then(|| self.fd.clone())
    }

    /// The keel has it by this key: the host does not keep one more, and `get_fd` asks the keel.
    pub fn at_keel(self, key: String) -> Lent {
        Lent { at_keel: Some(key), ..self }
    }
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
    pub(crate) fn covers(&self, service: &str) -> bool {
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
    /// A required plugin is not there: the start waits, it has not failed.
    Waiting,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { plugin, event, reason, kind } = self;
        match kind {
            FailureKind::Open => write!(f, "plugin {plugin}: {reason}"),
            FailureKind::Veto => write!(f, "plugin {plugin} vetoed {event}: {reason}"),
            FailureKind::Conflict => f.write_str(reason),
            FailureKind::Waiting => write!(f, "waiting for plugin {plugin}: {reason}"),
            FailureKind::Timeout | FailureKind::Failed | FailureKind::Denied => {
                write!(f, "plugin {plugin}: {event}: {reason}")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// What the keel takes as a key.
pub(crate) const KEEL_KEY_BYTES_MAX: usize = sampan_keel::NAME_MAX;

pub(crate) fn keel_key(plugin: &str, id: &str, key: &str) -> String {
    format!("plugin/{plugin}/{id}/{key}")
}

pub(crate) fn of_keel_key<'a>(key: &'a str, plugin: &str) -> Option<(&'a str, &'a str)> {
    key.strip_prefix("plugin/")?.strip_prefix(plugin)?.strip_prefix('/')?.split_once('/')
}

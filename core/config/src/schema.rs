//! The resolved configuration: what the rest of sampand sees of config.toml.
//!
//! Everything is decided here: defaults are merged, short forms expanded, units converted, paths absolute,
//! variables substituted. A field keeps the name of its key (docs/config.md), so the serialized form of these
//! types *is* a config.toml that means the same: `explain` prints it, `diff` compares it.
//! Absent on purpose: where a value came from (`origin.rs`), and any rule about what is allowed (`decode/`).

mod lasting;
mod files;
mod life;
mod resources;
mod rights;
mod group;
mod joined;
mod logging;
mod metrics;
mod network;
mod sockets;
mod source;
mod steps;
mod text;
mod userns;

pub use files::{NamedVolume, Relabel, Secret, SecretSource, SecretUse, Tmpfs, Volume, VolumeSource};
pub use group::Group;
pub use joined::Joined;
pub use lasting::Lasting;
pub use life::{
    ByWatchdog, Condition, Dependency, Healthcheck, HttpProbe, Notify, OnUnhealthy, Probe, Reload, SaysOn,
    TestCommand,
};
pub use logging::{LogDriver, LogDrop, LogMode, Logging, OnFull};
pub use metrics::MetricsAt;
pub use network::{ExtraHost, HostAddress, Membership, Network, Resolver, Subnet};
pub use resources::{Explicit, IoMax, OomPolicy, Resources};
pub use rights::{
    Device, NameOrId, NamespaceMode, Namespaces, NoUser, SeccompProfile, Security, UNLIMITED, Ulimit, User,
};
pub use sockets::{Listen, NoListen, Socket};
pub use source::{Image, Pull, RootMode, Rootfs, Source};
pub use steps::{Hook, Hooks, Ids, Lifecycle, On, Place, Step};
pub use userns::{IdMaps, IdRange, UserNamespace};

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sampan_calendar::Calendar;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub supervisor: Supervisor,
    /// Shared with whoever lives by it.
    pub services: BTreeMap<String, Arc<Service>>,
    /// Always has `default`.
    pub networks: BTreeMap<String, Network>,
    pub volumes: BTreeMap<String, NamedVolume>,
    pub secrets: BTreeMap<String, Secret>,
    /// Only those that config.toml names; the shipped three load from `plugin_dir` unasked.
    pub plugins: BTreeMap<String, Plugin>,
    /// Those of the command line.
    pub profiles: BTreeSet<String>,
}

impl Config {
    /// Without a hand or another service that needs it.
    pub fn starts_by_itself(&self, service: &Service) -> bool {
        let in_profile =
            service.profiles.is_empty() || service.profiles.iter().any(|name| self.profiles.contains(name));
        service.autostart && in_profile
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Supervisor {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    #[serde(serialize_with = "text::or_none")]
    pub admin_group: Option<Group>,
    #[serde(serialize_with = "text::or_none")]
    pub read_group: Option<Group>,
    pub on_exit: OnExit,
    #[serde(serialize_with = "text::duration")]
    pub shutdown_timeout: Duration,
    /// 0 = as many as CPUs.
    pub max_parallel_starts: u32,
    pub restart_storm: RestartStorm,
    #[serde(serialize_with = "text::or_none")]
    pub metrics: Option<MetricsAt>,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    pub plugin_dir: PathBuf,
    /// None = auto: a scope of systemd's, else /sampan.
    #[serde(serialize_with = "text::or_auto")]
    pub cgroup_parent: Option<String>,
}

/// What SIGTERM does to the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnExit {
    Stop,
    Keep,
}

/// At most `burst` restarts per `interval` on the whole host; `burst` 0 = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RestartStorm {
    pub burst: u32,
    #[serde(serialize_with = "text::duration")]
    pub interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// The service's name: also the container's id.
    #[serde(skip)]
    pub name: String,
    /// Of a one-off: the service whose settings it has. No service of config.toml has this.
    #[serde(skip)]
    pub of: Option<String>,
    #[serde(flatten)]
    pub source: Source,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub working_dir: String,
    pub hostname: String,
    #[serde(serialize_with = "text::or_none")]
    pub domainname: Option<String>,
    /// A first process of ours that starts the program and reaps.
    pub init: bool,
    /// Its standard streams are a terminal.
    pub tty: bool,
    /// Whoever is attached may type.
    pub stdin_open: bool,
    pub autostart: bool,
    /// A job that is started by time.
    #[serde(serialize_with = "text::shown_or_none")]
    pub schedule: Option<Calendar>,
    /// Starts by itself only where one of these was asked for; none: always.
    pub profiles: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub volumes: Vec<Volume>,
    pub tmpfs: Vec<Tmpfs>,
    pub secrets: Vec<SecretUse>,
    #[serde(serialize_with = "text::size")]
    pub shm_size: u64,
    /// What env_file and environment give; without the built-in PATH and HOME.
    pub environment: BTreeMap<String, String>,
    /// Leaf of the spec -> the plugin whose value wins.
    pub adjust: BTreeMap<String, String>,
    pub user: User,
    /// Besides those of its user.
    pub group_add: Vec<NameOrId>,
    pub privileged: bool,
    #[serde(flatten)]
    pub namespaces: Namespaces,
    /// Over those of the built-in spec.
    pub sysctls: BTreeMap<String, String>,
    /// By setrlimit's name in lower case, without `RLIMIT_`.
    pub ulimits: BTreeMap<String, Ulimit>,
    pub oom_score_adj: i32,
    pub devices: Vec<Device>,
    /// Upper case with `CAP_`, or `ALL`.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub security: Security,
    pub resources: Resources,
    pub network_mode: NetworkMode,
    /// In the order of eth0, eth1...
    pub networks: Vec<Membership>,
    #[serde(flatten)]
    pub resolver: Resolver,
    pub ports: Vec<Port>,
    /// Opened before its first start, and handed to each.
    pub sockets: Vec<Socket>,
    pub restart: Restart,
    #[serde(serialize_with = "text::healthcheck")]
    pub healthcheck: Option<Healthcheck>,
    pub depends_on: BTreeMap<String, Dependency>,
    pub notify: Notify,
    /// From the beginning of a life until it is ready; 0 = as long as it takes.
    #[serde(serialize_with = "text::duration")]
    pub start_timeout: Duration,
    /// How long it may be silent (WATCHDOG=1); 0 = for ever.
    #[serde(serialize_with = "text::duration")]
    pub watchdog: Duration,
    /// Descriptors that are kept for it (FDSTORE=1); 0 = none.
    pub fd_store_max: u32,
    #[serde(serialize_with = "text::or_none")]
    pub reload: Option<Reload>,
    pub stop_signal: Signal,
    #[serde(serialize_with = "text::duration")]
    pub stop_grace_period: Duration,
    pub logging: Logging,
    pub hooks: Hooks,
    pub lifecycle: Lifecycle,
    pub on: On,
    /// What counts over a bundle's own config.json: the keys the service itself sets (`environment`,
    /// `security.seccomp_profile`), not built-in or from `[defaults]`. What counts over an image's config: those of
    /// `[defaults]` too.
    #[serde(skip)]
    pub own: BTreeSet<String>,
}

impl Service {
    /// The most that `fd_store_max` can be.
    pub const FD_STORE_MAX: u32 = 64;

    /// On what it says how it is; none: it cannot.
    pub fn says_on(&self) -> Option<SaysOn> {
        match self.notify {
            Notify::Fd(_) => Some(SaysOn::Descriptor),
            Notify::Ready => Some(SaysOn::Socket),
            Notify::None | Notify::Healthy => (!self.watchdog.is_zero()).then_some(SaysOn::Socket),
        }
    }

    /// By what it is known whose ids and whose image's volumes it has: a one-off shares them with its service.
    pub fn owner(&self) -> &str {
        self.of.as_deref().unwrap_or(&self.name)
    }

    /// entrypoint and command, joined: what the container runs. Empty only with a bundle or an image.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).cloned().collect()
    }

    /// Whether the service sets `key` or a part of it over its bundle or image.
    pub fn sets(&self, key: &str) -> bool {
        self.own.iter().any(|k| k == key || k.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    Bridge,
    None,
    Host,
    #[serde(untagged)]
    Service(Joined),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Port {
    /// None = all addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    pub published: u16,
    pub target: u16,
    pub protocol: Protocol,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Tcp,
    Udp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Restart {
    pub policy: Policy,
    #[serde(serialize_with = "text::duration")]
    pub delay: Duration,
    pub multiplier: f64,
    #[serde(serialize_with = "text::duration")]
    pub max_delay: Duration,
    /// The wait grows by up to this part of itself.
    pub jitter: f64,
    #[serde(serialize_with = "text::duration")]
    pub reset_after: Duration,
    /// In a row; 0 = no limit.
    pub max_attempts: u32,
    pub success_exit_status: Vec<ExitStatus>,
    pub prevent_exit_status: Vec<ExitStatus>,
    pub force_exit_status: Vec<ExitStatus>,
}

/// How a program may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ExitStatus {
    Code(u8),
    Signal(Signal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    No,
    OnFailure,
    Always,
    UnlessStopped,
}

/// A signal's number; real-time ones as `SIGRTMIN+3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub i32);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    pub enabled: bool,
    pub path: PathBuf,
    /// Its schema checks it; not ours.
    pub config: serde_json::Value,
    pub after: Vec<String>,
    /// Globs over service names.
    pub services: Vec<String>,
    pub required: bool,
    pub on_error: OnError,
    #[serde(serialize_with = "text::duration", deserialize_with = "text::to_duration")]
    pub timeout: Duration,
    #[serde(serialize_with = "text::duration", deserialize_with = "text::to_duration")]
    pub hard_timeout: Duration,
    #[serde(serialize_with = "text::duration", deserialize_with = "text::to_duration")]
    pub open_timeout: Duration,
    /// What it may set of a container besides.
    pub grants: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    Fail,
    Ignore,
    Disable,
}

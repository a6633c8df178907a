//! The types of the control API. Times are RFC 3339 in UTC, durations whole milliseconds with the unit in the name.
//! Their schemas are for tests alone: `tests/openapi` makes the document of them.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Reply of `GET /v1/version`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Version {
    /// Version of `sampand`.
    pub version: String,
    /// Version of the control API, `1`.
    pub api: u32,
    /// Process ids: the keel lives as long as the containers are ours, the worker may be replaced.
    pub keel_pid: i32,
    pub worker_pid: i32,
    /// How often a worker was started since the keel began: 1 if none ever died.
    pub worker_lives: u32,
    /// `sampan --root` on this folder sees the supervisor's containers.
    pub containers: String,
}

/// One row of `sampanctl ps`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
    pub name: String,
    /// The state's name: `stopped`, `waiting`, `creating`, `created`, `starting`, `running`, `stopping`,
    /// `lingering`, `backoff` or `failed`; `paused` where it runs and is frozen.
    pub state: String,
    /// The state as people read it: `running 3m`, `backoff 4.2s left`, `failed exit 3`.
    pub text: String,
    /// `-`, `starting`, `healthy` or `unhealthy`.
    pub health: String,
    /// What is wanted: `up` or `down`.
    pub wanted: String,
    /// By policy, in this run of sampand.
    pub restarts: u64,
    /// `0`, `137 SIGKILL`, `137 oom`, `unknown`; none if no life ended in this run of sampand.
    pub last_exit: Option<String>,
    pub pid: Option<i32>,
    /// Published ports as `127.0.0.1:8080->80/tcp`.
    pub ports: Vec<String>,
    pub generation: u64,
    /// `last_exit` as a number, 128 + N for signal N; none if there was none or if it is unknown.
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it begins by its `schedule`, RFC 3339; none without one, and while it is stopped by hand.
    #[serde(default)]
    pub next_run: Option<String>,
    /// Of what has failed before its program ran, the exit code that docker has for that: 127 no such program, 126 one that cannot
    /// be executed, 125 all else.
    #[serde(default)]
    pub not_started: Option<u8>,
    /// Of a one-off (`sampanctl run`): the service whose settings it has.
    #[serde(default)]
    pub one_off_of: Option<String>,
}

/// Reply of `GET /v1/services/NAME`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Inspect {
    #[serde(flatten)]
    pub status: Status,
    /// Of `last_exit`.
    pub signal: Option<i32>,
    pub oom: bool,
    /// Over all runs of sampand.
    #[serde(default)]
    pub totals: Totals,
    /// OCI container id, the service's own name.
    pub container_id: String,
    pub bundle: Option<String>,
    /// Attempts in a row that failed.
    pub attempt: u32,
    /// RFC 3339, of the present life.
    pub started_at: Option<String>,
    /// What the root of the present life is made of, where that is an image.
    #[serde(default)]
    pub image: Option<Image>,
    /// Its own, in its network namespace, without loopback and link-local ones; none where it has the host's network.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Names alone of what the config gives: a value may be a password.
    #[serde(default)]
    pub environment: Vec<String>,
    /// `resources` of the config, or what `update` has made of them for the present life.
    #[serde(default)]
    pub limits: serde_json::Value,
    /// What each plugin changed in the container's config, leaf by leaf.
    pub owners: BTreeMap<String, String>,
    /// The last run of the health check.
    pub last_check: Option<HealthResult>,
    /// Of a service that has a NOTIFY_SOCKET, while it runs.
    #[serde(default)]
    pub notified: Option<Notified>,
}

/// What a service has said of itself (sd_notify(3)), as far as this worker has heard it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Notified {
    /// Its last word: `ready`, `reloading` or `stopping`.
    pub says: Option<String>,
    /// STATUS=
    pub status: Option<String>,
    /// Messages, or parts of them, that could not be heeded. sampand's log has the reason, once for each.
    pub dropped: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Image {
    /// As the config names it.
    pub reference: String,
    /// Of its manifest: what it is pinned by.
    pub digest: String,
    /// As `80/tcp`: what it says that it listens on; nothing is published for that.
    pub exposed_ports: Vec<String>,
}

/// What a service has of the host's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mount {
    /// `volume`, `tmpfs` or `secret`.
    pub kind: String,
    /// A path of the host; the secret's name; empty for a tmpfs.
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// What is counted over all runs of sampand: it outlives reboots.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    pub restarts: u64,
    pub last_exit: Option<String>,
}

/// One run of a health check.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HealthResult {
    pub ok: bool,
    pub output: String,
    pub took_ms: u64,
    /// Failures in a row that count.
    pub failures: u32,
}

/// Reply of `GET /v1/loop`: what sampand's worker has done since it began.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Loop {
    pub turns: u64,
    pub longest: Turn,
    pub longest_of_last_minute: Turn,
}

/// One turn of the loop: what had come was taken, and what follows from it was done.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Turn {
    pub took_us: u64,
    /// The kind of its first message: `start`, `service`, `created`, `started`, `discarded`, `client-left`, `exited`, `probed`, `notified`, `taken`,
    /// `watchdog`, `request`, `order`, `config`, `froze`, `reloaded`, `clock`, `updated`, `gate`, `hurry` or `give-up`; empty if there
    /// was no turn.
    pub first: String,
    pub messages: u32,
}

/// Body of start, stop and restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Act {
    /// Answer at once instead of when it has happened.
    pub detach: bool,
}

/// Body of kill.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Kill {
    /// A name with or without `SIG`, or a number.
    pub signal: String,
}

impl Default for Kill {
    fn default() -> Self {
        Kill { signal: "SIGTERM".into() }
    }
}

/// Body of update: limits of the present life, as config.toml has them; `none` is no limit, and what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Update {
    /// As `512M`.
    pub memory: Option<String>,
    /// As `1.5`.
    pub cpus: Option<String>,
    /// As `100`.
    pub pids: Option<String>,
}

/// Body of `POST /v1/up`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Up {
    /// None named: all.
    pub services: Vec<String>,
    /// Answer when all are running and those with a health check healthy.
    pub wait: bool,
    /// With `wait`: how long at most.
    pub timeout_ms: Option<u64>,
}

/// Body of `POST /v1/apply`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Apply {
    /// Say what would change, and change nothing.
    pub dry_run: bool,
}

/// What `GET /v1/services/NAME/wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    Running,
    /// Running, and healthy where there is a check.
    Healthy,
    /// The present life has ended, or the next one where nothing lives.
    Exited,
    /// It is at rest, and nothing is tried again. Refused for one that never is by itself, by its restart policy.
    Done,
}

/// A process of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    /// As the host numbers them; the same for parent and user.
    pub pid: i32,
    pub parent: i32,
    pub uid: u32,
    /// A letter as in proc(5): `R` runs, `S` sleeps, `D` waits for a disk, `T` is stopped, `Z` has ended.
    pub state: char,
    /// CPU time of all its threads.
    pub cpu_ms: u64,
    /// Memory that is resident.
    pub rss_bytes: u64,
    /// Arguments with spaces between; `[name]` where it has none.
    pub command: String,
}

/// What a service uses. What only grows is counted since its control group was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Usage {
    pub service: String,
    /// When it was read, in the host's time since boot.
    pub at_ms: u64,
    pub cpu_ns: u64,
    /// Page cache included.
    pub memory_bytes: u64,
    /// None: no limit. The same for `processes_limit`.
    pub memory_limit_bytes: Option<u64>,
    /// Threads are counted as well.
    pub processes: u64,
    pub processes_limit: Option<u64>,
    pub io_read_bytes: u64,
    pub io_written_bytes: u64,
    /// Of its network namespace but for loopback; none where it has the host's.
    pub network: Option<Traffic>,
    /// The part of the last 10 s in which something of it waited; none where the kernel does not tell.
    pub pressure: Option<Waits>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Traffic {
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// In percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Waits {
    pub cpu: f64,
    pub memory: f64,
    pub io: f64,
}

/// One service of `GET /v1/graph`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Needs {
    pub service: String,
    pub needs: Vec<Need>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Need {
    pub on: String,
    /// As in config.toml: `service_started` and so on.
    pub condition: String,
}

/// Reply of what changes something.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Done {
    /// The services concerned, as they are now.
    pub services: Vec<Status>,
    /// Whether all that was asked for has come true; false where nobody waited for it.
    pub complete: bool,
}

/// Reply of `POST /v1/apply`: service by service what the new config means.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Applied {
    pub changes: Vec<Change>,
    /// What changed beside the services.
    #[serde(default)]
    pub others: Vec<Other>,
}

/// What a new config changes in sampand itself or in a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Other {
    /// `supervisor`, or `plugins.NAME`.
    pub of: String,
    /// When it holds: `live`, or `at sampand's next start`.
    pub what: String,
    /// The keys that differ; `new` or `removed` where that is the difference.
    pub keys: Vec<String>,
}

/// What a new config does to one service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Change {
    pub service: String,
    /// `nothing`, `live`, `next run` (new containers have it), `restart`, `new` or `removed`.
    pub what: String,
    /// The keys that are the reason.
    pub keys: Vec<String>,
}

/// One transition of one service: a line of the journal as clients see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Transition {
    pub seq: u64,
    pub time: String,
    pub service: String,
    pub generation: u64,
    pub from: String,
    pub to: String,
    pub cause: String,
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// Reply of `GET /v1/services/NAME/why`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Why {
    /// Why it is as it is, in words.
    pub sentence: String,
    /// Its last transitions, oldest first.
    pub chain: Vec<Transition>,
}

/// Stands in the event stream where `since` is older than what is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gap {
    /// The oldest sequence number that is still there.
    pub gap: u64,
}

/// Stands in the event stream where a follower was too slow for what happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Missed {
    /// So many transitions are left out here.
    pub missed: u64,
}

/// One plugin as it stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PluginStatus {
    pub name: String,
    pub version: String,
    pub path: String,
    /// `active`, `disabled` or `absent`.
    pub state: String,
    /// Why it is not active; empty if it is.
    pub reason: String,
    pub required: bool,
    pub calls: u64,
    pub errors: u64,
}

/// Reply of a plugin's reset.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PluginReset {
    /// `enabled`, `unlocked` (loaded when sampand starts next) or `active` (there was nothing to forget).
    pub state: String,
    /// The same for people.
    pub text: String,
}

/// Body of every reply with a status of 4xx or 5xx.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failure {
    /// What is wrong and what to do, for people.
    pub error: String,
    /// For programs: `no-such-service` (`-volume`, `-network`, `-plugin`, `-path`), `usage`, `config`, `refused`, `stopping`,
    /// `interrupted`, `timeout`, `internal`.
    pub code: String,
    /// Config errors as `sampand --check` prints them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

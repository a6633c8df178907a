//! What each event says and what is answered: the payloads, as a handler sees them.
//!
//! They are read from the flat envelope and its JSON body by `export/request.rs`. Fields may be added: a handler takes what it needs
//! and ignores the rest, and a field that an older host does not send has a default.
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::os::fd::OwnedFd;

/// A container as the host numbers it. `Container::HOST` is the host itself. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Container(pub u64);

impl Container {
    pub const HOST: Container = Container(0);
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Stdout,
    Stderr,
    Netns,
    Pidfd,
    Other(u32),
}

impl Role {
    pub fn number(self) -> u32 {
        match self {
            Role::Stdout => crate::abi::FD_STDOUT,
            Role::Stderr => crate::abi::FD_STDERR,
            Role::Netns => crate::abi::FD_NETNS,
            Role::Pidfd => crate::abi::FD_PIDFD,
            Role::Other(n) => crate::abi::FD_OTHER.saturating_add(n),
        }
    }
}

/// One line of what lives, in `Synchronize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The container's ID, the same over restarts of `sampand`.
    pub id: String,
    pub handle: Container,
    #[serde(default)]
    pub service: String,
    #[serde(default)]
    pub state: String,
    #[serde(default)]
    pub pid: i32,
}

/// A descriptor that this plugin gave to the keel before.
#[derive(Debug)]
pub struct Kept {
    /// The handle now, `Container::HOST` if host-wide or if the container is gone.
    pub container: Container,
    /// Empty if host-wide.
    pub container_id: String,
    pub key: String,
    pub fd: OwnedFd,
}

/// After open, reload, adoption or overflow: all that lives. What is not listed is gone: release it.
#[derive(Debug, Default)]
pub struct Synchronize {
    pub containers: Vec<Running>,
    pub kept: Vec<Kept>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validate {
    /// The service's table of config.toml, resolved.
    #[serde(default)]
    pub service: Value,
}

/// Something that `validate` found: where (a JSON pointer into the service's table) and what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub pointer: String,
    pub message: String,
}

/// Before the bundle is written. Answer with an `Adjust`, or veto.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Create {
    /// The service's table of config.toml, resolved.
    #[serde(default)]
    pub service: Value,
    /// 0 on the first start, then one more for each restart in a row.
    #[serde(default)]
    pub attempt: u32,
}

/// All plugins' changes are merged. Read only; `cx.spec()` has the result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// Leaf -> plugin.
    #[serde(default)]
    pub owners: Map<String, Value>,
}

/// The namespaces exist, no code of the user runs yet. Descriptors by `cx.fd(Role)`: NETNS, PIDFD, and STDOUT, STDERR for the plugin that claimed stdio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attach {
    /// The container was attached before: by an earlier `sampand`, or before this plugin was loaded.
    #[serde(skip)]
    pub replay: bool,
    /// For the plugin that claimed stdio: every process of `sampand` was killed at once. What was in the pipes, or was kept with the keel,
    /// may be gone: the log is to say so. Without descriptors nothing of it runs, and nothing else is to be done.
    #[serde(skip)]
    pub lost: bool,
}

/// The OCI state is `created`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {}

/// The process runs; `cx.pid()`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Started {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ready {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub output: String,
}

/// The kernel killed something of this container for want of memory. Always comes before its exit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Oom {
    /// The cgroup's counters: `oom`, `oom_kill`, ...
    #[serde(flatten)]
    pub counters: Map<String, Value>,
}

/// The main process has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    #[serde(default)]
    pub code: i32,
    /// 0: it was not killed by a signal.
    #[serde(default)]
    pub signal: i32,
    #[serde(default)]
    pub oom: bool,
    /// Nobody could learn the code (the keel died and the kernel is older than 6.15). `code` means nothing then.
    #[serde(default)]
    pub unknown: bool,
    #[serde(default)]
    pub runtime_ms: u64,
    #[serde(default)]
    pub cause: String,
}

/// The limits of a running container were changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Updated {
    /// As they hold now: `linux.resources` of the OCI spec.
    #[serde(default)]
    pub resources: Value,
}

/// Before the stop signal: drain, deregister.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub grace_ms: u64,
}

/// The stop signal is sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stopping {}

/// The cgroup is empty, or `create` or `attach` failed. Must succeed when nothing is left to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Detach {
    /// False before a restart that keeps the namespaces.
    #[serde(default, rename = "final")]
    pub is_final: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Removed {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shutdown {}

/// What another plugin emitted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Custom {
    #[serde(default)]
    pub from: String,
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub data: Value,
}

/// `sampanctl plugin call NAME JSON`, and whatever of `sampand` asks this plugin by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Control {
    pub request: Value,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timer {
    /// The number given to `Host::set_timer`.
    #[serde(skip)]
    pub token: u64,
}

/// Why `close` is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    Exit,
    Reload,
    Disable,
}

/// An answer: JSON, and descriptors that go along (the first is streamed to the caller of `control`).
#[derive(Debug, Default)]
pub struct Reply {
    pub json: Option<Value>,
    pub fds: Vec<OwnedFd>,
}

impl Reply {
    pub fn json(value: impl Into<Value>) -> Reply {
        Reply { json: Some(value.into()), fds: Vec::new() }
    }

    pub fn fd(mut self, fd: impl Into<OwnedFd>) -> Reply {
        self.fds.push(fd.into());
        self
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Reply {
        Reply::json(value)
    }
}

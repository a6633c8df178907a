//! How a service is: when it is ready and well, and what it needs of others.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Signal, text};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Healthcheck {
    #[serde(flatten)]
    pub probe: Probe,
    #[serde(serialize_with = "text::duration")]
    pub interval: Duration,
    #[serde(serialize_with = "text::duration")]
    pub timeout: Duration,
    pub retries: u32,
    #[serde(serialize_with = "text::duration")]
    pub start_period: Duration,
    #[serde(serialize_with = "text::duration")]
    pub start_interval: Duration,
    pub success_threshold: u32,
    pub on_failure: OnUnhealthy,
    /// None: the service's own.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text::duration_or_none")]
    pub stop_grace_period: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// Run in the container: argv (`CMD-SHELL` is already `/bin/sh -c`).
    Test(TestCommand),
    /// By us, in the container's network namespace.
    Http(HttpProbe),
    Tcp(u16),
    /// A path in the container.
    Unix(PathBuf),
    /// None of ours: the service says so itself, by its watchdog.
    Notify(ByWatchdog),
}

/// Written `true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByWatchdog;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestCommand {
    Argv(Vec<String>),
    Shell(String),
}

impl TestCommand {
    pub fn argv(&self) -> Vec<String> {
        match self {
            TestCommand::Argv(argv) => argv.clone(),
            TestCommand::Shell(text) => vec!["/bin/sh".into(), "-c".into(), text.clone()],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpProbe {
    pub port: u16,
    pub path: String,
    /// Inclusive.
    #[serde(serialize_with = "text::status")]
    pub status: (u16, u16),
    /// For the Host header and where to connect.
    pub host: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnhealthy {
    Restart,
    Kill,
    Stop,
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dependency {
    pub condition: Condition,
    /// False: goes on without it.
    pub required: bool,
    /// Is restarted with it, if that is by hand.
    pub restart: bool,
    /// Stops with it; then it is required.
    pub bind: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Condition {
    #[serde(rename = "service_started")]
    Started,
    #[serde(rename = "service_ready")]
    Ready,
    #[serde(rename = "service_healthy")]
    Healthy,
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

/// What makes a service that runs a ready one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notify {
    None,
    Healthy,
    /// It says READY=1 (sd_notify(3)).
    Ready,
    /// It writes a newline to this descriptor, which is the next one after its sockets.
    Fd(u32),
}

/// On what a service says how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaysOn {
    /// NOTIFY_SOCKET (sd_notify(3)).
    Socket,
    /// One that it has open from its start.
    Descriptor,
}

/// How a service is told to read its configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reload {
    /// To its main process.
    Signal(Signal),
    /// Run in the container.
    Command(Vec<String>),
}

//! A container that is run once with a service's settings.
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Body of `POST /v1/services/NAME/run`. Asked for again by the same client, with the same name, it is not begun again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Run {
    /// What it is called: as a service may be, and nothing else is.
    pub name: String,
    /// In the place of the service's `command`; empty: that one.
    pub command: Vec<String>,
    /// Besides the service's, or in their place.
    pub environment: BTreeMap<String, String>,
    /// As `user` of config.toml has it.
    pub user: Option<String>,
    /// A folder of the container, absolute.
    pub working_dir: Option<String>,
    /// What the service depends on is neither started nor waited for.
    pub no_deps: bool,
    /// The service's ports are published.
    pub service_ports: bool,
    /// Nothing stays of it once it has ended.
    pub remove: bool,
    /// With `client`: it has a terminal, whose master the client gets.
    pub tty: bool,
    /// It ends with this one. None: it runs on its own, and its output goes where a service's does.
    pub client: Option<Client>,
}

/// The process that runs it in its foreground, which is the one that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Client {
    /// As sampand's host numbers it.
    pub pid: i32,
    /// Descriptors of its, ends of pipes: the container's standard input, output and error. With `tty` one, an end of a Unix socket: by
    /// that comes the master of the container's terminal, with a byte that says nothing.
    pub stdio: Vec<i32>,
}

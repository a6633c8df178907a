//! Namespaces of other services (`network_mode = "service:X"`): by the path of the process that runs there, and with the files that
//! say how the network is.

use sampan_config::schema::{NamespaceMode, Service};
use serde_json::{Value, json};

use super::leaves::set;

/// Another service in whose namespace this one is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Of config.toml: `network_mode`, `pid`..
    pub key: &'static str,
    /// Its main process. Whoever opens the path must see that it still runs afterwards: else it may be another's.
    pub pid: i32,
    /// Its config.json.
    pub spec: Value,
}

/// Of the namespace that `key` says, if another service's process is known: that in config.json.
pub fn path(all: &[Joined], key: &str) -> Option<String> {
    let name = match key {
        "network_mode" => "net",
        other => other,
    };
    let joined = all.iter().find(|joined| joined.key == key)?;
    Some(format!("/proc/{}/ns/{name}", joined.pid))
}

/// Who has the other one's network has its names, too: what of `files` can be mounted over is as it is there, and the host's
/// name is the same. What is left for others to mount over.
pub fn names(spec: &mut Value, service: &Service, all: &[Joined], files: Vec<String>) -> Vec<String> {
    if service.network_mode.joined().is_none() {
        return files;
    }
    let Some(other) = all.iter().find(|joined| joined.key == "network_mode").map(|joined| &joined.spec)
    else {
        return Vec::new();
    };
    let mounts = other["mounts"].as_array().map_or(&[][..], Vec::as_slice);
    let theirs = mounts.iter().filter(|mount| {
        mount["type"] == "bind"
            && mount["destination"].as_str().is_some_and(|at| files.iter().any(|file| file == at))
    });
    let mut ours = spec["mounts"].as_array().cloned().unwrap_or_default();
    ours.extend(theirs.cloned());
    set(spec, "/mounts", ours.into());
    if let (NamespaceMode::Private, Some(name)) = (&service.namespaces.uts, other["hostname"].as_str()) {
        set(spec, "/hostname", json!(name));
    }
    Vec::new()
}

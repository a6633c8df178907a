//! A service that says how it is (sd_notify(3)): its socket, where its programs look for it, and how often they are to say so.
//!
//! The folder is mounted, not the socket: one that is made anew is there at once, for whoever sends next. Where it is mounted is
//! what a container's manager uses by systemd's container interface.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::leaves::{push, set_env};
use super::{Facts, mounts};
use sampan_config::schema::{NamespaceMode, SaysOn, Service};

/// In the container.
pub const FOLDER: &str = "/run/host";
/// In that folder.
pub const SOCKET: &str = "notify";

pub fn has_socket(service: &Service) -> bool {
    service.says_on() == Some(SaysOn::Socket)
}

/// Where a service's socket is on the host, whether it has one or not.
pub fn folder(run_dir: &Path, service: &str) -> PathBuf {
    run_dir.join("notify").join(service)
}

pub fn add(spec: &mut Value, service: &Service, facts: &Facts) {
    let Some(folder) = &facts.notify else { return };
    if let Some(all) = spec.pointer_mut("/mounts").and_then(Value::as_array_mut) {
        all.retain(|mount| mount["destination"] != FOLDER);
    }
    push(spec, "/mounts", mounts::closed(folder, FOLDER));
    let mut said = vec![format!("NOTIFY_SOCKET={FOLDER}/{SOCKET}")];
    if !service.watchdog.is_zero() {
        said.push(format!("WATCHDOG_USEC={}", service.watchdog.as_micros()));
        // Whom it means; in a namespace of others nobody can know.
        if service.namespaces.pid == NamespaceMode::Private {
            said.push("WATCHDOG_PID=1".into());
        }
    }
    set_env(spec, &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"], said);
}

//! What the service manager that started us (systemd) is told, by sd_notify(3). Without one nothing is sent.
use std::time::Duration;

/// What is left to do when the last container has ended: lists of `on`, plugins, folders, answers to clients.
const AFTER_THE_LAST: Duration = Duration::from_secs(20);

pub fn is_ready() {
    tell("READY=1");
}

/// An ordered shutdown takes as long as the services' grace, no longer than `limit`: the unit's TimeoutStopSec= is extended to that.
pub fn is_stopping(limit: Duration) {
    tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", (limit + AFTER_THE_LAST).as_micros()));
}

/// One that cannot be told is no reason to stop: it will say itself what it misses.
fn tell(state: &str) {
    if let Err(error) = sampan_systemd::notify::send(state) {
        tracing::warn!("the service manager (NOTIFY_SOCKET) cannot be told {state:?}: {error}");
    }
}

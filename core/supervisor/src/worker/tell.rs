//! sampand's own lines about services: one for what people want to know at that moment, and each step of the way at the level debug.
use crate::fleet::show_port;
use crate::settings::Service;
use sampan_config::schema::{self, Probe, Protocol};
use sampan_service::time::Span;
use sampan_service::{Failure, Health, Rest, State, WaitFor, Why};

/// A transition that is on record.
pub(super) fn tell(config: &schema::Service, before: &Service, after: &Service, cause: &str) {
    let service = config.name.as_str();
    let (from, to) = (before.state.name(), after.state.name());
    tracing::debug!(service, cause, "{from} -> {to}");
    if from == to {
        return within(config, before, after, cause);
    }
    match &after.state {
        State::Waiting { on, .. } => waits(service, on),
        State::Starting { .. } => tracing::info!(service, "runs, and is not ready yet"),
        State::Running { adopted: true, .. } => tracing::info!(service, "runs on{}", places(config)),
        State::Running { .. } => {
            let word = if matches!(before.state, State::Starting { .. }) { "is ready" } else { "runs" };
            tracing::info!(service, "{word}{}", places(config));
        }
        State::Stopping { why: why @ Why::Unhealthy(_), .. } => tracing::warn!(service, "is stopped: {why}"),
        State::Stopping { why, .. } => tracing::info!(service, "is being stopped: {why}"),
        State::Backoff { since, until, attempt } => {
            let delay = Span(until.since(*since));
            tracing::warn!(service, "{}; starts again in {delay}, attempt {attempt}", end(before, cause));
        }
        State::Failed { why: why @ Failure::Attempts(_) } => {
            tracing::error!(service, "failed: {why}, the last one: {}", end(before, cause));
        }
        State::Failed { why } => tracing::error!(service, "failed: {why}"),
        State::Stopped { why: Rest::Finished } => tracing::info!(service, "is done"),
        State::Stopped { why } => tracing::info!(service, "is stopped: {why}"),
        State::Creating { .. } | State::Created { .. } | State::Lingering { .. } => {}
    }
}

/// Its state stays, and something about it changes.
fn within(config: &schema::Service, before: &Service, after: &Service, cause: &str) {
    let service = config.name.as_str();
    if let (State::Waiting { on: was, .. }, State::Waiting { on, .. }) = (&before.state, &after.state)
        && was != on
    {
        return waits(service, on);
    }
    match (before.state.health(), after.state.health()) {
        (was, is) if was == is => {}
        (_, Health::Healthy) => tracing::info!(service, "is healthy"),
        (_, Health::Unhealthy) => tracing::warn!(service, "is {cause}"),
        (_, Health::None | Health::Starting) => {}
    }
}

/// What others may be the reason for; its own turn comes by itself.
fn waits(service: &str, on: &WaitFor) {
    match on {
        WaitFor::Dependency { service: needed, condition } => {
            tracing::info!(service, "waits for {needed}: {}", condition.word().replace('_', " "));
        }
        WaitFor::Plugin(_) | WaitFor::Storm => tracing::info!(service, "waits for {on}"),
        WaitFor::Turn | WaitFor::StartSlot => {}
    }
}

/// How the life ended that is cleaned up now.
fn end(before: &Service, cause: &str) -> String {
    match &before.state {
        State::Lingering { end, .. } => end.cause(),
        _ => cause.to_owned(),
    }
}

/// Where its published ports are reached.
fn places(config: &schema::Service) -> String {
    let all: Vec<String> = config.ports.iter().map(|port| place(config, port)).collect();
    if all.is_empty() { String::new() } else { format!(" at {}", all.join(", ")) }
}

/// A URL where it speaks HTTP, for all that is known.
fn place(config: &schema::Service, port: &schema::Port) -> String {
    let is_checked = |check: &schema::Healthcheck| match &check.probe {
        Probe::Http(http) => http.port == port.target,
        _ => false,
    };
    let scheme = match port.target {
        _ if port.protocol != Protocol::Tcp => return show_port(port),
        443 | 8443 => "https",
        80 | 8080 => "http",
        _ if config.healthcheck.as_ref().is_some_and(is_checked) => "http",
        _ => return show_port(port),
    };
    let host = match port.host_ip {
        Some(ip) if !ip.is_unspecified() => {
            if ip.is_ipv6() {
                format!("[{ip}]")
            } else {
                ip.to_string()
            }
        }
        _ => "localhost".into(),
    };
    format!("{scheme}://{host}:{}", port.published)
}

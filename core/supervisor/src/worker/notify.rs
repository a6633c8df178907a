//! What plugins are told of a service's life beside its launch and its end, and what its config has run then (`on`).
use super::Worker;
use crate::fleet::{Ended, Entry, Live};
use crate::life::{self, Context, Reads};
use crate::steps;
use sampan_plugin_host::{ExitFacts, Printed, Role, Running};
use sampan_service::{Exit, Health, State, Status, Verdict};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// To its present state, from another.
pub(super) fn moved(context: &Context, entry: &Entry, before: &State) {
    let is_ready = |state: &State| matches!(state, State::Running { .. });
    let has_failed = |state: &State| matches!(state, State::Failed { .. });
    let now = &entry.machine.state;
    if is_ready(now) && !is_ready(before) {
        context.plugins.notify_ready(&entry.ctx());
    }
    // It stays so until somebody asks for it.
    if has_failed(now) && !has_failed(before) {
        let facts = facts_of(entry, entry.machine.last_exit);
        context.steps.follow(&entry.config().name, "failure", &entry.config().on.failure, facts);
    }
}

/// The OOM kills come before the end that they caused.
pub(super) fn ended(context: &Context, entry: &Entry, ended: Ended) {
    let Ended { exit, lived, oom_kills } = ended;
    if oom_kills > 0 {
        context.plugins.notify_oom(&entry.ctx(), &serde_json::json!({ "oom_kill": oom_kills }));
    }
    let (code, signal, unknown) = match exit.status {
        Status::Code(code) => (code, 0, false),
        Status::Signal(signal) => (128 + signal, signal, false),
        Status::Unknown => (0, 0, true),
    };
    let runtime = lived.unwrap_or_default();
    let facts = ExitFacts { code, signal, oom: exit.oom, unknown, runtime, cause: exit.to_string() };
    context.plugins.notify_exit(&entry.ctx(), &facts);
    let (service, on) = (&entry.config().name, &entry.config().on);
    if oom_kills > 0 {
        context.steps.follow(service, "oom", &on.oom, facts_of(entry, Some(exit)));
    }
    context.steps.follow(service, "exit", &on.exit, facts_of(entry, Some(exit)));
}

fn facts_of(entry: &Entry, exit: Option<Exit>) -> steps::Facts {
    let (code, signal) = match exit.map(|exit| exit.status) {
        Some(Status::Code(code)) => (Some(code), None),
        Some(Status::Signal(signal)) => (None, Some(signal)),
        Some(Status::Unknown) | None => (None, None),
    };
    let health = match entry.machine.state.health() {
        Health::None => None,
        health => Some(health.to_string()),
    };
    steps::Facts { code, signal, health }
}

pub(super) fn health(context: &Context, entry: &Entry, verdict: &Verdict) {
    let (status, output) = match verdict {
        Verdict::Healthy => ("healthy", ""),
        Verdict::Unhealthy(output) => ("unhealthy", output.as_str()),
    };
    context.plugins.notify_health(&entry.ctx(), status, output);
    let facts = steps::Facts { health: Some(status.to_owned()), ..facts_of(entry, None) };
    context.steps.follow(&entry.config().name, "health", &entry.config().on.health, facts);
}

/// Attaches a container that ran on while no worker, or another one, looked.
async fn replay_attach(context: &Context, entry: &Entry, live: &Live) {
    let Reads { ends, printed } = reads(context, entry);
    let lent = ends.iter().map(|(role, end)| life::lent(&entry.name, *role, end.clone()));
    let mut fds: Vec<_> = lent.collect();
    fds.push(life::lent(&entry.name, Role::Pidfd, live.pidfd.clone()));
    fds.extend(live.netns.as_ref().map(|netns| life::lent(&entry.name, Role::Netns, netns.clone())));
    match context.plugins.replay(&entry.ctx(), &fds, printed).await {
        Ok(()) => hold_lost(context, entry, &ends, printed),
        Err(failure) => {
            tracing::error!(service = &*entry.name, "attached again after a crash of sampand: {failure}");
        }
    }
}

/// Of a service that does not run, where nobody has held its output: what stood in the pipes is gone, and so is the count of what was dropped
/// of a life before, which its log may not have had room for. What is written now of a life that is not over yet is read.
async fn attach_lost_output(context: &Context, entry: &Entry) {
    let Some(plugin) = context.plugins.claimant("stdio") else { return };
    // Nearly always it has not run since the machine was started, or never.
    if !context.dirs.io(&entry.name).exists() {
        return;
    }
    let Reads { ends, printed } = reads(context, entry);
    if printed == Printed::Held {
        return;
    }
    let read = if entry.machine.state.has_life() { ends.clone() } else { Vec::new() };
    match context.plugins.attach_output(&entry.ctx(), &plugin, read, printed).await {
        Ok(()) => hold_lost(context, entry, &ends, printed),
        Err(failure) => tracing::error!(service = &*entry.name, "its output is not read: {failure}"),
    }
}

fn reads(context: &Context, entry: &Entry) -> Reads {
    life::reads(&context.loop_keel, &context.dirs.io(&entry.name), &entry.name)
}

/// The plugin knows that its log has to say so. A worker that dies before that leaves it to the next one.
fn hold_lost(context: &Context, entry: &Entry, ends: &[(Role, Arc<OwnedFd>)], printed: Printed) {
    if printed == Printed::Lost {
        tracing::warn!(
            service = &*entry.name,
            "every process of sampand was killed at once: lines may be missing in its log"
        );
        life::hold(&context.loop_keel, &entry.name, ends);
    }
}

impl Worker {
    /// Tells the plugins what lives; each container is attached again, so that whoever reads its output goes on.
    pub async fn synchronize(&self) {
        let context = &self.context;
        let lives: Vec<_> = self
            .fleet
            .entries
            .values()
            .filter(|entry| entry.machine.state.has_life())
            .map(|entry| Running {
                ctx: entry.ctx(),
                state: entry.machine.state.name(),
                spec: context.spec_of(&entry.name),
            })
            .collect();
        for failure in context.plugins.synchronize(&lives).await {
            tracing::error!("{failure}");
        }
        for entry in self.fleet.entries.values() {
            match &entry.live {
                Some(live) => replay_attach(context, entry, live).await,
                None => attach_lost_output(context, entry).await,
            }
        }
    }
}

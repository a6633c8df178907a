//! Whom a step asks, and what an answer that is none means for it.
use super::{Reply, Step};
use crate::call::{self, Message, Outcome, Plugin};
use crate::containers::Container;
use crate::{Ctx, Failure, FailureKind, OnError, Plugins};
use sampan_plugin::abi;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

const TIMEOUTS_MAX: u32 = 3;
const PANICS_MAX: usize = 3;
const PANICS_WITHIN: Duration = Duration::from_secs(600);

impl Plugins {
    /// Those that are asked about this service, in the order up.
    pub(super) fn up(&self, service: &str) -> Vec<&'static Plugin> {
        let open = self.open.iter().copied();
        open.filter(|plugin| plugin.policy.covers(service) && plugin.disabled().is_none()).collect()
    }

    /// It has subscribed to the event, and does not do without it for this container.
    pub(super) fn wants(&self, plugin: &Plugin, message: &Message) -> bool {
        let handle = message.who.as_ref().map_or(0, |ctx| ctx.handle);
        let is_replayed = message.flags & abi::F_REPLAY != 0;
        let spares = |container: &Container| !is_replayed && container.spares(plugin.slot, message.event);
        plugin.wants(message.event) && !self.world.containers().get(handle).is_some_and(spares)
    }

    pub(super) fn update(&self, ctx: &Ctx, state: &'static str) {
        if let Some(container) = self.world.containers().get_mut(ctx.handle) {
            container.ctx = ctx.clone();
            container.state = state;
        }
    }

    /// Asks; the error stops the step.
    pub(super) async fn gate(
        &self,
        plugin: &'static Plugin,
        message: Message,
    ) -> Result<Option<Reply>, Failure> {
        self.gate_of(plugin, message, false).await
    }

    pub(super) async fn gate_of(
        &self,
        plugin: &'static Plugin,
        message: Message,
        needed: bool,
    ) -> Result<Option<Reply>, Failure> {
        let step = Step { plugin, event: message.event, needed };
        if !self.wants(plugin, &message) || plugin.disabled().is_some() {
            return Ok(None);
        }
        self.judge(step, plugin.ask(message).await)
    }

    pub(super) fn judge(&self, step: Step, outcome: Outcome) -> Result<Option<Reply>, Failure> {
        let Step { plugin, event, .. } = step;
        match outcome {
            Outcome::Reply { json, fds } => {
                plugin.health().timeouts_in_a_row = 0;
                Ok(Some((json, fds)))
            }
            Outcome::Error { status: abi::E_VETO, text } => {
                plugin.health().timeouts_in_a_row = 0;
                Err(self.failure(plugin, event, FailureKind::Veto, &text))
            }
            Outcome::Error { status, text } => {
                plugin.health().timeouts_in_a_row = 0;
                if status == abi::E_PANIC {
                    self.panicked(plugin);
                }
                let text = if text.is_empty() { abi::status_text(status).to_owned() } else { text };
                self.error(step, text).map(|()| None)
            }
            Outcome::Timeout { after, stuck } => {
                let in_a_row = {
                    let mut health = plugin.health();
                    health.figures.timeouts += 1;
                    health.timeouts_in_a_row += 1;
                    health.timeouts_in_a_row
                };
                let hangs = if stuck { "; its thread hangs" } else { "" };
                let text = format!("no answer within {after:.1?}{hangs}");
                if in_a_row >= TIMEOUTS_MAX {
                    let why =
                        format!("{TIMEOUTS_MAX} timeouts in a row, the last in {}", abi::event_name(event));
                    disable_until_it_answers(plugin, &why);
                } else if plugin.zombies() >= call::ZOMBIES_MAX {
                    disable(plugin, "too many requests that it never completed");
                }
                self.verdict(step, FailureKind::Timeout, text).map(|()| None)
            }
            Outcome::Gone => self.error(step, "its thread has ended".to_owned()).map(|()| None),
        }
    }

    pub(super) fn panicked(&self, plugin: &Plugin) {
        let often = {
            let mut health = plugin.health();
            health.figures.panics += 1;
            let now = Instant::now();
            health.panics.retain(|at| now.duration_since(*at) < PANICS_WITHIN);
            health.panics.push_back(now);
            health.panics.len() >= PANICS_MAX
        };
        if often {
            disable(plugin, &format!("{PANICS_MAX} panics within {} minutes", PANICS_WITHIN.as_secs() / 60));
        }
    }

    pub(super) fn error(&self, step: Step, text: String) -> Result<(), Failure> {
        step.plugin.health().figures.errors += 1;
        self.verdict(step, FailureKind::Failed, text)
    }

    /// The policy's word: whether the step goes on without this plugin.
    pub(super) fn verdict(&self, step: Step, kind: FailureKind, text: String) -> Result<(), Failure> {
        let Step { plugin, event, needed } = step;
        let failure = self.failure(plugin, event, kind, &text);
        match plugin.policy.on_error {
            OnError::Ignore if needed => Err(failure),
            OnError::Fail => Err(failure),
            OnError::Disable => {
                disable(plugin, &format!("{}: {text}", abi::event_name(event)));
                if plugin.policy.required || needed { Err(failure) } else { Ok(()) }
            }
            OnError::Ignore => {
                tracing::warn!("{failure}; going on without it (on_error = \"ignore\")");
                Ok(())
            }
        }
    }

    pub(super) fn failure(&self, plugin: &Plugin, event: u16, kind: FailureKind, reason: &str) -> Failure {
        Failure {
            plugin: plugin.name.clone(),
            event: abi::event_name(event),
            kind,
            reason: reason.to_owned(),
        }
    }
}

/// A machine may be slow for a while, and so may a plugin: when it has answered all that it was asked, it is asked again.
fn disable_until_it_answers(plugin: &'static Plugin, why: &str) {
    {
        let mut health = plugin.health();
        if health.disabled.is_some() {
            return;
        }
        health.disabled = Some(why.to_owned());
        health.until_it_answers = true;
    }
    tracing::error!("plugin {} is disabled until it answers: {why}", plugin.name);
    plugin.recover();
}

/// It is asked no more, but for `detach` of what it has seen.
fn disable(plugin: &Plugin, why: &str) {
    let mut health = plugin.health();
    if health.disabled.is_none() {
        health.disabled = Some(why.to_owned());
        drop(health);
        tracing::error!("plugin {} is disabled: {why}", plugin.name);
        for (_, timer) in plugin.timers.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            timer.abort();
        }
    }
}

//! A container's life as plugins see it: each step asks them in order, and their answers are judged by their policy.
//!
//! Gates go up one after another and may stop the step; holds go down and only delay; notifications fan out. Every `create`
//! that a plugin saw is followed by exactly one `detach`: `create` cleans up after itself when it fails, everything later is
//! cleaned up by the caller's `detach`.
//!
//! What a plugin has claimed (`stdio`, `network`), the container does not start without. To go on without an optional plugin is right
//! for one that watches, and wrong for the one that makes the network: the service would look healthy and be unreachable.
//! A plugin that was disabled for being late comes back when it has answered: a slow boot is no reason to be without a network
//! until the next restart. `detach` is not final while a restart is due; if none comes after all, everybody gets a final one.
mod notify;
mod verdict;
mod create;

pub use create::Created;

use crate::call::{Message, Outcome, Plugin};
use crate::containers::{Document, encode};
use crate::{Ctx, Failure, FailureKind, Lent, Plugins, Role};
use sampan_plugin::abi;
use sampan_plugin::merge::Refusal;
use serde_json::{Value, json};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A container that a new worker found running.
#[derive(Clone, Debug)]
pub struct Running {
    pub ctx: Ctx,
    /// As in `sampanctl ps`: `running`, `stopping`, ...
    pub state: &'static str,
    /// Of its bundle.
    pub spec: Value,
}

#[derive(Clone, Debug, Default)]
pub struct ExitFacts {
    pub code: i32,
    /// 0: not killed by a signal.
    pub signal: i32,
    pub oom: bool,
    /// Nobody could learn the code.
    pub unknown: bool,
    pub runtime: Duration,
    pub cause: String,
}

/// What a container has printed before it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printed {
    /// Somebody has held it all the time.
    Held,
    /// Every process of sampand was killed at once: nobody knows what is missing, and its log is to say so.
    Lost,
}

impl Printed {
    fn flag(self) -> u16 {
        match self {
            Printed::Held => 0,
            Printed::Lost => abi::F_LOST,
        }
    }
}

type Reply = (Vec<u8>, Vec<OwnedFd>);

/// What a plugin is asked for. `needed`: the step does not go on without its answer, whatever its policy.
#[derive(Clone, Copy)]
struct Step {
    plugin: &'static Plugin,
    event: u16,
    needed: bool,
}

/// Whether one of these claims is what the service needs.
fn gives(claims: &[String], needs: &[&str]) -> bool {
    claims.iter().any(|claim| needs.contains(&claim.as_str()))
}

fn kind(refusal: &Refusal) -> FailureKind {
    match refusal {
        Refusal::Conflict { .. } | Refusal::Claimed { .. } => FailureKind::Conflict,
        Refusal::NoGrant { .. } | Refusal::NoClaim { .. } => FailureKind::Denied,
        Refusal::Invalid { .. } | Refusal::NotJson { .. } => FailureKind::Failed,
    }
}

impl Plugins {
    /// The plugin that new starts of this service wait for: a required one, or one that claims what the service needs.
    pub fn waiting_for(&self, service: &str, needs: &[&str]) -> Option<Failure> {
        let absent = self
            .absent
            .iter()
            .filter(|absent| absent.services.covers(service))
            .filter(|absent| absent.required || gives(&absent.claims, needs))
            .map(|absent| (absent.name.clone(), absent.why.clone()));
        let disabled = self
            .open
            .iter()
            .filter(|plugin| plugin.policy.covers(service))
            .filter(|plugin| plugin.policy.required || gives(&plugin.library.manifest.claims, needs))
            .filter_map(|plugin| Some((plugin.name.clone(), plugin.disabled()?)));
        absent.chain(disabled).next().map(|(plugin, reason)| Failure {
            plugin,
            event: "create",
            kind: FailureKind::Waiting,
            reason,
        })
    }

    /// The spec of a container as plugins see it, until its process runs.
    pub fn spec(&self, handle: u64) -> Option<Arc<str>> {
        self.world.containers().get(handle)?.spec.clone()
    }

    /// The namespaces exist, no code of the user runs yet. Descriptors are duplicated; stdio goes to its claimant alone.
    pub async fn attach(&self, ctx: &Ctx, fds: &[Lent]) -> Result<(), Failure> {
        self.attach_with(ctx, fds, 0, Printed::Held).await
    }

    /// To the one that claimed a container's output alone, for a launch that failed before `attach`: hooks may have printed. And where output
    /// was lost; without descriptors nothing more comes.
    pub async fn attach_output(
        &self,
        ctx: &Ctx,
        claimant: &str,
        fds: Vec<(Role, Arc<OwnedFd>)>,
        printed: Printed,
    ) -> Result<(), Failure> {
        let fds = fds.into_iter().map(|(role, fd)| (role.number(), fd)).collect();
        let Some(plugin) = self.up(&ctx.service).into_iter().find(|plugin| plugin.name == claimant) else {
            return Ok(());
        };
        let message = Message::of(abi::EV_ATTACH, &Arc::new(ctx.clone()));
        self.gate(plugin, Message { fds, flags: printed.flag(), ..message }).await.map(drop)
    }

    /// As `attach`, for a container that was attached before: by an earlier worker.
    pub async fn replay(&self, ctx: &Ctx, fds: &[Lent], printed: Printed) -> Result<(), Failure> {
        self.attach_with(ctx, fds, abi::F_REPLAY, printed).await
    }

    async fn attach_with(
        &self,
        ctx: &Ctx,
        fds: &[Lent],
        flags: u16,
        printed: Printed,
    ) -> Result<(), Failure> {
        self.update(ctx, if flags == 0 { "created" } else { "running" });
        if let Some(container) = self.world.containers().get_mut(ctx.handle) {
            container.fds = fds.iter().map(|lent| (lent.role.number(), lent.into())).collect();
        }
        let ctx = Arc::new(ctx.clone());
        for plugin in self.up(&ctx.service) {
            let fds: Vec<_> = {
                let containers = self.world.containers();
                let may =
                    |role: u32| containers.get(ctx.handle).is_some_and(|c| c.may_have(role, &plugin.name));
                let given = fds.iter().map(|lent| (lent.role.number(), lent.fd.clone()));
                given.filter(|(role, _)| may(*role)).collect()
            };
            // What it has claimed is nobody else's to give: without it the container would lack it, in silence.
            let claimed =
                |c: &crate::containers::Container| c.memory.claims.values().any(|by| *by == plugin.name);
            let needed = flags == 0 && self.world.containers().get(ctx.handle).is_some_and(claimed);
            let is_output = |role: u32| [Role::Stdout, Role::Stderr].iter().any(|of| of.number() == role);
            let lost = if fds.iter().any(|(role, _)| is_output(*role)) { printed.flag() } else { 0 };
            let message = Message { flags: flags | lost, fds, ..Message::of(abi::EV_ATTACH, &ctx) };
            self.gate_of(plugin, message, needed).await?;
        }
        Ok(())
    }

    /// The OCI state is `created`.
    pub async fn start(&self, ctx: &Ctx) -> Result<(), Failure> {
        self.gates(ctx, abi::EV_START, "created").await
    }

    /// The process runs.
    pub async fn started(&self, ctx: &Ctx) -> Result<(), Failure> {
        self.world.containers().settle(ctx.handle);
        self.gates(ctx, abi::EV_STARTED, "running").await
    }

    async fn gates(&self, ctx: &Ctx, event: u16, state: &'static str) -> Result<(), Failure> {
        self.update(ctx, state);
        let message = Message::of(event, &Arc::new(ctx.clone()));
        for plugin in self.up(&ctx.service) {
            self.gate(plugin, message.clone()).await?;
        }
        Ok(())
    }

    /// Before the stop signal. Nothing here stops the stop: what went wrong is returned to be said.
    pub async fn stop(&self, ctx: &Ctx, reason: &str, grace: Duration) -> Vec<Failure> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let body = json!({ "reason": reason, "grace_ms": grace_ms });
        let message = Message::of(abi::EV_STOP, &Arc::new(ctx.clone())).body(&body);
        let plugins = self.up(&ctx.service);
        self.holds(plugins.into_iter().rev(), &message).await
    }

    /// The cgroup is empty, or an earlier step failed. Goes to all that saw `create`, even if one is broken. A second one for
    /// the same container does nothing.
    pub async fn detach(&self, ctx: &Ctx, is_final: bool) -> Vec<Failure> {
        let saw = match self.world.containers().get_mut(ctx.handle) {
            Some(container) => {
                let mut saw = std::mem::take(&mut container.saw);
                saw.retain(|slot| is_final || !container.spares(*slot, abi::EV_DETACH));
                container.without.clear();
                saw
            }
            None => return Vec::new(),
        };
        let message = Message::of(abi::EV_DETACH, &Arc::new(ctx.clone())).body(&json!({ "final": is_final }));
        let plugins = self.open.iter().rev().copied().filter(|plugin| saw.contains(&plugin.slot));
        let failures = self.holds(plugins, &message).await;
        // Whoever is not asked may still be in its exit, which may look at the container and keep something of it.
        for plugin in self.up(&ctx.service) {
            plugin.has_heard().await;
        }
        if is_final {
            for plugin in &self.open {
                plugin.kv.forget(&self.world.kv_writer, &ctx.container_id);
            }
            self.drop_kept(&ctx.container_id);
        }
        self.world.containers().remove(ctx.handle);
        if is_final {
            self.forget(&ctx.container_id).await;
        }
        failures
    }

    /// No new life comes after a detach that was not final: a final one, to all, whatever they saw.
    pub async fn release(&self, ctx: &Ctx) -> Vec<Failure> {
        let message = Message::of(abi::EV_DETACH, &Arc::new(ctx.clone())).body(&json!({ "final": true }));
        let failures = self.holds(self.up(&ctx.service).into_iter().rev(), &message).await;
        for plugin in &self.open {
            plugin.kv.forget(&self.world.kv_writer, &ctx.container_id);
        }
        self.drop_kept(&ctx.container_id);
        self.forget(&ctx.container_id).await;
        failures
    }

    /// What a new worker would be told of a container; it does not come back.
    pub async fn forget(&self, id: &str) {
        self.world.containers().forget(id);
        self.world.write_down().await;
    }

    /// The plugin that takes this claim (`stdio`) of containers.
    pub fn claimant(&self, claim: &str) -> Option<String> {
        let claims = |plugin: &&&Plugin| plugin.library.manifest.claims.iter().any(|own| own == claim);
        self.open
            .iter()
            .find(|plugin| claims(plugin) && plugin.disabled().is_none())
            .map(|plugin| plugin.name.clone())
    }

    /// What plugins left with the keel for a container that is gone.
    fn drop_kept(&self, id: &str) {
        let kept = &self.world.kept;
        let left =
            self.open.iter().flat_map(|plugin| kept.keys(&crate::types::keel_key(&plugin.name, id, "")));
        if let Err(error) = left.into_iter().try_for_each(|key| kept.keep(&key, None)) {
            tracing::warn!(service = id, %error, "descriptors that plugins kept for it stay with the keel");
        }
    }

    async fn holds(&self, plugins: impl Iterator<Item = &'static Plugin>, message: &Message) -> Vec<Failure> {
        let mut failures = Vec::new();
        for plugin in plugins.filter(|plugin| self.wants(plugin, message)) {
            if plugin.is_stuck() {
                failures.push(self.failure(
                    plugin,
                    message.event,
                    FailureKind::Timeout,
                    "its thread hangs in an earlier call",
                ));
                continue;
            }
            let outcome = plugin.ask(message.clone()).await;
            let step = Step { plugin, event: message.event, needed: false };
            if let Err(failure) = self.judge(step, outcome) {
                failures.push(failure);
            }
        }
        failures
    }

    /// After `open`, and after adoption: plugins learn what lives, and get back what they gave to the keel.
    pub async fn synchronize(&self, running: &[Running]) -> Vec<Failure> {
        {
            let mut containers = self.world.containers();
            for one in running {
                let (memory, service) = containers.recall(&one.ctx.container_id);
                let (service, spec) = (encode(&service), one.spec.to_string().into());
                containers.add(&one.ctx, one.state, service, Some(spec), memory);
                containers.settle(one.ctx.handle);
                if let Some(container) = containers.get_mut(one.ctx.handle) {
                    let covered = self.open.iter().filter(|plugin| plugin.policy.covers(&one.ctx.service));
                    container.saw = covered.map(|plugin| plugin.slot).collect();
                }
            }
        }
        let mut failures = Vec::new();
        for plugin in self.open.iter().copied().filter(|plugin| plugin.disabled().is_none()) {
            let kept = match self.world.kept(&plugin.name) {
                Ok(kept) => kept,
                Err(error) => {
                    let text = format!("what the keel kept for it: {error}");
                    failures.push(self.failure(plugin, abi::EV_SYNCHRONIZE, FailureKind::Failed, &text));
                    Vec::new()
                }
            };
            for message in self.world.synchronize_messages(plugin, kept) {
                if let Err(failure) = self.gate(plugin, message).await {
                    failures.push(failure);
                    break;
                }
            }
        }
        failures
    }

    /// Claims and owners of a container, also of one that an earlier worker created.
    pub fn created(&self, handle: u64) -> Option<Created> {
        let containers = self.world.containers();
        let memory = &containers.get(handle)?.memory;
        let mut created = Created::default();
        created.claims.clone_from(&memory.claims);
        created.owners.clone_from(&memory.owners);
        Some(created)
    }

    /// The table of a container's service, as plugins read it.
    pub fn table(&self, handle: u64) -> Option<Document> {
        Some(self.world.containers().get(handle)?.service.clone())
    }

    /// What plugins say to a service's table: plugin, JSON pointer, message.
    pub async fn validate(&self, name: &str, service: &Value) -> Vec<(String, String, String)> {
        let ctx = Arc::new(Ctx { service: name.to_owned(), ..Ctx::default() });
        let message = Message::of(abi::EV_VALIDATE, &ctx).body(&json!({ "service": service }));
        let mut found = Vec::new();
        for plugin in self.up(name) {
            match self.gate(plugin, message.clone()).await {
                Ok(None) => {}
                Ok(Some((json, _))) if json.is_empty() => {}
                Ok(Some((json, _))) => {
                    let problems: Vec<sampan_plugin::types::Problem> =
                        serde_json::from_slice(&json).unwrap_or_default();
                    found.extend(problems.into_iter().map(|p| (plugin.name.clone(), p.pointer, p.message)));
                }
                Err(failure) => found.push((plugin.name.clone(), String::new(), failure.reason)),
            }
        }
        found
    }

    /// Asks one plugin by name, whatever its policy.
    pub async fn control(&self, name: &str, request: &Value) -> Result<(Value, Vec<OwnedFd>), Failure> {
        let failure = |kind, reason: &str| Failure {
            plugin: name.to_owned(),
            event: "control",
            kind,
            reason: reason.to_owned(),
        };
        let Some(plugin) = self.open.iter().copied().find(|plugin| plugin.name == name) else {
            let why = self.absent.iter().find(|absent| absent.name == name).map(|absent| absent.why.as_str());
            return Err(failure(FailureKind::Failed, why.unwrap_or("there is no such plugin")));
        };
        if let Some(why) = plugin.disabled() {
            return Err(failure(FailureKind::Failed, &format!("it is disabled: {why}")));
        }
        if !plugin.wants(abi::EV_CONTROL) {
            return Err(failure(FailureKind::Failed, "it answers no control requests"));
        }
        match plugin.ask(Message::new(abi::EV_CONTROL).body(request)).await {
            Outcome::Reply { json, fds } if json.is_empty() => Ok((Value::Null, fds)),
            Outcome::Reply { json, fds } => match serde_json::from_slice(&json) {
                Ok(json) => Ok((json, fds)),
                Err(error) => Err(failure(FailureKind::Failed, &format!("its answer is not JSON: {error}"))),
            },
            Outcome::Error { status, text } if text.is_empty() => {
                Err(failure(FailureKind::Failed, abi::status_text(status)))
            }
            Outcome::Error { text, .. } => Err(failure(FailureKind::Failed, &text)),
            Outcome::Timeout { after, .. } => {
                Err(failure(FailureKind::Timeout, &format!("no answer within {after:.1?}")))
            }
            Outcome::Gone => Err(failure(FailureKind::Failed, "it is closed")),
        }
    }

    /// sampand ends: `shutdown`, then `close`, down.
    pub async fn shutdown(&self) -> Vec<Failure> {
        let mut failures = self.holds(self.open.iter().rev().copied(), &Message::new(abi::EV_SHUTDOWN)).await;
        for plugin in self.open.iter().rev() {
            if plugin.is_stuck() || !plugin.close(0).await {
                failures.push(self.failure(
                    plugin,
                    abi::EV_SHUTDOWN,
                    FailureKind::Timeout,
                    "it does not close",
                ));
            }
        }
        failures
    }
}

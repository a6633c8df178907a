//! What plugins are told and not asked: nobody waits for them.
use super::ExitFacts;
use crate::call::Message;
use crate::{Ctx, Plugins};
use sampan_plugin::abi;
use serde_json::{Value, json};
use std::sync::Arc;

impl Plugins {
    pub fn notify_ready(&self, ctx: &Ctx) {
        self.notify(ctx, Message::of(abi::EV_READY, &Arc::new(ctx.clone())));
    }

    pub fn notify_health(&self, ctx: &Ctx, status: &str, output: &str) {
        let body = json!({ "status": status, "output": output });
        self.notify(ctx, Message::of(abi::EV_HEALTH, &Arc::new(ctx.clone())).body(&body));
    }

    /// Always before the exit. `counters` are those of memory.events.
    pub fn notify_oom(&self, ctx: &Ctx, counters: &Value) {
        self.notify(ctx, Message::of(abi::EV_OOM, &Arc::new(ctx.clone())).body(counters));
    }

    pub fn notify_exit(&self, ctx: &Ctx, facts: &ExitFacts) {
        self.update(ctx, "exited");
        let body = json!({
            "runtime_ms": u64::try_from(facts.runtime.as_millis()).unwrap_or(u64::MAX), "cause": facts.cause,
            "unknown": facts.unknown,
        });
        let message = Message {
            flags: if facts.oom { abi::F_OOM } else { 0 },
            exit_code: facts.code,
            signal: facts.signal,
            ..Message::of(abi::EV_EXIT, &Arc::new(ctx.clone()))
        };
        self.notify(ctx, message.body(&body));
    }

    /// Limits of a container that runs were changed; `resources` are those that hold now.
    pub fn notify_updated(&self, ctx: &Ctx, resources: &Value) {
        let body = json!({ "resources": resources });
        self.notify(ctx, Message::of(abi::EV_UPDATED, &Arc::new(ctx.clone())).body(&body));
    }

    pub fn notify_stopping(&self, ctx: &Ctx) {
        self.update(ctx, "stopping");
        self.notify(ctx, Message::of(abi::EV_STOPPING, &Arc::new(ctx.clone())));
    }

    pub fn notify_removed(&self, ctx: &Ctx) {
        self.notify(ctx, Message::of(abi::EV_REMOVED, &Arc::new(ctx.clone())));
    }

    fn notify(&self, ctx: &Ctx, message: Message) {
        let plugins = self.up(&ctx.service);
        for plugin in plugins.into_iter().rev().filter(|plugin| self.wants(plugin, &message)) {
            plugin.tell(message.clone());
        }
    }
}

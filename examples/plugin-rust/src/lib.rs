//! A plugin that refuses some services, marks the others, and counts and remembers how they exit.
//!
//! Try it: `cargo build -p plugin-rust`, then in config.toml
//! `[plugins.audit] path = "target/debug/libaudit.so", config = { deny = ["evil"] }`.
use sampan_plugin::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cfg {
    /// Services that may not start.
    #[serde(default)]
    deny: Vec<String>,
}

pub struct Audit {
    cfg: Cfg,
    host: Host,
    exits: Counter,
}

#[async_trait]
impl Plugin for Audit {
    const NAME: &'static str = "audit";
    type Config = Cfg;

    async fn open(cfg: Cfg, host: Host) -> Result<Self> {
        let exits = host.counter("exits", "container exits")?;
        Ok(Audit { cfg, host, exits })
    }

    async fn create(&self, cx: &Cx, _: Create) -> Result<Adjust> {
        if self.cfg.deny.iter().any(|d| d == cx.service()) {
            return Err(Error::veto("denied by audit"));
        }
        Ok(Adjust::new().annotation("org.example.audited", "1"))
    }

    async fn exit(&self, cx: &Cx, ev: Exit) -> Result<()> {
        tracing::info!(code = ev.code, oom = ev.oom, "exit");
        self.exits.add(cx, 1.0);
        self.host.put(cx.container(), "last", &ev).await
    }
}

declare_plugin!(Audit);

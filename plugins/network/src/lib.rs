//! The network plugin: bridges, addresses and published ports for services.
//!
//! Between the plugin ABI and the engine: an event becomes one call of `Engine`, what the call wants written down is durable
//! before the event is answered. The modules, in the order in which they may use each other:
//!
//! ```text
//!   mutex -> wire -> netlink -> modules -> addresses -> config -> sysctl -> ipv6 -> link -> routes -> forwarding -> bridge -> nft -> listing
//!         -> ports -> held -> conntrack -> claim -> records -> dns -> files -> engine -> firewall -> obstacles -> guard
//! ```
//! Modes `none` and `host` are the runtime's; CNI comes later.
#![deny(unsafe_code)]
//!
//! It speaks nf_tables, rtnetlink and conntrack itself: `make run` may not need a program that is not there, and one `nft` costs
//! more than a whole attach. `nft` is the oracle of the tests.

pub mod mutex;

pub mod wire;

pub mod netlink;

pub mod modules;

pub mod addresses;

pub mod config;

pub mod sysctl;

pub mod ipv6;

pub mod link;

pub mod routes;

pub mod forwarding;

pub mod bridge;

pub mod nft;

pub mod listing;

pub mod ports;

pub mod held;

pub mod conntrack;

pub mod claim;

pub mod records;

pub mod dns;

pub mod files;

pub mod engine;

pub mod firewall;

pub mod obstacles;

pub mod guard;

use std::fs;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use nix::sys::stat::fstat;
use sampan_plugin::host::Done;
use sampan_plugin::prelude::*;

use crate::config::Config;
use crate::engine::{Chores, Engine, HostFacts};
use crate::files::Folders;
use crate::guard::Guard;
use crate::mutex::lock;
use crate::records::{Effect, Records};

pub struct Network {
    host: Host,
    folders: Folders,
    engine: Arc<Mutex<Engine>>,
    guard: Mutex<Option<Guard>>,
}

#[async_trait]
impl Plugin for Network {
    const NAME: &'static str = "network";
    const CLAIMS: &'static [&'static str] = &["network"];
    type Config = Config;

    async fn open(config: Config, host: Host) -> Result<Network> {
        let facts = HostFacts { machine: machine_id(), etc: "/etc".into(), ipv6: ipv6::is_there() };
        let engine = Engine::new(config, facts, read_records(&host)?);
        let folders = Folders::below(&host.about().run_dir);
        Ok(Network { host, folders, engine: Arc::new(Mutex::new(engine)), guard: Mutex::default() })
    }

    async fn synchronize(&self, _: &Cx, ev: Synchronize) -> Result<()> {
        let kept = ev.kept.into_iter().map(|k| (k.key, k.fd)).collect();
        let live: Vec<String> =
            ev.containers.into_iter().map(|c| if c.service.is_empty() { c.id } else { c.service }).collect();
        self.folders.remove_all_but(&live);
        let unknown = lock(&self.engine).adopt(kept);
        self.carry_out(unknown).await?;
        self.run(|engine, effects| engine.synchronize(&live, effects)).await
    }

    async fn create(&self, cx: &Cx, ev: Create) -> Result<Adjust> {
        let service = config::Service::parse(&ev.service);
        if service.as_ref().is_ok_and(config::Service::is_bridged) {
            self.ask_for_patience(cx);
        }
        self.run(|engine, effects| engine.prepare(name(cx), &ev.service, effects)).await?;
        let (held, files) = {
            let engine = lock(&self.engine);
            (engine.is_held(name(cx)), engine.files(name(cx), &ev.service).map_err(Error::new)?)
        };
        let mut adjust = if held { Adjust::new().claim("network") } else { Adjust::new() };
        for (inside, path) in self.folders.write(name(cx), &files).map_err(Error::new)? {
            adjust = adjust.mount(inside, "bind", &path.to_string_lossy(), &files::OPTIONS);
        }
        // Neither leases nor the host's files are in it.
        let is_stable = service.is_ok_and(|service| service.network_mode == "none");
        let adjust = if is_stable { adjust.stable() } else { adjust };
        // Bridge, address, ports and files stay for the next start; none and host have nothing of ours.
        Ok(adjust.without(if held { &["detach"] } else { &["attach", "detach"] }))
    }

    async fn attach(&self, cx: &Cx, ev: Attach) -> Result<()> {
        if ev.replay && !lock(&self.engine).is_held(name(cx)) {
            // It was attached before this plugin was there to see its creation.
            let table = cx.service_config().await?;
            self.ask_for_patience(cx);
            self.run(|engine, effects| engine.prepare(name(cx), &table, effects)).await?;
        }
        if !lock(&self.engine).is_held(name(cx)) {
            return Ok(()); // none, host: nothing of ours
        }
        self.ask_for_patience(cx);
        let netns = cx.fd(Role::Netns)?;
        let id = fstat(netns.as_fd())?.st_ino;
        self.run(|engine, effects| engine.attach(name(cx), netns, id, effects)).await
    }

    async fn detach(&self, cx: &Cx, ev: Detach) -> Result<()> {
        if !ev.is_final {
            return Ok(()); // bridge, address, ports and files stay for the next start
        }
        self.folders.remove(name(cx));
        self.run(|engine, effects| {
            engine.release(name(cx), effects);
            Ok(())
        })
        .await
    }

    async fn control(&self, _: &Cx, ev: Control) -> Result<Reply> {
        let verb = ev.request.get("verb").and_then(Value::as_str).unwrap_or("status");
        match verb {
            "status" => Ok(lock(&self.engine).status().into()),
            "reconcile" => {
                self.run(
                    |engine, effects| if engine.is_active() { engine.reconcile(effects) } else { Ok(()) },
                )
                .await?;
                Ok(lock(&self.engine).status().into())
            }
            other => Err(Error::new(format!("no verb {other:?}; there are status and reconcile"))),
        }
    }

    /// All services have been detached by now, or run on (`on_exit = "keep"`) and keep what they have.
    async fn shutdown(&self, _: &Cx, _: Shutdown) -> Result<()> {
        lock(&self.engine).sweep();
        Ok(())
    }

    fn close(&self, _: CloseReason) {
        if let Some(guard) = lock(&self.guard).take() {
            guard.stop();
        }
        let mut engine = lock(&self.engine);
        engine.sweep();
        engine.let_go();
    }
}

impl Network {
    /// One step of the engine; what it wants written down is durable when this returns, whether it went well or not. While the
    /// kernel lacks what the step needs it is done again, and others have their turns in between.
    async fn run(
        &self,
        mut step: impl FnMut(&mut Engine, &mut Vec<Effect>) -> engine::Result<()>,
    ) -> Result<()> {
        loop {
            let mut effects = Vec::new();
            let (done, chores, is_missing) = {
                let mut engine = lock(&self.engine);
                let misses = engine.modules().misses();
                let done = step(&mut engine, &mut effects);
                let is_missing = engine.modules().misses() > misses && !engine.modules().patience().is_zero();
                (done, engine.take_chores(), is_missing)
            };
            self.carry_out(effects).await?;
            self.guard(chores)?;
            match done {
                Err(_) if is_missing => tokio::time::sleep(modules::AGAIN_AFTER).await,
                done => return done.map_err(Error::new),
            }
        }
    }

    /// The first container may take longer than others. Where the host gives no more time, what there is has to do.
    fn ask_for_patience(&self, cx: &Cx) {
        let patience = lock(&self.engine).modules().patience();
        if !patience.is_zero()
            && let Err(e) = cx.extend(patience)
        {
            tracing::debug!("no more time for the kernel to load its modules: {e}");
        }
    }

    /// All of them, whichever fails: a record that is left out would be one that nobody writes later. The first failure is told.
    async fn carry_out(&self, effects: Vec<Effect>) -> Result<()> {
        let begun: Vec<Result<Option<Done<()>>>> =
            effects.into_iter().map(|effect| self.begin(effect)).collect();
        let mut outcome = Ok(());
        for effect in begun {
            let done = match effect {
                Ok(Some(durable)) => durable.await,
                Ok(None) => Ok(()),
                Err(e) => Err(e),
            };
            outcome = outcome.and(done);
        }
        outcome
    }

    /// What this returns ends when the effect is durable.
    fn begin(&self, effect: Effect) -> Result<Option<Done<()>>> {
        Ok(match effect {
            Effect::Put(key, value) => Some(self.host.put(Container::HOST, &key, &value)),
            Effect::Delete(key) => Some(self.host.delete(Container::HOST, &key)),
            Effect::Keep(key, fd) => self.host.keep_fd(Container::HOST, &key, &fd).map(|()| None)?,
            Effect::Drop(key) => self.host.drop_fd(Container::HOST, &key).map(|()| None)?,
        })
    }

    /// Starts the guard with the first work.
    fn guard(&self, chores: Chores) -> Result<()> {
        let mut guard = lock(&self.guard);
        if guard.is_none() && lock(&self.engine).is_active() {
            *guard = Some(Guard::start(Arc::clone(&self.engine)).map_err(Error::new)?);
        }
        if let Some(guard) = &*guard {
            guard.soon(chores);
        }
        Ok(())
    }
}

fn name(cx: &Cx) -> &str {
    if cx.service().is_empty() { cx.container_id() } else { cx.service() }
}

fn read_records(host: &Host) -> Result<Records> {
    let mut records = Records::default();
    for key in host.keys(Container::HOST, "service/")? {
        if let (Some(service), Some(name)) = (host.get(Container::HOST, &key)?, key.strip_prefix("service/"))
        {
            records.services.push((name.to_owned(), service));
        }
    }
    for key in host.keys(Container::HOST, "network/")? {
        if let (Some(network), Some(name)) = (host.get(Container::HOST, &key)?, key.strip_prefix("network/"))
        {
            records.networks.push((name.to_owned(), network));
        }
    }
    Ok(records)
}

/// What MACs are derived from: machines that share a LAN have different ones.
fn machine_id() -> String {
    let read = |path| fs::read_to_string(path).ok().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty());
    read("/etc/machine-id").or_else(|| read("/proc/sys/kernel/hostname")).unwrap_or_default()
}

/// The one symbol that the host looks for; its attributes are what needs the word.
#[allow(unsafe_code)]
mod exported {
    sampan_plugin::declare_plugin!(crate::Network);
}

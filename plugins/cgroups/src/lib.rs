//! The cgroups plugin: which limits a service gets, and what it uses. It decides; core/cgroups writes, kills and removes, so
//! without it the limits of the service's own table still hold.
//!
//! `create` answers with `resources/*`; figures come from the groups of the service's process, for `control` and for metrics.
//! It keeps nothing that the kernel does not: after a restart of sampand, `attach` is replayed and it knows all again.

pub mod config;
pub mod policy;
pub mod usage;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use sampan_plugin::prelude::*;

use crate::config::{Config, Machine};
use crate::usage::{Groups, Usage};

pub struct Cgroups {
    config: Config,
    machine: Machine,
    metrics: Metrics,
    running: Mutex<BTreeMap<Container, Service>>,
}

struct Service {
    name: String,
    groups: Groups,
}

struct Metrics {
    cpu: Gauge,
    memory: Gauge,
    pids: Gauge,
    ooms: Counter,
}

/// The timer by which metrics are measured, if asked for.
const MEASURE: u64 = 1;

impl Cgroups {
    /// A plugin's handler never panics while it holds this, so what it guards is whole even after a poisoning.
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<Container, Service>> {
        self.running.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looked for once, as long as the number cannot be another process's. At `attach` it is also before anything of the container's
    /// runs, which may leave for a group below.
    fn note(&self, container: Container, name: &str, pid: i32) {
        if let Some(groups) = Groups::of(pid) {
            self.running().insert(container, Service { name: name.to_owned(), groups });
        }
    }

    /// By service; all of them if none is named.
    fn stats(&self, only: Option<&[String]>) -> BTreeMap<String, Usage> {
        let running = self.running();
        let asked = |s: &&Service| only.is_none_or(|names| names.iter().any(|n| policy::fits(n, &s.name)));
        running.values().filter(asked).map(|s| (s.name.clone(), s.groups.read())).collect()
    }

    fn measure(&self, container: Container, groups: &Groups) {
        let usage = groups.read();
        let set = |gauge: &Gauge, value: Option<u64>| {
            if let Some(value) = value {
                gauge.set(container, value as f64);
            }
        };
        if let Some(ns) = usage.cpu_ns {
            self.metrics.cpu.set(container, ns as f64 / 1e9);
        }
        set(&self.metrics.memory, usage.working_set_bytes);
        set(&self.metrics.pids, usage.pids);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    verb: String,
    #[serde(default)]
    services: Option<Vec<String>>,
}

#[async_trait]
impl Plugin for Cgroups {
    const NAME: &'static str = "cgroups";
    type Config = Config;

    async fn open(config: Config, host: Host) -> Result<Cgroups> {
        let machine = Machine::detect();
        config.check(&machine).map_err(Error::new)?;
        if config.metrics_every_s > 0 {
            let every = Duration::from_secs(config.metrics_every_s.into());
            host.set_timer(MEASURE, every, Some(every))?;
        }
        let metrics = Metrics {
            cpu: host.gauge("cpu_seconds", "CPU time used by the service's control group")?,
            memory: host.gauge("memory_working_set_bytes", "memory in use that cannot be dropped at once")?,
            pids: host.gauge("pids", "processes and threads")?,
            ooms: host.counter("oom_kills", "processes ended by the kernel for want of memory")?,
        };
        Ok(Cgroups { config, machine, metrics, running: Mutex::default() })
    }

    async fn synchronize(&self, _: &Cx, all: Synchronize) -> Result<()> {
        self.running().retain(|container, _| all.containers.iter().any(|c| c.handle == *container));
        for container in all.containers {
            self.note(container.handle, &container.service, container.pid);
        }
        Ok(())
    }

    async fn create(&self, cx: &Cx, event: Create) -> Result<Adjust> {
        let adjust = policy::adjust(&self.config, &self.machine, cx.service(), &event.service).stable();
        // The last figures are for metrics alone.
        Ok(if self.config.metrics_every_s == 0 { adjust.without(&["exit"]) } else { adjust })
    }

    async fn attach(&self, cx: &Cx, _: Attach) -> Result<()> {
        self.note(cx.container(), cx.service(), cx.pid());
        Ok(())
    }

    async fn oom(&self, cx: &Cx, _: Oom) -> Result<()> {
        self.metrics.ooms.add(cx.container(), 1.0);
        Ok(())
    }

    async fn exit(&self, cx: &Cx, _: Exit) -> Result<()> {
        // The last figures: the group is still there.
        let last = self.running().get(&cx.container()).map(|s| s.groups.clone());
        if let Some(groups) = last {
            self.measure(cx.container(), &groups);
        }
        Ok(())
    }

    async fn detach(&self, cx: &Cx, _: Detach) -> Result<()> {
        self.running().remove(&cx.container());
        Ok(())
    }

    async fn timer(&self, _: &Cx, _: Timer) -> Result<()> {
        let all: Vec<(Container, Groups)> =
            self.running().iter().map(|(c, s)| (*c, s.groups.clone())).collect();
        for (container, groups) in all {
            self.measure(container, &groups);
        }
        Ok(())
    }

    async fn control(&self, _: &Cx, control: Control) -> Result<Reply> {
        let request: Request = serde_json::from_value(control.request).map_err(|e| {
            Error::new(format!("cgroups understands {{\"verb\":\"stats\",\"services\":[\"web\"]}}: {e}"))
        })?;
        match request.verb.as_str() {
            "stats" => Ok(Reply::json(serde_json::to_value(self.stats(request.services.as_deref()))?)),
            other => Err(Error::new(format!("cgroups has no verb {other:?}; it has \"stats\""))),
        }
    }
}

declare_plugin!(Cgroups);

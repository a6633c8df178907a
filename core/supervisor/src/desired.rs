//! From one config to the next: what differs becomes events (`sampan_service::desired`). New services start, removed ones
//! stop, what works live is taken over at once, the rest with the service's next life.
use crate::clock;
use crate::fleet::{self, Entry};
use crate::worker::Worker;
use sampan_api as api;
use sampan_config::Config;
use sampan_config::diff::{self, Change, Field};
use sampan_service::desired::{self, Desired};
use sampan_service::{Action, Policy};
use std::collections::BTreeMap;

/// Puts `config` in the place of what holds. Cannot fail: it was checked when it was loaded.
pub fn replace(worker: &mut Worker, config: Config) -> api::Applied {
    let old = worker.ground.config();
    let diff = diff::diff(&old, &config);
    for field in &diff.supervisor {
        tracing::warn!(key = field.key, "changed in the config; holds from sampand's next start on");
    }
    worker.ground.set_config(config);
    let config = worker.ground.config();
    let (slots, storm) = fleet::limits(&config.supervisor, clock::boottime());
    worker.gate.set(slots, storm);
    let old_graph = std::mem::replace(&mut worker.graph, fleet::graph(&config));
    for (name, change) in &diff.services {
        take_over(worker, name, change, &config);
    }
    let policies: BTreeMap<&String, (Policy, bool)> = config
        .services
        .iter()
        .map(|(name, service)| (name, (fleet::policy(service), service.autostart)))
        .collect();
    let services = policies
        .iter()
        .map(|(name, (policy, autostart))| ((*name).clone(), Desired { policy, autostart: *autostart }))
        .collect();
    let changes = diff.services.iter().map(|(name, change)| (name.clone(), verdict(change))).collect();
    let events = desired::reload(
        &services,
        &changes,
        &worker.held(),
        old_graph.start_order(),
        worker.graph.start_order(),
    );
    for (name, event) in &events {
        worker.apply(name, event);
    }
    for (name, change) in &diff.services {
        if let Change::Live(fields) = change {
            change_what_runs(worker, name, fields);
        }
    }
    worker.gate_dirty = true;
    tracing::info!("config applied");
    api::Applied { changes: diff.services.iter().map(|(name, change)| show(name, change)).collect() }
}

/// The config's side of a change; the machine hears of it by an event.
fn take_over(worker: &mut Worker, name: &str, change: &Change, config: &Config) {
    let Some(service) = config.services.get(name).cloned() else { return };
    match (change, worker.fleet.get_mut(name)) {
        (Change::Nothing | Change::Removed, _) => {}
        (Change::New, None) => {
            let handle = worker.next_handle;
            worker.next_handle += 1;
            worker.fleet.entries.insert(name.into(), Entry::new(service, handle));
        }
        // It comes back while its former life is still being removed.
        (Change::New | Change::Restart(_), Some(entry)) if entry.machine.state.has_life() => {
            entry.next = Some(service);
        }
        (Change::New | Change::Restart(_) | Change::Live(_), Some(entry)) => entry.config = service,
        (Change::Restart(_) | Change::Live(_), None) => {}
    }
}

/// What works live beside the machine: limits are written into the cgroup, a health check begins anew.
fn change_what_runs(worker: &mut Worker, name: &str, fields: &[Field]) {
    let touches = |table: &str| fields.iter().any(|field| field.key.split('.').next() == Some(table));
    let Some(entry) = worker.fleet.get(name) else { return };
    if touches("resources") && entry.live.is_some() {
        worker.ground.update_resources(name, &entry.config);
    }
    if touches("healthcheck") && entry.machine.state.is_probed() {
        worker.act(name, Action::HealthBegin);
    }
}

fn verdict(change: &Change) -> desired::Change {
    match change {
        Change::Nothing => desired::Change::Nothing,
        Change::Live(_) => desired::Change::Live,
        Change::Restart(_) => desired::Change::Restart,
        Change::New => desired::Change::New,
        Change::Removed => desired::Change::Removed,
    }
}

fn show(name: &str, change: &Change) -> api::Change {
    let keys = |fields: &[Field]| fields.iter().map(|field| field.key.clone()).collect();
    let (what, keys) = match change {
        Change::Nothing => ("nothing", Vec::new()),
        Change::Live(fields) => ("live", keys(fields)),
        Change::Restart(fields) => ("restart", keys(fields)),
        Change::New => ("new", Vec::new()),
        Change::Removed => ("removed", Vec::new()),
    };
    api::Change { service: name.to_owned(), what: what.into(), keys }
}

//! From one config to the next: what differs becomes events (`sampan_service::desired`). New services start, removed ones
//! stop, what works live is taken over at once, the rest with the service's next life.
use super::Worker;
use crate::clock;
use crate::fleet::{self, Entry};
use crate::settings::{Event, Settings};
use sampan_api as api;
use sampan_config::Config;
use sampan_config::diff::{self, Change, Field};
use sampan_config::keys::Applies;
use sampan_service::Action;
use sampan_service::desired::{self, Desired};
use std::collections::BTreeMap;

/// Puts `config` in the place of what holds. Cannot fail: it was checked when it was loaded.
pub fn replace(worker: &mut Worker, mut config: Config) -> api::Applied {
    let old = worker.config.clone();
    let mut diff = diff::diff(&old, &config);
    worker.one_offs_under(&mut config, &mut diff);
    // What is said to hold at the next start does not hold before.
    config.go_on_as(old.lasting());
    worker.config = std::rc::Rc::new(config);
    let config = worker.config.clone();
    let (slots, storm) = fleet::limits(&config.supervisor, clock::boottime());
    worker.gate.set(slots, storm);
    let old_graph = std::mem::replace(&mut worker.graph, fleet::graph(&config));
    for (name, change) in &diff.services {
        take_over(worker, name, change, &config);
    }
    let configs: BTreeMap<&String, Settings> =
        config.services.iter().map(|(name, service)| (name, worker.led_under(service))).collect();
    let services = configs
        .iter()
        .map(|(name, settings)| {
            ((*name).clone(), Desired { config: settings, autostart: config.starts_by_itself(settings) })
        })
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
    for (name, service) in &config.services {
        if let Some(before) = old.services.get(name) {
            worker.context.let_go_of_sockets(before, service);
        }
    }
    for (name, change) in &diff.services {
        if let Change::Live(fields) = change {
            change_what_runs(worker, name, fields);
        }
    }
    worker.stop_one_offs_in_vain();
    worker.gate_dirty = true;
    crate::log::set(&config.supervisor);
    worker.serve_metrics();
    worker.let_in();
    let others = others(&diff);
    for change in others.iter().filter(|change| change.what == NEXT_START) {
        tracing::warn!(
            of = change.of,
            keys = change.keys.join(", "),
            "changed in the config; holds {NEXT_START}"
        );
    }
    tracing::info!("config applied");
    api::Applied { changes: show_all(&diff), others }
}

/// What [`replace`] would say.
pub fn would(old: &Config, new: &Config) -> api::Applied {
    let mut diff = diff::diff(old, new);
    diff.services.retain(|name, _| old.services.get(name).is_none_or(|service| service.of.is_none()));
    api::Applied { changes: show_all(&diff), others: others(&diff) }
}

fn show_all(diff: &diff::Diff) -> Vec<api::Change> {
    diff.services.iter().map(|(name, change)| show(name, change)).collect()
}

/// What has no entry gets one; what has one hears of its new config by an event.
fn take_over(worker: &mut Worker, name: &str, change: &Change, config: &Config) {
    let (Change::New, Some(service)) = (change, config.services.get(name).cloned()) else { return };
    if worker.fleet.get(name).is_some() {
        // It comes back while its former life is still being removed.
        return worker.apply(name, &Event::Replaced(service.into()));
    }
    let handle = worker.next_handle;
    worker.next_handle += 1;
    worker.fleet.entries.insert(name.into(), Entry::new(service, handle));
}

/// What works live beside the machine: limits are written into the cgroup, a health check begins anew.
fn change_what_runs(worker: &mut Worker, name: &str, fields: &[Field]) {
    let touches = |table: &str| fields.iter().any(|field| field.key.split('.').next() == Some(table));
    let Some(entry) = worker.fleet.get(name) else { return };
    // What ends anyway keeps its limits: the new ones are the next life's.
    let stays = entry.machine.next_config().is_none();
    if touches("resources") && entry.live.is_some() && stays {
        let changed = |key: &str| fields.iter().any(|field| field.key == key);
        worker.context.update_resources(entry.ctx(), entry.config(), &changed);
        if let Some(live) = worker.fleet.get_mut(name).and_then(|entry| entry.live.as_mut()) {
            live.limits = None;
        }
    }
    let Some(entry) = worker.fleet.get(name) else { return };
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
    api::Change { service: name.to_owned(), what: change.word().into(), keys: change.keys() }
}

const NEXT_START: &str = "at sampand's next start";

/// What changed beside the services, and when it holds. A plugin is configured when it is opened.
fn others(diff: &diff::Diff) -> Vec<api::Other> {
    let other =
        |of: &str, what: &str, keys: Vec<String>| api::Other { of: of.into(), what: what.into(), keys };
    let (later, live): (Vec<&Field>, Vec<&Field>) =
        diff.supervisor.iter().partition(|field| field.applies == Applies::Supervisor);
    let keys = |fields: &[&Field]| fields.iter().map(|field| field.key.clone()).collect::<Vec<_>>();
    let supervisor = [("live", keys(&live)), (NEXT_START, keys(&later))];
    let supervisor = supervisor.into_iter().filter(|(_, keys)| !keys.is_empty());
    let supervisor = supervisor.map(|(what, keys)| other("supervisor", what, keys));
    let plugins =
        diff.plugins.iter().filter(|(_, change)| **change != Change::Nothing).map(|(name, change)| {
            let keys = match change {
                Change::Live(fields) | Change::Restart(fields) => {
                    fields.iter().map(|f| f.key.clone()).collect()
                }
                Change::New => vec!["new".to_owned()],
                Change::Removed => vec!["removed".to_owned()],
                Change::Nothing => Vec::new(),
            };
            other(&format!("plugins.{name}"), NEXT_START, keys)
        });
    supervisor.chain(plugins).collect()
}

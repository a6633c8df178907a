//! What a new config changes, by the key table's *applies*: nothing, live, restart, and why. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::explain::{governing, leaves, service_leaves};
use crate::keys::{self, Applies, Key};
use crate::schema::{Config, NetworkMode, Service, VolumeSource};

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Every service of either config.
    pub services: BTreeMap<String, Change>,
    pub supervisor: Vec<Field>,
    pub plugins: BTreeMap<String, Change>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "change", content = "fields")]
pub enum Change {
    Nothing,
    /// Applied to what runs, or to containers made later.
    Live(Vec<Field>),
    /// All that changed; at least one needs a new container.
    Restart(Vec<Field>),
    New,
    Removed,
}

/// One key that changed. A secret-looking environment is shown by name alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Field {
    pub key: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
    #[serde(serialize_with = "applies")]
    pub applies: Applies,
}

fn applies<S: serde::Serializer>(a: &Applies, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(match a {
        Applies::Live => "live",
        Applies::NewContainers => "new containers",
        Applies::Restart => "restart",
        Applies::Supervisor => "sampand's next start",
    })
}

impl Diff {
    pub fn is_empty(&self) -> bool {
        let nothing = |all: &BTreeMap<String, Change>| all.values().all(|c| *c == Change::Nothing);
        nothing(&self.services) && nothing(&self.plugins) && self.supervisor.is_empty()
    }
}

pub fn diff(old: &Config, new: &Config) -> Diff {
    let changed = Changed {
        networks: named("networks", keys::NETWORK, &old.networks, &new.networks),
        volumes: named("volumes", keys::VOLUME, &old.volumes, &new.volumes),
        secrets: named("secrets", keys::SECRET, &old.secrets, &new.secrets),
    };
    let services = each(&old.services, &new.services, |old, new| service(old, new, &changed));
    let plugins = each(&old.plugins, &new.plugins, |old, new| {
        verdict(fields(leaves(old, keys::PLUGIN), leaves(new, keys::PLUGIN), keys::PLUGIN))
    });
    let supervisor = fields(
        leaves(&old.supervisor, keys::SUPERVISOR),
        leaves(&new.supervisor, keys::SUPERVISOR),
        keys::SUPERVISOR,
    );
    Diff { services, supervisor, plugins }
}

/// What changed of the things that services name, by their names.
#[derive(Default)]
struct Changed {
    networks: BTreeMap<String, Vec<Field>>,
    volumes: BTreeMap<String, Vec<Field>>,
    secrets: BTreeMap<String, Vec<Field>>,
}

/// One service, apart from what it names.
pub fn service_change(old: &Service, new: &Service) -> Change {
    service(old, new, &Changed::default())
}

fn service(old: &Service, new: &Service, named: &Changed) -> Change {
    let mut changed = fields(service_leaves(old), service_leaves(new), keys::SERVICE);
    if new.network_mode == NetworkMode::Bridge {
        changed.extend(new.networks.iter().filter_map(|n| named.networks.get(&n.network)).flatten().cloned());
    }
    for volume in &new.volumes {
        if let VolumeSource::Named(name, _) = &volume.source {
            changed.extend(named.volumes.get(name).into_iter().flatten().cloned());
        }
    }
    changed.extend(new.secrets.iter().filter_map(|s| named.secrets.get(&s.source)).flatten().cloned());
    verdict(changed)
}

fn verdict(changed: Vec<Field>) -> Change {
    match changed.iter().map(|f| f.applies).max() {
        None => Change::Nothing,
        Some(Applies::Restart) => Change::Restart(changed),
        Some(_) => Change::Live(changed),
    }
}

fn named<T: Serialize>(
    section: &str,
    keys: &'static [Key],
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
) -> BTreeMap<String, Vec<Field>> {
    new.iter()
        .filter_map(|(name, now)| {
            let before = old.get(name)?;
            let mut changed = fields(leaves(before, keys), leaves(now, keys), keys);
            for field in &mut changed {
                field.key = format!("{section}.{name}.{}", field.key);
            }
            Some((name.clone(), changed))
        })
        .collect()
}

fn each<T>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
    change: impl Fn(&T, &T) -> Change,
) -> BTreeMap<String, Change> {
    let gone = old.keys().filter(|name| !new.contains_key(*name)).map(|name| (name.clone(), Change::Removed));
    let here = new
        .iter()
        .map(|(name, new)| (name.clone(), old.get(name).map_or(Change::New, |old| change(old, new))));
    gone.chain(here).collect()
}

fn fields(old: Vec<(String, Value)>, new: Vec<(String, Value)>, section: &'static [Key]) -> Vec<Field> {
    let old: BTreeMap<String, Value> = old.into_iter().collect();
    let new: BTreeMap<String, Value> = new.into_iter().collect();
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        .map(|path| Field {
            key: path.clone(),
            old: old.get(path).cloned(),
            new: new.get(path).cloned(),
            applies: governing(section, path).map_or(Applies::Restart, |key| key.applies),
        })
        .collect()
}

/// A line per thing that changes; `web: restart (ports)`.
pub fn show(diff: &Diff) -> String {
    let mut out = String::new();
    for (name, change) in &diff.services {
        out.push_str(&format!("{name}: {}\n", verdict_text(change)));
    }
    for (name, change) in diff.plugins.iter().filter(|(_, c)| **c != Change::Nothing) {
        out.push_str(&format!("plugin {name}: {}\n", verdict_text(change)));
    }
    for field in &diff.supervisor {
        let when = if field.applies == Applies::Supervisor { "at sampand's next start" } else { "live" };
        out.push_str(&format!("supervisor.{}: {when}\n", field.key));
    }
    out
}

fn verdict_text(change: &Change) -> String {
    match (change, change.keys()) {
        (Change::Removed, _) => "removed, stops".into(),
        (_, keys) if keys.is_empty() => change.word().into(),
        (_, keys) => format!("{} ({})", change.word(), keys.join(", ")),
    }
}

impl Change {
    /// What is done about it. What only new containers see waits for the next one.
    pub fn word(&self) -> &'static str {
        match self {
            Change::Nothing => "nothing",
            Change::Live(fields) if fields.iter().all(|field| field.applies == Applies::NewContainers) => {
                NEXT_RUN
            }
            Change::Live(_) => "live",
            Change::Restart(_) => "restart",
            Change::New => "new",
            Change::Removed => "removed",
        }
    }

    /// The keys that are the reason for that. Of those that work live, each that does not yet says so.
    pub fn keys(&self) -> Vec<String> {
        let name = |field: &Field| field.key.clone();
        match self {
            Change::Nothing | Change::New | Change::Removed => Vec::new(),
            Change::Restart(fields) => {
                fields.iter().filter(|field| field.applies == Applies::Restart).map(name).collect()
            }
            Change::Live(fields) if self.word() == NEXT_RUN => fields.iter().map(name).collect(),
            Change::Live(fields) => fields
                .iter()
                .map(|field| match field.applies {
                    Applies::NewContainers => format!("{} ({NEXT_RUN})", field.key),
                    Applies::Live | Applies::Restart | Applies::Supervisor => field.key.clone(),
                })
                .collect(),
        }
    }
}

/// When a service has what only new containers see.
const NEXT_RUN: &str = "next run";

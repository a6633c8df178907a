//! `sampanctl config`: the resolved config as a config.toml that means the same, each key with its origin.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::keys::{self, Key};
use crate::merge::join;
use crate::schema::{Config, Service, Source};
use crate::source::Spot;
use crate::tree::Node;
use crate::variables;

/// The origin of what nobody has set.
const DEFAULT: &str = "default";

/// Where each key was set, by its path.
#[derive(Debug, Clone, Default)]
pub struct Origins(BTreeMap<String, Spot>);

impl Origins {
    pub(super) fn collect(&mut self, path: &str, node: &Node) {
        match node.table() {
            Some(table) if !table.is_empty() => {
                for (name, child) in table {
                    self.collect(&join(path, name), child);
                }
            }
            _ => {
                self.0.insert(path.to_string(), node.at.clone());
            }
        }
    }

    /// Once all is collected: a map that keys were inserted into in their order is half empty, a collected one is full.
    pub(super) fn pack(&mut self) {
        self.0 = std::mem::take(&mut self.0).into_iter().collect();
    }

    /// `FILE:LINE`, or `default`. A value made of several keys has the place of one of them; one that is part of a
    /// larger value has the larger one's.
    pub fn of(&self, path: &str) -> String {
        self.spot(path).map_or_else(|| DEFAULT.into(), Spot::to_string)
    }

    pub fn spot(&self, path: &str) -> Option<&Spot> {
        let below = format!("{path}.");
        let inside = self.0.range(below.clone()..).next().filter(|(k, _)| k.starts_with(&below));
        let mut above = Some(path);
        let at = std::iter::from_fn(|| {
            let here = above?;
            above = here.rfind('.').map(|n| &here[..n]);
            Some(self.0.get(here))
        });
        at.flatten().next().or(inside.map(|(_, spot)| spot))
    }

    /// `FILE:LINE` of what somebody has written.
    pub fn written(&self, path: &str) -> Option<String> {
        self.spot(path).map(Spot::to_string)
    }
}

/// The whole config, or one service; None if there is no such service.
pub fn toml(config: &Config, origins: &Origins, service: Option<&str>) -> Option<String> {
    let mut out = String::new();
    for Section { path: section, leaves, bundle } in sections(config, service)? {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("[{section}]\n"));
        let lines: Vec<(String, String)> = leaves
            .iter()
            .map(|(key, value)| (format!("{key} = {}", inline(value)), origin(origins, &section, key)))
            .collect();
        // Comments line up, but one long value does not push all of them off the screen.
        let width = lines.iter().map(|(l, _)| l.chars().count()).filter(|n| *n <= 60).max().unwrap_or(0);
        for (line, origin) in lines {
            out.push_str(&format!("{line:width$}  # {origin}\n"));
        }
        if let Some(folder) = bundle {
            out.push_str(&format!("# what else {} says  # bundle\n", folder.join("config.json").display()));
        }
    }
    Some(out)
}

fn bundle(service: &Service) -> Option<&std::path::Path> {
    match &service.source {
        Source::Bundle(folder) => Some(folder),
        Source::Rootfs(_) | Source::Image(_) => None,
    }
}

/// `{"services.web": {"command": {"value": .., "origin": ".."}}}`.
pub fn json(config: &Config, origins: &Origins, service: Option<&str>) -> Option<Value> {
    let mut out = Map::new();
    for Section { path: section, leaves, .. } in sections(config, service)? {
        let keys: Map<String, Value> = leaves
            .into_iter()
            .map(|(key, value)| {
                let origin = origin(origins, &section, &key);
                (key, json!({ "value": value, "origin": origin }))
            })
            .collect();
        out.insert(section, keys.into());
    }
    Some(out.into())
}

fn origin(origins: &Origins, section: &str, key: &str) -> String {
    let path = format!("{section}.{key}");
    let found = origins.of(&path);
    // The environment's variables may be env_file's: its origin is the key that names the file.
    if found == DEFAULT && key.starts_with("environment.") {
        return origins.of(&format!("{section}.env_file"));
    }
    found
}

type Leaves = Vec<(String, Value)>;

struct Section<'c> {
    path: String,
    leaves: Leaves,
    /// Whose config.json says the rest.
    bundle: Option<&'c std::path::Path>,
}

fn sections<'c>(config: &'c Config, service: Option<&str>) -> Option<Vec<Section<'c>>> {
    let plain = |path: String, leaves: Leaves| Section { path, leaves, bundle: None };
    let of = |name: &str, service: &'c Service| Section {
        path: join("services", name),
        leaves: service_leaves(service),
        bundle: bundle(service),
    };
    if let Some(name) = service {
        return Some(vec![of(name, config.services.get(name)?)]);
    }
    let mut out = vec![plain("supervisor".into(), leaves(&config.supervisor, keys::SUPERVISOR))];
    out.extend(config.networks.iter().map(|(n, v)| plain(join("networks", n), leaves(v, keys::NETWORK))));
    out.extend(config.volumes.iter().map(|(n, v)| plain(join("volumes", n), leaves(v, keys::VOLUME))));
    out.extend(config.secrets.iter().map(|(n, v)| plain(join("secrets", n), leaves(v, keys::SECRET))));
    out.extend(config.plugins.iter().map(|(n, v)| plain(join("plugins", n), leaves(v, keys::PLUGIN))));
    out.extend(config.services.iter().map(|(n, v)| of(n, v)));
    Some(out)
}

/// Of a bundle's or an image's service, what those describe is shown only where the service overrides it.
pub(super) fn service_leaves(service: &Service) -> Leaves {
    let mut all = leaves(service, keys::SERVICE);
    let described: fn(&Key) -> bool = match &service.source {
        Source::Rootfs(_) => return all,
        Source::Bundle(_) => |key| key.oci,
        Source::Image(_) => keys::is_of_images,
    };
    all.retain(|(path, _)| {
        governing(keys::SERVICE, path).is_none_or(|key| !described(key) || service.sets(key.path))
    });
    all
}

/// Every value by its dotted key, in the order of the key table.
pub(super) fn leaves(value: &impl serde::Serialize, section: &'static [Key]) -> Leaves {
    let mut out = Vec::new();
    // Our own types always serialize; what does not would have no leaves, which the tests would see.
    flatten("", serde_json::to_value(value).unwrap_or_default(), &mut out);
    let place = |path: &str| match governing(section, path) {
        Some(key) => section.iter().position(|k| std::ptr::eq(k, key)).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    out.sort_by_cached_key(|(path, _)| (place(path), path.clone()));
    out
}

fn flatten(path: &str, value: Value, out: &mut Leaves) {
    match value {
        // A plugin's own config is a value of one key; an empty table would vanish.
        Value::Object(map) if path != "config" && !map.is_empty() => {
            for (name, value) in map {
                flatten(&join(path, &name), value, out);
            }
        }
        Value::Object(map) if map.is_empty() && path != "config" => {}
        // An empty list is the default of every list that has one, but `networks = []` means none.
        value => out.push((path.to_string(), value)),
    }
}

pub(super) fn governing(section: &'static [Key], path: &str) -> Option<&'static Key> {
    // A quoted part holds dots of its own, but no key above a quoted part does.
    let parts: Vec<&str> = path.split('.').collect();
    keys::governing(section, &parts)
}

/// A TOML value on one line, its `$` escaped.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "\"none\"".into(),
        Value::String(text) => toml::Value::String(variables::escape(text)).to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".into(),
        Value::Object(map) => {
            let entries: Vec<String> =
                map.iter().map(|(k, v)| format!("{} = {}", join("", k), inline(v))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Number(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
    }
}

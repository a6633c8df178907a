//! The JSON Schema of config.toml (draft 2020-12), for editors: `sampand --schema`. It sees one file and what stands in
//! it; that a path exists, a name is known, or a value is missing that another file gives, `sampand --check` sees.

mod shape;
mod table;

use serde_json::{Map, Value, json};

use crate::keys::{self, Applies, Key, SECTIONS, Stage};
use shape::Shape;

/// What `known::is_name` takes.
const NAME: &str = "^[a-z0-9][a-z0-9_.-]{0,62}$";

pub fn text() -> String {
    format!("{:#}\n", schema())
}

pub fn schema() -> Value {
    let mut definitions = shape::definitions();
    let mut top = Map::new();
    for (path, keys) in SECTIONS {
        let keys: Vec<&Key> = keys.iter().collect();
        let section = Section { keys, shapes: shapes(path) };
        match path.strip_suffix(".*") {
            None if path.is_empty() => top.extend(section.properties("")),
            None => {
                top.insert(path.into(), section.table(""));
            }
            Some(kind) => {
                definitions[kind] = section.table("");
                top.insert(kind.into(), named(kind));
            }
        }
    }
    top.insert("defaults".into(), shared());
    for key in keys::TOP {
        if let Some(Value::Object(of)) = top.get_mut(key.path) {
            of.insert("description".into(), description(key).into());
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.toml of Sampan",
        "type": "object",
        "properties": top,
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// Those of a section that have a shape.
pub fn keys(section: &str) -> impl Iterator<Item = &'static str> + use<> {
    shapes(section).iter().map(|(path, _)| *path)
}

fn shapes(section: &str) -> &'static [(&'static str, Shape)] {
    match section {
        "" => table::TOP,
        "supervisor" => table::SUPERVISOR,
        "services.*" => table::SERVICE,
        "networks.*" => table::NETWORK,
        "volumes.*" => table::VOLUME,
        "secrets.*" => table::SECRET,
        "plugins.*" => table::PLUGIN,
        _ => &[],
    }
}

/// `[services.X]`, `[networks.X]`, ..
fn named(kind: &str) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "pattern": NAME },
        "additionalProperties": { "$ref": format!("#/$defs/{kind}") },
    })
}

/// `[defaults]`: a service, but for what no two services have alike.
fn shared() -> Value {
    json!({
        "$ref": "#/$defs/services",
        "properties": { "depends_on": false, "ports": false },
    })
}

struct Section {
    keys: Vec<&'static Key>,
    shapes: &'static [(&'static str, Shape)],
}

impl Section {
    /// What is below `above`, by its next name.
    fn properties(&self, above: &str) -> Map<String, Value> {
        let mut all = Map::new();
        for key in &self.keys {
            let rest = if above.is_empty() {
                Some(key.path)
            } else {
                key.path.strip_prefix(above).and_then(|rest| rest.strip_prefix('.'))
            };
            let Some(rest) = rest else { continue };
            let name = rest.split('.').next().unwrap_or(rest);
            let path = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
            if !all.contains_key(name) {
                let value = if path == key.path { self.leaf(key) } else { self.group(&path) };
                all.insert(name.to_owned(), value);
            }
        }
        all
    }

    fn leaf(&self, key: &Key) -> Value {
        let shape = self.shapes.iter().find(|(path, _)| *path == key.path).map(|(_, shape)| shape);
        let mut value = match (key.stage, shape) {
            // Known, and an error.
            (Stage::Later, _) => json!({ "not": {} }),
            (Stage::Built, Some(shape)) => shape.json(),
            (Stage::Built, None) => json!({}),
        };
        value["description"] = description(key).into();
        value
    }

    fn group(&self, path: &str) -> Value {
        let table = self.table(path);
        match table::SHORT.iter().find(|(of, _)| *of == path) {
            Some((_, short)) => json!({ "anyOf": [short.json(), table] }),
            None => table,
        }
    }

    fn table(&self, path: &str) -> Value {
        let mut properties = self.properties(path);
        match properties.remove("*") {
            Some(each) => json!({ "type": "object", "additionalProperties": each }),
            None => json!({ "type": "object", "properties": properties, "additionalProperties": false }),
        }
    }
}

fn description(key: &Key) -> String {
    if key.stage == Stage::Later {
        return "known, but not built in this version".into();
    }
    let applies = match key.applies {
        Applies::Live => "at once",
        Applies::NewContainers => "to containers made later",
        Applies::Restart => "by a restart of the service",
        Applies::Supervisor => "at sampand's next start",
    };
    let default = if key.default.is_empty() { String::new() } else { format!("Default: {}. ", key.default) };
    let meaning = if key.meaning.is_empty() { String::new() } else { format!("{}\n\n", key.meaning) };
    format!("{meaning}{default}A change applies {applies}.")
}

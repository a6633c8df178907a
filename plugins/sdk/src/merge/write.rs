//! A leaf into the spec, where the OCI runtime spec has it.
use super::leaves::{Leaf, cleaned};
use serde_json::{Map, Value, json};

/// Keys that are one leaf: (key, where in the spec, the field).
pub(super) const WHOLE: &[(&str, &str, &str)] = &[
    ("cgroupsPath", "linux", "cgroupsPath"),
    ("args", "process", "args"),
    ("oomScoreAdj", "process", "oomScoreAdj"),
    ("seccomp", "linux", "seccomp"),
    ("user", "process", "user"),
    ("hostname", "", "hostname"),
];
/// Lists of the spec whose entries have a name: (key, the object that has the list, the list, the field with the name).
const LISTS: &[(&str, &[&str], &str, &str)] = &[
    ("mounts", &[], "mounts", "destination"),
    ("devices", &["linux"], "devices", "path"),
    ("rlimits", &["process"], "rlimits", "type"),
    ("namespaces", &["linux"], "namespaces", "type"),
];
/// Objects of the spec whose fields are leaves.
const OBJECTS: &[(&str, &[&str])] = &[
    ("annotations", &["annotations"]),
    ("sysctl", &["linux", "sysctl"]),
    ("netDevices", &["linux", "netDevices"]),
    ("capabilities", &["process", "capabilities"]),
];

pub(super) fn write(spec: &mut Value, leaf: &Leaf) {
    let Leaf { key, name, value, .. } = leaf;
    if let Some((_, parent, list, field)) = LISTS.iter().find(|(has, ..)| has == key) {
        let is = |entry: &Value| {
            let has = entry.get(*field).and_then(Value::as_str);
            // The names of mounts are paths, and ours are cleaned.
            has.is_some_and(|has| has == name || *field == "destination" && cleaned(has).as_ref() == Ok(name))
        };
        return set_in(array(object(spec, parent), list), is, listed(leaf, field));
    }
    if let Some((_, path)) = OBJECTS.iter().find(|(has, _)| has == key) {
        return set(object(spec, path), name, value);
    }
    if let Some((_, parent, field)) = WHOLE.iter().find(|(has, ..)| has == key) {
        let path: Vec<&str> = Some(*parent).filter(|parent| !parent.is_empty()).into_iter().collect();
        return set(object(spec, &path), field, value);
    }
    match key.as_str() {
        "env" => {
            let entry = value.as_str().map(|text| Value::String(format!("{name}={text}")));
            let is = |entry: &Value| {
                entry.as_str().and_then(|entry| entry.split_once('=')).is_some_and(|(has, _)| has == name)
            };
            set_in(array(object(spec, &["process"]), "env"), is, entry);
        }
        _ => resource(spec, name, value),
    }
}

/// `memory.limit`, `unified.memory.high`.
fn resource(spec: &mut Value, name: &str, value: &Value) {
    match name.split_once('.') {
        // Keys of `unified` have dots of their own.
        Some(("unified", file)) => set(object(spec, &["linux", "resources", "unified"]), file, value),
        _ => {
            let (group, field) = name.rsplit_once('.').unwrap_or(("", name));
            let mut path = vec!["linux", "resources"];
            path.extend(group.split('.').filter(|part| !part.is_empty()));
            set(object(spec, &path), field, value);
        }
    }
}

/// The entry of a list that this leaf is; none if it takes it away. Of a namespace the value is its path.
fn listed(leaf: &Leaf, field: &str) -> Option<Value> {
    let mut entry = match &leaf.value {
        Value::Null => return None,
        Value::String(path) if path.is_empty() => json!({}),
        Value::String(path) => json!({ "path": path }),
        value => value.clone(),
    };
    if let Value::Object(entry) = &mut entry {
        entry.insert(field.to_owned(), leaf.name.as_str().into());
    }
    Some(entry)
}

/// Replaces the entry in place, so that the order of mounts stays; appends or removes it.
fn set_in(list: &mut Vec<Value>, is: impl Fn(&Value) -> bool, entry: Option<Value>) {
    match (list.iter().position(&is), entry) {
        (Some(at), Some(entry)) => {
            if let Some(place) = list.get_mut(at) {
                *place = entry;
            }
        }
        (None, Some(entry)) => list.push(entry),
        (Some(at), None) => drop(list.remove(at)),
        (None, None) => {}
    }
}

fn set(map: &mut Map<String, Value>, key: &str, value: &Value) {
    match value {
        Value::Null => drop(map.remove(key)),
        value => drop(map.insert(key.to_owned(), value.clone())),
    }
}

/// The object at `path`, made where it is not.
pub(super) fn object<'a>(mut value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    for part in path {
        value = as_object(value).entry(*part).or_insert(Value::Null);
    }
    as_object(value)
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

pub(super) fn array<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = map.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made an array above"),
    }
}

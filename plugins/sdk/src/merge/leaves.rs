//! An answer as leaves, each checked: what would break the spec is refused before anything is written.
use super::Refusal;
use super::write::WHOLE;
use serde_json::{Map, Value};

/// Keys whose values are leaves by name.
const NAMED: &[&str] = &[
    "env",
    "annotations",
    "mounts",
    "devices",
    "rlimits",
    "sysctl",
    "namespaces",
    "netDevices",
    "capabilities",
];
const HOOK_POINTS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// One leaf of an answer.
pub(super) struct Leaf {
    /// `env`
    pub(super) key: String,
    /// `TZ`; empty for a whole key.
    pub(super) name: String,
    /// `Null` removes.
    pub(super) value: Value,
    pub(super) append: bool,
}

impl Leaf {
    pub(super) fn path(&self) -> String {
        if self.name.is_empty() { self.key.clone() } else { format!("{}/{}", self.key, self.name) }
    }
}

pub(super) fn leaves(adjust: &Map<String, Value>) -> Result<Vec<Leaf>, Refusal> {
    let mut found = Vec::new();
    for (key, value) in adjust {
        match key.as_str() {
            "resources" => {
                for (name, value) in entries(key, value)? {
                    flatten(name.clone(), value, &mut found);
                }
            }
            "hooks" => {
                for (point, list) in entries(key, value)? {
                    hooks(key, point, list, &mut found)?;
                }
            }
            "additionalGids" => groups(key, value, &mut found)?,
            named if NAMED.contains(&named) => {
                for (name, value) in entries(key, value)? {
                    found.push(entry(key, name, value)?);
                }
            }
            whole if WHOLE.iter().any(|(key, ..)| *key == whole) => {
                check(whole, "", value).map_err(|why| invalid(key, why))?;
                found.push(leaf(key, String::new(), value));
            }
            _ => return Err(invalid(key, "no such key")),
        }
    }
    Ok(found)
}

fn entry(key: &str, name: &str, value: &Value) -> Result<Leaf, Refusal> {
    let wrong = |why| invalid(&format!("{key}/{name}"), why);
    let name = match key {
        "mounts" | "devices" => cleaned(name).map_err(wrong)?,
        _ => name.to_owned(),
    };
    check(key, &name, value).map_err(|why| invalid(&format!("{key}/{name}"), why))?;
    Ok(leaf(key, name, value))
}

fn hooks(key: &str, point: &str, list: &Value, found: &mut Vec<Leaf>) -> Result<(), Refusal> {
    let wrong = |why| invalid(&format!("hooks/{point}"), why);
    if !HOOK_POINTS.contains(&point) {
        return Err(wrong("no such point of the OCI runtime spec"));
    }
    for hook in list.as_array().ok_or_else(|| wrong("not a list"))? {
        if !hook.get("path").and_then(Value::as_str).is_some_and(|path| path.starts_with('/')) {
            return Err(wrong("a hook needs an absolute path"));
        }
        found.push(Leaf { append: true, ..leaf(key, point.to_owned(), hook) });
    }
    Ok(())
}

fn groups(key: &str, list: &Value, found: &mut Vec<Leaf>) -> Result<(), Refusal> {
    for gid in list.as_array().ok_or_else(|| invalid(key, "not a list"))? {
        if gid.as_u64().is_none_or(|gid| gid >= u64::from(u32::MAX)) {
            return Err(invalid(key, "not a group number"));
        }
        found.push(Leaf { append: true, ..leaf(key, String::new(), gid) });
    }
    Ok(())
}

fn leaf(key: &str, name: String, value: &Value) -> Leaf {
    Leaf { key: key.to_owned(), name, value: value.clone(), append: false }
}

fn entries<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| invalid(key, "not a table"))
}

fn invalid(leaf: &str, why: &str) -> Refusal {
    Refusal::Invalid { leaf: leaf.to_owned(), why: why.to_owned() }
}

/// `{"memory": {"limit": 1}}` and `{"memory.limit": 1}` are the same leaf.
fn flatten(name: String, value: &Value, found: &mut Vec<Leaf>) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                flatten(format!("{name}.{key}"), value, found);
            }
        }
        value => found.push(leaf("resources", name, value)),
    }
}

/// What would break the spec, or smuggle a second value into it.
fn check(key: &str, name: &str, value: &Value) -> Result<(), &'static str> {
    if name.contains('\0') || value.as_str().is_some_and(|text| text.contains('\0')) {
        return Err("a NUL byte");
    }
    if value.is_null() {
        return Ok(());
    }
    let strings = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    match key {
        "env" if name.is_empty() || name.contains('=') => Err("not a name of a variable"),
        "env" | "annotations" | "sysctl" | "namespaces" | "cgroupsPath" | "hostname"
            if !value.is_string() =>
        {
            Err("not a text")
        }
        "mounts" | "devices" | "rlimits" | "netDevices" | "seccomp" | "user" if !value.is_object() => {
            Err("not a table")
        }
        "rlimits"
            if value.get("soft").and_then(Value::as_u64) > value.get("hard").and_then(Value::as_u64) =>
        {
            Err("the soft limit is above the hard one")
        }
        "args" if !strings(value) || value.as_array().is_none_or(Vec::is_empty) => Err("not a list of words"),
        "capabilities" if !strings(value) => Err("not a list of names"),
        "oomScoreAdj" if value.as_i64().is_none_or(|score| !(-1000..=1000).contains(&score)) => {
            Err("not a number from -1000 to 1000")
        }
        _ => Ok(()),
    }
}

/// An absolute path without `//`, `.`, `..` and a slash at its end.
pub(super) fn cleaned(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("not an absolute path");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("\"..\" in a path");
    }
    Ok(format!("/{}", parts.join("/")))
}

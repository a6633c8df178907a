//! Who changed what in a container's spec: plugins' answers to `create`, merged leaf by leaf.
//!
//! A leaf (`env/TZ`, `mounts//data`, `resources/memory.limit`) belongs to the plugin that set it. A second plugin may set it
//! to the same value; another value stops the start, unless the service's `adjust` says whose counts. Security leaves need a
//! grant. An answer is checked whole before any of it is written. Hooks and groups are appended, each entry to its author.
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Leaves with which a plugin could take the machine; named in `plugins.X.grants`.
const NEEDS_GRANT: &[&str] = &["seccomp", "capabilities", "devices", "namespaces", "hooks", "sysctl", "user"];
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
/// Keys that are one leaf: (key, where in the spec, the field).
const WHOLE: &[(&str, &str, &str)] = &[
    ("cgroupsPath", "linux", "cgroupsPath"),
    ("args", "process", "args"),
    ("oomScoreAdj", "process", "oomScoreAdj"),
    ("seccomp", "linux", "seccomp"),
    ("user", "process", "user"),
    ("hostname", "", "hostname"),
];
const HOOK_POINTS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Conflict { leaf: String, first: (String, String), second: (String, String) },
    NoGrant { leaf: String, grant: &'static str },
    Invalid { leaf: String, why: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Conflict { leaf, first: (a, x), second: (b, y) } => write!(
                f,
                "{} set to {x} by plugin {a} and to {y} by plugin {b}; pick one with adjust.\"{leaf}\" = \"{a}\"",
                leaf.replacen('/', " ", 1)
            ),
            Refusal::NoGrant { leaf, grant } => {
                write!(
                    f,
                    "it may not set {leaf}: that needs grants = [\"{grant}\"] in its table of config.toml"
                )
            }
            Refusal::Invalid { leaf, why } => write!(f, "its answer is not valid: {leaf}: {why}"),
        }
    }
}

/// The owner of each leaf, with the value that it set.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    leaves: BTreeMap<String, (String, Value)>,
    /// Leaf -> plugin, from the service's `adjust`.
    choice: BTreeMap<String, String>,
}

/// One leaf of an answer.
struct Leaf {
    /// `env`
    key: String,
    /// `TZ`; empty for a whole key.
    name: String,
    /// `Null` removes.
    value: Value,
    append: bool,
}

impl Leaf {
    fn path(&self) -> String {
        if self.name.is_empty() { self.key.clone() } else { format!("{}/{}", self.key, self.name) }
    }
}

impl Owners {
    /// `choice` is the service's `adjust` table.
    pub fn new(choice: Option<&Value>) -> Owners {
        let choice = choice.and_then(Value::as_object).into_iter().flatten();
        let choice = choice.filter_map(|(leaf, plugin)| Some((leaf.clone(), plugin.as_str()?.to_owned())));
        Owners { leaves: BTreeMap::new(), choice: choice.collect() }
    }

    /// Leaf -> plugin.
    pub fn names(&self) -> BTreeMap<String, String> {
        self.leaves.iter().map(|(leaf, (plugin, _))| (leaf.clone(), plugin.clone())).collect()
    }

    /// Merges one plugin's `adjust` object into `spec`: all of it or nothing.
    pub fn apply(
        &mut self,
        spec: &mut Value,
        plugin: &str,
        grants: &[String],
        adjust: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let leaves = leaves(adjust)?;
        let mut mine = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let path = leaf.path();
            if let Some(grant) = NEEDS_GRANT.iter().find(|grant| **grant == leaf.key)
                && !grants.iter().any(|has| has == grant)
            {
                return Err(Refusal::NoGrant { leaf: path, grant });
            }
            if leaf.append {
                mine.push((leaf, path));
                continue;
            }
            match self.leaves.get(&path) {
                Some((owner, value)) if owner != plugin && *value != leaf.value => {
                    match self.choice.get(&path) {
                        Some(chosen) if chosen == plugin => mine.push((leaf, path)),
                        Some(chosen) if chosen == owner => {}
                        _ => {
                            let first = (owner.clone(), shown(value));
                            let second = (plugin.to_owned(), shown(&leaf.value));
                            return Err(Refusal::Conflict { leaf: path, first, second });
                        }
                    }
                }
                Some((owner, _)) if owner != plugin => {}
                _ => mine.push((leaf, path)),
            }
        }
        for (leaf, path) in mine {
            match leaf.append {
                true => self.append(spec, plugin, leaf),
                false => {
                    write(spec, &leaf);
                    self.leaves.insert(path, (plugin.to_owned(), leaf.value));
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, spec: &mut Value, plugin: &str, leaf: Leaf) {
        let list = match leaf.key.as_str() {
            "hooks" => array(object(spec, &["hooks"]), &leaf.name),
            _ => array(object(spec, &["process", "user"]), "additionalGids"),
        };
        if leaf.key == "additionalGids" && list.contains(&leaf.value) {
            return;
        }
        let path = format!("{}/{}", leaf.path(), list.len());
        list.push(leaf.value.clone());
        self.leaves.insert(path, (plugin.to_owned(), leaf.value));
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "nothing".to_owned() } else { value.to_string() }
}

// ---- an answer as leaves ---------------------------------------------------------------------------------------------

fn leaves(adjust: &Map<String, Value>) -> Result<Vec<Leaf>, Refusal> {
    let mut found = Vec::new();
    for (key, value) in adjust {
        match key.as_str() {
            "resources" => {
                for (name, value) in entries(key, value)? {
                    flatten(name.clone(), value, &mut found);
                }
            }
            "hooks" => {
                for (point, hooks) in entries(key, value)? {
                    if !HOOK_POINTS.contains(&point.as_str()) {
                        return Err(invalid(
                            &format!("hooks/{point}"),
                            "no such point of the OCI runtime spec",
                        ));
                    }
                    let hooks =
                        hooks.as_array().ok_or_else(|| invalid(&format!("hooks/{point}"), "not a list"))?;
                    for hook in hooks {
                        let absolute =
                            hook.get("path").and_then(Value::as_str).is_some_and(|p| p.starts_with('/'));
                        if !absolute {
                            return Err(invalid(&format!("hooks/{point}"), "a hook needs an absolute path"));
                        }
                        found.push(Leaf { append: true, ..leaf(key, point.clone(), hook) });
                    }
                }
            }
            "additionalGids" => {
                let gids = value.as_array().ok_or_else(|| invalid(key, "not a list"))?;
                for gid in gids {
                    if gid.as_u64().is_none_or(|gid| gid >= u64::from(u32::MAX)) {
                        return Err(invalid(key, "not a group number"));
                    }
                    found.push(Leaf { append: true, ..leaf(key, String::new(), gid) });
                }
            }
            named if NAMED.contains(&named) => {
                for (name, value) in entries(key, value)? {
                    let name = match named {
                        "mounts" | "devices" => {
                            cleaned(name).map_err(|why| invalid(&format!("{key}/{name}"), why))?
                        }
                        _ => name.clone(),
                    };
                    check(named, &name, value).map_err(|why| invalid(&format!("{key}/{name}"), why))?;
                    found.push(leaf(key, name, value));
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
fn cleaned(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("not an absolute path");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("\"..\" in a path");
    }
    Ok(format!("/{}", parts.join("/")))
}

// ---- a leaf into the spec --------------------------------------------------------------------------------------------

fn write(spec: &mut Value, leaf: &Leaf) {
    let Leaf { key, name, value, .. } = leaf;
    let with = |mut value: Value, field: &str| {
        if let Value::Object(entry) = &mut value {
            entry.insert(field.to_owned(), name.as_str().into());
        }
        value
    };
    match key.as_str() {
        "env" => {
            let entry = value.as_str().map(|text| Value::String(format!("{name}={text}")));
            let is = |entry: &Value| {
                entry.as_str().and_then(|entry| entry.split_once('=')).is_some_and(|(has, _)| has == name)
            };
            set_in(array(object(spec, &["process"]), "env"), is, entry);
        }
        "mounts" => {
            let is = |entry: &Value| {
                let has = entry.get("destination").and_then(Value::as_str);
                has.is_some_and(|has| cleaned(has).is_ok_and(|has| has == *name))
            };
            set_in(array(object(spec, &[]), "mounts"), is, entry(value, |v| with(v, "destination")));
        }
        "devices" => {
            let is = |entry: &Value| entry.get("path").and_then(Value::as_str) == Some(name);
            set_in(array(object(spec, &["linux"]), "devices"), is, entry(value, |v| with(v, "path")));
        }
        "rlimits" => {
            let is = |entry: &Value| entry.get("type").and_then(Value::as_str) == Some(name);
            set_in(array(object(spec, &["process"]), "rlimits"), is, entry(value, |v| with(v, "type")));
        }
        "namespaces" => {
            let is = |entry: &Value| entry.get("type").and_then(Value::as_str) == Some(name);
            let entry = value.as_str().map(|path| match path {
                "" => json!({ "type": name }),
                path => json!({ "type": name, "path": path }),
            });
            set_in(array(object(spec, &["linux"]), "namespaces"), is, entry);
        }
        "annotations" => set(object(spec, &["annotations"]), name, value),
        "sysctl" => set(object(spec, &["linux", "sysctl"]), name, value),
        "netDevices" => set(object(spec, &["linux", "netDevices"]), name, value),
        "capabilities" => set(object(spec, &["process", "capabilities"]), name, value),
        "resources" => match name.split_once('.') {
            // Keys of `unified` have dots of their own.
            Some(("unified", file)) => set(object(spec, &["linux", "resources", "unified"]), file, value),
            _ => {
                let (group, field) = name.rsplit_once('.').unwrap_or(("", name));
                let mut path = vec!["linux", "resources"];
                path.extend(group.split('.').filter(|part| !part.is_empty()));
                set(object(spec, &path), field, value);
            }
        },
        whole => {
            if let Some((_, parent, field)) = WHOLE.iter().find(|(key, ..)| *key == whole) {
                let path: Vec<&str> = Some(*parent).filter(|parent| !parent.is_empty()).into_iter().collect();
                set(object(spec, &path), field, value);
            }
        }
    }
}

fn entry(value: &Value, with: impl FnOnce(Value) -> Value) -> Option<Value> {
    (!value.is_null()).then(|| with(value.clone()))
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
fn object<'a>(mut value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
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

fn array<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = map.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made an array above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec() -> Value {
        json!({
            "process": { "env": ["PATH=/bin", "TZ=UTC"], "args": ["sh"], "user": { "uid": 0 } },
            "mounts": [{ "destination": "/proc", "type": "proc" }, { "destination": "/data/", "type": "bind" }],
            "linux": { "namespaces": [{ "type": "pid" }], "resources": { "memory": { "limit": 1 } } },
        })
    }

    fn applied(adjust: Value, grants: &[&str]) -> Result<Value, String> {
        let mut spec = spec();
        let grants: Vec<String> = grants.iter().map(|g| (*g).to_owned()).collect();
        Owners::new(None)
            .apply(&mut spec, "p", &grants, adjust.as_object().unwrap())
            .map(|()| spec)
            .map_err(|refusal| refusal.to_string())
    }

    fn check(adjust: Value, pointer: &str, expected: Value) {
        let all = ["seccomp", "capabilities", "devices", "namespaces", "hooks", "sysctl", "user"];
        let spec = applied(adjust, &all).unwrap();
        assert_eq!(spec.pointer(pointer).cloned().unwrap_or(Value::Null), expected);
    }

    #[test]
    fn each_key_lands_where_the_runtime_spec_has_it() {
        check(json!({ "env": { "A": "1" } }), "/process/env", json!(["PATH=/bin", "TZ=UTC", "A=1"]));
        check(json!({ "env": { "PATH": "/x" } }), "/process/env", json!(["PATH=/x", "TZ=UTC"]));
        check(json!({ "env": { "TZ": null } }), "/process/env", json!(["PATH=/bin"]));
        check(json!({ "annotations": { "k": "v" } }), "/annotations", json!({ "k": "v" }));
        check(
            json!({ "mounts": { "/data//": { "type": "tmpfs" } } }),
            "/mounts/1",
            json!({ "type": "tmpfs", "destination": "/data" }),
        );
        check(json!({ "mounts": { "/proc": null } }), "/mounts/0/destination", json!("/data/"));
        check(
            json!({ "devices": { "/dev/fuse": { "type": "c", "major": 10 } } }),
            "/linux/devices",
            json!([{ "type": "c", "major": 10, "path": "/dev/fuse" }]),
        );
        check(
            json!({ "rlimits": { "RLIMIT_CORE": { "soft": 0, "hard": 1 } } }),
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 1 }]),
        );
        check(json!({ "sysctl": { "net.a": "1" } }), "/linux/sysctl", json!({ "net.a": "1" }));
        check(
            json!({ "namespaces": { "network": "/x", "pid": "" } }),
            "/linux/namespaces",
            json!([{ "type": "pid" }, { "type": "network", "path": "/x" }]),
        );
        check(
            json!({ "resources": { "memory.limit": 2 } }),
            "/linux/resources/memory",
            json!({ "limit": 2 }),
        );
        check(
            json!({ "resources": { "cpu": { "quota": 3 } } }),
            "/linux/resources/cpu",
            json!({ "quota": 3 }),
        );
        check(
            json!({ "resources": { "unified.memory.high": "max" } }),
            "/linux/resources/unified",
            json!({ "memory.high": "max" }),
        );
        check(
            json!({ "netDevices": { "eth1": { "name": "x" } } }),
            "/linux/netDevices/eth1/name",
            json!("x"),
        );
        check(json!({ "cgroupsPath": "/a" }), "/linux/cgroupsPath", json!("/a"));
        check(json!({ "args": ["a"] }), "/process/args", json!(["a"]));
        check(json!({ "oomScoreAdj": 5 }), "/process/oomScoreAdj", json!(5));
        check(json!({ "seccomp": null }), "/linux/seccomp", Value::Null);
        check(
            json!({ "capabilities": { "bounding": ["CAP_KILL"] } }),
            "/process/capabilities/bounding/0",
            json!("CAP_KILL"),
        );
        check(json!({ "user": { "uid": 7 } }), "/process/user/uid", json!(7));
        check(json!({ "hostname": "h" }), "/hostname", json!("h"));
        check(json!({ "hooks": { "poststop": [{ "path": "/x" }] } }), "/hooks/poststop/0/path", json!("/x"));
        check(json!({ "additionalGids": [5, 5] }), "/process/user/additionalGids", json!([5]));
    }

    #[test]
    fn what_is_not_valid_is_refused_whole() {
        let bad = |adjust: Value| applied(adjust, &[]).unwrap_err();
        assert_eq!(bad(json!({ "enf": {} })), "its answer is not valid: enf: no such key");
        assert_eq!(
            bad(json!({ "env": { "A=B": "1" } })),
            "its answer is not valid: env/A=B: not a name of a variable"
        );
        assert_eq!(bad(json!({ "env": { "A": 1 } })), "its answer is not valid: env/A: not a text");
        assert_eq!(
            bad(json!({ "mounts": { "data": {} } })),
            "its answer is not valid: mounts/data: not an absolute path"
        );
        assert_eq!(
            bad(json!({ "mounts": { "/a/../b": {} } })),
            "its answer is not valid: mounts//a/../b: \"..\" in a path"
        );
        assert_eq!(
            bad(json!({ "oomScoreAdj": 5000 })),
            "its answer is not valid: oomScoreAdj: not a number from -1000 to 1000"
        );
        let mut spec = spec();
        let adjust = json!({ "annotations": { "a": "1" }, "env": { "": "1" } });
        Owners::new(None).apply(&mut spec, "p", &[], adjust.as_object().unwrap()).unwrap_err();
        assert_eq!(spec, super::tests::spec());
    }

    #[test]
    fn a_security_leaf_needs_its_grant() {
        let sysctl = json!({ "sysctl": { "net.ipv4.ip_forward": "1" } });
        assert_eq!(
            applied(sysctl.clone(), &[]).unwrap_err(),
            "it may not set sysctl/net.ipv4.ip_forward: that needs grants = [\"sysctl\"] in its table of config.toml"
        );
        assert!(applied(sysctl, &["sysctl"]).is_ok());
    }

    fn two(first: Value, second: Value, choice: Value) -> Result<Value, String> {
        let mut spec = spec();
        let mut owners = Owners::new(Some(&choice));
        owners.apply(&mut spec, "tz", &[], first.as_object().unwrap()).map_err(|r| r.to_string())?;
        owners.apply(&mut spec, "locale", &[], second.as_object().unwrap()).map_err(|r| r.to_string())?;
        Ok(json!({ "env": spec["process"]["env"][1], "owner": owners.names()["env/TZ"] }))
    }

    #[test]
    fn two_values_for_one_leaf_stop_the_start_unless_the_operator_chose() {
        let (utc, cet) = (json!({ "env": { "TZ": "UTC" } }), json!({ "env": { "TZ": "CET" } }));
        assert_eq!(
            two(utc.clone(), cet.clone(), json!({})).unwrap_err(),
            "env TZ set to \"UTC\" by plugin tz and to \"CET\" by plugin locale; pick one with adjust.\"env/TZ\" = \"tz\""
        );
        assert_eq!(
            two(utc.clone(), utc.clone(), json!({})).unwrap(),
            json!({ "env": "TZ=UTC", "owner": "tz" })
        );
        assert_eq!(
            two(utc.clone(), cet.clone(), json!({ "env/TZ": "tz" })).unwrap(),
            json!({ "env": "TZ=UTC", "owner": "tz" })
        );
        assert_eq!(
            two(utc, cet, json!({ "env/TZ": "locale" })).unwrap(),
            json!({ "env": "TZ=CET", "owner": "locale" })
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z/=.\0]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z/.]{0,5}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_answer_is_merged_or_refused_and_never_half(
            keys in proptest::collection::btree_map(
                proptest::sample::select(vec!["env", "mounts", "devices", "hooks", "resources", "args", "user", "additionalGids", "zzz"]),
                any_json(), 0..4),
        ) {
            let adjust: Map<String, Value> = keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            let mut spec = spec();
            let before = spec.clone();
            let grants = ["devices", "hooks", "user"].map(str::to_owned);
            if Owners::new(None).apply(&mut spec, "p", &grants, &adjust).is_err() {
                prop_assert_eq!(spec, before);
            }
        }
    }
}

//! What a plugin wants changed in a container's spec: the answer to `create`.
//!
//! Each call names one leaf; the host owns the merge (docs/plugins.md, "Changing the spec"): two plugins that want different
//! values for one leaf stop the start, equal values are fine, `remove` takes a leaf away. Security leaves need a grant.
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[must_use]
pub struct Adjust {
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub adjust: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stable: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

impl Adjust {
    /// No change.
    pub fn new() -> Adjust {
        Adjust::default()
    }

    pub fn env(self, name: &str, value: impl Into<String>) -> Adjust {
        self.leaf("env", name, value.into().into())
    }

    pub fn annotation(self, key: &str, value: impl Into<String>) -> Adjust {
        self.leaf("annotations", key, value.into().into())
    }

    /// `options` as in an OCI mount, such as `["rbind", "ro"]`.
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Adjust {
        self.leaf("mounts", destination, json!({ "type": kind, "source": source, "options": options }))
    }

    /// `device` is an OCI device without its path: type, major, minor, fileMode, uid, gid. Needs the grant `devices`.
    pub fn device(self, path: &str, device: Value) -> Adjust {
        self.leaf("devices", path, device)
    }

    pub fn rlimit(self, kind: &str, soft: u64, hard: u64) -> Adjust {
        self.leaf("rlimits", kind, json!({ "soft": soft, "hard": hard }))
    }

    /// Needs the grant `sysctl`.
    pub fn sysctl(self, name: &str, value: impl Into<String>) -> Adjust {
        self.leaf("sysctl", name, value.into().into())
    }

    /// `path` "": a new namespace. Needs the grant `namespaces`.
    pub fn namespace(self, kind: &str, path: &str) -> Adjust {
        self.leaf("namespaces", kind, path.into())
    }

    /// A leaf below `linux.resources`: `memory.limit`, `cpu.quota`, `unified.memory.high`, ...
    pub fn resource(self, leaf: &str, value: impl Into<Value>) -> Adjust {
        self.leaf("resources", leaf, value.into())
    }

    pub fn net_device(self, host_name: &str, name_inside: &str) -> Adjust {
        self.leaf("netDevices", host_name, json!({ "name": name_inside }))
    }

    pub fn cgroups_path(self, path: &str) -> Adjust {
        self.set("cgroupsPath", path)
    }

    pub fn args(self, args: &[&str]) -> Adjust {
        self.set("args", args)
    }

    pub fn oom_score_adj(self, value: i32) -> Adjust {
        self.set("oomScoreAdj", value)
    }

    pub fn hostname(self, name: &str) -> Adjust {
        self.set("hostname", name)
    }

    /// Appends an OCI hook (`{path, args, env, timeout}`) at `prestart`, `createRuntime`, ... Needs the grant `hooks`.
    pub fn hook(mut self, point: &str, hook: Value) -> Adjust {
        let hooks = object(&mut self.adjust, "hooks");
        match hooks.get_mut(point) {
            Some(Value::Array(list)) => list.push(hook),
            _ => drop(hooks.insert(point.to_owned(), json!([hook]))),
        }
        self
    }

    /// Appends a group.
    pub fn additional_gid(mut self, gid: u32) -> Adjust {
        match self.adjust.get_mut("additionalGids") {
            Some(Value::Array(list)) => list.push(gid.into()),
            _ => drop(self.adjust.insert("additionalGids".to_owned(), json!([gid]))),
        }
        self
    }

    /// A key that is one leaf (`seccomp`, `user`, `hostname`, `cgroupsPath`, ...), whole.
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Adjust {
        self.adjust.insert(key.to_owned(), value.into());
        self
    }

    /// Takes a leaf away: `env/TZ`, `mounts//data`, `seccomp`.
    pub fn remove(self, leaf: &str) -> Adjust {
        match leaf.split_once('/') {
            Some((key, name)) => self.leaf(key, name, Value::Null),
            None => self.set(leaf, Value::Null),
        }
    }

    /// This plugin alone gets or gives what `claim` stands for: `stdio`, `network`. The container does not start without it.
    pub fn claim(mut self, claim: &str) -> Adjust {
        self.claims.push(claim.to_owned());
        self
    }

    /// Shown to the user beside the container.
    pub fn message(mut self, text: impl Into<String>) -> Adjust {
        self.message = text.into();
        self
    }

    /// As long as the service's table is the same, the answer is: it holds for the next lives, and they are not asked about. Not for
    /// an answer that depends on anything else, nor where `create` does something for each life. `attach`, `detach` and all other
    /// events come as ever ([`Adjust::without`] says otherwise).
    pub fn stable(mut self) -> Adjust {
        self.stable = true;
        self
    }

    /// Events of this container's life that would find nothing to do, by their names: the plugin is not called for them. `detach`
    /// comes all the same where it is final, and whatever a later worker replays.
    pub fn without(mut self, events: &[&str]) -> Adjust {
        self.without.extend(events.iter().map(|event| (*event).to_owned()));
        self
    }

    fn leaf(mut self, key: &str, name: &str, value: Value) -> Adjust {
        object(&mut self.adjust, key).insert(name.to_owned(), value);
        self
    }
}

/// The object below `key`, made if it is not there.
fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(inner) => inner,
        _ => unreachable!("made an object above"),
    }
}

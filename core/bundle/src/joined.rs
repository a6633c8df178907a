//! Namespaces of other services (`network_mode = "service:X"`): by the path of the process that runs there, and with the files that
//! say how the network is.

use sampan_config::schema::{NamespaceMode, Service};
use serde_json::{Value, json};

use super::leaves::set;

/// Another service in whose namespace this one is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// Of config.toml: `network_mode`, `pid`..
    pub key: &'static str,
    /// Its main process. Whoever opens the path must see that it still runs afterwards: else it may be another's.
    pub pid: i32,
    /// Its config.json.
    pub spec: Value,
}

/// Of the namespace that `key` says, if another service's process is known: that in config.json.
pub fn path(all: &[Joined], key: &str) -> Option<String> {
    let name = match key {
        "network_mode" => "net",
        other => other,
    };
    let joined = all.iter().find(|joined| joined.key == key)?;
    Some(format!("/proc/{}/ns/{name}", joined.pid))
}

/// A mount of the other one's, for who has joined it. It may be a volume, with which the other one does as it likes.
fn to_read(mount: &Value, has_users: bool) -> Value {
    let had = mount["options"].as_array().map_or(&[][..], Vec::as_slice);
    let stays = |option: &&Value| match option.as_str() {
        Some("ro" | "rw" | "rro") => false,
        // The kernel maps by our users, if we have some.
        Some("idmap" | "ridmap") => has_users,
        _ => true,
    };
    let mut options: Vec<Value> = had.iter().filter(stays).cloned().collect();
    options.push("ro".into());
    let mut mount = mount.clone();
    mount["options"] = options.into();
    mount
}

/// Who has the other one's network has its names, too: what of `files` can be mounted over is as it is there, and the host's
/// name is the same. What is left for others to mount over.
pub fn names(spec: &mut Value, service: &Service, all: &[Joined], files: Vec<String>) -> Vec<String> {
    if service.network_mode.joined().is_none() {
        return files;
    }
    let Some(other) = all.iter().find(|joined| joined.key == "network_mode").map(|joined| &joined.spec)
    else {
        return Vec::new();
    };
    let mounts = other["mounts"].as_array().map_or(&[][..], Vec::as_slice);
    let theirs = mounts.iter().filter(|mount| {
        mount["type"] == "bind"
            && mount["destination"].as_str().is_some_and(|at| files.iter().any(|file| file == at))
    });
    let has_users = spec.pointer("/linux/uidMappings").is_some();
    let mut ours = spec["mounts"].as_array().cloned().unwrap_or_default();
    ours.extend(theirs.map(|mount| to_read(mount, has_users)));
    set(spec, "/mounts", ours.into());
    if let (NamespaceMode::Private, Some(name)) = (&service.namespaces.uts, other["hostname"].as_str()) {
        set(spec, "/hostname", json!(name));
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_of_the_others_is_read_only_and_mapped_for_who_has_users() {
        let options = |mount: &Value, has_users| {
            let mount = to_read(mount, has_users);
            assert_eq!((&mount["source"], &mount["type"]), (&json!("/srv/hosts"), &json!("bind")));
            mount["options"]
                .as_array()
                .unwrap()
                .iter()
                .map(|o| o.as_str().unwrap())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mount = |options: &[&str]| json!({ "destination": "/etc/hosts", "type": "bind", "source": "/srv/hosts", "options": options });
        let volume = mount(&["rbind", "rprivate", "nosuid", "ridmap"]);
        assert_eq!(options(&volume, false), "rbind rprivate nosuid ro");
        assert_eq!(options(&volume, true), "rbind rprivate nosuid ridmap ro");
        assert_eq!(options(&mount(&["bind", "rw"]), false), "bind ro");
        assert_eq!(options(&mount(&["bind", "ro", "nodev"]), false), "bind nodev ro");
    }
}

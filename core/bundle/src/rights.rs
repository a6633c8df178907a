//! What a container may see and do: namespaces, sysctls, devices, masked paths, labels of the security modules.

use std::path::Path;

use serde_json::{Value, json};

use super::Facts;
use super::joined::{self, Joined};
use super::leaves::{push, set};
use super::look::Node;
use sampan_config::DEFAULT;
use sampan_config::schema::{NamespaceMode, NetworkMode, Service};

pub fn add(
    spec: &mut Value,
    service: &Service,
    facts: &Facts,
    joined: &[Joined],
    asked: &dyn Fn(&str) -> bool,
) {
    namespaces(spec, service, joined, asked);
    sysctls(spec, service, asked);
    if asked("security.masked_paths") {
        let paths = masked(&service.security.masked_paths, &facts.root_only);
        set(spec, "/linux/maskedPaths", json!(paths));
    }
    if asked("security.readonly_paths") {
        let paths = paths(&service.security.readonly_paths, &sampan_plan::default::READONLY_PATHS);
        set(spec, "/linux/readonlyPaths", json!(paths));
    }
    if let Some(profile) = &service.security.apparmor {
        set(spec, "/process/apparmorProfile", json!(profile));
    }
    if let Some(label) = &service.security.selinux {
        set(spec, "/process/selinuxLabel", json!(label));
    }
    if asked("devices") {
        for device in &service.devices {
            let found = facts.devices.get(&device.source).map_or(&[][..], Vec::as_slice);
            for node in found {
                let below = node.path.strip_prefix(&device.source).unwrap_or(Path::new(""));
                let target = Path::new(&device.target).join(below);
                // Not with a slash at the end where the device itself was named.
                let target = if below.as_os_str().is_empty() { device.target.clone().into() } else { target };
                push(spec, "/linux/devices", shown(node, &target));
                push(spec, "/linux/resources/devices", rule(node, &device.access));
            }
        }
    }
    if asked("privileged") && service.privileged {
        privileged(spec, facts);
    }
}

/// All of the host's devices, and a /sys that can be written to.
fn privileged(spec: &mut Value, facts: &Facts) {
    for node in facts.devices.get(Path::new(DEV)).into_iter().flatten() {
        push(spec, "/linux/devices", shown(node, &node.path));
    }
    set(spec, "/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]));
    for mount in spec.pointer_mut("/mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        if let ("sysfs" | "cgroup", Some(options)) =
            (mount["type"].as_str().unwrap_or_default().to_owned().as_str(), mount["options"].as_array_mut())
        {
            options.retain(|option| option != "ro");
        }
    }
}

pub const DEV: &str = "/dev";

fn namespaces(spec: &mut Value, service: &Service, joined: &[Joined], asked: &dyn Fn(&str) -> bool) {
    let all = &service.namespaces;
    let modes = [("pid", &all.pid), ("ipc", &all.ipc), ("uts", &all.uts), ("cgroup", &all.cgroup)];
    for (kind, mode) in modes.into_iter().filter(|(kind, _)| asked(kind)) {
        let of_host = *mode == NamespaceMode::Host;
        namespace(spec, kind, !of_host, joined::path(joined, kind));
        match kind {
            "ipc" if of_host => host_ipc(spec),
            "uts" if *mode != NamespaceMode::Private => {
                for name in ["hostname", "domainname"] {
                    spec.as_object_mut().map(|spec| spec.remove(name));
                }
            }
            _ => {}
        }
    }
    if asked("network_mode") {
        let own = service.network_mode != NetworkMode::Host;
        namespace(spec, "network", own, joined::path(joined, "network_mode"));
    }
}

/// One of its own, or that of a path; or the host's.
pub fn namespace(spec: &mut Value, kind: &str, own: bool, path: Option<String>) {
    let mut all: Vec<Value> =
        spec.pointer("/linux/namespaces").and_then(Value::as_array).cloned().unwrap_or_default();
    all.retain(|n| n["type"] != kind);
    all.extend(own.then(|| match path {
        Some(path) => json!({ "type": kind, "path": path }),
        None => json!({ "type": kind }),
    }));
    set(spec, "/linux/namespaces", all.into());
}

/// With the host's shared memory and message queues, as docker has it: a tmpfs of its own would hide the one, and no second
/// mqueue can be mounted by those who do not own the namespace.
fn host_ipc(spec: &mut Value) {
    for mount in spec.pointer_mut("/mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        for path in ["/dev/shm", "/dev/mqueue"] {
            if mount["destination"] == path {
                let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
                *mount = json!({ "destination": path, "type": "bind", "source": path, "options": options });
            }
        }
    }
}

fn sysctls(spec: &mut Value, service: &Service, asked: &dyn Fn(&str) -> bool) {
    let mut all = spec.pointer("/linux/sysctl").and_then(Value::as_object).cloned().unwrap_or_default();
    if asked("network_mode") && !matches!(service.network_mode, NetworkMode::Bridge | NetworkMode::None) {
        // The host's own network's are not ours to set, nor another service's.
        all.retain(|name, _| !name.starts_with("net."));
    }
    if asked("sysctls") {
        all.extend(service.sysctls.iter().map(|(name, value)| (name.clone(), json!(value))));
    }
    set(spec, "/linux/sysctl", all.into());
}

/// "default" stands for the built-in ones and what else of procfs only root may read, whatever kernel this is.
fn masked(said: &[String], root_only: &[String]) -> Vec<String> {
    paths(said, &sampan_plan::default::masked_paths(root_only))
}

fn paths(said: &[String], built_in: &[impl AsRef<str>]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for path in said {
        match path.as_str() {
            DEFAULT => all.extend(built_in.iter().map(|path| path.as_ref().to_owned())),
            path => all.push(path.to_owned()),
        }
    }
    all
}

fn shown(node: &Node, target: &Path) -> Value {
    let Node { kind, major, minor, mode, uid, gid, .. } = node;
    json!({ "path": target, "type": kind, "major": major, "minor": minor, "fileMode": mode, "uid": uid, "gid": gid })
}

fn rule(node: &Node, access: &str) -> Value {
    json!({ "allow": true, "type": node.kind, "major": node.major, "minor": node.minor, "access": access })
}

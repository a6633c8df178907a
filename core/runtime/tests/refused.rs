//! What a bundle may ask for and does not get: an error that names the field, and nothing done.

use std::fs;

use sampan_testkit::{Bundle, need};
use serde_json::{Value, json};

use crate::sampan::{Root, run};

/// `run` of a bundle that was changed so; code, output and error.
fn run_with(name: &str, change: impl FnOnce(&mut Bundle)) -> Option<(i32, String, String)> {
    if !need::root() || !need::busybox() {
        return None;
    }
    let root = Root::new(name);
    let mut bundle = Bundle::new(name).unwrap();
    change(&mut bundle);
    bundle.write().unwrap();
    let id = format!("t{}-{name}", std::process::id());
    Some(run(&mut root.command(["run", "-b", bundle.path().to_str().unwrap(), &id])))
}

#[test]
fn nothing_is_set_in_a_namespace_that_is_the_hosts_own() {
    let joined = |kind: &str, path: &str| {
        let own = ["pid", "ipc", "network", "uts", "mount"].into_iter().filter(|k| *k != kind);
        let mut all: Vec<Value> = own.map(|kind| json!({ "type": kind })).collect();
        all.push(json!({ "type": kind, "path": path }));
        json!(all)
    };
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for (kind, link, setting, value) in [
        ("network", "net", "/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "77" })),
        ("ipc", "ipc", "/linux/sysctl", json!({ "kernel.msgmax": "7777" })),
        ("uts", "uts", "/linux/sysctl", json!({ "kernel.domainname": "evil" })),
        ("uts", "uts", "/hostname", json!("evil")),
        ("uts", "uts", "/domainname", json!("evil")),
    ] {
        for process in ["self", &std::process::id().to_string()] {
            let path = format!("/proc/{process}/ns/{link}");
            let Some((code, _, err)) = run_with("own-ns", |b| {
                b.config.as_object_mut().unwrap().remove("hostname");
                b.set("/linux/namespaces", joined(kind, &path)).set(setting, value.clone());
            }) else {
                return;
            };
            let says = format!("not allowed in the host's {link} namespace, which is what {path} is");
            assert!(code == 1 && err.contains(&says), "{setting} {path}: {code}, {err}");
        }
        // To join it and leave it as it is, is nobody's harm.
        let Some(joins) = run_with("own-ns", |b| {
            b.config.as_object_mut().unwrap().remove("hostname");
            b.set("/linux/namespaces", joined(kind, &format!("/proc/self/ns/{link}")));
        }) else {
            return;
        };
        assert_eq!(joins, (0, String::new(), String::new()), "{kind}");
    }
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), hostname);
}

/// The kernel takes no environment of that size; we say so, soon.
#[test]
fn a_million_variables_are_an_error_within_seconds() {
    if !need::root() || !need::busybox() {
        return;
    }
    let root = Root::new("million");
    let mut bundle = Bundle::new("million").unwrap();
    let variables: Vec<String> = (0..1_000_000).map(|n| format!("VARIABLE_{n}=value")).collect();
    bundle.set("/process/env", json!(variables));
    bundle.write().unwrap();
    let id = format!("t{}-million", std::process::id());
    let (code, _, err) = root.after("true", ["run", "-b", bundle.path().to_str().unwrap(), &id]);
    assert!(code == 1 && err.contains("E2BIG"), "{code}: {err}");
    assert_eq!(root.ok(["list", "-q"]), "");
}

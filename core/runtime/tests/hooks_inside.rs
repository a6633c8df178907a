//! What hooks see of the container while the host's mounts are still there, and how those in the container end.

use std::time::{Duration, Instant};

use sampan_testkit::Bundle;
use serde_json::{Value, json};

use crate::hooks::processes;
use crate::lifecycle::eventually;
use crate::sampan::{Root, bundle, fails, works};

/// One hook, of a host's shell; ROOT in it is the container's root as the host has it.
fn hook(b: &mut Bundle, kind: &str, script: &str) {
    let script = script.replace("ROOT", b.rootfs().to_str().unwrap());
    let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    b.set("/hooks", json!({kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": env}]}));
}

fn plain(_: &mut Bundle) {}

fn scratch(b: &mut Bundle) {
    b.set("/root/readonly", json!(false)).set("/annotations", json!({"org.sampan.rootfs.mode": "scratch"}));
}

fn user_namespace(b: &mut Bundle) {
    std::os::unix::fs::chown(b.rootfs(), Some(100_000), Some(100_000)).unwrap();
    let map: Value = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    b.add("/linux/namespaces", json!({"type": "user"}));
    b.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
}

fn shared(b: &mut Bundle) {
    b.set("/linux/rootfsPropagation", json!("rshared"));
}

type Change = fn(&mut Bundle);
const WORLDS: [(&str, Change); 4] =
    [("plain", plain), ("scratch", scratch), ("user", user_namespace), ("shared", shared)];

/// As NVIDIA's hooks do.
#[test]
fn hooks_of_the_host_find_the_root_in_the_containers_mount_namespace() {
    let look = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -m cat ROOT/proc/version && ! test -e ROOT/proc/version";
    for kind in ["prestart", "createRuntime"] {
        for (name, world) in WORLDS {
            let change = |b: &mut Bundle| {
                world(b);
                hook(b, kind, look);
            };
            works(&format!("{kind}-{name}"), change, "ran\n");
        }
    }
}

#[test]
fn create_container_hooks_start_in_the_root() {
    for (name, world) in WORLDS {
        let change = |b: &mut Bundle| {
            world(b);
            hook(b, "createContainer", "test $(pwd) = ROOT && cat proc/version ROOT/proc/version");
        };
        works(name, change, "ran\n");
    }
}

/// Where neither a pid namespace nor a control group ends it with the container.
#[test]
fn what_a_failed_hook_has_started_ends_with_it() {
    for (kind, seconds) in [("createContainer", "85.1"), ("startContainer", "85.2")] {
        let change = |b: &mut Bundle| {
            hook(b, kind, &format!("sleep {seconds} & exit 3"));
            let namespaces = b.config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "pid" && namespace["type"] != "cgroup");
            b.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
            b.config["linux"].as_object_mut().unwrap().remove("resources");
        };
        let Some(bundle) = bundle(&format!("left-{kind}"), change) else { return };
        let id = bundle.path().file_name().unwrap().to_str().unwrap();
        let args = ["--cgroup-manager", "disabled", "run", "-b", bundle.path().to_str().unwrap(), id];
        let (code, said) = Root::new(id).err(args);
        assert!(code == 1 && said.contains("exit status 3"), "{kind}: {said}");
        eventually(kind, || processes(&format!("sleep\0{seconds}\0")).is_empty());
    }
}

#[test]
fn a_hook_that_leaves_its_group_ends_at_its_deadline() {
    let start = Instant::now();
    let change = |b: &mut Bundle| {
        hook(b, "createContainer", "exec perl -e 'setpgrp(0, getpgrp(getppid())); sleep 60'");
        b.set("/hooks/createContainer/0/timeout", json!(1));
    };
    fails("group", change, "still running after 1 s, killed");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

//! Labels of security modules. This machine need not have AppArmor or SELinux: where they are on, `make test-vm` runs clients.

use serde_json::json;

use crate::sampan::{fails, works};
use sampan_testkit::Bundle;

#[test]
fn a_profile_that_cannot_be_applied_is_an_error_in_runcs_words() {
    fails(
        "profile",
        |b| _ = b.set("/process/apparmorProfile", json!("sampan-nosuch")),
        "process.apparmorProfile: unable to apply apparmor profile: sampan-nosuch",
    );
}

#[test]
fn unconfined_and_no_profile_need_no_apparmor() {
    for profile in ["unconfined", ""] {
        works("unconfined", |b| _ = b.set("/process/apparmorProfile", json!(profile)), "ran\n");
    }
}

#[test]
fn a_selinux_label_that_cannot_be_set_is_an_error() {
    let label = json!("nosuch_u:nosuch_r:nosuch_t:s0");
    let name = "process.selinuxLabel: cannot label the process nosuch_u:nosuch_r:nosuch_t:s0 for SELinux";
    fails("process-label", |b| _ = b.set("/process/selinuxLabel", label.clone()), name);
    fails(
        "mount-label",
        |b| _ = b.set("/linux/mountLabel", label.clone()),
        "context=nosuch_u:nosuch_r:nosuch_t:s0",
    );
}

/// The owner of the user namespace may not make a procfs for the host's pid namespace: the host's is used.
#[test]
fn a_sysctl_is_set_in_a_user_namespace_with_the_hosts_processes() {
    let change = |b: &mut Bundle| {
        std::os::unix::fs::chown(b.rootfs(), Some(100_000), Some(100_000)).unwrap();
        let kinds = ["network", "ipc", "uts", "mount", "user"].map(|kind| json!({"type": kind}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
        b.set("/linux/namespaces", json!(kinds));
        b.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        b.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
        let proc = json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        b.add("/mounts", proc);
        b.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
        b.set("/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "61"}));
        b.args(&["/bin/cat", "/proc/sys/net/ipv4/ip_default_ttl"]);
    };
    works("sysctl", change, "61\n");
}

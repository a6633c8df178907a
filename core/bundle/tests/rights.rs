//! Rights and limits: what config.json says, and what a container then has.

use sampan_testkit::{Folder, need};
use serde_json::{Value, json};

use super::real::{ro_service, run};
use super::{build, check, run as with};

#[track_caller]
fn namespaces(keys: &str, lacks: &str) {
    let spec = build(&with(keys)).spec;
    let kinds: Vec<&str> =
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].as_str().unwrap()).collect();
    assert!(!kinds.contains(&lacks), "{keys}: {kinds:?}");
    assert_eq!(kinds.len(), 5, "{keys}: {kinds:?}");
}

#[test]
fn leaves() {
    check(&with("domainname = \"d\""), "/domainname", json!("d"));
    check(&with("annotations.a = \"b\""), "/annotations/a", json!("b"));
    check(&with("group_add = [7, \"logs\"]"), "/process/user/additionalGids", json!([7, 40]));
    check(&with("user = \"www\"\ngroup_add = [40]"), "/process/user/additionalGids", json!([40]));
    check(&with("oom_score_adj = 17"), "/process/oomScoreAdj", json!(17));
    check(&with("sysctls.\"net.core.somaxconn\" = 5"), "/linux/sysctl/net.core.somaxconn", json!("5"));
    check(&with("security.masked_paths = []"), "/linux/maskedPaths", json!([]));
    check(&with("security.apparmor = \"p\""), "/process/apparmorProfile", json!("p"));
    let nofile = json!({ "type": "RLIMIT_NOFILE", "soft": 5, "hard": 6 });
    let limits = build(&with("ulimits.nofile = \"5:6\"")).spec["process"]["rlimits"].clone();
    let limits: Vec<&Value> =
        limits.as_array().unwrap().iter().filter(|l| l["type"] == "RLIMIT_NOFILE").collect();
    assert_eq!(limits, [&nofile]);
}

#[test]
fn the_hosts_namespaces_are_those_that_are_not_made() {
    for kind in ["pid", "ipc", "uts", "cgroup"] {
        namespaces(&format!("{kind} = \"host\""), kind);
    }
    check(&with("uts = \"host\""), "/hostname", Value::Null);
    let mounts = build(&with("ipc = \"host\"")).spec["mounts"].clone();
    let bound = mounts.as_array().unwrap().iter().filter(|m| m["type"] == "bind").count();
    assert_eq!(bound, 2, "{mounts}");
}

#[test]
fn a_list_of_paths_keeps_the_built_in_ones_by_a_word() {
    let paths =
        build(&with("security.readonly_paths = [\"/x\", \"default\"]")).spec["linux"]["readonlyPaths"]
            .clone();
    assert_eq!(paths[0], "/x");
    assert!(paths.as_array().unwrap().contains(&json!("/proc/sys")));
}

#[test]
fn what_else_of_procfs_only_root_may_read_is_masked_where_the_built_in_ones_are() {
    let root_only = sampan_runtime::kernel::procfs::root_only().unwrap();
    for (keys, is_masked) in
        [("", true), ("security.masked_paths = [\"default\", \"/x\"]", true), ("privileged = true", false)]
    {
        let spec = build(&with(keys)).spec;
        let masked: Vec<&str> = spec["linux"]["maskedPaths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|path| path.as_str().unwrap())
            .collect();
        assert!(
            root_only.iter().all(|path| masked.contains(&path.as_str()) == is_masked),
            "{keys}: {masked:?}"
        );
        let once: std::collections::BTreeSet<&&str> = masked.iter().collect();
        assert_eq!(once.len(), masked.len(), "{keys}");
    }
}

#[test]
fn a_device_is_shown_and_allowed() {
    let spec = build(&with("devices = [\"/dev/null:/dev/nothing:r\"]")).spec;
    let device = &spec["linux"]["devices"][0];
    assert_eq!(
        (&device["path"], &device["major"], &device["minor"]),
        (&json!("/dev/nothing"), &json!(1), &json!(3))
    );
    let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "r" });
    assert!(spec["linux"]["resources"]["devices"].as_array().unwrap().contains(&rule));
}

#[test]
fn a_device_that_is_none_is_named() {
    for (path, why) in [("/dev/no-such", "no such file"), ("/etc/passwd", "neither a device nor a folder")] {
        let toml = format!("[services.web]\nrootfs = \"root\"\ncommand = \"a\"\ndevices = [\"{path}\"]\n");
        let error =
            super::try_of(&super::rootfs(Folder::new()).with("config.toml", &toml)).unwrap_err().to_string();
        assert!(error.starts_with("web: devices: cannot use the device") && error.contains(why), "{error}");
    }
}

#[test]
fn a_privileged_one_has_all_devices_and_a_writable_sys() {
    let spec = build(&with("privileged = true")).spec;
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{ "allow": true, "access": "rwm" }]));
    let paths: Vec<&str> = spec["linux"]["devices"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|d| d["path"].as_str().unwrap())
        .collect();
    assert!(!paths.iter().any(|path| path.starts_with("/dev/pts") || *path == "/dev/null"), "{paths:?}");
    let sys = spec["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == "/sys").unwrap();
    assert!(!sys["options"].as_array().unwrap().contains(&json!("ro")));
    assert!(spec["linux"]["seccomp"].is_null());
}

/// What the kernel says to a process of it.
#[track_caller]
fn says(keys: &str, script: &str, expected: &str) {
    let folder = ro_service(keys, script);
    // The shell's own `read` takes a byte at a time, and files of /proc/sys do not stand for that.
    std::fs::copy(sampan_testkit::bundle::BUSYBOX, folder.path("root/bin/cat")).unwrap();
    let (text, code) = run(&folder, "rights");
    assert_eq!((text.trim(), code), (expected, 0), "{keys}");
}

#[test]
fn in_a_real_container() {
    if !(need::root() && need::busybox()) {
        return;
    }
    says("ulimits.nofile = \"77:99\"", "ulimit -Sn; ulimit -Hn", "77\n99");
    says("oom_score_adj = 33", "read n < /proc/self/oom_score_adj; echo $n", "33");
    says("domainname = \"d.example\"", "cat /proc/sys/kernel/domainname", "d.example");
    says("sysctls.\"kernel.shmmni\" = 77", "cat /proc/sys/kernel/shmmni", "77");
    says("sysctls.\"net.ipv4.ip_default_ttl\" = 33", "cat /proc/sys/net/ipv4/ip_default_ttl", "33");
    says(
        "group_add = [77]",
        "while read a b c; do [ $a = Groups: ] && echo $b $c; done < /proc/self/status; true",
        "77",
    );
    let opens = "(: < /dev/burn) && echo reads; (: > /dev/burn) 2> /dev/null || echo no more";
    says("devices = [\"/dev/fuse:/dev/burn:r\"]", opens, "reads\nno more");
    says(
        "security.masked_paths = [\"/etc\"]\ncap_drop = [\"ALL\"]",
        "[ -e /etc/.keep ] || echo masked",
        "masked",
    );
    says("pid = \"host\"", "[ $$$$ -gt 1 ] && echo host", "host");
    // All that we have: nobody gets more.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ours = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let capabilities = "while read a b; do [ $a = CapEff: ] && echo $b; done < /proc/self/status; true";
    says("privileged = true", capabilities, ours);
}

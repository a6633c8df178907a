//! What is wrong with a config: the field, and the problem in words.

use crate::plans::{compile, config, options};
use sampan_plan::{Host, Plan, Spec};
use serde_json::{Value, json};

/// Sets one field of the default config and compares the error.
fn check(pointer: &str, value: Value, expected: &str) {
    let mut config = config();
    set(&mut config, pointer, value);
    let error = compile(&config).unwrap_err();
    // Line and column are of this test's own making.
    assert_eq!(error.split(" at line").next().unwrap(), expected);
}

pub fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(object) => _ = object.insert(name.to_owned(), value),
        Value::Array(array) if name == "-" => array.push(value),
        Value::Array(array) => array[name.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
}

#[test]
fn the_version_must_be_one_of_ours() {
    check("/ociVersion", json!("2.0.0"), "ociVersion: 2.0.0 is of another major version than 1");
    check("/ociVersion", json!(null), "ociVersion: is missing");
    for version in ["1.0.2-dev", "1.2.0", "1.3.0+dev", "0.5.0-dev"] {
        let mut config = config();
        set(&mut config, "/ociVersion", json!(version));
        compile(&config).unwrap();
    }
}

#[test]
fn types_are_named_by_their_path() {
    check(
        "/process/user/uid",
        json!("root"),
        "process.user.uid: invalid type: string \"root\", expected u32",
    );
    check(
        "/mounts/1/options",
        json!([1]),
        "mounts[1].options[0]: invalid type: integer `1`, expected a string",
    );
}

#[test]
fn the_annotation_for_a_root_has_two_values() {
    let mode = |value: &str, expected: &str| {
        check("/annotations", json!({"org.sampan.rootfs.mode": value}), expected);
    };
    let field = "annotations[\"org.sampan.rootfs.mode\"]";
    mode("scratch", "root.readonly: conflicts with org.sampan.rootfs.mode = \"scratch\": must be false");
    mode("rw", &format!("{field}: is not needed for a writable root: root.readonly = false"));
    mode(
        "scrach",
        &format!("{field}: \"scrach\" is neither \"scratch\" nor \"ro\"; did you mean \"scratch\"?"),
    );
    mode("", &format!("{field}: \"\" is neither \"scratch\" nor \"ro\""));
}

#[test]
fn namespaces_are_known_and_single() {
    check(
        "/linux/namespaces/0/type",
        json!("pdi"),
        "linux.namespaces[0].type: no namespace is of type \"pdi\"; did you mean \"pid\"?",
    );
    check(
        "/linux/namespaces/-",
        json!({"type": "uts"}),
        "linux.namespaces[5]: a second namespace of type \"uts\"",
    );
    check(
        "/linux/namespaces",
        json!([{"type": "pid"}]),
        "linux.namespaces: a container without a mount namespace of its own is not supported yet; add {\"type\": \"mount\"}",
    );
    check(
        "/linux/namespaces/-",
        json!({"type": "user"}),
        "linux.uidMappings: must not be empty with a new user namespace: nobody would have an id in it",
    );
    check(
        "/linux/uidMappings",
        json!([{"containerID": 0, "hostID": 0, "size": 1}]),
        "linux.uidMappings: needs a user namespace in linux.namespaces",
    );
    check(
        "/linux/timeOffsets",
        json!({"boottime": {"secs": 1}}),
        "linux.timeOffsets: needs a new time namespace in linux.namespaces",
    );
}

#[test]
fn mounts_say_what_and_where() {
    let mount = |m: Value, expected: &str| check("/mounts/-", m, expected);
    mount(json!({"type": "tmpfs"}), "mounts[7].destination: must not be empty");
    mount(json!({"destination": "/x", "options": ["bind"]}), "mounts[7].source: a bind needs a source");
    mount(
        json!({"destination": "/x", "source": "y"}),
        "mounts[7].type: is missing, and the options do not say bind",
    );
    mount(
        json!({"destination": "/x", "type": "bind", "source": "/y", "options": ["copy-symlink"]}),
        "mounts[7].options[0]: \"copy-symlink\" is not supported yet",
    );
    mount(
        json!({"destination": "/proc", "type": "tmpfs", "source": "x"}),
        "mounts[7].destination: only procfs may be mounted on /proc, not tmpfs",
    );
    mount(
        json!({"destination": "/proc/self", "type": "tmpfs", "source": "x"}),
        "mounts[7].destination: /proc/self is inside /proc, where nothing may be mounted but /proc/cpuinfo, /proc/diskstats, /proc/meminfo, /proc/stat, /proc/swaps, /proc/uptime, /proc/loadavg, /proc/slabinfo, /proc/sys/kernel/ns_last_pid, /proc/sys/crypto/fips_enabled, /proc/net/dev",
    );
    mount(
        json!({"destination": "/../..", "type": "tmpfs", "source": "x"}),
        "mounts[7].destination: \"/\" is the root itself: see root.path",
    );
}

/// Those that run late are no exception.
#[test]
fn hooks_of_every_kind_are_checked() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let hooks = |hook| json!({ kind: [{ "path": "/bin/true" }, hook] });
        let path = format!("hooks.{kind}[1].path: \"true\" is not an absolute path");
        check("/hooks", hooks(json!({ "path": "true" })), &path);
        let timeout = format!("hooks.{kind}[1].timeout: -1 is not above 0");
        check("/hooks", hooks(json!({ "path": "/bin/true", "timeout": -1 })), &timeout);
    }
}

#[test]
fn the_process_is_checked() {
    check("/process/args", json!([]), "process.args: must name a program");
    check("/process/args", json!(["a\u{0}b"]), "process.args[0]: holds a NUL, which no path or argument can");
    check("/process/env", json!(["A"]), "process.env[0]: \"A\" is not of the form NAME=VALUE");
    check("/process/cwd", json!("tmp"), "process.cwd: \"tmp\" is not an absolute path");
    check(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILES", "soft": 1, "hard": 1}]),
        "process.rlimits[0].type: no limit is called \"RLIMIT_NOFILES\"; did you mean RLIMIT_NOFILE?",
    );
    check(
        "/process/rlimits",
        json!([{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]),
        "process.rlimits[0].soft: 2 is above hard, 1",
    );
    check(
        "/process/rlimits/-",
        json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}),
        "process.rlimits[1]: a second RLIMIT_NOFILE",
    );
    check(
        "/process/capabilities/effective",
        json!(["CAP_SYS_ADMIN"]),
        "process.capabilities.effective: holds a capability that is not in permitted",
    );
}

#[test]
fn what_would_change_the_host_is_refused() {
    let sysctl = |key: &str, expected: &str| check("/linux/sysctl", json!({key: "1"}), expected);
    sysctl(
        "kernel.sysrq",
        "linux.sysctl[\"kernel.sysrq\"]: belongs to no namespace, so setting it would change the host",
    );
    sysctl("kernel.hostname", "linux.sysctl[\"kernel.hostname\"]: conflicts with hostname: set that alone");
    sysctl("net/../kernel/sysrq", "linux.sysctl[\"net/../kernel/sysrq\"]: is not a name below /proc/sys");
    sysctl(
        "user.max_pid_namespaces",
        "linux.sysctl[\"user.max_pid_namespaces\"]: needs a user namespace of its own in linux.namespaces: it would change the host",
    );
    check(
        "/linux/namespaces",
        json!([{"type": "mount"}]),
        "hostname: needs a uts namespace of its own in linux.namespaces: it would rename the host",
    );
}

#[test]
fn what_is_not_built_yet_says_so() {
    check("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt: not supported yet");
    check("/linux/netDevices", json!({"eth0": {}}), "linux.netDevices: not supported yet");
    check("/linux/memoryPolicy", json!({"mode": "MPOL_DEFAULT"}), "linux.memoryPolicy: not supported yet");
}

#[test]
fn unknown_capabilities_warn() {
    let mut config = config();
    set(&mut config, "/process/capabilities/bounding", json!(["CAP_KIL", "kill"]));
    let warnings = compile(&config).unwrap().1;
    assert_eq!(
        warnings,
        ["process.capabilities.bounding[0]: unknown capability CAP_KIL is ignored; did you mean CAP_KILL?"]
    );
}

#[test]
fn capabilities_that_we_lack_are_left_out_and_said_but_not_where_users_are_its_own() {
    let mut config = config();
    let less = Host { capabilities: !(1 << 5), ..Host::example() };
    let warnings = |config: &Value| {
        let text = config.to_string();
        Plan::compile(&Spec::parse(&text).unwrap(), &less, &options()).unwrap().warnings
    };
    assert_eq!(warnings(&config), ["process.capabilities: CAP_KILL left out: we do not have it ourselves"]);
    set(&mut config, "/linux/namespaces/-", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    set(&mut config, "/linux/uidMappings", map.clone());
    set(&mut config, "/linux/gidMappings", map);
    assert_eq!(warnings(&config), [""; 0]);
}

#[test]
fn an_ambient_capability_that_cannot_be_raised_is_left_out_and_said() {
    let mut config = config();
    set(&mut config, "/process/capabilities/inheritable", json!(["CAP_KILL"]));
    set(&mut config, "/process/capabilities/ambient", json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]));
    let (plan, warnings) = compile(&config).unwrap();
    let raised = plan.lines().find_map(|line| line.split_once("raise ambient capabilities")).unwrap().1;
    assert!(raised.contains("KILL") && !raised.contains("NET_BIND_SERVICE"), "{plan}");
    let warning = "process.capabilities.ambient: CAP_NET_BIND_SERVICE left out: \
        an ambient capability must be both permitted and inheritable";
    assert_eq!(warnings, [warning]);
}

#[test]
fn id_maps_are_for_binds_of_the_hosts_root_and_come_in_pairs() {
    let line = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let mount = |kind: &str, options: &[&str], uids: &Value, gids: &Value| json!({"destination": "/mnt", "type": kind, "source": "/x", "options": options, "uidMappings": uids, "gidMappings": gids});
    let none = &json!([]);
    let only_binds = "mounts[7]: id-mapped mounts are only supported for bind-mounts";
    check("/mounts/-", mount("tmpfs", &[], &line, &line), only_binds);
    check("/mounts/-", mount("tmpfs", &["ridmap"], none, none), only_binds);
    let both = "mounts[7]: id-mapped mounts must have both uid and gid mappings specified";
    check("/mounts/-", mount("bind", &[], &line, none), both);
    check("/mounts/-", mount("bind", &[], none, &line), both);
    check("/mounts/-", mount("bind", &["idmap"], none, none), both);

    let mut config = config();
    set(&mut config, "/mounts/-", mount("bind", &[], &line, &line));
    let text = config.to_string();
    let spec = Spec::parse(&text).unwrap();
    for host in
        [Host { privileged: false, ..Host::example() }, Host { in_user_namespace: true, ..Host::example() }]
    {
        let error = Plan::compile(&spec, &host, &options()).unwrap_err().to_string();
        assert!(
            error.starts_with("mounts[7]: id-mapped mounts are not supported for rootless containers"),
            "{error}"
        );
    }
}

#[test]
fn options_of_a_mount_fit_a_page_together_where_one_of_them_is_long() {
    let mut config = config();
    let overlay = |lower: usize| json!({"destination": "/o", "type": "overlay", "options": [format!("lowerdir={}", "a".repeat(lower)), "xino=off"]});
    set(&mut config, "/mounts/-", overlay(4077));
    compile(&config).unwrap();
    let at = config["mounts"].as_array().unwrap().len() - 1;
    config["mounts"][at] = overlay(4078);
    let error = compile(&config).unwrap_err();
    let says = "options: are 4096 bytes: the kernel takes 4095 where one of them is longer than 255 (fsconfig(2), mount(2))";
    assert!(error.starts_with(&format!("mounts[{at}].{says}")), "{error}");
}

#[test]
fn an_option_that_a_cgroup_mount_does_not_take_is_told() {
    let mut config = config();
    set(
        &mut config,
        "/mounts/-",
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro", "nsdelegat"]}),
    );
    let at = config["mounts"].as_array().unwrap().len() - 1;
    let text = config.to_string();
    let spec = Spec::parse(&text).unwrap();
    let plan = Plan::compile(&spec, &Host::example(), &options()).unwrap();
    let says = "\"nsdelegat\" is ignored: a cgroup mount takes no options but a bind's";
    assert!(plan.warnings.contains(&format!("mounts[{at}].options: {says}")), "{:?}", plan.warnings);
}

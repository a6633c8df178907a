//! Whole plans, as people read them.

use crate::fields::set;
use sampan_child::step::{self, Propagation, Source, Step};
use sampan_plan::host::{Cgroup, JoinedUsers, Version};
use sampan_plan::slots::SlotSource;
use sampan_plan::spec::IdMapping;
use sampan_plan::{Host, Options, Plan, Spec, render};
use serde_json::{Value, json};

/// What `runc spec` writes.
pub fn config() -> Value {
    sampan_testkit::bundle::default_config()
}

pub fn options() -> Options {
    Options { id: "web".to_owned(), bundle: "/bundle".to_owned(), new_keyring: true, ..Options::default() }
}

/// The plan as text and its warnings, or the error.
pub fn compile(config: &Value) -> Result<(String, Vec<String>), String> {
    compile_on(&Host::example(), config)
}

fn compile_on(host: &Host, config: &Value) -> Result<(String, Vec<String>), String> {
    let text = config.to_string();
    let spec = Spec::parse(&text).map_err(|e| e.to_string())?;
    let plan = Plan::compile(&spec, host, &options()).map_err(|e| e.to_string())?;
    Ok((render::text(&plan), plan.warnings))
}

fn check(name: &str, config: &Value) {
    check_on(&Host::example(), name, config);
}

fn check_on(host: &Host, name: &str, config: &Value) {
    let (text, _) = compile_on(host, config).unwrap();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn the_config_of_runc_spec() {
    check("runc-spec", &config());
}

#[test]
fn a_config_as_podman_writes_it() {
    let mut c = config();
    set(&mut c, "/process/terminal", json!(true));
    set(&mut c, "/process/consoleSize", json!({"height": 24, "width": 80}));
    set(&mut c, "/process/user", json!({"uid": 33, "gid": 33, "umask": 18, "additionalGids": [33, 34]}));
    set(&mut c, "/process/oomScoreAdj", json!(100));
    set(&mut c, "/linux/namespaces/1/path", json!("/run/netns/x"));
    set(&mut c, "/linux/namespaces/-", json!({"type": "cgroup"}));
    set(&mut c, "/linux/rootfsPropagation", json!("rslave"));
    set(&mut c, "/linux/sysctl", json!({"net.ipv4.ping_group_range": "0 0"}));
    let bind = |to: &str, from: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["bind", "rprivate", "nosuid"]});
    set(&mut c, "/mounts/-", bind("/etc/hosts", "/run/x/hosts"));
    set(&mut c, "/mounts/-", bind("/run/.containerenv", "/run/x/.containerenv"));
    set(
        &mut c,
        "/hooks",
        json!({"createContainer": [{"path": "/usr/bin/hook", "args": ["hook", "x"], "timeout": 5}], "prestart": null}),
    );
    check("podman", &c);
}

#[test]
fn a_user_namespace_has_its_sources_opened_outside() {
    let mut c = config();
    set(&mut c, "/linux/namespaces/-", json!({"type": "user"}));
    set(&mut c, "/linux/namespaces/1/path", json!("/run/netns/x"));
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    set(&mut c, "/linux/uidMappings", map.clone());
    set(&mut c, "/linux/gidMappings", map);
    set(&mut c, "/linux/timeOffsets", json!({"monotonic": {"secs": 5, "nanosecs": 1}}));
    set(&mut c, "/linux/namespaces/-", json!({"type": "time"}));
    set(
        &mut c,
        "/mounts/-",
        json!({"destination": "/data", "source": "data", "options": ["rbind", "rro", "noexec"]}),
    );
    check("userns", &c);
}

/// containerd hands some on as they stand in an fstab.
#[test]
fn options_joined_by_commas_and_empty_ones_are_what_they_are_apart() {
    let with = |options: Value| {
        let mut c = config();
        let mount = json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": options});
        set(&mut c, "/mounts/-", mount);
        compile(&c).unwrap().0
    };
    let joined = with(json!(["nosuid,size=1m,", "", "ro"]));
    assert_eq!(joined, with(json!(["nosuid", "size=1m", "ro"])));
    assert!(joined.contains("/t [ro,nosuid,size=1m]"), "{joined}");
}

/// As the second container of a pod: users, network and processes are there already.
#[test]
fn a_user_namespace_of_a_path_is_joined_by_one_and_lived_in_by_its_child() {
    let mut c = config();
    set(&mut c, "/linux/namespaces/-", json!({"type": "user", "path": "/run/users/x"}));
    set(&mut c, "/linux/namespaces/0/path", json!("/run/pid/x"));
    set(&mut c, "/linux/namespaces/1/path", json!("/run/netns/x"));
    let root = IdMapping { container_id: 0, host_id: 100_000, size: 65_536 };
    let mut users = JoinedUsers { uids: vec![root.clone()], gids: vec![root], ..JoinedUsers::default() };
    // sysfs is the network's, and so its owner's to mount.
    let sysfs = |users: &JoinedUsers| {
        let host = Host { joined_users: Some(users.clone()), ..Host::example() };
        compile_on(&host, &c).unwrap().0.contains("mount sysfs")
    };
    assert!(!sysfs(&users));
    users.owns_network = true;
    assert!(sysfs(&users));
    check_on(&Host { joined_users: Some(users), ..Host::example() }, "joined-users", &c);
}

fn scratch() -> Value {
    let mut c = config();
    set(&mut c, "/root/readonly", json!(false));
    set(&mut c, "/annotations", json!({"org.sampan.rootfs.mode": "scratch"}));
    c
}

/// How the root's step reads.
fn root_step(config: &Value) -> String {
    let (text, _) = compile(config).unwrap();
    let line = text.lines().find(|l| l.contains("as the root")).unwrap();
    line.split_once("use").map_or("", |(_, rest)| rest.trim_end_matches("root.path").trim()).to_owned()
}

#[test]
fn a_root_that_is_never_written_to_is_read_only_before_anything_is_mounted() {
    let mut c = config();
    set(&mut c, "/root/readonly", json!(true));
    set(&mut c, "/process/cwd", json!("/srv"));
    let lines = |c: &Value| -> Vec<String> {
        let (text, _) = compile(c).unwrap();
        text.lines().filter_map(|line| Some(line.trim().split_once("  ")?.1.trim().to_owned())).collect()
    };
    let closes = |line: &String| line.ends_with(" root.readonly");
    let specified = lines(&c);
    assert!(specified.iter().rposition(closes) > specified.iter().position(|l| l.ends_with("mounts[0]")));
    set(&mut c, "/annotations", json!({"org.sampan.rootfs.mode": "ro"}));
    let never = lines(&c);
    let root = never.iter().position(|line| line.contains("as the root")).unwrap();
    assert_eq!(never.iter().position(closes), Some(root + 1), "{never:#?}");
    let mut sorted = [specified.clone(), never.clone()];
    sorted.iter_mut().for_each(|lines| lines.sort());
    sorted[0].retain(|line| !(line.ends_with("process.cwd") && line.starts_with("make")));
    assert_eq!(sorted[0], sorted[1], "for the rest it is the same");
    set(&mut c, "/root/readonly", json!(false));
    let conflict = "root.readonly: conflicts with org.sampan.rootfs.mode = \"ro\": must be true";
    assert_eq!(compile(&c).unwrap_err().to_string(), conflict);
}

#[test]
fn a_scratch_root_differs_from_a_writable_one_in_one_step() {
    let mut writable = scratch();
    set(&mut writable, "/annotations", json!({}));
    assert_eq!(root_step(&writable), "/bundle/rootfs as the root [host's mounts rslave]");
    let words = "/bundle/rootfs as the root, a new tmpfs on top [mode=0700,host's mounts rslave]";
    assert_eq!(root_step(&scratch()), words);
    let strip =
        |config: &Value| compile(config).unwrap().0.replace(&root_step(config), "ROOT").replace(' ', "");
    assert_eq!(strip(&scratch()), strip(&writable));
}

/// What becomes of the peers of each tree that the parent clones for the config, by its field.
fn trees(config: &Value) -> Vec<(String, Propagation)> {
    let text = config.to_string();
    let spec = Spec::parse(&text).unwrap();
    let plan = Plan::compile(&spec, &Host::example(), &options()).unwrap();
    let tree = |want: &SlotSource| match want {
        SlotSource::Tree { propagation, field, .. } => Some((field.clone(), *propagation)),
        _ => None,
    };
    plan.slots.iter().filter_map(tree).collect()
}

/// A bind without a word about its propagation, and one for each word that there is.
fn with_every_propagation(root: &str) -> Value {
    let mut c = config();
    c["mounts"] = json!([{"destination": "/none", "source": "/data", "options": ["rbind"]}]);
    for (name, _) in Propagation::ALL {
        set(
            &mut c,
            "/mounts/-",
            json!({"destination": format!("/{name}"), "source": "/data", "options": ["rbind", name]}),
        );
    }
    set(&mut c, "/linux/rootfsPropagation", json!(root));
    c
}

#[test]
fn peers_of_the_host_are_kept_only_by_a_shared_mount_of_a_shared_root() {
    for (root, propagation) in Propagation::ALL {
        let kept: &[(&str, Propagation)] = match propagation.is_shared() {
            true => &[("mounts[5].source", Propagation::Shared), ("mounts[6].source", Propagation::RShared)],
            false => &[],
        };
        let kept: Vec<_> = kept.iter().map(|(field, kept)| ((*field).to_owned(), *kept)).collect();
        assert_eq!(trees(&with_every_propagation(root)), kept, "{root}");
    }
}

#[test]
fn no_tree_is_a_peer_of_the_host_in_a_user_namespace() {
    for (root, _) in Propagation::ALL {
        let mut c = with_every_propagation(root);
        set(&mut c, "/linux/namespaces/-", json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
        set(&mut c, "/linux/uidMappings", map.clone());
        set(&mut c, "/linux/gidMappings", map);
        let trees = trees(&c);
        assert_eq!(trees.len(), 10, "the root and each mount");
        assert!(trees.iter().all(|(_, propagation)| !propagation.is_shared()), "{root}: {trees:?}");
    }
}

/// The flags of its step, and whether its tree comes with what is mounted below: the parent's to open, or the child's.
#[test]
fn a_scratch_root_in_a_user_namespace_has_its_tree_opened_outside_and_alone() {
    let mut c = scratch();
    set(&mut c, "/linux/namespaces/-", json!({"type": "user"}));
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 65536}]);
    set(&mut c, "/linux/uidMappings", map.clone());
    set(&mut c, "/linux/gidMappings", map);
    let text = c.to_string();
    let spec = Spec::parse(&text).unwrap();
    let plan = Plan::compile(&spec, &Host::example(), &options()).unwrap();
    let step = plan.steps.iter().find(|s| s.name() == "Scratch").unwrap();
    let Step::Scratch { from: Source::Tree(slot), flags, .. } = *step else { panic!("{step:?}") };
    assert_eq!(flags, step::scratch::USER_XATTR);
    let tree = &plan.slots[slot.0 as usize];
    assert!(
        matches!(tree, SlotSource::Tree { recursive: false, path, .. } if path == "/bundle/rootfs"),
        "{tree:?}"
    );
}

#[test]
fn a_process_joins_a_running_container() {
    let text = config().to_string();
    let spec = Spec::parse(&text).unwrap();
    let process = spec.process.clone().unwrap();
    let plan = Plan::exec(&spec, &process, &Host::example(), &options()).unwrap();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("exec", render::text(&plan));
    });
}

#[test]
fn a_path_that_is_named_twice_is_masked_once() {
    let mut c = config();
    set(&mut c, "/linux/maskedPaths", json!(["/proc/kcore", "/proc/./kcore/", "/proc/keys"]));
    set(&mut c, "/linux/readonlyPaths", json!(["/proc/sys", "/proc/sys"]));
    let text = compile(&c).unwrap().0;
    let count = |word: &str| text.lines().filter(|line| line.contains(word)).count();
    assert_eq!((count("maskedPaths"), count("readonlyPaths")), (2, 1), "{text}");
}

/// Where the lines with these words are in a plan, in order of the words.
fn lines(plan: &str, words: &[&str]) -> Vec<usize> {
    let line = |word: &&str| plan.lines().position(|line| line.contains(*word));
    words.iter().map(|word| line(word).unwrap_or_else(|| panic!("no {word} in {plan}"))).collect()
}

#[test]
fn labels_are_set_after_hooks_of_the_host_and_before_the_container_is_seen() {
    let mut c = config();
    set(&mut c, "/process/apparmorProfile", json!("web"));
    set(&mut c, "/process/selinuxLabel", json!("a:b:c"));
    set(&mut c, "/hooks", json!({"createContainer": [{"path": "/hook"}]}));
    let words = [
        "run hook /hook",
        "profile: web",
        "label the process a:b:c",
        "label its keys a:b:c",
        "pivot",
        "join session keyring",
        "no new privileges",
    ];
    let order = lines(&compile(&c).unwrap().0, &words);
    assert!(order.is_sorted(), "{order:?}");

    let text = c.to_string();
    let spec = Spec::parse(&text).unwrap();
    let plan = Plan::exec(&spec, spec.process.as_ref().unwrap(), &Host::example(), &options()).unwrap();
    let order =
        lines(&render::text(&plan), &["profile: web", "label the process a:b:c", "join pid+network+mount"]);
    assert!(order.is_sorted(), "{order:?}");
}

/// A volume may be a dead mount: who goes into it hangs, and whoever waits for him.
#[test]
fn who_has_other_work_waits_for_nobody_who_goes_into_a_volume() {
    let exec = |cwd: &str, may_wait, uid| {
        let mut c = config();
        set(&mut c, "/process/user/uid", json!(uid));
        set(&mut c, "/process/cwd", json!(cwd));
        set(&mut c, "/mounts/-", json!({"destination": "/data/", "source": "/srv", "options": ["rbind"]}));
        set(&mut c, "/mounts/-", json!({"destination": "/scratch", "type": "tmpfs", "source": "tmpfs"}));
        let text = c.to_string();
        let spec = Spec::parse(&text).unwrap();
        let options = Options { may_wait, ..options() };
        let plan = Plan::exec(&spec, spec.process.as_ref().unwrap(), &Host::example(), &options).unwrap();
        let steps: Vec<&str> = plan.steps.iter().map(|step| step.name()).collect();
        let born = steps.iter().position(|step| *step == "GoOnInChild").unwrap();
        steps
            .iter()
            .enumerate()
            .filter(|(_, step)| **step == "Cwd")
            .map(|(at, _)| at > born)
            .collect::<Vec<_>>()
    };
    for uid in [0, 1000] {
        for cwd in ["/data", "/data/", "/data/x/y", "/x/../data"] {
            assert_eq!(exec(cwd, false, uid), [true], "{cwd} as {uid}");
        }
        let before = if uid == 0 { vec![false] } else { vec![false, false] };
        for (cwd, may_wait) in [("/data", true), ("/", false), ("/database", false), ("/scratch/x", false)] {
            assert_eq!(exec(cwd, may_wait, uid), before, "{cwd} as {uid}");
        }
    }
}

/// The keel answers nobody while it waits for a child to be born; who creates one container may wait as long as it takes.
#[test]
fn who_has_other_work_waits_a_second_for_a_child_in_joined_users() {
    for (may_wait, expected) in [(true, 30_000), (false, 1_000)] {
        let mut c = config();
        c["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "user", "path": "/proc/1/ns/user"}));
        let text = c.to_string();
        let options = Options { may_wait, ..options() };
        let spec = Spec::parse(&text).unwrap();
        let plan = Plan::compile(&spec, &Host::example(), &options).unwrap();
        let waits = plan.steps.iter().find_map(|step| match step {
            Step::GoOnInChild { wait_ms } => Some(*wait_ms),
            _ => None,
        });
        assert_eq!(waits, Some(expected));
    }
}

/// Whoever has CAP_SYS_PTRACE in there would go through /proc/PID/root of one who has not left the host, and would have the
/// rights of one who has not given them up.
#[test]
fn a_process_is_born_in_a_pid_namespace_when_it_has_left_the_host_and_become_its_user() {
    for (user_namespace, may_wait, uid) in
        [(false, false, 0), (false, true, 0), (false, true, 1000), (true, true, 0), (true, true, 1000)]
    {
        let mut c = config();
        set(&mut c, "/process/terminal", json!(true));
        set(&mut c, "/process/user/uid", json!(uid));
        set(
            &mut c,
            "/process/scheduler",
            json!({"policy": "SCHED_RR", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
        );
        if user_namespace {
            c["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            c["linux"]["uidMappings"] = map.clone();
            c["linux"]["gidMappings"] = map;
        }
        let text = c.to_string();
        let spec = Spec::parse(&text).unwrap();
        let options = Options { may_wait, ..options() };
        let plan = Plan::exec(&spec, spec.process.as_ref().unwrap(), &Host::example(), &options).unwrap();
        let steps: Vec<&str> = plan.steps.iter().map(|step| step.name()).collect();
        let after: Vec<&str> = steps.iter().copied().skip_while(|step| *step != "GoOnInChild").collect();
        if user_namespace {
            assert_eq!(after[1], "BecomeRoot");
            assert!(!steps.contains(&"OneMoreProcess"));
        } else {
            // Of these the user may do each.
            let rest = [
                "GoOnInChild",
                "Scheduler",
                "Session",
                "ControllingTerminal",
                "CloseOnExec",
                "Home",
                "Find",
                "Exec",
            ];
            assert_eq!(after, rest, "{steps:?}");
            assert_eq!(steps.contains(&"OneMoreProcess"), uid != 0);
        }
        let resets: Vec<bool> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Scheduler { flags, .. } => Some(flags & 1 == 1),
                _ => None,
            })
            .collect();
        assert_eq!(resets, if user_namespace { vec![true] } else { vec![false, true] });
        assert!(!steps.contains(&"Enter"));
    }
}

#[test]
fn a_mount_label_is_an_option_of_file_systems_that_have_files_of_their_own() {
    let mut c = config();
    set(&mut c, "/linux/mountLabel", json!("a:b:c:s0:c1,c2"));
    let text = compile(&c).unwrap().0;
    let labelled: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("context=a:b:c:s0:c1,c2"))
        .filter_map(|line| line.split(" on ").nth(1)?.split(' ').next())
        .collect();
    assert_eq!(labelled, ["/dev", "/dev/pts", "/dev/shm", "/sys/fs/cgroup"], "{text}");
}

/// config-linux.md, Cgroup ownership.
#[test]
fn a_group_goes_to_its_user_where_it_can_be_used() {
    let owner = |host: &Host, change: &dyn Fn(&mut Value)| {
        let mut config = config();
        config["process"]["user"]["uid"] = 7.into();
        config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 10 }]);
        config["linux"]["gidMappings"] = config["linux"]["uidMappings"].clone();
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.extend([json!({ "type": "user" }), json!({ "type": "cgroup" })]);
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup");
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] }));
        change(&mut config);
        let text = config.to_string();
        let spec = Spec::parse(&text).unwrap();
        Plan::compile(&spec, host, &Options::default()).unwrap().parent.cgroup_owner
    };
    let both = Host::example();
    let mut v2 = Host::example();
    v2.cgroups.retain(|group| group.version == Version::V2);
    assert_eq!(owner(&v2, &|_| ()), Some(100_007));
    assert_eq!(owner(&both, &|_| ()), None, "v1 is in use");
    assert_eq!(owner(&Host { privileged: false, ..v2.clone() }, &|_| ()), None, "whoever makes it has it");
    let mounts = |config: &mut Value| config["mounts"].as_array_mut().unwrap().pop();
    assert_eq!(owner(&v2, &|config| drop(mounts(config))), None, "nobody sees it");
    let read_only = |config: &mut Value| {
        let mut mount = mounts(config).unwrap();
        mount["options"] = json!(["ro"]);
        config["mounts"].as_array_mut().unwrap().push(mount);
    };
    assert_eq!(owner(&v2, &read_only), None, "it is read-only");
    let without = |config: &mut Value| drop(config["linux"]["namespaces"].as_array_mut().unwrap().pop());
    assert_eq!(owner(&v2, &without), None, "its root is the host's");
}

#[test]
fn json_says_the_same_as_text() {
    let text = config().to_string();
    let spec = Spec::parse(&text).unwrap();
    let plan = Plan::compile(&spec, &Host::example(), &options()).unwrap();
    let json = render::json(&plan);
    let steps = json["steps"].as_array().unwrap();
    assert_eq!(steps.len(), plan.steps.len());
    let lines = render::text(&plan);
    for step in steps {
        assert!(lines.contains(step["does"].as_str().unwrap()), "{step}");
    }
}

#[test]
fn every_step_has_words() {
    let text = config().to_string();
    let spec = Spec::parse(&text).unwrap();
    let plan = Plan::compile(&spec, &Host::example(), &options()).unwrap();
    let reader = render::reader(&plan).unwrap();
    for step in sampan_child::step::Step::every() {
        assert!(!reader.words(step).is_empty(), "{step:?}");
    }
}

#[test]
fn a_process_of_the_host_is_a_short_plan() {
    let process = sampan_plan::host_process::HostProcess {
        argv: vec!["notify", "web failed"],
        env: vec!["PATH=/opt/bin:/bin"],
        user: Some((33, 33)),
        umask: Some(0o022),
        overseen: true,
        ..Default::default()
    };
    let plan = sampan_plan::host_process::host(&process).unwrap();
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("host-process", render::text(&plan));
    });
}

/// The plan of examples/hello, on a host of cgroup v2 alone.
fn plan_of_hello() -> String {
    let config = include_str!("../../../examples/hello/config.json");
    let spec = Spec::parse(config).unwrap();
    let options = Options { id: "plan".to_owned(), bundle: "/srv/hello".to_owned(), ..options() };
    let group = Cgroup { version: Version::V2, mount: "/sys/fs/cgroup".to_owned(), path: "plan".to_owned() };
    let host = Host { cgroups: vec![group], ..Host::example() };
    render::text(&Plan::compile(&spec, &host, &options).unwrap())
}

/// What stands in a page below the command `sampan plan /srv/hello`, up to the next command or the end of the example.
fn shown_in(page: &str) -> Vec<&str> {
    let below = page.lines().skip_while(|line| !line.starts_with("# sampan plan /srv/hello")).skip(1);
    below.take_while(|line| !line.starts_with("# ") && *line != "```").filter(|line| *line != "...").collect()
}

#[test]
fn the_documents_show_the_plan_of_examples_hello_as_it_is() {
    let plan = plan_of_hello();
    for (name, page) in [
        ("README.md", include_str!("../../../README.md")),
        ("tour.md", include_str!("../../../docs/tour.md")),
    ] {
        let shown = shown_in(page);
        assert!(!shown.is_empty(), "{name} shows no plan of /srv/hello");
        let mut rest = plan.lines();
        for line in shown {
            assert!(
                rest.any(|l| l == line),
                "{name}: not a line of the plan, or not in its order: {line}\n{plan}"
            );
        }
    }
}

#[test]
fn attach_runs_beside_the_mounts_unless_somebody_is_to_see_them() {
    let words = |change: &[(&str, Value)]| {
        let mut config = config();
        change.iter().for_each(|(pointer, value)| set(&mut config, pointer, value.clone()));
        let text = config.to_string();
        let spec = Spec::parse(&text).unwrap();
        let options = Options { attach: true, ..options() };
        let shown = render::text(&Plan::compile(&spec, &Host::example(), &options).unwrap());
        let at = |word: &str| shown.lines().position(|line| line.contains(word));
        (
            at("report: in its namespaces and groups"),
            at("report: mounted"),
            at("wait for hooks and network"),
            at("pivot"),
        )
    };
    let (joined, mounted, gate, pivot) = words(&[]);
    assert!(joined.is_some() && joined < gate && gate < pivot && mounted.is_none());
    let hook = json!([{ "path": "/bin/true" }]);
    for change in [
        ("/hooks", json!({ "createRuntime": hook })),
        ("/hooks", json!({ "prestart": hook })),
        // What an interface begins with that comes later.
        ("/linux/sysctl", json!({ "net.ipv4.conf.default.rp_filter": "2" })),
    ] {
        let (joined, mounted, gate, pivot) = words(std::slice::from_ref(&change));
        assert!(mounted.is_some() && mounted < gate && gate < pivot && joined.is_none(), "{change:?}");
    }
    assert!(words(&[("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "0" }))]).0.is_some());
}

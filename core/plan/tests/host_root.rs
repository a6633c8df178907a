//! Plans on the host's own root.

use crate::plans::options;
use sampan_plan::host::{HostRoot, Resolver};
use sampan_plan::slots::SlotSource;
use sampan_plan::{Host, Plan, Spec, render};
use serde_json::{Value, json};

/// The config that services start from, on the host's root.
fn config() -> Value {
    let mut config = serde_json::to_value(sampan_plan::default::spec()).unwrap();
    config["root"] = json!({"path": "/", "readonly": true});
    config
}

fn host() -> Host {
    let root = HostRoot {
        links: vec![("bin".into(), "usr/bin".into())],
        folders: vec!["/etc".into(), "/usr".into(), "/usr/local".into()],
        resolver: Some(Resolver {
            link: "/run/systemd/resolve/stub-resolv.conf".into(),
            file: "/run/systemd/resolve/stub-resolv.conf".into(),
            upstream: Some("/run/systemd/resolve/resolv.conf".into()),
        }),
        closed: vec![],
    };
    Host { root: Some(root), ..Host::example() }
}

/// The lines of the plan about the root, and its warnings; or the error.
fn compile(config: &Value, host: &Host) -> Result<(Vec<String>, Vec<String>), String> {
    let text = config.to_string();
    let spec = Spec::parse(&text).map_err(|e| e.to_string())?;
    let plan = Plan::compile(&spec, host, &options()).map_err(|e| e.to_string())?;
    // No tree of the host comes in without the map, or could be followed by what the host mounts later.
    for want in &plan.slots {
        if let SlotSource::Tree { path, idmap, propagation, recursive, .. } = want {
            let mapped =
                idmap.as_ref().is_some_and(|map| map.is_same_map(&sampan_plan::host_root::nobodys()));
            assert!(mapped && !recursive && propagation.name() == "rprivate", "{path}");
        }
    }
    let lines = render::text(&plan);
    let of_root = lines.lines().filter(|line| line.contains("root.path")).map(|line| {
        let words = line.split_once("  ").map_or(line, |(_, words)| words);
        words.trim().trim_end_matches("root.path").trim_end().to_owned()
    });
    Ok((of_root.collect(), plan.warnings))
}

fn binds(config: &Value) -> Vec<String> {
    let (lines, _) = compile(config, &host()).unwrap();
    lines.into_iter().filter_map(|l| l.find("bind /").map(|at| l[at..].to_owned())).collect()
}

#[test]
fn each_folder_is_bound_by_itself_and_mapped() {
    let set = "[ro,nosuid,nodev,idmap]";
    let stub = "/run/systemd/resolve/stub-resolv.conf";
    assert_eq!(
        binds(&config()),
        [
            format!("bind /etc on /etc {set}"),
            format!("bind /usr on /usr {set}"),
            format!("bind /usr/local on /usr/local {set}"),
            // 127.0.0.53 is not reached from another network namespace.
            format!("bind /run/systemd/resolve/resolv.conf on {stub} {set}"),
        ]
    );
    let mut shared = config();
    let namespaces = shared["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|ns| ns["type"] != "network");
    shared["linux"]["sysctl"] = json!({});
    assert!(binds(&shared).contains(&format!("bind {stub} on {stub} {set}")));
}

#[test]
fn the_resolver_gives_way_to_what_the_config_mounts_there() {
    for (destination, kind, shown) in [
        ("/run", "tmpfs", true),
        ("/run", "bind", false),
        ("/run/systemd", "bind", false),
        ("/etc/resolv.conf", "bind", false),
        ("/etc", "bind", false),
        ("/srv", "bind", true),
        ("/run/systemd/resolve-not", "bind", true),
    ] {
        let mut config = config();
        let mount = json!({"destination": destination, "type": kind, "source": "/x"});
        config["mounts"].as_array_mut().unwrap().push(mount);
        let is_shown = binds(&config).iter().any(|bind| bind.contains("resolv.conf on"));
        assert_eq!(is_shown, shown, "{kind} on {destination}");
    }
}

#[test]
fn a_scratch_root_has_a_copy_of_etc() {
    let mut config = config();
    config["root"]["readonly"] = json!(false);
    config["annotations"] = json!({"org.sampan.rootfs.mode": "scratch"});
    let (lines, _) = compile(&config, &host()).unwrap();
    let copied = "mount tmpfs on /etc [nosuid,nodev,mode=0755,a copy of what others may read there]";
    assert!(lines.iter().any(|line| line.contains(copied)), "{lines:#?}");
}

#[test]
fn it_is_shown_read_only_and_by_the_hosts_root_alone() {
    let mut writable = config();
    writable["root"]["readonly"] = json!(false);
    let error = compile(&writable, &host()).unwrap_err();
    assert!(
        error.starts_with("root.readonly: must be true: the host's own root is shown read-only"),
        "{error}"
    );
    for host in [Host { privileged: false, ..host() }, Host { in_user_namespace: true, ..host() }] {
        let error = compile(&config(), &host).unwrap_err();
        assert!(
            error.starts_with("root.path: the host's own root is shown through id-mapped mounts"),
            "{error}"
        );
    }
}

#[test]
fn capabilities_that_void_it_are_warned_of() {
    let mut config = config();
    assert_eq!(compile(&config, &host()).unwrap().1, Vec::<String>::new());
    let bounding = config["process"]["capabilities"]["bounding"].as_array_mut().unwrap();
    bounding.extend([json!("CAP_DAC_READ_SEARCH"), json!("CAP_SYS_ADMIN"), json!("CAP_NET_ADMIN")]);
    let warning = |name| {
        format!("process.capabilities: with {name} the container can read what the host's own root hides")
    };
    assert_eq!(
        compile(&config, &host()).unwrap().1,
        [warning("CAP_DAC_READ_SEARCH"), warning("CAP_SYS_ADMIN")]
    );
}

/// What went wrong: a kernel had a file for root alone that the list of masked paths did not know.
#[test]
fn what_only_root_may_read_of_proc_is_masked_once() {
    let masks = |root: HostRoot| {
        let config = config().to_string();
        let spec = Spec::parse(&config).unwrap();
        let plan = Plan::compile(&spec, &Host { root: Some(root), ..host() }, &options()).unwrap();
        let lines = render::text(&plan);
        lines.lines().filter_map(|line| line.split_once("mask ")).map(|(_, path)| path.to_owned()).collect()
    };
    let root = host().root.unwrap();
    let before: Vec<String> = masks(root.clone());
    let closed = ["/proc/kmsg", "/proc/of-a-new-kernel"].map(str::to_owned).to_vec();
    let after = masks(HostRoot { closed, ..root });
    let new: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    assert!(after.len() == before.len() + 1 && new[0].starts_with("/proc/of-a-new-kernel"), "{new:?}");
}

//! Services as bundles: what config.json says for what config.toml asks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod filled;
mod images;
mod real;
mod rights;
mod stores;

use std::path::Path;

use sampan_bundle::{self as bundle, Built, Request};
use sampan_config::Config;
use serde_json::{Value, json};

use sampan_testkit::Folder;

/// A rootfs with users, and a service `web` with `keys` on it.
fn build(keys: &str) -> Built {
    let folder =
        rootfs(Folder::new()).with("config.toml", &format!("[services.web]\nrootfs = \"root\"\n{keys}\n"));
    of(&folder)
}

fn rootfs(folder: Folder) -> Folder {
    folder
        .with("root/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/srv/www:/bin/sh\n")
        .with("root/etc/group", "root:x:0:\nwww:x:34:\nlogs:x:40:root,www\n")
        .with("root/tmp/.keep", "")
        .with("root/dev/.keep", "")
        .with("root/proc/.keep", "")
        .with("root/sys/.keep", "")
}

fn of(folder: &Folder) -> Built {
    match try_of(folder) {
        Ok(built) => built,
        Err(e) => panic!("{e}"),
    }
}

fn config(folder: &Folder, file: &str) -> Config {
    let loaded = sampan_config::load(&[folder.path(file)], &|_| None, &sampan_config::Builtin::default());
    match loaded {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{}", sampan_config::diagnostic::render(&errors, false)),
    }
}

fn try_of(folder: &Folder) -> Result<Built, bundle::Error> {
    let config: Config = config(folder, "config.toml");
    let service = &config.services["web"];
    // What is looked at travels as JSON.
    let travel = |look: &bundle::Look| serde_json::from_str(&serde_json::to_string(look).unwrap()).unwrap();
    let facts =
        bundle::look(&travel(&bundle::Look::of(service, &folder.path("run"), &folder.path("var"))), &|_| ())?;
    let facts = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
    bundle::build(&Request { service, cgroup_parent: "/sampan", joined: &[], stored: &[] }, &facts)
}

#[track_caller]
fn check(keys: &str, pointer: &str, expected: Value) {
    let built = build(keys);
    assert_eq!(built.spec.pointer(pointer).cloned().unwrap_or(Value::Null), expected, "{pointer} of {keys}");
}

const RUN: &str = "command = [\"true\"]";

fn run(keys: &str) -> String {
    format!("{RUN}\n{keys}")
}

#[test]
fn the_default_spec_is_one_that_oci_spec_reads() {
    let spec = build(RUN).spec;
    let read: oci_spec::runtime::Spec = serde_json::from_value(spec.clone()).unwrap();
    assert_eq!(read.hostname().as_deref(), Some("web"));
    let path = read.root().as_ref().unwrap().path().display().to_string();
    // docker's profile is data, and tested where it is compiled.
    let mut shown = spec.clone();
    let rules = shown["linux"]["seccomp"].as_object_mut().unwrap().remove("syscalls").unwrap();
    assert!(rules.as_array().unwrap().len() > 5);
    // And so is what this machine's kernel has for root alone beside those that are known.
    let masked = shown["linux"]["maskedPaths"].as_array_mut().unwrap();
    masked.retain(|path| sampan_plan::default::MASKED_PATHS.contains(&path.as_str().unwrap()));
    let text = format!("{shown:#}\n").replace(&path, "ROOT");
    // The rest of the limits is this machine's.
    let (before, after) = text.split_once("\"rlimits\"").unwrap();
    let after = after.split_once("]").unwrap().1;
    insta::assert_snapshot!(format!("{before}\"rlimits\": []{after}"));
}

#[test]
fn sampan_itself_reads_it_back_the_same() {
    let text = build(RUN).spec.to_string();
    let spec = sampan_plan::spec::Spec::parse(&text).unwrap();
    assert_eq!(spec.process.unwrap().args[0].as_str(), "true");
}

#[test]
fn entrypoint_goes_before_command() {
    check("entrypoint = \"a 'b c'\"\ncommand = [\"d\"]", "/process/args", json!(["a", "b c", "d"]));
}

#[test]
fn environment_is_over_path_and_home() {
    let keys = run("environment = { PATH = \"/bin\", TZ = \"UTC\" }");
    check(&keys, "/process/env", json!(["PATH=/bin", "HOME=/root", "TZ=UTC"]));
}

#[test]
fn of_the_environment_only_what_says_of_sockets_is_ours() {
    let keys = run("sockets = [{ listen = \"tcp:127.0.0.1:80\" }]\n\
                    environment = { LISTEN_PORT = \"80\", LISTEN_PID = \"7\", LISTEN_PIDFDID = \"9\" }");
    let env = build(&keys).spec["process"]["env"].clone();
    let env: Vec<&str> = env.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect();
    let mut listen: Vec<&str> = env.into_iter().filter(|entry| entry.starts_with("LISTEN_")).collect();
    listen.sort_unstable();
    assert_eq!(listen, ["LISTEN_FDNAMES=web", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_PORT=80"]);
}

#[test]
fn a_user_by_name_has_its_groups_and_home() {
    let keys = run("user = \"www\"");
    check(&keys, "/process/user", json!({ "uid": 33, "gid": 34, "additionalGids": [40] }));
    let env = build(&keys).spec["process"]["env"].clone();
    assert!(env.as_array().unwrap().contains(&json!("HOME=/srv/www")));
}

#[test]
fn a_user_by_number_is_looked_up_too() {
    check(&run("user = 33"), "/process/user", json!({ "uid": 33, "gid": 34, "additionalGids": [40] }));
}

#[test]
fn a_group_that_is_named_is_the_only_one() {
    check(&run("user = \"www:logs\""), "/process/user", json!({ "uid": 33, "gid": 40 }));
}

#[test]
fn a_user_that_is_not_there_is_named() {
    let toml = format!("[services.web]\nrootfs = \"root\"\nuser = \"mail\"\n{RUN}\n");
    let error = try_of(&rootfs(Folder::new()).with("config.toml", &toml)).unwrap_err().to_string();
    assert!(
        error.contains("no user mail in /etc/passwd\n  name a user of the rootfs, or write numbers"),
        "{error}"
    );
}

#[test]
fn passwd_is_the_rootfs_own_whatever_it_links_to() {
    let toml = format!("[services.web]\nrootfs = \"root\"\nuser = \"mail\"\n{RUN}\n");
    let folder = Folder::new().with("outside", "mail:x:8:8::/:/bin/sh\n").with("config.toml", &toml);
    std::fs::create_dir_all(folder.path("root/etc")).unwrap();
    for target in [folder.path("outside"), "../../outside".into(), "/proc/self/root/etc/passwd".into()] {
        let link = folder.path("root/etc/passwd");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&target, link).unwrap();
        let error = try_of(&folder).unwrap_err().to_string();
        assert!(error.contains("no user mail in /etc/passwd"), "{target:?}: {error}");
    }
}

/// What goes back to the worker, whose loop must not be held: whatever an image's files say, it is short.
#[test]
fn an_image_s_users_travel_resolved() {
    let toml = format!("[services.web]\nrootfs = \"root\"\nuser = \"www\"\n{RUN}\n");
    let www = "www:x:33:34::/srv/www:/bin/sh\n";
    let long = |line: &str| line.repeat((3 << 20) / line.len());
    let named_in_many: String = (0..100_000).map(|id| format!("g:x:{id}:www\n")).collect();
    let cases = [
        (long("a:x:1:1::/:\n") + www, long("a:x:1:\n"), Ok("")),
        (www.into(), long("g:x:7:www\n"), Ok("")),
        (www.into(), named_in_many, Err("is in more groups than a process can have (65536)")),
        (format!("www:x:33:34::/{}:\n", long("h")), "".into(), Err("home is longer than a path can be")),
        (format!("www:x:{}:34::/:\n", long("h")), "".into(), Err("www has no number in /etc/passwd")),
        (www.into(), long("a:x:1:\n").repeat(2), Err("etc/group: larger than 4 MiB")),
    ];
    for (passwd, group, expected) in cases {
        let folder = Folder::new().with("root/etc/passwd", &passwd).with("root/etc/group", &group);
        let folder = folder.with("config.toml", &toml);
        let looked = bundle::look(
            &bundle::Look::of(
                &config(&folder, "config.toml").services["web"],
                &folder.path("run"),
                &folder.path("var"),
            ),
            &|_| (),
        );
        match (looked, expected) {
            (Ok(facts), Ok(_)) => assert!(serde_json::to_string(&facts).unwrap().len() < 1024),
            (Err(error), Err(part)) => {
                let text = error.to_string();
                assert!(
                    text.contains(part) && text.contains("web: user: ") && text.len() < 1024,
                    "{part}: {text:.999}"
                )
            }
            (looked, expected) => panic!("{expected:?}: {}", looked.is_ok()),
        }
    }
}

/// The name of a user that was asked for by number is the image's, and is not repeated.
#[test]
fn an_entry_without_numbers_is_told_by_what_the_config_says() {
    let toml = format!("[services.web]\nrootfs = \"root\"\nuser = 33\n{RUN}\n");
    let folder =
        Folder::new().with("root/etc/passwd", "\u{1b}[2J:x:33:many::/:\n").with("config.toml", &toml);
    let error = try_of(&folder).unwrap_err().to_string();
    assert!(error.contains("33 has no number") && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn drop_comes_before_add() {
    let keys = run("cap_drop = [\"ALL\"]\ncap_add = [\"net_bind_service\", \"CAP_KILL\"]");
    check(&keys, "/process/capabilities/bounding", json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]));
}

#[test]
fn nothing_is_ambient_or_inheritable() {
    check(RUN, "/process/capabilities/ambient", Value::Null);
    check(RUN, "/process/capabilities/inheritable", Value::Null);
}

#[test]
fn limits_become_resources() {
    let keys = run("resources = { cpus = 1.5, cpu_weight = 200, memory = \"64M\", pids = 0 }");
    check(&keys, "/linux/resources/cpu/quota", json!(150_000));
    check(&keys, "/linux/resources/memory/limit", json!(64 << 20));
    check(&keys, "/linux/resources/pids/limit", json!(-1));
    let shares = build(&keys).spec["linux"]["resources"]["cpu"]["shares"].as_u64().unwrap();
    assert_eq!(sampan_cgroups::limits::weight(shares), 200);
}

#[test]
fn a_live_change_takes_limits_back_too() {
    let of = |keys: &str| {
        let folder =
            Folder::new().with("c.toml", &format!("[services.web]\nrootfs = \"/\"\n{RUN}\n{keys}\n"));
        bundle::live_resources(&config(&folder, "c.toml").services["web"].resources, &|_| false)
    };
    let none = of("");
    assert_eq!(none["memory"]["limit"], -1);
    assert_eq!(none["cpu"]["quota"], -1);
    assert_eq!(none["cpu"]["shares"], 1024);
    assert_eq!(of("resources.memory = \"1M\"")["memory"]["limit"], 1 << 20);
    let text = none.to_string();
    sampan_plan::spec::Resources::parse(&text).unwrap();
}

#[test]
fn a_read_only_root_has_somewhere_to_write() {
    let tmp =
        |built: &Built| built.spec["mounts"].as_array().unwrap().iter().any(|m| m["destination"] == "/tmp");
    assert!(tmp(&build(RUN)));
}

/// Nothing is made in a root that is read-only: what the container needs there is there, or it is said.
#[test]
fn a_ro_root_has_what_is_mounted_in_it() {
    let of = |mode: &str, keys: &str| {
        let toml = format!(
            "[services.web]\nrootfs = {{ path = \"root\", mode = \"{mode}\" }}\ncommand = \"true\"\n{keys}\n"
        );
        let folder = rootfs(Folder::new()).with("root/srv/file", "").with("config.toml", &toml);
        std::os::unix::fs::symlink("/nothing", folder.path("root/link")).unwrap();
        (try_of(&folder), folder)
    };
    let lacks = [
        ("working_dir = \"/data\"", "working_dir", "/data"),
        ("tmpfs = \"/srv/a/b\"", "tmpfs", "/srv/a/b"),
        ("volumes = [\"/etc:/data/x\"]", "volumes", "/data/x"),
        ("volumes = [\"/etc:/run/x\"]", "volumes", "/run/x"),
    ];
    for (keys, key, path) in lacks {
        let (built, folder) = of("ro", keys);
        let (error, root) = (built.unwrap_err(), folder.path("root"));
        let hint = format!("make it (mkdir -p {}{path}), or rootfs.mode = \"scratch\"", root.display());
        let text = format!(
            "web: {key}: cannot use the rootfs {}: it has no {path}, and is read-only\n  {hint}",
            root.display()
        );
        assert_eq!(error.to_string(), text);
        for mode in ["rw", "scratch"] {
            assert!(of(mode, keys).0.is_ok(), "{mode}: {keys}");
        }
    }
    // What is there; in a mount of its own; behind links, which the kernel knows better.
    let there = [
        "working_dir = \"/etc\"\nvolumes = [\"/etc:/srv\", \"/etc/passwd:/srv/file\"]",
        "tmpfs = [\"/srv\"]\nworking_dir = \"/srv/a\"\nvolumes = [\"/etc:/srv/b/c\", \"/etc:/tmp/x\"]",
        "volumes = [\"/etc:/srv\"]\nworking_dir = \"/srv/a\"",
        "working_dir = \"/link/x\"",
        "working_dir = \"/etc/passwd/x\"",
    ];
    for keys in there {
        assert!(of("ro", keys).0.is_ok(), "{keys}: {:?}", of("ro", keys).0);
    }
}

#[test]
fn files_of_the_network_are_mounted_over_where_that_can_be_and_nobody_else_does() {
    let all = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    assert_eq!(build(&run("read_only = false")).network_files, all, "what is not there is made");
    assert_eq!(build(&run("")).network_files, [""; 0], "nothing is made in a root that is not written to");
    let folder = rootfs(Folder::new())
        .with("root/etc/hosts", "")
        .with("b/config.json", "{\"root\": {\"path\": \"../root\"}}");
    std::os::unix::fs::symlink("../run/not/there", folder.path("root/etc/resolv.conf")).unwrap();
    let with = |keys: &str| {
        std::fs::write(folder.path("config.toml"), format!("[services.web]\n{keys}\n")).unwrap();
        of(&folder).network_files
    };
    assert_eq!(
        with(&run("rootfs = \"root\"")),
        ["/etc/hosts", "/etc/resolv.conf"],
        "a link leads somewhere by then"
    );
    let volumes = run("rootfs = \"root\"\nvolumes = [\"/etc/hosts:/etc/hosts\"]");
    assert_eq!(with(&volumes), ["/etc/resolv.conf"]);
    assert_eq!(with(&run("rootfs = \"root\"\nvolumes = [\"/srv:/etc\"]")), [""; 0]);
    assert_eq!(with("bundle = \"b\""), all);
    assert_eq!(with(&run("rootfs = { path = \"root\", mode = \"scratch\" }")), all);
    assert!(with(&run("rootfs = \"host\"")).contains(&"/etc/hosts".to_owned()));
}

#[test]
fn every_container_has_proc_and_sys() {
    let toml = format!("[services.web]\nrootfs = \"root\"\n{RUN}\n");
    let folder = rootfs(Folder::new()).with("config.toml", &toml);
    std::fs::remove_dir_all(folder.path("root/proc")).unwrap();
    let error = try_of(&folder).unwrap_err();
    assert_eq!(error.key, "rootfs.mode");
    assert!(error.to_string().contains("it has no /proc, and is read-only"), "{error}");
}

#[test]
fn rw_leaves_the_root_alone() {
    let toml = format!("[services.web]\nrootfs = {{ path = \"root\", mode = \"rw\" }}\n{RUN}\n");
    let built = of(&rootfs(Folder::new()).with("config.toml", &toml));
    assert_ne!(built.spec["root"]["readonly"], json!(true));
    assert!(!built.spec["mounts"].as_array().unwrap().iter().any(|m| m["destination"] == "/tmp"));
}

#[test]
fn scratch_is_an_annotation_and_the_hosts_is_hidden_as_ever() {
    let of = |root: &str| {
        let toml = format!("[services.web]\nrootfs = {{ path = \"{root}\", mode = \"scratch\" }}\n{RUN}\n");
        of(&rootfs(Folder::new()).with("config.toml", &toml)).spec
    };
    let on_tmp = |spec: &Value| spec["mounts"].as_array().unwrap().iter().any(|m| m["destination"] == "/tmp");
    let own = of("root");
    assert_ne!(own["root"]["readonly"], json!(true));
    assert_eq!(own["annotations"]["org.sampan.rootfs.mode"], "scratch");
    assert_eq!(own["annotations"]["org.sampan.service"], "web");
    assert!(!on_tmp(&own), "its /tmp is the root's, and as writable");
    let asked = sampan_plan::scratch::asked(&sampan_plan::Spec::parse(&own.to_string()).unwrap());
    assert_eq!(asked.unwrap(), sampan_plan::scratch::RootMode::Scratch);
    let host = of("/");
    assert!(on_tmp(&host), "what others have in /tmp is not for it");
}

#[test]
fn host_is_read_only_and_the_hosts_root_by_whatever_name() {
    for name in ["host", "/", "/etc/..", "/proc/self/root"] {
        let toml = format!("[services.web]\nrootfs = \"{name}\"\n{RUN}\n");
        let spec = of(&Folder::new().with("config.toml", &toml)).spec;
        assert_eq!(spec["root"], json!({ "path": "/", "readonly": true }), "{name}");
    }
}

#[test]
fn volumes_are_bound_outer_first() {
    let folder = rootfs(Folder::new()).with("data/x", "").with("root/a/.keep", "").with(
        "config.toml",
        &format!("[services.web]\nrootfs = \"root\"\n{RUN}\nvolumes = [\"./data:/a/b:ro\", {{ source = \"data\", target = \"/a\", options = [\"bind\", \"exec\"] }}]\n")
            .replace("source = \"data\"", "source = \"./data\""),
    );
    let spec = of(&folder).spec;
    let mounts = spec["mounts"].as_array().unwrap();
    let ours: Vec<&Value> = mounts.iter().filter(|m| m["type"] == "bind").collect();
    assert_eq!(ours[0]["destination"], "/a");
    assert_eq!(ours[0]["options"], json!(["rprivate", "nosuid", "nodev", "bind", "exec"]));
    assert_eq!(ours[1]["options"], json!(["rbind", "rprivate", "nosuid", "nodev", "rro"]));
    assert_eq!(ours[1]["source"], json!(folder.path("data")));
}

#[test]
fn create_makes_the_folder() {
    let folder = rootfs(Folder::new()).with("root/d/.keep", "").with(
        "config.toml",
        &format!("[services.web]\nrootfs = \"root\"\n{RUN}\nvolumes = [{{ source = \"./new/er\", target = \"/d\", create = true }}]\n"),
    );
    of(&folder);
    assert!(folder.path("new/er").is_dir());
}

#[test]
fn a_networks_namespace_is_new_unless_it_is_the_hosts() {
    let has = |keys: &str| {
        build(&run(keys)).spec["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .contains(&json!({ "type": "network" }))
    };
    assert!(has(""));
    assert!(has("network_mode = \"none\""));
    assert!(!has("network_mode = \"host\""));
    check(&run("network_mode = \"host\""), "/linux/sysctl", json!({}));
}

#[test]
fn a_bundle_keeps_what_the_service_does_not_name() {
    let config = json!({
        "ociVersion": "1.0.2",
        "process": { "args": ["old"], "cwd": "/old", "env": ["A=1", "B=2"], "user": { "uid": 7, "gid": 7 } },
        "root": { "path": "files" },
        "mounts": [{ "destination": "/data", "type": "tmpfs", "source": "x" }],
        "linux": { "namespaces": [{ "type": "mount" }], "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" } },
        "x-unknown": [1, 2],
    });
    let folder = Folder::new()
        .with("b/config.json", &config.to_string())
        .with("b/files/etc/group", "")
        .with(
            "config.toml",
            "[defaults]\nuser = \"1:1\"\nresources.memory = \"1G\"\n[services.web]\nbundle = \"b\"\nenvironment.B = \"3\"\nresources.pids = 9\n",
        );
    let spec = of(&folder).spec;
    assert_eq!(spec["process"]["args"], json!(["old"]));
    assert_eq!(spec["process"]["cwd"], "/old");
    assert_eq!(spec["process"]["env"], json!(["A=1", "B=3"]));
    assert_eq!(spec["process"]["user"], json!({ "uid": 7, "gid": 7 }), "[defaults] do not reach a bundle");
    assert_eq!(spec["linux"]["resources"], json!({ "pids": { "limit": 9 } }));
    assert_eq!(spec["linux"]["namespaces"], json!([{ "type": "mount" }]));
    assert_eq!(spec["linux"]["seccomp"], config["linux"]["seccomp"]);
    assert_eq!(spec["root"]["path"], json!(folder.path("b/files")));
    assert_eq!(spec["x-unknown"], json!([1, 2]));
    assert_eq!(spec["linux"]["cgroupsPath"], "/sampan/web");
}

#[test]
fn it_is_written_where_the_service_has_its_place() {
    let folder = Folder::new();
    let written =
        bundle::write(&folder.0, "web", &json!({ "a": 1 }), &bundle::text(&json!({ "a": 1 }))).unwrap();
    assert_eq!(written, folder.path("bundles/web"));
    assert_eq!(std::fs::read_to_string(written.join("config.json")).unwrap(), "{\n  \"a\": 1\n}\n");
    bundle::remove(&folder.0, "web").unwrap();
    bundle::remove(&folder.0, "web").unwrap();
    assert!(!Path::new(&written).exists());
}

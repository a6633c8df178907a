//! Mounts with an id map: whom files belong to, seen from inside.
//!
//! The rules are those of runc's suite (tests/integration/idmap.bats), each case with the test of the same behaviour:
//!
//! | case, with and without a user namespace | test |
//! |---|---|
//! | simple; relative path | `owners_are_shown_by_the_mounts_own_map` |
//! | write to | `what_is_made_in_it_belongs_on_disk_to_whom_the_map_says_and_without_a_line_nothing_is_made` |
//! | with propagation flag | `a_mapped_mount_takes_the_other_options_too` |
//! | with bind mount; two (same mapping) with two bind mounts; same and multiple (different mappings); complicated mapping | `a_map_is_of_one_mount_and_not_of_its_source`, `mounts_with_the_same_map_and_with_others_stand_beside_plain_binds` |
//! | non-recursive; idmap flag; ridmap flag | `what_is_mounted_below_keeps_its_ids_unless_the_last_option_is_ridmap` |
//! | idmap flag, ridmap flag: implied mapping | `the_option_alone_takes_the_map_of_the_user_namespace` |
//! | the same, userns join | `it_takes_that_of_one_that_is_joined_too` |
//!
//! Every case runs in a mount namespace of its own, because some mount something below the source.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use sampan_testkit::{Bundle, need};
use serde_json::{Value, json};

use crate::sampan::{Root, program, run};

fn ready() -> bool {
    need::root() && need::busybox()
}

fn map(on_disk: u32, shown: u32, size: u32) -> Value {
    json!([{"containerID": on_disk, "hostID": shown, "size": size}])
}

/// A bind of `source` on /mnt with these options, and with maps where they are given.
fn bind(source: &str, options: &[&str], uids: Value, gids: Value) -> Value {
    json!({"destination": "/mnt", "type": "bind", "source": source, "options": options, "uidMappings": uids, "gidMappings": gids})
}

/// Beside the root: `data` with `a` of 100:200 and `b` of 0:0, and `below`, with `a` of 101:201, to be mounted on `data/below`.
fn bundle(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name).unwrap();
    let data = bundle.path().join("data");
    fs::create_dir_all(data.join("below")).unwrap();
    fs::create_dir(bundle.path().join("below")).unwrap();
    for (file, uid, gid) in [("data/a", 100, 200), ("data/b", 0, 0), ("below/a", 101, 201)] {
        fs::write(bundle.path().join(file), "").unwrap();
        chown(bundle.path().join(file), Some(uid), Some(gid)).unwrap();
    }
    std::os::unix::fs::symlink("data", bundle.path().join("link")).unwrap();
    fs::create_dir(bundle.rootfs().join("mnt")).unwrap();
    bundle.script("for file in a b below/a; do stat -c %u:%g /mnt/$file 2>/dev/null || echo none; done");
    bundle
}

/// The whole of 0 to 65535 is 100000 and on, on the host.
fn user_namespace(bundle: &mut Bundle) {
    bundle.add("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", map(0, 100_000, 65_536));
    bundle.set("/linux/gidMappings", map(0, 100_000, 65_536));
}

/// Exit code, standard output and error, with `below` mounted where it belongs.
fn ran(bundle: &Bundle) -> (i32, String, String) {
    bundle.write().unwrap();
    let id = bundle.path().file_name().unwrap().to_str().unwrap();
    let root = Root::new(id);
    let script = format!(
        "cd {} && mount --bind below data/below && exec {} --root {} run -b . {id}",
        bundle.path().display(),
        program(),
        root.path().display(),
    );
    run(Command::new("unshare").args(["-m", "sh", "-c", &script]))
}

/// Runs the bundle without and with a user namespace, and compares what `stat` prints of the three files.
fn check(name: &str, mount: Value, without: &str, with: &str) {
    if !ready() {
        return;
    }
    for (userns, expected) in [(false, without), (true, with)] {
        let mut bundle = bundle(name);
        bundle.add("/mounts", mount.clone());
        if userns {
            user_namespace(&mut bundle);
        }
        let (code, out, err) = ran(&bundle);
        let shown = out.lines().collect::<Vec<_>>().join(" ");
        assert_eq!((code, shown.as_str(), err.as_str()), (0, expected, ""), "userns: {userns}");
    }
}

#[test]
fn owners_are_shown_by_the_mounts_own_map() {
    let mount = |source| bind(source, &["bind"], map(100, 101_000, 10), map(200, 102_000, 10));
    for source in ["data", "link"] {
        check("own", mount(source), "101000:102000 65534:65534 none", "1000:2000 65534:65534 none");
    }
}

#[test]
fn what_is_mounted_below_keeps_its_ids_unless_the_last_option_is_ridmap() {
    let mount = |options| bind("data", options, map(100, 101_000, 10), map(200, 102_000, 10));
    for options in [&["rbind"][..], &["rbind", "idmap"], &["rbind", "ridmap", "idmap"]] {
        let (without, with) = ("101000:102000 65534:65534 101:201", "1000:2000 65534:65534 65534:65534");
        check("one", mount(options), without, with);
    }
    let (without, with) = ("101000:102000 65534:65534 101001:102001", "1000:2000 65534:65534 1001:2001");
    check("all", mount(&["rbind", "ridmap"]), without, with);
}

#[test]
fn the_option_alone_takes_the_map_of_the_user_namespace() {
    if !ready() {
        return;
    }
    for (option, below) in [("idmap", "65534:65534"), ("ridmap", "101:201")] {
        let mut bundle = bundle("implied");
        user_namespace(&mut bundle);
        bundle.add("/mounts", bind("data", &["rbind", option], json!([]), json!(null)));
        let expected = format!("100:200\n0:0\n{below}\n");
        assert_eq!(ran(&bundle), (0, expected, String::new()), "{option}");
    }
}

#[test]
fn a_map_is_of_one_mount_and_not_of_its_source() {
    if !ready() {
        return;
    }
    let mut bundle = bundle("several");
    let lines = json!([
        {"containerID": 0, "hostID": 7, "size": 1},
        {"containerID": 100, "hostID": 1000, "size": 1}
    ]);
    for (to, uids, gids) in [
        ("/mnt", lines, map(200, 5, 1)),
        ("/tmp", map(100, 2000, 1), map(200, 3000, 1)),
        ("/run", json!([]), json!([])),
    ] {
        let mut mount = bind("data", &["bind"], uids, gids);
        mount["destination"] = json!(to);
        bundle.add("/mounts", mount);
    }
    bundle.script("stat -c %u:%g /mnt/a /mnt/b /tmp/a /run/a");
    assert_eq!(ran(&bundle), (0, "1000:5\n7:65534\n2000:3000\n100:200\n".into(), String::new()));
}

#[test]
fn it_takes_that_of_one_that_is_joined_too() {
    if !ready() {
        return;
    }
    let pod = crate::users::Pod::new("0 100000 65536");
    for (option, below) in [("idmap", "65534:65534"), ("ridmap", "101:201")] {
        let mut bundle = bundle("joined");
        bundle.add("/linux/namespaces", json!({"type": "user", "path": pod.path("user")}));
        bundle.add("/mounts", bind("data", &["rbind", option], json!([]), json!(null)));
        let expected = format!("100:200\n0:0\n{below}\n");
        assert_eq!(ran(&bundle), (0, expected, String::new()), "{option}");
    }
}

/// One source by three maps and by none, and another one by the first of these maps.
#[test]
fn mounts_with_the_same_map_and_with_others_stand_beside_plain_binds() {
    if !ready() {
        return;
    }
    // In lines of their own, and with ids that no line has.
    let lines = json!([
        {"containerID": 100, "hostID": 101_000, "size": 1},
        {"containerID": 101, "hostID": 102_000, "size": 1}
    ]);
    let mounts = [
        ("data", "/mnt/same", map(100, 100_000, 100), map(200, 100_000, 100)),
        ("below", "/mnt/same-too", map(100, 100_000, 100), map(200, 100_000, 100)),
        ("data", "/mnt/other", map(100, 103_000, 3), map(200, 104_000, 3)),
        ("below", "/mnt/lines", lines, map(200, 105_000, 10)),
        ("data", "/mnt/plain", json!([]), json!([])),
    ];
    let hosts = ["100000:100000", "100001:100001", "103000:104000", "102000:105001", "100:200"];
    let inside = ["0:0", "1:1", "3000:4000", "2000:5001", "65534:65534"];
    for (userns, expected) in [(false, hosts), (true, inside)] {
        let mut bundle = bundle("beside");
        if userns {
            user_namespace(&mut bundle);
        }
        for (source, at, uids, gids) in &mounts {
            let mut mount = bind(source, &["bind"], uids.clone(), gids.clone());
            mount["destination"] = json!(at);
            fs::create_dir(bundle.rootfs().join(at.trim_start_matches('/'))).unwrap();
            bundle.add("/mounts", mount);
        }
        bundle.script("for at in same same-too other lines plain; do stat -c %u:%g /mnt/$at/a; done");
        assert_eq!(ran(&bundle), (0, expected.join("\n") + "\n", String::new()), "userns: {userns}");
    }
}

#[test]
fn what_is_made_in_it_belongs_on_disk_to_whom_the_map_says_and_without_a_line_nothing_is_made() {
    if !ready() {
        return;
    }
    for (userns, expected) in [(true, "made"), (false, "refused")] {
        let mut bundle = bundle("write");
        bundle.set("/root/readonly", json!(false));
        bundle.add("/mounts", bind("data", &["bind"], map(0, 100_000, 65_536), map(0, 100_000, 65_536)));
        bundle.script("touch /mnt/new 2>/dev/null && echo made || echo refused");
        if userns {
            user_namespace(&mut bundle);
        }
        assert_eq!(ran(&bundle), (0, format!("{expected}\n"), String::new()), "userns: {userns}");
        let new = fs::metadata(bundle.path().join("data/new")).map(|m| (m.uid(), m.gid())).ok();
        assert_eq!(new, userns.then_some((0, 0)));
    }
}

#[test]
fn a_mapped_mount_takes_the_other_options_too() {
    if !ready() {
        return;
    }
    let mut bundle = bundle("options");
    user_namespace(&mut bundle);
    let options = ["bind", "ro", "noexec", "shared"];
    bundle.add("/mounts", bind("data", &options, map(0, 100_000, 65_536), map(0, 100_000, 65_536)));
    bundle
        .script("grep ' /mnt ' /proc/self/mountinfo | tr ' ' '\\n' | grep -E '^(ro,|shared:)' | cut -d: -f1");
    assert_eq!(ran(&bundle), (0, "ro,noexec,relatime,idmapped\nshared\n".into(), String::new()));
}

#[test]
fn a_file_system_without_id_maps_is_an_error_that_says_so_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let mut bundle = bundle("proc");
    bundle.add("/mounts", bind("/proc/self", &["bind"], map(0, 1, 1), map(0, 1, 1)));
    let (code, out, err) = ran(&bundle);
    assert_eq!((code, out.as_str()), (1, ""));
    for words in [
        "mounts[7]: cannot map the ids of /proc/self",
        "mount_setattr: EINVAL",
        "supports no id-mapped mounts on this kernel",
    ] {
        assert!(err.contains(words), "{err}");
    }
}

//! A root that may be written to and keeps nothing: `--scratch`, and the annotation of a bundle.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::sampan::{Root, program, run};

fn ready() -> bool {
    need::root() && need::busybox()
}

/// A bundle that asks for it.
fn bundle(name: &str) -> Bundle {
    let mut bundle = Bundle::new(name).unwrap();
    bundle.set("/root/readonly", json!(false));
    bundle.set("/annotations", json!({"org.sampan.rootfs.mode": "scratch"}));
    let caps = json!(["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
    bundle.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
    bundle
}

fn run_bundle(bundle: &Bundle, root: &Root) -> (i32, String, String) {
    bundle.write().unwrap();
    run(&mut root.command(["run", "-b", bundle.path().to_str().unwrap(), &id(bundle)]))
}

fn id(bundle: &Bundle) -> String {
    bundle.path().file_name().unwrap().to_str().unwrap().to_owned()
}

/// Changes the bundle, runs a script in it twice, and compares what it prints both times: nothing of the first is left.
/// What lies below must be as it was.
fn check(name: &str, change: impl FnOnce(&mut Bundle), script: &str, expected: &str) {
    if !ready() {
        return;
    }
    let mut bundle = bundle(name);
    bundle.script(script);
    change(&mut bundle);
    let root = Root::new(name);
    let before = tree(&bundle.rootfs());
    for _ in 0..2 {
        let (code, out, err) = run_bundle(&bundle, &root);
        assert_eq!((code, out.trim(), err.as_str()), (0, expected, ""));
    }
    assert_eq!(tree(&bundle.rootfs()), before);
}

/// Everything below a folder, with what a write would change.
fn tree(folder: &Path) -> Vec<(PathBuf, u32, u32, u64, i64)> {
    let mut found = Vec::new();
    let mut next = vec![folder.to_path_buf()];
    while let Some(path) = next.pop() {
        let m = fs::symlink_metadata(&path).unwrap();
        if m.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        let changed = m.ctime() * 1_000_000_000 + m.ctime_nsec();
        found.push((path, m.mode(), m.uid(), m.size(), changed));
    }
    found.sort();
    found
}

#[test]
fn what_is_written_is_seen_and_gone_at_the_end() {
    check(
        "written",
        |b| fs::write(b.rootfs().join("etc/old"), "old\n").unwrap(),
        "ls / | tr '\\n' ' '; ls /new 2>/dev/null; echo new >>/new; echo more >>/etc/old; rm /etc/passwd;
         echo; cat /new /etc/old; ls /etc",
        "bin dev etc proc root run sys tmp \nnew\nold\nmore\nold",
    );
}

#[test]
fn a_folder_made_again_is_empty_and_one_moved_keeps_its_files() {
    check(
        "folders",
        |b| {
            fs::create_dir_all(b.rootfs().join("data/deep")).unwrap();
            fs::write(b.rootfs().join("data/deep/file"), "kept").unwrap();
        },
        "busybox mv /data /moved; cat /moved/deep/file; echo; rm -r /bin/../etc; mkdir /etc; ls /etc | wc -l; ls -d /data 2>/dev/null || echo moved",
        "kept\n0\nmoved",
    );
}

#[test]
fn the_root_is_the_one_mount_at_its_place_and_tells_nothing_of_the_host() {
    check(
        "mounts",
        |_| {},
        "grep -c ' / / ' /proc/self/mountinfo; grep ' / / ' /proc/self/mountinfo | cut -d' ' -f8-9; grep -c rootfs /proc/self/mountinfo || true",
        "1\noverlay overlay\n0",
    );
    // Where there is none but ours: what is on the host's / has been let go.
    check("old", |_| {}, "cut -d' ' -f5 /proc/self/mountinfo | grep -vE '^/(proc|sys|dev)' | sort", "/");
}

#[test]
fn the_top_looks_as_it_does_below() {
    check(
        "top",
        |b| {
            chown(b.rootfs(), Some(5), Some(6)).unwrap();
            fs::set_permissions(b.rootfs(), Permissions::from_mode(0o3751)).unwrap();
        },
        "stat -c '%a %u:%g' /",
        "3751 5:6",
    );
}

#[test]
fn a_user_namespace_has_one_too() {
    check(
        "userns",
        |b| {
            b.user_namespace(100_000, 65536);
            for (path, ..) in tree(&b.rootfs()) {
                std::os::unix::fs::lchown(path, Some(100_000), Some(100_000)).unwrap();
            }
            // Its root may not enter a folder of 0700 on the way to the bundle.
            fs::set_permissions(b.path(), Permissions::from_mode(0o700)).unwrap();
        },
        "cd /; echo x >new; echo y >>/etc/passwd; rm -r /tmp; stat -c '%u' / /new /etc/passwd; ls -d /tmp 2>/dev/null || echo removed; grep -c userxattr /proc/self/mountinfo",
        "0\n0\n0\nremoved\n1",
    );
}

#[test]
fn a_root_that_nobody_in_the_user_namespace_owns_can_be_read_and_added_to() {
    check(
        "unmapped",
        |b| {
            b.user_namespace(100_000, 65536);
        },
        "echo x >/new; cat /new; stat -c '%u' / /etc",
        "x\n65534\n65534",
    );
}

#[test]
fn writes_are_charged_to_the_container() {
    if !ready() {
        return;
    }
    let mut bundle = bundle("memory");
    bundle.script(
        "dd if=/dev/zero of=/x bs=1M count=4 2>/dev/null; rm /x; exec dd if=/dev/zero of=/x bs=1M count=64",
    );
    bundle.set("/linux/resources/memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
    let root = Root::new("scratch-memory");
    let (code, ..) = run_bundle(&bundle, &root);
    assert_eq!(code, 137);
}

#[test]
fn two_containers_share_one_root_and_see_nothing_of_each_other() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new("shared").unwrap();
    let folder = bundle.rootfs();
    let folder = folder.to_str().unwrap();
    let root = Root::new("scratch-shared");
    for (name, other) in [("scratch-one", "scratch-two"), ("scratch-two", "scratch-one")] {
        let script =
            format!("echo {name} >/mine; echo {name} >/etc/{name}; [ ! -e /etc/{other} ] && sleep 100");
        root.ok(["run", "--rootfs", folder, "--scratch", "-d", name, "--", "/bin/sh", "-c", &script]);
    }
    for name in ["scratch-one", "scratch-two"] {
        let wait = "for i in $(seq 100); do [ -e /mine ] && break; sleep 0.1; done; cat /mine; ls /etc";
        assert_eq!(root.ok(["exec", name, "/bin/sh", "-c", wait]), format!("{name}\npasswd\n{name}\n"));
    }
    assert!(!bundle.rootfs().join("mine").exists());
}

#[test]
fn a_path_with_what_overlayfs_escapes_is_a_path() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new("odd").unwrap();
    let folder = bundle.path().join("a:b,c d\\e=f");
    fs::rename(bundle.rootfs(), &folder).unwrap();
    let root = Root::new("scratch-odd");
    let script = "echo x >/x; cat /x; ls /etc";
    let said =
        root.ok(["run", "--rootfs", folder.to_str().unwrap(), "--scratch", "--", "/bin/sh", "-c", script]);
    assert_eq!(said, "x\npasswd\n");
    assert!(!folder.join("x").exists());
}

#[test]
fn the_hosts_root_is_hidden_as_it_is_without() {
    if !ready() {
        return;
    }
    let root = Root::new("scratch-host");
    let script = "echo x >/etc/sampan-test-scratch && cat /etc/sampan-test-scratch; cat /etc/shadow 2>/dev/null || echo hidden; ls /root /run | grep -v : | grep .;
                  touch /tmp/x && stat -c %a /tmp; ls -d /proc/1 /sys/class /dev/null; echo $$";
    let said = root.ok(["run", "--rootfs", "host", "--scratch", "--", "/bin/sh", "-c", script]);
    assert_eq!(said, "x\nhidden\n1777\n/dev/null\n/proc/1\n/sys/class\n1\n");
    assert!(!Path::new("/etc/sampan-test-scratch").exists());
}

#[test]
fn what_is_mounted_below_looks_empty_and_how_the_root_is_mounted_stays() {
    if !ready() {
        return;
    }
    let bundle = Bundle::new("below").unwrap();
    let root = Root::new("scratch-below");
    // In a mount namespace of its own: nobody else sees the mounts.
    let script = format!(
        "set -e; cd {}; mount -t tmpfs -o nosuid,nodev none rootfs/run; mkdir rootfs/run/deep; mount --bind rootfs rootfs2;
         mount -o remount,bind,nosuid,nodev rootfs2; mount -t tmpfs none rootfs2/tmp; touch rootfs2/tmp/x;
         exec {} --root {} run --rootfs rootfs2 --scratch -- /bin/sh -c \
         'ls /run /tmp; touch /tmp/y; grep \" / / \" /proc/self/mountinfo | cut -d\" \" -f6'",
        bundle.path().display(),
        program(),
        root.path().display(),
    );
    fs::create_dir(bundle.path().join("rootfs2")).unwrap();
    let (code, out, err) = run(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "/run:\n\n/tmp:\nrw,nosuid,nodev,relatime\n", ""));
}

#[test]
fn create_and_delete_leave_no_mount() {
    if !ready() {
        return;
    }
    let mut bundle = bundle("lifecycle");
    bundle.script("echo x >/x; sleep 100");
    bundle.write().unwrap();
    let (root, id) = (Root::new("scratch-lifecycle"), id(&bundle));
    let path = bundle.path().to_str().unwrap();
    root.ok(["create", "-b", path, &id]);
    root.ok(["start", &id]);
    root.ok(["exec", &id, "/bin/sh", "-c", "echo more >/y; [ -e /y ]"]);
    root.ok(["delete", "--force", &id]);
    assert_eq!(
        fs::read_dir(bundle.rootfs())
            .unwrap()
            .filter(|e| matches!(e.as_ref().unwrap().file_name().to_str(), Some("x" | "y")))
            .count(),
        0
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(path) && !mounts.contains("lowerdir=lower"), "{mounts}");
}

#[test]
fn the_flag_is_for_rootfs_and_the_plan_shows_the_step() {
    let root = Root::new("scratch-flag");
    let (code, says) = root.err(["run", "--scratch", "x"]);
    let expected =
        "sampan: run --scratch: needs --rootfs; a bundle has the annotation org.sampan.rootfs.mode for it\n";
    assert_eq!((code, says.as_str()), (1, expected));
    let bundle = bundle("plan");
    bundle.write().unwrap();
    let plan = root.ok(["plan", bundle.path().to_str().unwrap()]);
    let words = format!(
        "use {}/rootfs as the root, a new tmpfs on top [mode=0700,host's mounts rslave]",
        bundle.path().display()
    );
    assert!(plan.contains(&words), "{plan}");
}

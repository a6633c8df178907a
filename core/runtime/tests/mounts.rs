//! config.json's mounts, in real containers: their options, where they come from and where they may go.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::launch::{check, fails, ready};
use crate::sampan::{Root, run};

fn tmpfs(b: &mut Bundle, at: &str, options: &[&str]) {
    b.add("/mounts", json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": options}));
}

fn bind(b: &mut Bundle, from: PathBuf, at: &str) {
    b.add("/mounts", json!({"destination": at, "source": from, "options": ["rbind"]}));
}

/// A folder beside the root, with one file.
fn data(b: &Bundle) -> PathBuf {
    let data = b.path().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("file"), "from data").unwrap();
    data
}

fn folder(b: &Bundle, at: &str, mode: u32) {
    let path = b.rootfs().join(at);
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn options_may_come_several_in_a_string_and_empty() {
    check(
        "joined",
        |b| {
            tmpfs(b, "/tmp", &["", "size=1m,mode=700", "ro,,nosuid", "nodev"]);
            let layer = |name: &str| {
                let path = b.path().join(name);
                fs::create_dir(&path).unwrap();
                path.display().to_string()
            };
            let (lower, upper, work) = (layer("l"), layer("u"), layer("w,w").replace(',', "\\,"));
            fs::write(format!("{lower}/f"), "low").unwrap();
            let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
            b.add(
                "/mounts",
                json!({"destination": "/run", "type": "overlay", "source": "overlay", "options": [options]}),
            );
        },
        "cat /run/f; echo; stat -c %a /tmp; grep ' /tmp ' /proc/self/mountinfo | cut -d' ' -f6; df -k /tmp | tail -n 1 | tr -s ' ' | cut -d' ' -f2",
        "low\n700\nro,nosuid,nodev,relatime\n1024",
    );
}

#[test]
fn a_tmpfs_has_the_mode_of_the_folder_that_it_covers() {
    check(
        "mode",
        |b| {
            b.set("/root/readonly", json!(false));
            for (at, mode) in
                [("home", 0o750), ("sticky", 0o1777), ("told", 0o750), ("up", 0o2710), ("up/below", 0o700)]
            {
                folder(b, at, mode);
            }
            tmpfs(b, "/home", &["ro"]);
            tmpfs(b, "/sticky", &[]);
            tmpfs(b, "/told", &["mode=711"]);
            tmpfs(b, "/missing", &[]);
            tmpfs(b, "/up", &["tmpcopyup"]);
            folder(b, "uptold", 0o750);
            tmpfs(b, "/uptold", &["tmpcopyup", "mode=711"]);
        },
        "stat -c %a /home /sticky /told /missing /up /up/below /uptold",
        "750\n1777\n711\n1777\n2710\n700\n711",
    );
}

#[test]
fn what_tmpcopyup_copies_is_charged_to_the_container() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new("charged").unwrap();
    bundle.script("exit 0").set("/linux/resources/memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
    // A mount of the groups waits for them anyway.
    bundle.config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
    fs::write(bundle.rootfs().join("tmp/big"), vec![1; 64 << 20]).unwrap();
    tmpfs(&mut bundle, "/tmp", &["tmpcopyup"]);
    bundle.write().unwrap();
    let id = format!("t{}-charged", std::process::id());
    let (code, error) = Root::new("charged").err(["run", "-b", bundle.path().to_str().unwrap(), &id]);
    assert!(code == 1 && error.contains("it ran out of memory"), "{code}: {error}");
}

#[test]
fn a_source_inside_the_root_shows_what_was_mounted_before_and_its_links_stay_inside() {
    check(
        "inside",
        |b| {
            let data = data(b);
            folder(b, "from", 0o755);
            symlink("/etc", b.rootfs().join("link")).unwrap();
            bind(b, data, "/from");
            bind(b, b.rootfs().join("from"), "/tmp");
            bind(b, b.rootfs().join("link/passwd"), "/run/passwd");
        },
        "cat /tmp/file; echo; grep -c user /run/passwd",
        "from data\n1",
    );
}

#[test]
fn launches_that_make_the_same_mount_points_at_once_all_succeed() {
    if !ready() {
        return;
    }
    let mut bundle = Bundle::new("race").unwrap();
    bundle.script("exit 0").set("/root/readonly", json!(false));
    let from = data(&bundle);
    for n in 0..20 {
        tmpfs(&mut bundle, &format!("/race/{n}/folder"), &[]);
        bind(&mut bundle, from.join("file"), &format!("/race/{n}/file"));
    }
    bundle.write().unwrap();
    let root = Root::new("race");
    let one = |n: usize| {
        let id = format!("t{}-race{n}", std::process::id());
        run(&mut root.command(["run", "-b", bundle.path().to_str().unwrap(), &id]))
    };
    for _ in 0..10 {
        let all = std::thread::scope(|scope| {
            let launches: Vec<_> = (0..4).map(|n| scope.spawn(move || one(n))).collect();
            launches.into_iter().map(|launch| launch.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(all.iter().all(|ran| *ran == (0, String::new(), String::new())), "{all:?}");
        fs::remove_dir_all(bundle.rootfs().join("race")).unwrap();
    }
}

/// What is said below the first line, which names the mount.
fn refused(name: &str, change: impl FnOnce(&mut Bundle), says: &str) {
    if !need::root() || !need::busybox() {
        return;
    }
    let mut bundle = Bundle::new(name).unwrap();
    change(&mut bundle);
    bundle.write().unwrap();
    let id = format!("t{}-{name}", std::process::id());
    let (code, error) = Root::new(name).err(["run", "-b", bundle.path().to_str().unwrap(), &id]);
    assert!(code == 1 && error.contains("mounts[7]") && error.contains(says), "{code}: {error}");
}

#[test]
fn files_and_folders_do_not_cover_each_other_in_words_that_clients_know() {
    refused("onfile", |b| bind(b, data(b), "/etc/passwd"), "likely: not a directory");
    refused("onfolder", |b| bind(b, data(b).join("file"), "/etc"), "likely: not a directory");
    refused("through", |b| bind(b, data(b), "/etc/passwd/below"), "likely: not a directory");
    refused("fsonfile", |b| tmpfs(b, "/etc/passwd", &[]), "must be mounted on ordinary directory");
    fails(
        "proclink",
        |b| {
            fs::remove_dir(b.rootfs().join("proc")).unwrap();
            symlink("tmp", b.rootfs().join("proc")).unwrap();
        },
        "mounts[0]: cannot mount proc on /proc\n  openat2: ELOOP\n  likely: it must be mounted on ordinary directory: the destination is reached through a symbolic link, which is refused for proc and sysfs",
    );
}

#[test]
fn nothing_covers_procfs_by_whatever_name_it_is_reached() {
    let over = |name: &str, link: &str, cover: fn(&mut Bundle)| {
        let change = |b: &mut Bundle| {
            symlink(link, b.rootfs().join("link")).unwrap();
            cover(b);
        };
        refused(name, change, "the destination leads into procfs");
    };
    over("folder", "/proc", |b| bind(b, data(b), "/link"));
    over("below", "proc/sys", |b| tmpfs(b, "/link/net", &[]));
    over("file", "/proc", |b| bind(b, data(b).join("file"), "/link/version"));
    check(
        "allowed",
        |b| {
            let file = data(b).join("file");
            bind(b, file, "/proc/uptime");
        },
        "cat /proc/uptime",
        "from data",
    );
}

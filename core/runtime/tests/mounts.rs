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

/// Folders beside the root that are layers of an overlay: the option that names them, of at least so many bytes.
fn layers(b: &Bundle, at_least: usize) -> String {
    let mut option = "lowerdir=".to_owned();
    let mut n = 0;
    while option.len() < at_least {
        let path = b.path().join(format!("l{n}"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(format!("f{n}")), "").unwrap();
        option.push_str(&format!("{}{}", if n == 0 { "" } else { ":" }, path.display()));
        n += 1;
    }
    option
}

fn overlay(b: &mut Bundle, options: &[&str]) {
    b.add(
        "/mounts",
        json!({"destination": "/tmp", "type": "overlay", "source": "layers", "options": options}),
    );
}

#[test]
fn an_overlay_of_many_layers_is_mounted_as_one_of_few() {
    for (name, at_least) in [("few", 100), ("many", 300), ("most", 3900)] {
        check(
            name,
            |b| {
                let (upper, work) = (b.path().join("upper"), b.path().join("w,w"));
                fs::create_dir(&upper).unwrap();
                fs::create_dir(&work).unwrap();
                let work = work.display().to_string().replace(',', "\\,");
                let (upper, work) = (format!("upperdir={}", upper.display()), format!("workdir={work}"));
                let lower = layers(b, at_least);
                overlay(b, &["nosuid", "noexec", &lower, &upper, &work]);
            },
            "ls /tmp | head -n 2; echo >/tmp/new && echo written
             grep ' /tmp ' /proc/self/mounts | cut -d, -f1-4; grep -c ' / overlay' /proc/self/mounts",
            "f0\nf1\nwritten\nlayers /tmp overlay rw,nosuid,noexec,relatime\n0",
        );
    }
    check(
        "readonly",
        |b| {
            let lower = layers(b, 300);
            overlay(b, &["ro", &lower]);
        },
        "echo 2>/dev/null >/tmp/new || grep ' /tmp ' /proc/self/mountinfo | tr ' ' '\\n' | grep -c '^ro'",
        "2",
    );
}

#[test]
fn what_the_kernel_says_of_a_mount_is_told_with_what_may_be_asked() {
    let typo = |name: &str, index: usize, option: &str, says: &str| {
        let change = |b: &mut Bundle| {
            b.set(&format!("/mounts/{index}/options"), json!(["nosuid", option]));
        };
        fails(name, change, says);
    };
    let words = |index: usize, what: &str, option: &str, kernel: &str, takes: &str| {
        format!(
            "mounts[{index}]: cannot mount {what} [nosuid,{option}]\n  fsconfig: EINVAL\n  likely: the kernel says: {kernel}; {takes}"
        )
    };
    let proc = words(
        0,
        "proc on /proc",
        "hidepit=2",
        "proc: Unknown parameter 'hidepit'",
        "proc takes gid, hidepid, pidns, subset",
    );
    typo("proc", 0, "hidepit=2", &proc);
    let unknown = |kind: &str| format!("{kind}: Unknown parameter 'sise'");
    let none = "takes no options of its own";
    let mqueue = words(4, "mqueue on /dev/mqueue", "sise=1", &unknown("mqueue"), &format!("mqueue {none}"));
    typo("mqueue", 4, "sise=1", &mqueue);
    let takes =
        "tmpfs takes gid, huge, inode32, inode64, mode, mpol, noswap, nr_blocks, nr_inodes, size, uid";
    let tmpfs = words(3, "tmpfs (shm) on /dev/shm", "sise=1", &unknown("tmpfs"), takes);
    typo("tmpfs", 3, "sise=1", &tmpfs);
    let value = words(3, "tmpfs (shm) on /dev/shm", "size=big", "tmpfs: Bad value for 'size'", takes);
    typo("value", 3, "size=big", &value);
}

#[test]
fn an_option_of_sysfs_is_refused_in_the_kernels_words() {
    if !need::no_user_namespace() {
        // There the host's is shown, without options.
        return;
    }
    fails(
        "sysfs",
        |b| {
            b.set("/mounts/5/options", json!(["size=1"]));
        },
        "mounts[5]: cannot mount sysfs on /sys [size=1]\n  fsconfig: EINVAL\n  likely: the kernel says: sysfs: Unknown parameter 'size'; sysfs takes no options of its own",
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

/// A path below a tmpfs of ours need not stay there: a volume in it has links of its own. What is mounted at such a place may cover the
/// tmpfs itself, and the next mount by its name there belongs on top.
#[test]
fn a_link_in_a_volume_that_leads_onto_the_tmpfs_above_hides_nothing_that_is_mounted_later() {
    for (name, link) in [("ontop", "/t"), ("up", ".."), ("deep", "/t/vol/up")] {
        check(
            name,
            |b| {
                let data = data(b);
                let volume = b.path().join("volume");
                fs::create_dir(&volume).unwrap();
                symlink("..", volume.join("up")).unwrap();
                symlink(link, volume.join("link")).unwrap();
                tmpfs(b, "/t", &[]);
                bind(b, volume, "/t/vol");
                tmpfs(b, "/t/vol/link", &[]);
                bind(b, data.clone(), "/t/folder");
                bind(b, data.join("file"), "/t/one");
            },
            "ls /t; cat /t/folder/file /t/one; echo; grep -c ' /t ' /proc/self/mountinfo",
            "folder\none\nfrom datafrom data\n2",
        );
    }
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

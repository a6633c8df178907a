//! The host's own root as a container's: what is seen of it, and what is not.
//!
//! The oracle is the kernel's: whatever a walk as uid 65534 without groups can open on the host.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sampan_testkit::{Bundle, need, walker};
use serde_json::json;

use crate::sampan::{Root, program, run};

/// A bundle on the host's root, called `root`: the config that every service starts from.
fn bundle(name: &str, root: &str) -> Bundle {
    let mut bundle = Bundle::new(name).unwrap();
    bundle.config = serde_json::to_value(sampan_plan::default::spec()).unwrap();
    bundle.set("/root", json!({"path": root, "readonly": true}));
    // Its hard limit is higher than a test machine may allow.
    bundle.set("/process/rlimits", json!([]));
    bundle
}

fn shell(bundle: &mut Bundle, script: &str) {
    bundle.set("/process/args", json!(["/bin/sh", "-c", script]));
}

fn volume(bundle: &mut Bundle, source: &Path, destination: &str) {
    bundle.add(
        "/mounts",
        json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind"]}),
    );
}

fn id(bundle: &Bundle) -> String {
    bundle.path().file_name().unwrap().to_str().unwrap().to_owned()
}

/// Runs it in a mount namespace of its own, after `before`, whose working directory is the bundle.
fn ran(bundle: &Bundle, before: &str) -> (i32, String, String) {
    bundle.write().unwrap();
    let root = Root::new(&id(bundle));
    let script = format!(
        "set -e; cd {}; {before}\nexec {} --root {} run -b . {}",
        bundle.path().display(),
        program(),
        root.path().display(),
        id(bundle),
    );
    run(Command::new("unshare").args(["-m", "sh", "-c", &script]))
}

/// The walker, where anybody may run it.
fn walker_in(folder: &Path) -> PathBuf {
    let built = walker(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let copy = folder.join("walk");
    fs::copy(built, &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

/// As `uid`, on a root of that name: nothing in these folders can be opened that nobody cannot open on the host.
fn check_walk(name: &str, root: &str, uid: u32, mode: Option<&str>, folders: &[&str]) {
    check_walk_after("", name, root, uid, mode, folders);
}

/// The same in a mount namespace where `before` was done.
fn check_walk_after(before: &str, name: &str, root: &str, uid: u32, mode: Option<&str>, folders: &[&str]) {
    if !need::root() {
        return;
    }
    let mut bundle = bundle(name, root);
    let tools = bundle.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let walk = walker_in(&tools);
    volume(&mut bundle, &tools, "/mnt");
    let mut args = vec!["/mnt/walk"];
    args.extend(folders);
    bundle.set("/process/args", json!(args));
    bundle.set("/process/user", json!({"uid": uid, "gid": uid}));
    if let Some(mode) = mode {
        bundle.set("/root/readonly", json!(false));
        bundle.set("/annotations", json!({"org.sampan.rootfs.mode": mode}));
    }
    let (code, inside, err) = ran(&bundle, before);
    assert_eq!((code, err.as_str()), (0, ""));
    let mut nobody = Command::new(walk);
    let (code, outside, err) = run(nobody.args(folders).uid(65_534).gid(65_534));
    assert_eq!((code, err.as_str()), (0, ""));
    let (inside, outside) = (lines(&inside), lines(&outside));
    // What is the container's own: empty folders, masks among them, and files of its namespaces.
    let masks = sampan_plan::default::MASKED_PATHS.map(|path| format!("d {path}"));
    let own = |line: &&String| masks.contains(line) || line.contains(" /proc/sys/net/");
    let leaked: Vec<&String> = inside.difference(&outside).filter(|line| !own(line)).collect();
    assert!(leaked.is_empty(), "{} can be opened inside alone: {leaked:#?}", leaked.len());
    // And it is the host that was looked at, not an empty folder.
    for shown in ["r /etc/passwd", "d /proc", "d /sys"] {
        assert!(inside.contains(shown), "{shown} is missing");
    }
}

#[test]
fn root_inside_can_open_nothing_that_nobody_cannot_open_on_the_host() {
    check_walk("walk-root", "/", 0, None, &["/etc", "/opt", "/proc", "/sys", "/usr"]);
}

#[test]
fn nor_can_any_other_user_whatever_the_root_is_called() {
    check_walk("walk-alias", "/etc/..", 1000, None, &["/etc", "/proc", "/sys", "/usr/local"]);
}

#[test]
fn nor_can_root_on_a_scratch_root_of_the_host() {
    check_walk("walk-scratch", "/proc/self/root", 0, Some("scratch"), &["/etc", "/proc", "/sys"]);
}

/// `/` becomes an overlay of itself, as it is in a container and on a live system: it takes no id map.
const ROOT_IS_AN_OVERLAY: &str = "
    mount --make-rprivate /; mkdir over; mount -t tmpfs none over; mkdir over/upper over/work over/root
    mount -t overlay -o lowerdir=/,upperdir=over/upper,workdir=over/work overlay over/root
    for at in dev proc sys tmp; do mount --rbind /$at over/root/$at; done
    cd over/root; mkdir -p old; pivot_root . old; exec 3<&-; umount -l /old; cd - >/dev/null";

#[test]
fn nor_can_root_where_the_hosts_root_is_an_overlay() {
    check_walk_after(
        ROOT_IS_AN_OVERLAY,
        "walk-overlay",
        "/",
        0,
        None,
        &["/etc", "/opt", "/proc", "/sys", "/usr"],
    );
}

#[test]
fn nor_can_any_other_user_there() {
    check_walk_after(
        ROOT_IS_AN_OVERLAY,
        "walk-overlay-user",
        "/",
        1000,
        None,
        &["/etc", "/proc", "/sys", "/usr/local"],
    );
}

#[test]
fn nor_can_root_on_a_scratch_root_there() {
    check_walk_after(
        ROOT_IS_AN_OVERLAY,
        "walk-overlay-scratch",
        "/",
        0,
        Some("scratch"),
        &["/etc", "/proc", "/sys"],
    );
}

/// A folder of the host that is shown at /opt: a file for all, one for root, a socket and a FIFO.
fn opt(bundle: &Bundle) -> PathBuf {
    let opt = bundle.path().join("opt");
    fs::create_dir(&opt).unwrap();
    for (name, mode) in [("all", 0o644), ("secret", 0o600), ("group", 0o640)] {
        fs::write(opt.join(name), name).unwrap();
        fs::set_permissions(opt.join(name), Permissions::from_mode(mode)).unwrap();
    }
    opt
}

#[test]
fn a_file_renamed_over_another_is_hidden_as_the_first_one_was() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("rename", "/");
    let opt = opt(&bundle);
    // The gate is a FIFO of a volume: the script goes on when the host has renamed.
    let gate = bundle.path().join("gate");
    fs::create_dir(&gate).unwrap();
    nix::unistd::mkfifo(&gate.join("go"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    volume(&mut bundle, &gate, "/mnt");
    shell(
        &mut bundle,
        "cd /opt; cat all secret 2>/dev/null; read x </mnt/go; cat all secret new 2>/dev/null; true",
    );
    let host = format!(
        "mount --bind opt /opt
         (echo 2 >opt/2; chmod 600 opt/2; echo 3 >opt/3; chmod 600 opt/3; echo ' seen' >opt/4; chmod 644 opt/4
          sleep 0.5; mv opt/2 opt/secret; mv opt/3 opt/all; mv opt/4 opt/new; echo go >{}/go) &",
        gate.display()
    );
    assert_eq!(ran(&bundle, &host), (0, "all seen\n".into(), String::new()));
    assert_eq!(fs::read_to_string(opt.join("all")).unwrap(), "3\n");
}

#[test]
fn no_socket_of_the_host_is_connected_to_and_no_fifo_written_to() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("socket", "/");
    let opt = opt(&bundle);
    let _listener = UnixListener::bind(opt.join("socket")).unwrap();
    nix::unistd::mkfifo(&opt.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    for name in ["socket", "fifo"] {
        fs::set_permissions(opt.join(name), Permissions::from_mode(0o666)).unwrap();
    }
    let tools = bundle.path().join("tools");
    fs::create_dir(&tools).unwrap();
    let walk = walker_in(&tools);
    volume(&mut bundle, &tools, "/mnt");
    bundle.set("/process/args", json!(["/mnt/walk", "/opt"]));
    let (code, out, err) = ran(&bundle, "mount --bind opt /opt");
    // A FIFO that everybody may read can be opened for reading, as nobody can on the host: the one thing here that can be.
    assert_eq!((code, lines(&out), err.as_str()), (0, lines("d /opt\nr /opt/all\nr /opt/fifo"), ""));
    let on_the_host = run(Command::new(walk).arg(&opt).uid(65_534).gid(65_534)).1;
    assert!(on_the_host.contains(&format!("s {}/socket", opt.display())), "{on_the_host}");
    assert!(on_the_host.contains(&format!("w {}/fifo", opt.display())), "{on_the_host}");
}

/// The folder `opt` becomes the lower layer of an overlay on /opt.
const OPT_IS_AN_OVERLAY: &str = "mkdir upper work; chmod 755 upper; mount -t overlay -o lowerdir=opt,upperdir=upper,workdir=work overlay /opt";

#[test]
fn a_folder_that_takes_no_id_map_is_shown_as_nobody_sees_it() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("overlay", "/");
    let opt = opt(&bundle);
    let gate = bundle.path().join("gate");
    fs::create_dir(&gate).unwrap();
    nix::unistd::mkfifo(&gate.join("go"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    volume(&mut bundle, &gate, "/mnt");
    // What is made and renamed there later follows the same rule, and nothing is written.
    shell(
        &mut bundle,
        "cd /opt; cat all secret group 2>/dev/null; touch x 2>/dev/null || echo ' refused'; chmod 777 secret 2>/dev/null
         ls -A; read x </mnt/go; cat secret new shut 2>/dev/null; grep -c upper /proc/self/mountinfo; true",
    );
    let host = format!(
        "{OPT_IS_AN_OVERLAY}
         (sleep 0.5; echo new >/opt/new; chmod 644 /opt/new; echo shut >/opt/shut; chmod 600 /opt/shut
          echo 2 >/opt/2; chmod 600 /opt/2; mv /opt/2 /opt/secret; echo go >{}/go) &",
        gate.display()
    );
    let seen = "all refused\nall\ngroup\nsecret\nnew\n0\n";
    assert_eq!(ran(&bundle, &host), (0, seen.into(), String::new()));
    assert_eq!(fs::metadata(opt.join("secret")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn no_socket_or_fifo_of_the_host_is_reached_through_an_overlay() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("overlay-fifo", "/");
    let opt = opt(&bundle);
    let _listener = UnixListener::bind(opt.join("socket")).unwrap();
    nix::unistd::mkfifo(&opt.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    for name in ["socket", "fifo"] {
        fs::set_permissions(opt.join(name), Permissions::from_mode(0o666)).unwrap();
    }
    let tools = bundle.path().join("tools");
    fs::create_dir(&tools).unwrap();
    walker_in(&tools);
    volume(&mut bundle, &tools, "/mnt");
    // A FIFO behind an overlay is another one: what the host writes to its own does not come out.
    shell(
        &mut bundle,
        "/mnt/walk /opt | grep '^s'; exec 3<>/opt/fifo; echo ours >&3; read line <&3; echo $line",
    );
    let host =
        format!("{OPT_IS_AN_OVERLAY}; exec 4<>opt/fifo 5<>/opt/fifo; echo theirs >&4; echo theirs >&5");
    assert_eq!(ran(&bundle, &host), (0, "ours\n".into(), String::new()));
}

#[test]
fn in_a_user_namespace_an_overlay_is_no_different() {
    user_namespace("userns-overlay", OPT_IS_AN_OVERLAY);
}

#[test]
fn in_a_user_namespace_it_is_no_different() {
    user_namespace("userns", "mount --bind opt /opt");
}

fn user_namespace(name: &str, host: &str) {
    if !need::root() {
        return;
    }
    let mut bundle = bundle(name, "/");
    opt(&bundle);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    bundle.add("/linux/namespaces", json!({"type": "user"}));
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    // Its range of groups is the host's.
    bundle.set("/linux/sysctl", json!({}));
    shell(
        &mut bundle,
        "id -u; cd /opt; cat all secret group 2>/dev/null; stat -c %u all; touch /opt/x 2>/dev/null || echo refused",
    );
    assert_eq!(ran(&bundle, host), (0, "0\nall65534\nrefused\n".into(), String::new()));
}

#[test]
fn what_is_mounted_below_is_shown_by_the_same_rule_and_what_it_covers_is_not() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("below", "/");
    opt(&bundle);
    shell(&mut bundle, "cd /opt; cat sub/open sub/shut sub/covered all; ls sub; touch sub/x");
    let host =
        "mkdir opt/sub; echo covered >opt/sub/covered; mount --bind opt /opt; mount -t tmpfs none /opt/sub;
                echo open >/opt/sub/open; echo shut >/opt/sub/shut; chmod 600 /opt/sub/shut";
    let (code, out, err) = ran(&bundle, host);
    assert_eq!((code, out.as_str()), (1, "open\nallopen\nshut\n"));
    for words in ["sub/shut: Permission denied", "sub/covered: No such file", "sub/x': Read-only file system"]
    {
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn what_the_host_mounts_later_does_not_come_in() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("later", "/");
    opt(&bundle);
    let gate = bundle.path().join("gate");
    fs::create_dir(&gate).unwrap();
    nix::unistd::mkfifo(&gate.join("go"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    volume(&mut bundle, &gate, "/mnt");
    shell(&mut bundle, "read x </mnt/go; ls /opt");
    let host = format!(
        "mount --make-rshared /; mount --bind opt /opt
         (sleep 0.5; mount -t tmpfs none /opt; echo secret >/opt/later; echo go >{}/go) &",
        gate.display()
    );
    assert_eq!(ran(&bundle, &host), (0, "all\ngroup\nsecret\n".into(), String::new()));
}

#[test]
fn a_resolv_conf_that_leads_into_run_is_that_one_file() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("resolver", "/");
    bundle.add(
        "/mounts",
        json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0755"]}),
    );
    shell(&mut bundle, "cat /etc/resolv.conf; ls -A /run /run/of");
    let host = "mkdir etc run run/of; echo nameserver 192.0.2.1 >run/of/resolv.conf; echo secret >run/of/other
                ln -s ../run/of/resolv.conf etc/resolv.conf; cp /etc/passwd etc; mount --bind etc /etc; mount --bind run /run";
    assert_eq!(
        ran(&bundle, host),
        (0, "nameserver 192.0.2.1\n/run:\nof\n\n/run/of:\nresolv.conf\n".into(), String::new())
    );
}

/// No overlay shows a file by itself: it is a copy, which says what nobody could read.
#[test]
fn nor_is_it_another_where_run_takes_no_id_map() {
    if !need::root() {
        return;
    }
    let large = "head -c 2000000 /dev/zero >/run/of/resolv.conf";
    for (mode, change, says) in [
        ("644", "", (0, "nameserver 192.0.2.1\n-r--r--r--\n/run:\nof\n\n/run/of:\nresolv.conf\n", "")),
        ("640", "", (0, "-r--r-----\n/run:\nof\n\n/run/of:\nresolv.conf\n", "")),
        ("644", large, (1, "", "in place of that: it is larger than 1048576 bytes")),
    ] {
        let mut bundle = bundle("resolver-copy", "/");
        bundle.add(
            "/mounts",
            json!({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0755"]}),
        );
        shell(
            &mut bundle,
            "cat /etc/resolv.conf; stat -Lc %A /etc/resolv.conf; ls -A /run /run/of
             (echo x >/etc/resolv.conf) 2>/dev/null && echo written; true",
        );
        let host = format!(
            "mkdir etc run run/of up work; echo nameserver 192.0.2.1 >run/of/resolv.conf; chmod {mode} run/of/resolv.conf
             ln -s ../run/of/resolv.conf etc/resolv.conf; cp /etc/passwd etc; mount --bind etc /etc
             mount -t overlay -o lowerdir=run,upperdir=up,workdir=work overlay /run; {change}"
        );
        let (code, out, err) = ran(&bundle, &host);
        assert_eq!((code, out.as_str()), (says.0, says.1), "{mode}: {err}");
        assert!(err.contains(says.2), "{err}");
    }
}

#[test]
fn a_mount_point_that_the_host_has_not_is_made_in_the_containers_own_folder() {
    if !need::root() {
        return;
    }
    let mut bundle = bundle("volume", "/");
    let opt = opt(&bundle);
    volume(&mut bundle, &opt, "/no-such-folder/of-a-host");
    shell(&mut bundle, "cat /no-such-folder/of-a-host/secret");
    assert_eq!(ran(&bundle, ""), (0, "secret".into(), String::new()));
    assert!(!Path::new("/no-such-folder").exists());
}

#[test]
fn a_file_system_without_id_maps_is_refused_by_name() {
    if !need::root() {
        return;
    }
    let bundle = bundle("refused", "/");
    opt(&bundle);
    let (code, out, err) =
        ran(&bundle, "mkdir opt/proc; mount --bind opt /opt; mount -t proc none /opt/proc");
    assert_eq!((code, out.as_str()), (1, ""));
    for words in [
        "root.path: cannot map the ids of /opt/proc",
        "EINVAL",
        "it cannot be shown in place of that: root.path: cannot make an overlay",
    ] {
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn it_is_never_written_to() {
    if !need::root() {
        return;
    }
    for root in ["/", "/usr/.."] {
        let mut bundle = bundle("writable", root);
        bundle.set("/root/readonly", json!(false));
        let (code, _, err) = ran(&bundle, "");
        assert!(
            code == 1 && err.contains("root.readonly: must be true: the host's own root is shown read-only"),
            "{err}"
        );
    }
}

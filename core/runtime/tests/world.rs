//! The launch tests once more in each of the four worlds, and what must hold of mounts on a host whose `/` is shared.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sampan_testkit::world::{self, mountinfo};
use sampan_testkit::{Bundle, World, need};
use serde_json::json;

use crate::sampan::{Root, program, run};

/// The modules whose tests start containers by themselves.
const LAUNCHES: [&str; 8] = ["launch", "mounts", "scratch", "hooks", "lifecycle", "exec", "enter", "states"];
/// Called in a user namespace already, whose root may not clone the machine's mounts for one more.
const IN_ONE: &str = "rootless";

/// The same program again, in that world, with every test of these modules.
fn again_in(world: World) {
    if !need::root() || !need::busybox() {
        return;
    }
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(LAUNCHES.iter().chain((!world.user_namespace).then_some(&IN_ONE)).map(|m| format!("{m}::")));
    let ran = tests.env(world::VARIABLE, world.to_string()).output().unwrap();
    assert!(ran.status.success(), "{world}: {}", String::from_utf8_lossy(&ran.stdout));
}

#[test]
fn every_launch_test_where_slash_is_private() {
    again_in(World { shared: false, user_namespace: false });
}

#[test]
fn every_launch_test_where_slash_is_private_in_a_user_namespace() {
    again_in(World { shared: false, user_namespace: true });
}

#[test]
fn every_launch_test_where_slash_is_shared() {
    again_in(World { shared: true, user_namespace: false });
}

#[test]
fn every_launch_test_where_slash_is_shared_in_a_user_namespace() {
    again_in(World { shared: true, user_namespace: true });
}

/// A bundle with a volume at /vol, on a host whose `/` is shared. Root in the container may mount.
struct Host {
    root: Root,
    bundle: Bundle,
    id: String,
}

impl Host {
    fn new(name: &str, user_namespace: bool, root_propagation: &str, volume: &[&str]) -> Option<Host> {
        if !need::root() || !need::busybox() {
            return None;
        }
        World { shared: true, user_namespace: false }.enter().unwrap();
        let mut bundle = Bundle::new(name).unwrap();
        if user_namespace {
            bundle.user_namespace(0, 65536);
        }
        let data = bundle.path().join("data");
        for folder in ["inside", "outside"] {
            fs::create_dir_all(data.join(folder)).unwrap();
        }
        bundle.add("/mounts", json!({"destination": "/vol", "source": data, "options": volume}));
        bundle.set("/linux/rootfsPropagation", json!(root_propagation));
        let caps = json!(["CAP_SYS_ADMIN"]);
        bundle.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
        let id = format!("t{}-{name}", std::process::id());
        Some(Host { root: Root::new(name), bundle, id })
    }

    fn dir(&self) -> &str {
        self.bundle.path().to_str().unwrap()
    }

    fn data(&self, below: &str) -> PathBuf {
        self.bundle.path().join("data").join(below)
    }

    /// Starts a container that mounts on its volume, and returns when it has.
    fn mounts_inside(&mut self) {
        self.bundle.script("mount -t tmpfs evil /vol/inside || exit 1; echo >/vol/mounted; sleep 60");
        self.bundle.write().unwrap();
        self.root.ok(["run", "-d", "-b", self.dir(), &self.id]);
        appears(&self.data("mounted"));
    }

    fn inside(&self, script: &str) -> (i32, String, String) {
        run(&mut self.root.command(["exec", &self.id, "/bin/sh", "-c", script]))
    }
}

pub fn appears(path: &Path) {
    for _ in 0..1000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} does not appear", path.display());
}

/// What a container mounts on its volume, the host does not see.
fn keeps_to_itself(name: &str, user_namespace: bool, root: &str, volume: &[&str]) {
    let Some(mut host) = Host::new(name, user_namespace, root, volume) else { return };
    let before = mountinfo().unwrap();
    host.mounts_inside();
    assert_eq!(mountinfo().unwrap(), before);
}

#[test]
fn root_in_a_user_namespace_mounts_nothing_on_the_host() {
    keeps_to_itself("plain", true, "", &["rbind"]);
}

#[test]
fn nor_does_it_where_the_volume_is_shared() {
    keeps_to_itself("shared", true, "shared", &["rbind", "rshared"]);
}

#[test]
fn nor_does_root_without_one_through_a_volume_that_does_not_ask() {
    keeps_to_itself("unasked", false, "rshared", &["rbind"]);
}

#[test]
fn nor_through_one_that_asks_below_a_root_that_is_not_shared() {
    keeps_to_itself("slave", false, "rslave", &["rbind", "rshared"]);
}

/// As docker's `-v a:b:shared` and Kubernetes' Bidirectional ask.
fn reaches_the_host(name: &str, root: &str, propagation: &str) {
    let Some(mut host) = Host::new(name, false, root, &["rbind", propagation]) else { return };
    let before = mountinfo().unwrap();
    host.mounts_inside();
    let inside = host.data("inside");
    let is_mounted = |at: &Path| mountinfo().unwrap().contains(&format!(" {} ", at.display()));
    assert!(is_mounted(&inside), "the container's mount is not on the host");
    let outside = host.data("outside");
    let tmpfs = |at: &Path| Command::new("mount").args(["-t", "tmpfs", "good"]).arg(at).status().unwrap();
    assert!(tmpfs(&outside).success());
    let (_, seen, _) = host.inside("grep -c good /proc/self/mountinfo");
    assert_eq!(seen.trim(), "1", "the host's mount is not in the container");
    for at in [&inside, &outside] {
        assert!(Command::new("umount").arg(at).status().unwrap().success());
    }
    let (_, seen, _) = host.inside("grep -c ' /vol/' /proc/self/mountinfo");
    assert_eq!(seen.trim(), "0", "they stayed in the container");
    assert_eq!(mountinfo().unwrap(), before);
}

#[test]
fn a_shared_volume_and_the_host_see_each_others_mounts() {
    reaches_the_host("shared", "shared", "shared");
}

#[test]
fn a_recursively_shared_one_too() {
    reaches_the_host("rshared", "rshared", "rshared");
}

/// `sampan run` over and over, with the n-th system call about mounts of each of its processes disturbed: until there is none
/// left to disturb. Returns how often that was.
fn disturb(host: &Host, how: &str) -> u32 {
    let log = host.bundle.path().join("strace");
    let calls = "open_tree,mount_setattr,move_mount,fsmount,mount,pivot_root,umount2,setns,unshare";
    let before = mountinfo().unwrap();
    for n in 1.. {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-o"]).arg(&log);
        strace.arg("-e").arg(format!("inject={calls}:{how}:when={n}"));
        strace.arg(program()).arg("--root").arg(host.root.path());
        run(strace.args(["run", "-b", host.dir(), &host.id]));
        host.root.command(["delete", "--force", &host.id]).output().unwrap();
        assert_eq!(mountinfo().unwrap(), before, "{how}, the {n}th call");
        let log = fs::read_to_string(&log).unwrap();
        if !log.contains("(INJECTED)") && !log.contains("killed by SIGKILL") {
            return n - 1;
        }
    }
    unreachable!()
}

/// On failure and on death, at each step; and what then removes the bundle does not reach into its volumes.
fn disturbed_at_each_step(name: &str, user_namespace: bool) {
    if !need::program("strace") {
        return;
    }
    let Some(mut host) = Host::new(name, user_namespace, "rshared", &["rbind", "rshared"]) else { return };
    host.bundle.script("exit 0").write().unwrap();
    for how in ["error=EIO", "signal=KILL"] {
        let times = disturb(&host, how);
        assert!(times > 20, "{how}: only {times} calls");
    }
}

#[test]
fn a_launch_that_ends_at_any_step_leaves_no_mount() {
    disturbed_at_each_step("ended", false);
}

#[test]
fn a_launch_into_a_user_namespace_that_ends_at_any_step_leaves_no_mount() {
    disturbed_at_each_step("ended-user", true);
}

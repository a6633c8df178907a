//! What real containers have open at each stage: nothing that leads to the host (CVE-2024-21626). The plans of all configs are
//! looked at by core/plan/tests/descriptors.rs; here it is the kernel that says.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::lifecycle::eventually;
use crate::sampan::{Root, program, run};

/// Which control groups the machine shows: as it is, or one kind alone, in a mount namespace of the command's own.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Groups {
    AsTheyAre,
    V1,
    V2,
}

impl Groups {
    const ALL: [Groups; 3] = [Groups::AsTheyAre, Groups::V1, Groups::V2];

    fn prepare(self) -> &'static str {
        match self {
            Groups::AsTheyAre => "",
            Groups::V1 => "umount -l /sys/fs/cgroup/unified;",
            Groups::V2 => "umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup;",
        }
    }

    fn there(self) -> bool {
        self != Groups::V1
            || need::need(
                "cgroup v1 hierarchies at /sys/fs/cgroup",
                Path::new("/sys/fs/cgroup/cpu/tasks").exists(),
            )
    }
}

/// A container, in each world of control groups, with and without a user namespace.
struct World {
    groups: Groups,
    user_namespace: bool,
    root: Root,
    bundle: Bundle,
    id: String,
}

fn worlds(name: &str) -> Vec<World> {
    if !need::root() || !need::busybox() {
        return Vec::new();
    }
    let each = Groups::ALL.into_iter().filter(|groups| groups.there()).flat_map(|g| [(g, false), (g, true)]);
    each.map(|(groups, user_namespace)| {
        let name = format!("{name}-{groups:?}-{user_namespace}").to_lowercase();
        let mut bundle = Bundle::new(&name).unwrap();
        bundle.set("/root/readonly", json!(false)).script("sleep 1000");
        if user_namespace {
            bundle.add("/linux/namespaces", json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
            // Root of a user namespace writes to what belongs to it, or to everybody.
            for folder in ["", "tmp"] {
                fs::set_permissions(bundle.rootfs().join(folder), fs::Permissions::from_mode(0o777)).unwrap();
            }
        }
        let id = format!("t{}-{name}", std::process::id());
        World { groups, user_namespace, root: Root::new(&name), bundle, id }
    })
    .collect()
}

impl World {
    /// `sampan VERB ARGS` with three host directories open beside stdio, as a careless caller leaves them.
    fn sampan(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new("unshare");
        let script = format!("{} exec 5</ 7</etc 9</; exec \"$0\" --root \"$@\"", self.groups.prepare());
        command.args(["-m", "sh", "-c", &script, program()]).arg(self.root.path()).args(args);
        run(&mut command)
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.sampan(args);
        assert_eq!((code, err.as_str()), (0, ""), "{self}: {args:?}: {out}");
        out
    }

    fn create(&self) -> i64 {
        self.bundle.write().unwrap();
        self.ok(&["create", "-b", self.bundle.path().to_str().unwrap(), &self.id]);
        let state: serde_json::Value = serde_json::from_str(&self.ok(&["state", &self.id])).unwrap();
        state["pid"].as_i64().unwrap()
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "groups {:?}, user namespace {}", self.groups, self.user_namespace)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.sampan(&["delete", "--force", &self.id]);
    }
}

/// The descriptors of a process, from 3 on, that lead somewhere.
fn ways_out(pid: i64) -> Vec<String> {
    const O_PATH: u32 = 0o10000000;
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_str().unwrap().parse::<u32>().unwrap() > 2)
        .filter_map(|entry| {
            let number = entry.file_name().into_string().unwrap();
            let link = fs::read_link(entry.path()).unwrap();
            let link = link.to_str().unwrap();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).unwrap().trim();
            let only_a_path = u32::from_str_radix(flags, 8).unwrap() & O_PATH != 0;
            let kind = fs::metadata(entry.path()).unwrap().file_type();
            let ends_here = kind.is_fifo() || kind.is_socket() || link.starts_with("/memfd:");
            (only_a_path || !ends_here).then(|| format!("{number} -> {link} ({flags})"))
        })
        .collect()
}

/// A shell's look at its own descriptors.
const LOOK: &str = "ls -l /proc/$$/fd; true";

/// What it says beyond stdio.
fn beyond_stdio(listing: &str) -> Vec<&str> {
    let number =
        |line: &&str| line.split(" -> ").next().unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    listing.lines().filter(|line| line.contains(" -> ") && number(line) > 2).collect()
}

#[test]
fn a_created_container_has_nothing_of_the_host_open() {
    for world in worlds("created") {
        let pid = world.create();
        assert_eq!(ways_out(pid), Vec::<String>::new(), "{world}");
    }
}

#[test]
fn a_program_and_the_hooks_inside_have_nothing_open_but_their_stdio() {
    for mut world in worlds("inside") {
        let seen = world.bundle.path().join("seen");
        fs::write(&seen, "").unwrap();
        fs::set_permissions(&seen, fs::Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(world.bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let hook = |script: String| json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        // There /proc is still the host's, which knows the shell by another number.
        let create = format!("ls -l /proc/self/fd | grep -v '/fd$' > {}", seen.display());
        let start = format!("exec > /hook; {LOOK}");
        let hooks = json!({"createContainer": hook(create), "startContainer": hook(start)});
        world.bundle.set("/hooks", hooks).script(&format!("({LOOK}) > /program; sleep 1000"));
        let pid = world.create();
        world.ok(&["start", &world.id]);
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        let program = world.bundle.rootfs().join("program");
        eventually("the program has looked", || program.exists() && read(&program).contains(" 2 -> "));
        for (who, listing) in [
            ("createContainer", read(&seen)),
            ("startContainer", read(&world.bundle.rootfs().join("hook"))),
            ("the program", read(&program)),
        ] {
            assert_eq!(beyond_stdio(&listing), Vec::<&str>::new(), "{world}: {who}");
            assert!(listing.contains(" 2 -> "), "{world}: {who} saw nothing: {listing:?}");
        }
        assert_eq!(ways_out(pid), Vec::<String>::new(), "{world}");
    }
}

/// Descriptors that are only closed at exec are still open while the kernel looks up the program.
#[test]
fn no_program_is_found_through_a_descriptor() {
    for world in worlds("lookup") {
        let pid = world.create();
        world.ok(&["start", &world.id]);
        let namespace = format!("--mount=/proc/{pid}/ns/mnt");
        let target = pid.to_string();
        for number in 3..16 {
            let descriptor = format!("/proc/self/fd/{number}");
            let program = format!("{descriptor}/../../../../../../../../bin/busybox");
            for verb in [
                vec!["exec", &world.id, &program, "true"],
                vec!["exec", "--cwd", &descriptor, &world.id, "/bin/true"],
                vec!["enter", "--target", &target, "--all", "--", &program, "true"],
                vec!["enter", &namespace, "--", &program, "true"],
            ] {
                let (code, out, err) = world.sampan(&verb);
                assert!(code != 0 && !err.is_empty(), "{world}: {verb:?}: {out}");
            }
        }
        for verb in [vec!["exec", world.id.as_str()], vec!["enter", "--target", &target, "--all", "--"]] {
            let listing = world.ok(&[&verb[..], &["sh", "-c", LOOK]].concat());
            assert_eq!(beyond_stdio(&listing), Vec::<&str>::new(), "{world}: {verb:?}");
        }
    }
}

/// A folder is made below the container's root, wherever the image's links seem to lead.
#[test]
fn a_working_directory_is_looked_up_and_made_inside() {
    for mut world in worlds("cwd") {
        let outside = world.bundle.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let up = format!("../../../../../../../../..{}", outside.display());
        std::os::unix::fs::symlink(&up, world.bundle.rootfs().join("link")).unwrap();
        std::os::unix::fs::symlink("/proc/1/root", world.bundle.rootfs().join("magic")).unwrap();
        world.bundle.set("/process/cwd", json!("/link/made")).script("pwd > /where");
        world.bundle.write().unwrap();
        world.ok(&["run", "-b", world.bundle.path().to_str().unwrap(), &world.id]);
        let made = format!("{}/made", outside.display());
        assert_eq!(fs::read_to_string(world.bundle.rootfs().join("where")).unwrap().trim(), made, "{world}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{world}: made on the host");

        for cwd in ["/magic/made", "/proc/self/cwd", "/proc/self/fd/7"] {
            world.bundle.set("/process/cwd", json!(cwd)).write().unwrap();
            let (code, _, err) =
                world.sampan(&["run", "-b", world.bundle.path().to_str().unwrap(), &world.id]);
            assert!(code == 1 && err.contains("process.cwd"), "{world}: {cwd}: {err}");
        }
    }
}

//! Control groups made while the child mounts: where there is no cgroup v2 for it to be born in. The machine's v2 is hidden in
//! a mount namespace of the command's own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::lifecycle::leftovers;
use crate::sampan::{Root, program, run};

struct Here {
    root: Root,
    bundle: Bundle,
    id: String,
}

impl Here {
    fn new(name: &str, script: &str) -> Option<Here> {
        if !need::root() || !need::busybox() {
            return None;
        }
        let v1 = fs::exists("/sys/fs/cgroup/cpu/tasks").unwrap();
        if !need::need("cgroup v1 hierarchies at /sys/fs/cgroup", v1) {
            return None;
        }
        let mut bundle = Bundle::new(name).unwrap();
        bundle.script(script);
        Some(Here { root: Root::new(name), bundle, id: format!("t{}-{name}", std::process::id()) })
    }

    /// Code, output and errors of `sampan run`; a container that could not be made leaves nothing.
    fn run(&self) -> (i32, String, String) {
        self.bundle.write().unwrap();
        let mut command = Command::new("unshare");
        let script =
            "! mountpoint -q /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup/unified; exec \"$0\" \"$@\"";
        command.args(["-m", "sh", "-c", script, program(), "--root"]);
        command.arg(self.root.path()).args(["run", "-b"]).arg(self.bundle.path()).arg(&self.id);
        let result = run(&mut command);
        assert_eq!(
            fs::read_dir(self.root.path()).unwrap().count(),
            0,
            "the state folder is gone: {result:?}"
        );
        result
    }

    fn cpu_group(&self) -> String {
        format!("/sys/fs/cgroup/cpu/{}", self.id)
    }
}

#[test]
fn it_is_in_groups_of_its_own_with_their_limits_and_nothing_stays() {
    let Some(mut here) = Here::new("late", "cat /proc/self/cgroup; cat /sys/fs/cgroup/pids/pids.max") else {
        return;
    };
    here.bundle.set("/linux/cgroupsPath", json!(format!("/{}", here.id)));
    here.bundle.set("/linux/resources", json!({"pids": {"limit": 77}}));
    let (code, out, err) = here.run();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(out.lines().last(), Some("77"));
    for line in out.lines().filter(|l| l.contains(':') && !l.starts_with("0::")) {
        assert!(line.ends_with(&format!("/{}", here.id)), "{line}");
    }
    assert_eq!(leftovers(&here.id), [""; 0]);
}

#[test]
fn a_limit_that_is_refused_ends_the_child_that_waits_for_it() {
    let Some(mut here) = Here::new("late-limit", "true") else { return };
    here.bundle.set("/linux/resources", json!({"cpu": {"cpus": "4000"}}));
    let (code, _, err) = here.run();
    assert_eq!(code, 1);
    assert!(err.contains("cpuset.cpus"), "{err}");
    assert_eq!(leftovers(&here.id), [""; 0]);
}

#[test]
fn a_mount_that_fails_meanwhile_is_the_error_and_the_groups_go() {
    let Some(mut here) = Here::new("late-mount", "true") else { return };
    let mount = json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]});
    here.bundle.add("/mounts", mount);
    let (code, _, err) = here.run();
    assert_eq!(code, 1);
    assert!(err.contains("/no/such"), "{err}");
    assert_eq!(leftovers(&here.id), [""; 0]);
}

#[test]
fn a_group_that_somebody_is_in_stays_theirs() {
    let Some(mut here) = Here::new("late-taken", "true") else { return };
    here.bundle.set("/linux/cgroupsPath", json!(format!("/{}", here.id)));
    for controller in ["cpu", "freezer"] {
        fs::create_dir(here.cpu_group().replace("/cpu/", &format!("/{controller}/"))).unwrap();
    }
    let freezer = here.cpu_group().replace("/cpu/", "/freezer/");
    let mut other: Child = sleep();
    fs::write(format!("{freezer}/cgroup.procs"), other.id().to_string()).unwrap();
    let (code, _, err) = here.run();
    let alive = other.try_wait().unwrap().is_none();
    other.kill().unwrap();
    other.wait().unwrap();
    let stayed = fs::remove_dir(&freezer).is_ok();
    let _ = fs::remove_dir(here.cpu_group());
    assert!(alive, "somebody else's process");
    assert!(stayed, "somebody else's group");
    assert_eq!(code, 1);
    assert!(err.contains(&other.id().to_string()), "{err}");
    assert_eq!(leftovers(&here.id), [""; 0]);
}

fn sleep() -> Child {
    Command::new("sleep").arg("60").process_group(0).spawn().unwrap()
}

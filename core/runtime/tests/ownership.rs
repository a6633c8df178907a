//! Whom a container's end may end: what was put into its own groups by its launch, and nobody else.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use sampan_cgroups::{Cgroup, CgroupsPath, Hierarchies};
use sampan_runtime::store::state::{self, State};
use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::lifecycle::{eventually, leftovers};
use crate::sampan::Root;

/// Somebody else's process, in a group of that name.
struct Other(Child);

impl Other {
    fn new() -> Other {
        Other(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn put_into(&self, groups: &Cgroup<'_>) {
        for (_, path) in groups.paths() {
            fs::write(format!("{path}/cgroup.procs"), self.0.id().to_string()).unwrap();
        }
    }

    fn lives(&mut self) -> bool {
        // What was killed may take a moment to be dead.
        std::thread::sleep(std::time::Duration::from_millis(100));
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Here {
    root: Root,
    bundle: Bundle,
    id: String,
}

impl Here {
    /// A container whose groups are `/ID`; `None` where there can be none.
    fn new(name: &str, script: &str) -> Option<Here> {
        if !need::root() || !need::busybox() {
            return None;
        }
        let id = format!("t{}-{name}", std::process::id());
        let mut bundle = Bundle::new(name).unwrap();
        bundle.script(script).set("/linux/cgroupsPath", json!(format!("/{id}")));
        bundle.write().unwrap();
        Some(Here { root: Root::new(name), bundle, id })
    }

    /// Without a pid namespace of its own.
    fn in_our_pid_namespace(&mut self) {
        let own = ["network", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        self.bundle.set("/linux/namespaces", json!(own));
        self.bundle.write().unwrap();
    }

    fn run(&self) {
        self.root.ok(["run", "-d", "-b", self.bundle.path().to_str().unwrap(), &self.id]);
    }

    fn place(&self) -> CgroupsPath {
        CgroupsPath::parse(Some(&format!("/{}", self.id)), &self.id).unwrap()
    }

    fn groups(&self) -> Cgroup<'static> {
        Cgroup::at(Hierarchies::detect().unwrap(), &self.place()).unwrap()
    }

    fn make_groups(&self) -> Cgroup<'static> {
        Cgroup::create(Hierarchies::detect().unwrap(), &self.place()).unwrap()
    }

    fn status(&self) -> String {
        let state: serde_json::Value = serde_json::from_str(&self.root.ok(["state", &self.id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    fn delete(&self) {
        assert_eq!(self.root.err(["delete", "--force", &self.id]), (0, String::new()));
        assert_eq!(self.root.ok(["list", "-q"]), "");
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let _ = self.groups().kill(std::time::Duration::from_secs(5));
        let _ = self.groups().remove();
    }
}

#[test]
fn a_container_that_never_got_its_group_ends_nobody_in_it() {
    let Some(here) = Here::new("unclaimed", "true") else { return };
    let folders = sampan_runtime::store::dir::Root::new(Some(here.root.path())).unwrap();
    let mut state = State::creating(&here.id, here.bundle.path().into());
    let location = here.groups().location();
    state.cgroup = Some(state::Cgroup { location, ..state::Cgroup::default() });
    state.save(&folders.create(&here.id).unwrap()).unwrap();
    let mut other = Other::new();
    other.put_into(&here.make_groups());
    for args in [&["kill", "--all", &here.id, "KILL"][..], &["kill", &here.id, "KILL"]] {
        here.root.err(args);
        assert!(other.lives(), "{args:?}");
    }
    here.delete();
    assert!(other.lives());
    assert!(here.groups().exists());
}

#[test]
fn a_group_that_was_made_anew_under_the_same_name_is_another() {
    let Some(mut here) = Here::new("anew", "sleep 60") else { return };
    here.in_our_pid_namespace();
    here.run();
    here.root.ok(["kill", &here.id, "KILL"]);
    eventually("stopped", || here.status() == "stopped");
    eventually("empty", || here.groups().remove_if_empty());
    let mut other = Other::new();
    other.put_into(&here.make_groups());
    let (code, err) = here.root.err(["kill", &here.id, "KILL"]);
    assert!(code == 1 && err.contains("container not running"), "{err}");
    here.delete();
    assert!(other.lives());
}

#[test]
fn who_shares_the_group_of_a_container_with_its_own_pid_namespace_is_left_alone() {
    for made_before in [false, true] {
        let Some(here) = Here::new("shared", "sleep 60") else { return };
        if made_before {
            here.make_groups();
        }
        here.run();
        let mut other = Other::new();
        other.put_into(&here.groups());
        here.root.ok(["kill", &here.id, "KILL"]);
        eventually("stopped", || here.status() == "stopped");
        assert!(other.lives(), "made before: {made_before}");
        let (code, err) = here.root.err(["--debug", "delete", "--force", &here.id]);
        assert!(code == 0 && err.contains(&format!("{} is left", here.groups())), "{err}");
        assert!(err.contains(&other.0.id().to_string()), "{err}");
        assert!(other.lives(), "made before: {made_before}");
    }
}

#[test]
fn in_a_group_that_was_there_before_only_the_first_process_is_the_containers() {
    let Some(mut here) = Here::new("before", "sleep 60") else { return };
    here.in_our_pid_namespace();
    here.make_groups();
    here.run();
    let mut other = Other::new();
    other.put_into(&here.groups());
    here.root.ok(["kill", "--all", &here.id, "KILL"]);
    eventually("stopped", || here.status() == "stopped");
    here.delete();
    assert!(other.lives());
}

/// The group was empty when the second one came, and its inode is the same.
#[test]
fn who_takes_the_group_of_a_container_that_has_ended_has_it_alone() {
    for own_pid_namespace in [false, true] {
        let Some(mut here) = Here::new("taken", "exit 0") else { return };
        if !own_pid_namespace {
            here.in_our_pid_namespace();
        }
        here.run();
        eventually("stopped", || here.status() == "stopped");
        let second = format!("{}-second", here.id);
        here.bundle.script("sleep 60 & wait");
        here.bundle.write().unwrap();
        here.root.ok(["run", "-d", "-b", here.bundle.path().to_str().unwrap(), &second]);
        eventually("two processes", || here.groups().members().len() == 2);
        let processes = here.groups().members();
        let below = here.groups().paths().into_iter().map(|(_, path)| format!("{path}/below"));
        let below: Vec<String> = below.collect();
        below.iter().for_each(|path| fs::create_dir(path).unwrap());
        let paused = || here.groups().is_frozen().unwrap();

        for signal in ["TERM", "KILL"] {
            here.root.ok(["kill", "--all", &here.id, signal]);
        }
        here.root.ok(["pause", &second]);
        let (code, err) = here.root.err(["kill", &here.id, "KILL"]);
        assert!(code == 1 && err.contains("container not running"), "{err}");
        assert!(paused(), "kill; own pid namespace: {own_pid_namespace}");
        let (code, err) = here.root.err(["--debug", "delete", "--force", &here.id]);
        assert!(code == 0 && err.contains(&format!("{} is left", here.groups())), "{err}");
        assert!(paused(), "delete; own pid namespace: {own_pid_namespace}");
        assert!(below.iter().all(|path| fs::exists(path).unwrap()));
        here.root.ok(["resume", &second]);
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(here.groups().members(), processes);
        assert_eq!(here.root.err(["delete", "--force", &second]), (0, String::new()));
        assert_eq!(leftovers(&here.id), [""; 0]);
        assert!(!here.groups().exists());
    }
}

/// A process names itself, and errors are read on root's terminal.
#[test]
fn the_name_of_a_process_inside_is_told_as_text_alone() {
    let script = r"printf '\033]0;pwn\007\nx' >/proc/self/comm; touch /dev/shm/named; read x </dev/zero";
    let Some(here) = Here::new("named", script) else { return };
    here.run();
    eventually("named", || here.root.err(["exec", &here.id, "/bin/ls", "/dev/shm/named"]).0 == 0);
    fs::write(here.root.path().join(&here.id).join("state.json"), "{").unwrap();
    let (code, err) = here.root.err(["delete", "--force", &here.id]);
    assert!(code == 1 && err.contains(r"(\u{1b}]0;pwn\u{7}\nx)"), "{err:?}");
    let _ = here.groups().kill(std::time::Duration::from_secs(5));
    here.delete();
}

#[test]
fn a_failing_launch_ends_nobody_in_a_group_that_was_there_before() {
    let Some(mut here) = Here::new("failing-shared", "true") else { return };
    let mut other = Other::new();
    // Somebody goes there while the launch runs, which then fails.
    let join = |path: &str| format!("echo {} > {path}/cgroup.procs; ", other.0.id());
    let join: String = here.groups().paths().iter().map(|(_, path)| join(path)).collect();
    let script = format!("{join} exit 1");
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] }]);
    here.bundle.set("/hooks", json!({ "prestart": hook }));
    here.bundle.write().unwrap();
    here.make_groups();
    let (code, err) = here.root.err(["run", "-b", here.bundle.path().to_str().unwrap(), &here.id]);
    assert!(code == 1 && err.contains("hooks.prestart[0]"), "{err}");
    assert!(other.lives());
}

#[test]
fn a_sigkill_ends_what_a_dead_init_left_in_our_pid_namespace() {
    let Some(mut here) = Here::new("rest", "sleep 1000 & exit 0") else { return };
    here.in_our_pid_namespace();
    here.run();
    eventually("stopped", || here.status() == "stopped");
    assert_eq!(here.groups().members().len(), 1);
    here.root.ok(["kill", &here.id, "KILL"]);
    eventually("ended", || here.groups().members().is_empty());
    let (code, err) = here.root.err(["kill", &here.id, "KILL"]);
    assert!(code == 1 && err.contains("container not running"), "{err}");
    here.delete();
    assert_eq!(leftovers(&here.id), [""; 0]);
}

/// Root inside, to whom its groups are given to write to: it freezes a part of itself, and makes groups with names that are
/// no text, deeper than any path.
#[test]
fn what_a_container_does_below_its_groups_keeps_nobody_from_deleting_it() {
    let script = "cd /sys/fs/cgroup
        for freezer in $(ls -d freezer 2>/dev/null); do
            mkdir freezer/part; sleep 1000 & echo $! >freezer/part/cgroup.procs; echo FROZEN >freezer/part/freezer.state
        done
        n=$(printf 'x%.0s' $(seq 1 250)); test -d pids && cd pids; mkdir $(printf 'a\\377'); chmod 755 .
        mkdir deep; cd deep; for i in $(seq 1 30); do mkdir $n && cd -P ./$n || break; done 2>/dev/null
        echo ready >/dev/shm/ready; sleep 1000";
    let Some(mut here) = Here::new("below", script) else { return };
    for mount in here.bundle.config["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
        }
    }
    here.bundle.write().unwrap();
    here.run();
    let ready = || here.root.err(["exec", &here.id, "/bin/cat", "/dev/shm/ready"]).0 == 0;
    eventually("ready", ready);
    let odd = here.groups().paths().into_iter().any(|(_, path)| {
        let name = std::os::unix::ffi::OsStrExt::from_bytes(b"a\xff");
        Path::new(&path).join::<&std::ffi::OsStr>(name).is_dir()
    });
    assert!(odd, "it has made none");
    here.delete();
    assert_eq!(leftovers(&here.id), [""; 0]);
    assert!(!here.groups().exists());
    // `kill` by itself, too: init ends after all that are in its pid namespace.
    here.run();
    eventually("ready again", ready);
    here.root.ok(["kill", &here.id, "KILL"]);
    eventually("stopped", || here.status() == "stopped");
    here.delete();
}

#[test]
fn a_damaged_state_says_what_is_left_and_is_removed_once_nothing_is() {
    let Some(here) = Here::new("damaged", "sleep 60") else { return };
    here.run();
    let pids: Vec<i32> = serde_json::from_str(&here.root.ok(["ps", "-f", "json", &here.id])).unwrap();
    // The shell becomes it.
    let name = || fs::read_to_string(format!("/proc/{}/comm", pids[0])).unwrap();
    eventually("it sleeps", || name() == "sleep\n");
    let file = here.root.path().join(&here.id).join("state.json");
    let text = fs::read(&file).unwrap();
    for kept in [0, 1, 100, text.len() - 1] {
        fs::write(&file, &text[..kept]).unwrap();
        let (code, err) = here.root.err(["delete", "--force", &here.id]);
        let says = format!("Left: processes {} (sleep) in the control groups", pids[0]);
        assert!(code == 1 && err.contains(&says), "{kept} bytes: {code}, {err}");
        assert!(err.contains(&here.groups().paths().last().unwrap().1), "{err}");
        assert!(fs::exists(format!("/proc/{}/exe", pids[0])).unwrap());
    }
    let pid = nix::unistd::Pid::from_raw(pids[0]);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("ended", || here.groups().members().is_empty());
    here.delete();
    assert_eq!(leftovers(&here.id), [""; 0]);
}

//! Every verb on a half-made, half-gone or foreign folder: a defined answer, and `delete --force` always cleans up.

use std::fs;
use std::os::fd::AsFd;
use std::process::{Child, Command};

use sampan_runtime::kernel::pidfd;
use sampan_runtime::store::dir::Lock;
use sampan_runtime::store::state::{Stage, State};

use crate::sampan::Root;

/// A process that stands for a container's init.
struct Init(Child);

impl Init {
    fn new() -> Init {
        Init(Command::new("sleep").arg("60").spawn().unwrap())
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes the state that a create or start would have written.
fn container(root: &Root, id: &str, stage: Stage, init: Option<&Init>) {
    let folders = sampan_runtime::store::dir::Root::new(Some(root.path())).unwrap();
    let folder = folders.create(id).unwrap();
    let mut state = State::creating(id, "/bundle".into());
    state.stage = stage;
    state.own_pid_namespace = true;
    state.init = init.map(|init| {
        let pid = init.0.id() as i32;
        let fd = pidfd::open(pid).unwrap().unwrap();
        pidfd::identify(pid, fd.as_fd()).unwrap()
    });
    state.save(&folder).unwrap();
}

fn status(root: &Root, id: &str) -> String {
    let state: serde_json::Value = serde_json::from_str(&root.ok(["state", id])).unwrap();
    format!("{} {}", state["status"].as_str().unwrap(), if state["pid"] == 0 { "0" } else { "pid" })
}

#[test]
fn the_status_is_what_the_process_is() {
    let root = Root::new("status");
    let mut init = Init::new();
    container(&root, "made", Stage::Created, Some(&init));
    container(&root, "on", Stage::Running, Some(&init));
    container(&root, "dead", Stage::Creating, None);
    assert_eq!(status(&root, "made"), "created pid");
    assert_eq!(status(&root, "on"), "running pid");
    assert_eq!(status(&root, "dead"), "stopped 0");
    // A zombie has stopped, although its pid and start time are still right.
    init.0.kill().unwrap();
    while !fs::read_to_string(format!("/proc/{}/stat", init.0.id())).unwrap().contains(") Z") {
        std::thread::yield_now();
    }
    assert_eq!(status(&root, "on"), "stopped 0");
}

#[test]
fn a_reused_pid_is_not_the_container() {
    let root = Root::new("reuse");
    let init = Init::new();
    container(&root, "c", Stage::Running, Some(&init));
    let file = root.path().join("c/state.json");
    let mut state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    state["init"]["start"] = 1.into();
    state["init"].as_object_mut().unwrap().remove("inode");
    fs::write(&file, state.to_string()).unwrap();
    assert_eq!(status(&root, "c"), "stopped 0");
    assert_eq!(root.err(["kill", "c", "9"]), (1, "sampan: c: container not running\n".into()));
    root.ok(["delete", "--force", "c"]);
    assert!(fs::exists(format!("/proc/{}/exe", init.0.id())).unwrap(), "somebody else was killed");
}

#[test]
fn verbs_answer_in_runcs_words_in_every_state() {
    let root = Root::new("words");
    let init = Init::new();
    container(&root, "on", Stage::Running, Some(&init));
    container(&root, "off", Stage::Running, None);
    let not = "container not running";
    let gone = "container does not exist";
    for (args, code, text) in [
        (&["state", "none"][..], 1, Some(gone)),
        (&["kill", "none"], 1, Some(gone)),
        (&["kill", "off"], 1, Some(not)),
        (&["kill", "--all", "off", "KILL"], 0, None),
        (&["kill", "off", "9"], 1, Some(not)),
        (&["delete", "none"], 1, Some(gone)),
        (&["delete", "--force", "none"], 0, None),
        (&["delete", "on"], 1, Some("cannot delete container on that is not stopped: running")),
        (&["pause", "off"], 1, Some(not)),
        (&["resume", "off"], 1, Some("container not paused")),
        (&["ps", "off"], 0, None),
        (&["update", "--pids-limit", "1", "off"], 1, Some(not)),
        (&["kill", "on", "0"], 0, None),
        (&["delete", "off"], 0, None),
        (&["state", "off"], 1, Some(gone)),
    ] {
        let (got, err) = root.err(args);
        let expected = text.map_or(String::new(), |t| {
            format!("sampan: {}: {t}\n", args.iter().find(|a| ["on", "off", "none"].contains(a)).unwrap())
        });
        assert_eq!((got, err), (code, expected), "{args:?}");
    }
}

#[test]
fn a_folder_without_a_state_is_no_container_and_can_be_removed() {
    let root = Root::new("half");
    fs::create_dir(root.path().join("half")).unwrap();
    fs::write(root.path().join("half/config.json"), "{}").unwrap();
    assert_eq!(root.ok(["list", "-q"]), "");
    assert_eq!(root.err(["state", "half"]).0, 1);
    root.ok(["delete", "half"]);
    assert!(!root.path().join("half").exists());
}

#[test]
fn a_corrupt_state_is_named_and_only_force_removes_it() {
    let root = Root::new("corrupt");
    fs::create_dir(root.path().join("bad")).unwrap();
    fs::write(root.path().join("bad/state.json"), "{\"id\": 3").unwrap();
    let (code, err) = root.err(["delete", "bad"]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot be understood") && err.contains("delete --force bad"), "{err}");
    let (code, err) = root.err(["list"]);
    assert_eq!(code, 0);
    assert!(err.contains("bad"), "{err}");
    assert_eq!(root.ok(["list", "-q"]), "bad\n", "names need no state");
    root.ok(["delete", "--force", "bad"]);
    assert!(!root.path().join("bad").exists());
}

#[test]
fn delete_force_kills_and_removes() {
    let root = Root::new("force");
    let mut init = Init::new();
    container(&root, "c", Stage::Running, Some(&init));
    root.ok(["delete", "--force", "c"]);
    assert_eq!(init.0.wait().unwrap().to_string(), "signal: 9 (SIGKILL)");
    assert!(!root.path().join("c").exists());
}

#[test]
fn poststop_hooks_run_once_the_container_is_gone_and_only_warn() {
    let root = Root::new("poststop");
    container(&root, "c", Stage::Running, None);
    let folders = sampan_runtime::store::dir::Root::new(Some(root.path())).unwrap();
    let folder = folders.open("c").unwrap();
    let mut state = State::load(&folder).unwrap().unwrap();
    let seen = root.path().join("seen");
    let hook = |script: String| sampan_hooks::Hook {
        path: "/bin/sh".into(),
        args: vec!["sh".into(), "-c".into(), script],
        env: vec!["PATH=/usr/bin:/bin".into()],
        timeout: None,
    };
    state.hooks.poststop =
        vec![hook("echo broken; exit 1".into()), hook(format!("cat > {}", seen.display()))];
    state.save(&folder).unwrap();
    let (code, err) = root.err(["--log-level", "warning", "delete", "c"]);
    assert_eq!(code, 0);
    assert_eq!(err, "sampan: warning: hooks.poststop[0]: /bin/sh exited with 1; it printed: broken\n");
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&seen).unwrap()).unwrap();
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("stopped"), Some("c")));
    fs::remove_file(seen).unwrap();
}

#[test]
fn one_of_many_creators_wins() {
    let root = Root::new("race");
    let folders = sampan_runtime::store::dir::Root::new(Some(root.path())).unwrap();
    let won = std::thread::scope(|s| {
        let all: Vec<_> = (0..8).map(|_| s.spawn(|| folders.create("c").is_ok())).collect();
        all.into_iter().map(|t| t.join().unwrap()).filter(|w| *w).count()
    });
    assert_eq!(won, 1);
}

#[test]
fn whoever_waited_for_a_removed_container_is_told() {
    let root = Root::new("waited");
    let folders = sampan_runtime::store::dir::Root::new(Some(root.path())).unwrap();
    let holder = folders.create("c").unwrap();
    let waiter = folders.open("c").unwrap();
    let waited = std::thread::spawn(move || waiter.lock(Lock::Exclusive, None).unwrap_err().to_string());
    std::thread::sleep(std::time::Duration::from_millis(50));
    holder.remove().unwrap();
    assert_eq!(waited.join().unwrap(), "c: container does not exist");
}

#[test]
fn a_delete_does_not_wait_for_ever_for_a_create() {
    let root = Root::new("busy");
    let folders = sampan_runtime::store::dir::Root::new(Some(root.path())).unwrap();
    let holder = folders.create("c").unwrap();
    State::creating("c", "/b".into()).save(&holder).unwrap();
    assert_eq!(status(&root, "c"), "creating 0");
    assert!(holder.reopen().unwrap().is_busy().unwrap());
    drop(holder);
    assert_eq!(status(&root, "c"), "stopped 0");
    root.ok(["delete", "c"]);
}

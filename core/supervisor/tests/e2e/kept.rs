//! What a service keeps from one life to the next, control groups and bundle, and that nothing of it shows.
use super::world::kill;
use super::{LIVE, World};
use std::fs;
use std::os::unix::fs::MetadataExt;

impl World {
    /// Of a service's group that holds `file`.
    fn group_file(&self, service: &str, file: &str) -> Option<std::path::PathBuf> {
        let at = |group: &std::path::PathBuf| group.join(service).join(file);
        self.groups().iter().map(at).find(|path| path.exists())
    }

    fn inode(&self, service: &str) -> Option<u64> {
        Some(fs::metadata(self.group_file(service, "cgroup.procs")?).ok()?.ino())
    }

    fn limit(&self, service: &str) -> String {
        let file = self.group_file(service, "pids.max").expect("a pids controller");
        fs::read_to_string(file).unwrap().trim().to_owned()
    }

    fn kill_and_wait(&self, service: &str) {
        self.end_and_wait(service, libc::SIGKILL);
    }

    fn end_and_wait(&self, service: &str, signal: i32) {
        let generation = self.inspect(service).status.generation;
        kill(self.pid(service), signal);
        self.until("it lives again", |world| {
            let status = world.inspect(service).status;
            status.generation > generation && status.state == "running"
        });
    }
}

const QUICK: &str = "restart.delay = \"10ms\"\nrestart.max_delay = \"10ms\"\n";

#[test]
fn the_groups_stay_over_a_restart_and_go_with_a_stop() {
    let mut world = world!(
        "[services.a]\n{QUICK}stop_signal = \"SIGKILL\"\n\
         command = [\"/bin/sh\", \"-c\", \"trap 'exit 37' USR1; sleep 100000 & wait\"]\n"
    );
    world.start();
    world.until_state("a", "running");
    let (inode, bundle) = (world.inode("a").unwrap(), world.inspect("a").bundle.unwrap());
    let file = |path: std::path::PathBuf| fs::metadata(path).ok().map(|file| file.ino());
    let config = |folder: &std::path::Path| file(folder.join("config.json"));
    let table = world.dir().join("run/plugins/a.json");
    let (written, told) = (config(bundle.as_ref()), file(table.clone()));
    assert!(told.is_some());
    world.end_and_wait("a", libc::SIGUSR1);
    assert_eq!(world.inode("a"), Some(inode), "the group is the same");
    assert_eq!(config(bundle.as_ref()), written, "not written again");
    assert_eq!(config(&world.containers().join("a")), written, "nor twice");
    assert_eq!(file(table.clone()), told, "nor what plugins were told");
    assert_eq!(world.sampan(&["plan", &bundle]).code, 0);
    world.ok(&["stop", "a"]);
    assert_eq!(world.inode("a"), None);
    assert!(!fs::exists(&bundle).unwrap());
    world.until("nor what plugins were told", |_| !table.exists());
}

#[test]
fn limits_changed_between_two_lives_hold_and_dropped_ones_do_not() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}resources.pids = 50\n");
    world.start();
    world.until_state("a", "running");
    assert_eq!(world.limit("a"), "50");
    for (limit, expected) in [("resources.pids = 60\n", "60"), ("resources.cpus = 1\n", "4096")] {
        world.configure(&format!("[services.a]\n{LIVE}{QUICK}{limit}"));
        world.ok(&["apply"]);
        world.kill_and_wait("a");
        assert_eq!(world.limit("a"), expected, "{limit}");
    }
}

#[test]
fn what_sampan_update_changed_is_that_lifes_alone() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}resources.pids = 50\n");
    world.start();
    world.until_state("a", "running");
    let ran = world.sampan(&["update", "--pids-limit", "70", "a"]);
    assert_eq!((ran.code, world.limit("a")), (0, "70".to_owned()), "{ran:?}");
    world.kill_and_wait("a");
    assert_eq!(world.limit("a"), "50");
}

#[test]
fn an_oom_kill_of_one_life_is_not_held_against_the_next() {
    let eats = r#"command = ["/bin/sh", "-c", "if [ -e /tmp/once ]; then exit 3; fi; : > /tmp/once; x=x; while :; do x=$x$x$x; done"]"#;
    let mut world = world!(
        "[services.a]\n{eats}\nread_only = false\nresources.memory = \"16M\"\n\
         restart = {{ delay = \"10ms\", max_delay = \"10ms\", max_attempts = 1 }}\n"
    );
    fs::create_dir_all(world.dir().join("rootfs/tmp")).unwrap();
    world.start();
    world.until_state("a", "failed");
    let exits: Vec<String> = world
        .events()
        .into_iter()
        .filter(|event| event.to == "lingering" && event.from != "lingering")
        .map(|event| event.cause)
        .collect();
    assert_eq!(exits.len(), 2, "{exits:?}");
    assert!(exits[0].contains("oom") && !exits[1].contains("oom"), "{exits:?}");
}

/// On a host of v1 alone the kernel's victim is one process, here the main one.
#[test]
fn what_says_stop_is_failed_after_an_oom_kill_and_not_started_again() {
    let eats = r#"command = ["/bin/sh", "-c", "x=x; while :; do x=$x$x$x; done"]"#;
    let mut world = world!(
        "[services.a]\n{eats}\nresources = {{ memory = \"16M\", oom_policy = \"stop\" }}\n\
         restart = {{ policy = \"always\", delay = \"10ms\", max_delay = \"10ms\" }}\n\
         [services.b]\n{LIVE}{QUICK}resources.oom_policy = \"stop\"\n"
    );
    world.start();
    world.until_state("a", "failed");
    let a = world.inspect("a");
    assert_eq!(
        (a.status.generation, a.oom, a.status.text.as_str()),
        (1, true, "failed out of memory"),
        "{}",
        world.said()
    );
    // What ends otherwise is started again.
    world.until_state("b", "running");
    world.kill_and_wait("b");
    world.until_state("b", "running");
}

#[test]
fn a_group_that_a_process_hides_in_is_emptied_before_the_next_life() {
    let mut world = world!(
        "[services.a]\n{QUICK}stop_signal = \"SIGKILL\"\n\
         command = [\"/bin/sh\", \"-c\", \"(setsid sleep 54321 &) ; sleep 100000\"]\n"
    );
    world.start();
    world.until_state("a", "running");
    world.kill_and_wait("a");
    world.until("the second life is all there is", |world| world.processes("a").len() == 2);
}

/// With no worker nobody lets go; the next one does.
#[test]
fn a_worker_that_dies_between_two_lives_leaves_nothing_behind() {
    let slow = "restart.delay = \"1h\"\nrestart.max_delay = \"1h\"\n";
    let mut world = world!("[services.a]\n{LIVE}{slow}[services.b]\n{LIVE}{slow}[services.c]\n{LIVE}");
    world.start();
    for name in ["a", "b", "c"] {
        world.until_state(name, "running");
    }
    for name in ["a", "b"] {
        kill(world.pid(name), libc::SIGKILL);
        world.until_state(name, "backoff");
        assert!(world.inode(name).is_some(), "kept for the life that is due");
    }
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGKILL);
    world.until("another worker", |world| world.worker().is_some_and(|now| now != worker));
    assert_eq!(world.services().len(), 3);
    world.configure(&format!("[services.b]\n{LIVE}{slow}[services.c]\n{LIVE}"));
    world.ok(&["apply"]);
    world.ok(&["stop", "b"]);
    world.until("what both kept is gone", |world| world.inode("a").is_none() && world.inode("b").is_none());
    world.ok(&["start", "b"]);
    world.until_state("b", "running");
}

/// The clock of a time namespace is its own; what is due is due when it is.
#[test]
fn what_waits_when_sampand_ends_in_another_time_namespace_waits_no_longer() {
    let again = "command = [\"/bin/false\"]\nrestart = { delay = \"3s\", multiplier = 1.0, jitter = 0.0 }\n";
    let mut world = world!("on_exit = \"keep\"\n---\n[services.a]\n{LIVE}[services.again]\n{again}");
    world.ahead(1_000_000);
    world.start();
    let time = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/time")).ok();
    let is_elsewhere = time(world.keel().cast_unsigned()) != time(std::process::id());
    let need = sampan_testkit::need::need("time namespaces that exec enters (Linux 6.3)", is_elsewhere);
    for ahead in [0, 2_000_000, 0] {
        world.until_state("a", "running");
        world.until_state("again", "backoff");
        let (a, lives) = (world.pid("a"), world.inspect("again").status.generation);
        world.signal(libc::SIGTERM);
        assert_eq!(world.ended(), Some(0));
        world.ahead(ahead);
        world.start();
        assert_eq!(world.pid("a"), a);
        let text = world.inspect("a").status.text;
        assert!(!need || !text.contains('h'), "it runs since seconds: {text}");
        world.until("it is restarted", |world| world.inspect("again").status.generation > lives);
    }
}

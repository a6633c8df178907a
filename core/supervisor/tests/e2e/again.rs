//! A life is made from what the life before has left, where nothing has changed: here something has, each time another thing, after
//! lives that had everything in common.
use super::world::kill;
use super::{LIVE, World};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const QUICK: &str = "restart.delay = \"10ms\"\nrestart.max_delay = \"10ms\"\n";

impl World {
    /// Its process is killed: the next life's.
    fn next_life(&self, service: &str) -> i32 {
        let generation = self.inspect(service).status.generation;
        kill(self.pid(service), libc::SIGKILL);
        self.until("it lives again", |world| {
            let status = world.inspect(service).status;
            status.generation > generation && status.state == "running"
        });
        self.pid(service)
    }

    /// Lives that have everything in common.
    fn some_lives(&mut self) -> &World {
        self.start();
        self.until_state("a", "running");
        self.next_life("a");
        self.next_life("a");
        self
    }

    fn bundled(&self) -> PathBuf {
        self.dir().join("run/bundles/a/config.json")
    }
}

fn has_variable(pid: i32, variable: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn what_has_not_changed_is_not_written_again() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}environment.V = \"1\"\n");
    let world = world.some_lives();
    let before = fs::metadata(world.bundled()).unwrap().ino();
    assert!(has_variable(world.next_life("a"), "V=1"));
    assert_eq!(fs::metadata(world.bundled()).unwrap().ino(), before);
}

#[test]
fn the_folder_of_a_life_that_is_over_does_not_stay() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}");
    let containers = world.dir().join("run/containers");
    let names = || {
        let entries = fs::read_dir(&containers).unwrap().map(|entry| entry.unwrap().file_name());
        entries.collect::<Vec<_>>()
    };
    let world = world.some_lives();
    world.until("the last one's is gone", |_| names() == ["a"]);
    // One that a process has left which was killed: the next life is not held up, and what is left goes with it.
    write(&containers.join(".a/state.json"), "{}");
    world.next_life("a");
    world.next_life("a");
    world.until("both are gone", |_| names() == ["a"]);
}

#[test]
fn another_config_holds_for_the_next_life() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}environment.V = \"1\"\n");
    let world = world.some_lives();
    world.configure(&format!("[services.a]\n{LIVE}{QUICK}environment.V = \"2\"\n"));
    world.ok(&["apply"]);
    world.until("it lives by the new one", |world| {
        let status = world.inspect("a").status;
        status.state == "running" && status.pid.is_some_and(|pid| has_variable(pid, "V=2"))
    });
    assert!(has_variable(world.next_life("a"), "V=2"));
}

#[test]
fn a_user_that_the_root_numbers_anew_runs_by_the_new_number() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}user = \"app\"\n");
    let passwd = world.dir().join("rootfs/etc/passwd");
    write(&passwd, "app:x:1234:1234::/:/bin/sh\n");
    let uid = |pid: i32| fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    let world = world.some_lives();
    assert_eq!(uid(world.pid("a")), 1234);
    write(&passwd, "app:x:2345:2345::/:/bin/sh\n");
    assert_eq!(uid(world.next_life("a")), 2345);
}

#[test]
fn a_root_that_is_replaced_is_the_next_lifes() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}");
    let world = world.some_lives();
    let (root, old) = (world.dir().join("rootfs"), world.dir().join("old"));
    fs::rename(&root, &old).unwrap();
    assert!(std::process::Command::new("cp").arg("-a").args([&old, &root]).status().unwrap().success());
    write(&root.join("etc/new"), "");
    let pid = world.next_life("a");
    assert!(Path::new(&format!("/proc/{pid}/root/etc/new")).exists());
}

#[test]
fn a_seccomp_profile_is_read_for_each_life() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}security.seccomp_profile = \"profile.json\"\n");
    let profile = world.dir().join("profile.json");
    let says = |action: &str| {
        let rule = format!(r#"{{"names":["kexec_load"],"action":"{action}"}}"#);
        format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#)
    };
    write(&profile, &says("SCMP_ACT_ERRNO"));
    let world = world.some_lives();
    assert!(fs::read_to_string(world.bundled()).unwrap().contains("SCMP_ACT_ERRNO"));
    write(&profile, &says("SCMP_ACT_KILL_PROCESS"));
    world.next_life("a");
    assert!(fs::read_to_string(world.bundled()).unwrap().contains("SCMP_ACT_KILL_PROCESS"));
}

#[test]
fn what_somebody_has_written_into_the_bundle_holds_for_nobody() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}environment.V = \"1\"\n");
    let world = world.some_lives();
    let says = fs::read_to_string(world.bundled()).unwrap();
    // The process that has launched it knows the spec by heart. Another one reads it.
    std::thread::sleep(std::time::Duration::from_secs(5));
    write(&world.bundled(), &says.replace("V=1", "V=9"));
    assert!(has_variable(world.next_life("a"), "V=1"));
    assert_eq!(fs::read_to_string(world.bundled()).unwrap(), says);
    std::thread::sleep(std::time::Duration::from_secs(5));
    fs::remove_file(world.bundled()).unwrap();
    assert!(has_variable(world.next_life("a"), "V=1"));
    assert_eq!(fs::read_to_string(world.bundled()).unwrap(), says);
}

#[test]
fn a_life_long_after_the_one_before_starts_from_the_bundle() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}environment.V = \"1\"\n");
    let world = world.some_lives();
    let before = fs::metadata(world.bundled()).unwrap().ino();
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert!(has_variable(world.next_life("a"), "V=1"));
    assert_eq!(fs::metadata(world.bundled()).unwrap().ino(), before);
}

/// sampand's own score is what its containers inherit, and so decides whether theirs is written.
#[test]
fn another_score_of_sampands_own_is_seen() {
    let mut world = world!("[services.a]\n{LIVE}{QUICK}oom_score_adj = 7\n");
    let world = world.some_lives();
    let score = |world: &World| fs::read_to_string(world.bundled()).unwrap().contains("oomScoreAdj");
    assert!(score(world));
    write(&PathBuf::from(format!("/proc/{}/oom_score_adj", world.worker().unwrap())), "7");
    world.next_life("a");
    assert!(!score(world));
}

/// More services than one launching process remembers, each with a spec of its own.
#[test]
fn services_that_come_again_and_again_have_their_own_specs() {
    let services: String =
        (0..20).map(|n| format!("[services.a{n}]\n{LIVE}{QUICK}environment.V = \"{n}\"\n")).collect();
    let mut world = world!("{services}");
    world.start();
    for n in 0..20 {
        world.until_state(&format!("a{n}"), "running");
    }
    for _ in 0..2 {
        for n in 0..20 {
            assert!(has_variable(world.next_life(&format!("a{n}")), &format!("V={n}")), "{n}");
        }
    }
}

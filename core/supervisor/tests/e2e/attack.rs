//! Attacks on sampand by another user of the host, each a real one: it must fail, and without its one defence it must work
//! (`make attack`, feature `weaken`; core/child/src/defence.rs). Those on containers are in core/runtime/tests/attack.
use super::{LIVE, World};
use sampan_child::defence::Defence;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MALLORY: u32 = 4242;
const SECRET: &str = "known to the service alone";

struct Attack {
    defence: Defence,
    /// What the attacker has got, if anything.
    run: fn(World) -> Option<String>,
}

const ATTACKS: &[Attack] = &[
    Attack { defence: Defence::TrustedFiles, run: service_added_to_an_included_file },
    Attack { defence: Defence::ClosedToOthers, run: environment_of_a_service_read },
    Attack { defence: Defence::LocksOutOfReach, run: lock_taken_between_two_starts },
];

fn as_mallory(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).uid(MALLORY).gid(MALLORY).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// A file that the config includes is theirs to write: they add a service that runs as root.
fn service_added_to_an_included_file(mut world: World) -> Option<String> {
    let part = world.dir().join("part.toml");
    fs::write(&part, "").unwrap();
    chown(&part, Some(MALLORY), Some(MALLORY)).unwrap();
    let text = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), format!("include = [\"part.toml\"]\n{text}")).unwrap();
    let evil = format!("cat >> {} << 'END'\n[services.evil]\n{LIVE}END\n", part.display());
    assert!(as_mallory(&evil).status().unwrap().success());
    if !starts(&mut world) {
        return None;
    }
    world.until_state("evil", "running");
    Some("a service of theirs runs as root".into())
}

/// sampand was started with umask 0, and makes all its folders.
fn environment_of_a_service_read(world: World) -> Option<String> {
    let mut world = world.umask("000");
    world.configure(&format!("[services.a]\n{LIVE}environment = {{ PASSWORD = \"{SECRET}\" }}\n"));
    world.start();
    world.until_state("a", "running");
    let read = as_mallory(&format!("cat {0}/*/*/* {0}/*/* {0}/*", world.dir().join("run").display()));
    let read = { read }.output().unwrap();
    let found = String::from_utf8_lossy(&read.stdout).contains(SECRET);
    found.then(|| "the environment of a service was read".into())
}

/// A state_dir that others may look into, as packages make it: they lock the file in it while sampand is stopped.
fn lock_taken_between_two_starts(mut world: World) -> Option<String> {
    let state = world.dir().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, Permissions::from_mode(0o755)).unwrap();
    world.start();
    assert_eq!(world.interrupt(), Some(0));
    let held = format!("{}/held", world.dir().display());
    fs::write(&held, "").unwrap();
    chown(&held, Some(MALLORY), None).unwrap();
    let lock = format!("flock -n {}/state.lock sh -c 'echo > {held}; exec sleep 100'", state.display());
    let mut holder: Child = as_mallory(&lock).process_group(0).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end && holder.try_wait().unwrap().is_none() && fs::read(&held).unwrap().is_empty()
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    let started = starts(&mut world);
    let _ = rustix::process::kill_process_group(
        rustix::process::Pid::from_child(&holder),
        rustix::process::Signal::KILL,
    );
    holder.wait().unwrap();
    if !started {
        // It starts once they have let go, and leaves nothing of the one that was refused.
        world.start();
    }
    (!started).then(|| "sampand does not start".into())
}

/// Does sampand start? It may refuse.
fn starts(world: &mut World) -> bool {
    world.spawn();
    let end = Instant::now() + super::world::LONG;
    loop {
        if world.get::<sampan_api::Version>("/v1/version").is_ok() {
            return true;
        }
        if world.has_ended() {
            return false;
        }
        assert!(Instant::now() < end, "sampand does not start; it said:\n{}", world.said());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn attacks_of_another_user_fail() {
    for attack in ATTACKS {
        let Some(world) = World::new("") else { return };
        assert_eq!((attack.run)(world), None, "{:?}", attack.defence);
    }
}

#[test]
fn each_defence_of_sampand_alone_has_an_attack() {
    for defence in sampan_child::defence::OF_SAMPAND {
        assert!(ATTACKS.iter().any(|attack| attack.defence == *defence), "{defence:?}");
    }
}

/// The attacks are real ones.
#[cfg(feature = "weaken")]
#[test]
fn without_the_defence_attacks_of_another_user_work() {
    for attack in ATTACKS {
        let Some(world) = World::new("") else { return };
        let outcome = (attack.run)(world.env("SAMPAN_WEAKEN", attack.defence.name()));
        println!("sampand without {}: {outcome:?}", attack.defence.name());
        assert!(outcome.is_some(), "without {} it fails too", attack.defence.name());
    }
}

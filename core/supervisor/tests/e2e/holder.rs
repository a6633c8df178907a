//! Whoever of sampand's processes is killed: no line of a service is lost or doubled, and every exit is known; or it is
//! said that something may be missing.
use super::World;
use super::full_disk::fill;
use super::world::{Small, kill, library};

/// `talks` writes numbered lines all the time, `rings` too and never waits for its log, `once` ends by SIGUSR1 with 37, `slow` says half a line and the rest later.
fn world(supervisor: &str) -> Option<World> {
    World::new(&format!(
        r#"{supervisor}
---
[plugins.logging]
path = "{}"
[services.talks]
command = ["/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.002; done"]
stop_signal = "SIGKILL"
[services.rings]
command = ["/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.002; done"]
stop_signal = "SIGKILL"
logging.mode = "non-blocking"
[services.once]
command = ["/bin/sh", "-c", "trap 'exit 37' USR1; echo begin; sleep 100000 & wait"]
stop_signal = "SIGKILL"
restart = "no"
[services.slow]
command = ["/bin/sh", "-c", "trap 'echo half; exit 3' USR1; echo -n 'first '; sleep 100000 & wait"]
stop_signal = "SIGKILL"
restart = "no"
"#,
        library("logging").display()
    ))
}

const NAMES: [&str; 4] = ["talks", "rings", "once", "slow"];
const TALKERS: [&str; 2] = ["talks", "rings"];

fn begin(world: &mut World) -> [i32; 4] {
    world.start();
    for name in NAMES {
        world.until_state(name, "running");
    }
    for name in TALKERS {
        world.until("it talks", |world| numbers(world, name).len() > 20);
    }
    world.until("slow is on its line", |world| world.ok(&["logs", "once"]).contains("begin"));
    NAMES.map(|name| world.pid(name))
}

fn numbers(world: &World, name: &str) -> Vec<u32> {
    let text = world.ok(&["logs", name]);
    text.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect()
}

/// Nobody is there: two services end, one talks on.
fn meanwhile(world: &World, pids: [i32; 4]) {
    let [.., once, slow] = pids;
    kill(once, libc::SIGUSR1);
    kill(slow, libc::SIGUSR1);
    world.until("they have ended", |world| {
        world.processes("once").is_empty() && world.processes("slow").is_empty()
    });
}

fn nothing_is_lost(world: &World, [talks, rings, ..]: [i32; 4]) {
    assert_eq!(TALKERS.map(|name| world.pid(name)), [talks, rings], "they run on");
    // They may have ended under a sampand before this one.
    for (name, exit) in [("once", "37"), ("slow", "3")] {
        world.until_state(name, "failed");
        if World::kernel() >= (6, 15) {
            let last = world.inspect(name).totals.last_exit;
            assert_eq!(last.as_deref(), Some(exit), "{name}: {}", world.said());
        }
    }
    goes_on(world);
    let slow = world.ok(&["logs", "slow"]);
    assert!(slow.contains("first half"), "what stood in the pipe: {slow:?}");
}

/// From the first line on, each once.
fn goes_on(world: &World) {
    for name in TALKERS {
        let many = numbers(world, name).len() + 50;
        world.until("it is read on", |world| numbers(world, name).len() > many);
        let seen = numbers(world, name);
        assert_eq!(seen, (1..=seen.len() as u32).collect::<Vec<_>>(), "{name}: none lost, none twice");
    }
}

fn kill_all(pids: &[i32]) {
    for pid in pids {
        kill(*pid, libc::SIGKILL);
    }
}

/// Stopped first, so that none of them does anything about the death of another one.
pub fn kill_at_once(pids: &[i32]) {
    for pid in pids {
        kill(*pid, libc::SIGSTOP);
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        while !stat().contains(") T ") {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    kill_all(pids);
}

/// What was killed has ended, and another sampand begins after it.
fn the_next_loses_nothing(world: &mut World, pids: [i32; 4]) {
    assert_eq!(world.ended(), None);
    meanwhile(world, pids);
    world.start();
    nothing_is_lost(world, pids);
}

#[test]
fn the_keel_is_killed() {
    let Some(mut world) = world("") else { return };
    let pids = begin(&mut world);
    for _ in 0..2 {
        world.signal(libc::SIGKILL);
        the_next_loses_nothing(&mut world, pids);
    }
}

#[test]
fn keel_and_worker_are_killed() {
    let Some(mut world) = world("") else { return };
    let pids = begin(&mut world);
    kill_all(&[world.keel(), world.worker().unwrap()]);
    the_next_loses_nothing(&mut world, pids);
}

#[test]
fn the_holder_is_killed_and_another_one_holds() {
    let Some(mut world) = world("") else { return };
    let pids = begin(&mut world);
    let first = world.holder().expect("somebody holds the descriptors");
    kill_all(&[first]);
    world.until("there is another one", |world| world.holder().is_some_and(|now| now != first));
    goes_on(&world);
    kill_all(&[world.keel(), world.worker().unwrap()]);
    the_next_loses_nothing(&mut world, pids);
}

#[test]
fn all_three_are_killed_and_it_is_said_that_lines_may_be_missing() {
    let Some(mut world) = world("") else { return };
    let pids = begin(&mut world);
    kill_at_once(&[world.keel(), world.holder().expect("a holder"), world.worker().unwrap()]);
    assert_eq!(world.ended(), None);
    meanwhile(&world, pids);
    world.start();
    assert_eq!(world.pid("talks"), pids[0]);
    for name in ["once", "slow"] {
        world.until_state(name, "failed");
        let exit = world.inspect(name);
        assert_eq!(
            (exit.status.last_exit.as_deref(), exit.status.exit_code),
            (Some("unknown"), None),
            "{name}"
        );
    }
    for name in TALKERS {
        let many = numbers(&world, name).len() + 50;
        world.until("it is read again", |world| numbers(world, name).len() > many);
    }
    for name in NAMES {
        let marked = |world: &World| world.ctl(&["logs", name]).err.contains("lines may be missing");
        world.until("it is marked", marked);
    }
    // After the mark, nothing is missing.
    for name in TALKERS {
        let seen = numbers(&world, name);
        let gaps = seen.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
        assert!(gaps <= 1, "{name}: {seen:?}");
    }
}

/// What was dropped was counted by those who are dead, and what says that it is missing finds no room either at first.
#[test]
fn all_three_are_killed_on_a_full_disk_and_what_is_missing_is_marked_when_there_is_room() {
    let Some(mut world) = World::new("") else { return };
    let disk = Small::new(world.dir().join("state"), "2M");
    let head = format!("[plugins.logging]\npath = \"{}\"\n", library("logging").display());
    // Nobody has a block of its log before the disk is full.
    let service = |name: &str, script: &str| {
        format!(
            "[services.{name}]\ncommand = [\"/bin/sh\", \"-c\", \"trap '{script}' USR1; sleep 100000 & wait\"]\n\
             stop_signal = \"SIGKILL\"\nrestart = \"no\"\n"
        )
    };
    let talk = "while :; do echo a line; sleep 0.01; done";
    let stays = format!("{head}{}{}", service("runs", talk), service("ended", "echo a line; exit 3"));
    world.configure(&format!("{stays}{}", service("goes", talk)));
    world.start();
    let names = ["runs", "ended", "goes"];
    for name in names {
        world.until_state(name, "running");
        world.until("it waits", |world| world.processes(name).len() == 2);
    }
    let hog = fill(&disk);
    for name in names {
        kill(world.pid(name), libc::SIGUSR1);
        let dropped = |world: &World| {
            world.said().lines().any(|line| {
                line.contains("cannot write its log") && line.contains(&format!("service=\"{name}\""))
            })
        };
        world.until("its lines are dropped", dropped);
    }
    world.until_state("ended", "failed");
    kill_at_once(&[world.keel(), world.holder().expect("a holder"), world.worker().unwrap()]);
    assert_eq!(world.ended(), None);
    world.configure(&stays);
    world.start();
    world.until("it is removed", |world| world.services().len() == 2 && world.processes("goes").is_empty());
    std::fs::remove_file(hog).unwrap();
    for name in names {
        let log = disk.path().join("logs").join(name).join("0000000001.log");
        world.until(&format!("the log of {name} is marked"), |_| {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("lines may be missing"))
        });
    }
}

#[test]
fn a_planned_restart_with_keep_loses_nothing() {
    let Some(mut world) = world("on_exit = \"keep\"") else { return };
    let pids = begin(&mut world);
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0));
    meanwhile(&world, pids);
    world.start();
    nothing_is_lost(&world, pids);
}

/// A holder that lived briefly is not followed at once; sampand's planned end does not wait for that.
#[test]
fn a_planned_restart_right_after_two_deaths_of_the_holder_loses_nothing() {
    let Some(mut world) = world("on_exit = \"keep\"") else { return };
    let pids = begin(&mut world);
    // One that was just killed can be seen for a while.
    let mut holders = Vec::new();
    for _ in 0..2 {
        let new = |world: &World| world.holder().filter(|holder| !holders.contains(holder));
        let mut found = None;
        world.until("there is a holder", |world| {
            found = new(world);
            found.is_some()
        });
        kill_all(&Vec::from_iter(found));
        holders.extend(found);
    }
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0));
    meanwhile(&world, pids);
    world.start();
    nothing_is_lost(&world, pids);
}

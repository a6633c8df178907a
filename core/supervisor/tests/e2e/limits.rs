//! What sampand needs of its host and may not have: open files, folders that can be written to.
use super::LIVE;
use super::world::{World, kill, library};
use std::collections::BTreeMap;
use std::fs;

/// Of a process, by what each leads to.
fn descriptors(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect()
}

/// So many services, whose output the logging plugin reads.
fn with(services: usize) -> Option<World> {
    let table: String = (0..services).map(|n| format!("[services.s{n}]\n{LIVE}")).collect();
    let mut world =
        World::new(&format!("[plugins.logging]\npath = \"{}\"\n{table}", library("logging").display()))?;
    world.start();
    for n in 0..services {
        world.until_state(&format!("s{n}"), "running");
    }
    Some(world)
}

/// Of 20 more services, by kind: `anon_inode:[pidfd]`, `net:`, the last part of a path.
fn more(few: &[String], many: &[String]) -> BTreeMap<String, i32> {
    let kind = |link: &String| {
        let name = link.rsplit('/').next().unwrap_or_default();
        if link.ends_with(".log") {
            ".log".to_owned()
        } else {
            name.split(":[").next().unwrap_or_default().to_owned()
        }
    };
    let mut counts = BTreeMap::new();
    for link in many {
        *counts.entry(kind(link)).or_default() += 1;
    }
    for link in few {
        *counts.entry(kind(link)).or_default() -= 1;
    }
    counts.retain(|_, more| *more != 0);
    counts
}

/// The number that sampand's warning counts with: a pidfd, a network namespace, the read ends of stdout and stderr, a
/// segment of the log, and one more of that while the output is shown.
const A_SERVICE: i32 = 6;

#[test]
fn a_service_takes_no_more_descriptors_than_are_counted_with() {
    let own = {
        let Some(few) = with(1) else { return };
        let own = [few.keel(), few.worker().unwrap()].map(descriptors);
        assert!(own[1].len() <= 64 + A_SERVICE as usize, "{:#?}", own[1]);
        own
    };
    let many = with(21).unwrap();
    for (pid, own) in [many.keel(), many.worker().unwrap()].into_iter().zip(&own) {
        // What a launch needs is closed a little after it.
        many.until("each has its share", |_| {
            let more = more(own, &descriptors(pid));
            more.values().sum::<i32>() <= A_SERVICE * 20 + 4
        });
    }
}

#[test]
fn what_the_limit_of_open_files_allows_is_said_once() {
    let services: String = (0..9).map(|n| format!("[services.s{n}]\nautostart = false\n{LIVE}")).collect();
    let Some(world) = World::new(&services) else { return };
    let mut world = world.open_files(100);
    world.start();
    let said = |world: &World| {
        world.said().matches("the limit of open files (100) is enough for about 6 services").count()
    };
    assert_eq!(said(&world), 1, "{}", world.said());
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGKILL);
    world.until("there is another worker", |world| world.worker().is_some_and(|now| now != worker));
    world.ok(&["ps"]);
    assert_eq!(said(&world), 1, "{}", world.said());
}

/// While sampand runs, its state folder cannot be written to, and is gone.
#[test]
fn what_could_not_be_saved_is_told_once_and_saved_when_it_can_be() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}[services.c]\n{LIVE}");
    world.start();
    for name in ["a", "b", "c"] {
        world.until_state(name, "running");
    }
    let state = world.dir().join("state");
    fs::rename(&state, world.dir().join("elsewhere")).unwrap();
    fs::write(&state, "in its place").unwrap();
    world.ok(&["stop", "a"]);
    world.ok(&["stop", "b"]);
    let told = |world: &World| world.said().matches("what must survive a reboot").count();
    world.until("it is told", |world| told(world) > 0);
    world.ok(&["stop", "c"]);
    fs::remove_file(&state).unwrap();
    world.until("it is saved", |_| {
        fs::read_to_string(state.join("desired.json"))
            .is_ok_and(|text| text.matches("\"stopped\": true").count() == 3)
    });
    world.until("that is told too", |world| world.said().contains("can be written to again"));
    assert_eq!(told(&world), 1, "{}", world.said());
}

/// No more of them at once than there are descriptors for: a kill has one open in each hierarchy of control groups.
#[test]
fn a_kill_of_all_services_at_once_fits_into_the_limit_of_open_files() {
    const SERVICES: u32 = 60;
    let deaf = r#"command = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 100000; done"]
stop_grace_period = "10m"
"#;
    let table: String = (0..SERVICES).map(|n| format!("[services.s{n}]\n{deaf}")).collect();
    let world = world!("{table}");
    let mut world = world.open_files(64 + SERVICES * 6);
    world.start();
    for n in 0..SERVICES {
        world.until_state(&format!("s{n}"), "running");
    }
    world.signal(libc::SIGINT);
    world.until("all are asked", |world| world.services().iter().all(|service| service.state == "stopping"));
    world.signal(libc::SIGINT);
    assert_eq!(world.ended(), Some(0), "{}", world.said());
    let said = world.said();
    assert!(!said.contains("cannot kill") && !said.contains("MFILE"), "{said}");
}

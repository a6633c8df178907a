//! What each life leaves behind: its transitions on record, all of them, and nothing else.
use super::LIVE;
use super::world::{World, kill};
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn every_transition_is_on_record() {
    let mut world =
        world!("[services.a]\n{LIVE}[services.job]\ncommand = [\"/bin/true\"]\nrestart = \"no\"\n");
    world.start();
    world.until_state("a", "running");
    world.until("the job is done", |world| world.inspect("job").status.exit_code == Some(0));
    world.until_state("job", "stopped");
    for verb in ["restart", "stop", "start"] {
        world.ok(&[verb, "a"]);
    }
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for event in world.events() {
        if let Some(before) = last.insert(event.service.clone(), event.to.clone()) {
            assert_eq!(event.from, before, "a step of {} is missing before {event:?}", event.service);
        }
    }
    assert_eq!(last.into_values().collect::<Vec<_>>(), ["running", "stopped"]);
}

#[test]
fn a_life_leaves_no_descriptor() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    let open = |world: &super::World| {
        let of = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        (of(world.keel()), of(world.worker().unwrap()))
    };
    world.until_state("a", "running");
    world.ok(&["restart", "a"]);
    let (keel, worker) = open(&world);
    for _ in 0..10 {
        world.ok(&["restart", "a"]);
    }
    // The socket of the last client may not be closed yet, and threads of the pool come and go.
    world.until("nothing of ten lives is open", |world| {
        let now = open(world);
        now.0 <= keel + 1 && now.1 <= worker + 2
    });
}

/// RESTARTS and LAST-EXIT of a service, and the same over all runs of sampand.
fn counts(world: &World) -> serde_json::Value {
    let inspect: serde_json::Value = world.patiently(|| world.get("/v1/services/crash"));
    let totals = &inspect["totals"];
    serde_json::json!([inspect["restarts"], inspect["last_exit"], totals["restarts"], totals["last_exit"]])
}

#[test]
fn restarts_and_the_last_exit_are_of_one_run_of_sampand_and_totals_of_all() {
    let mut world = world!(
        "[services.crash]\ncommand = [\"/bin/sh\", \"-c\", \"exit 3\"]\nautostart = false\n\
         restart = {{ policy = \"on-failure\", max_attempts = 2, delay = \"10ms\", max_delay = \"10ms\" }}\n"
    );
    world.start();
    assert_eq!(counts(&world), json!([0, null, 0, null]));
    world.ctl(&["start", "crash"]);
    world.until_state("crash", "failed");
    assert_eq!(counts(&world), json!([2, "3", 2, "3"]));
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGKILL);
    world.until("there is another worker", |world| world.worker().is_some_and(|now| now != worker));
    assert_eq!(counts(&world), json!([2, "3", 2, "3"]), "the same run");
    world.interrupt();
    world.start();
    assert_eq!(counts(&world), json!([0, null, 2, "3"]), "after a shutdown: by desired.json");
    world.ctl(&["start", "crash"]);
    world.until_state("crash", "failed");
    assert_eq!(counts(&world), json!([2, "3", 4, "3"]));
    // Worker and keel: by the journal, of which nothing is written before the next worker reads it again.
    let both = [world.worker().unwrap(), world.keel()];
    both.into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    world.ended();
    world.start();
    assert_eq!(counts(&world), json!([0, null, 4, "3"]), "after a crash");
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGKILL);
    world.until("there is another worker", |world| world.worker().is_some_and(|now| now != worker));
    assert_eq!(counts(&world), json!([0, null, 4, "3"]), "counted once");
}

//! What each life leaves behind: its transitions on record, all of them, and nothing else.
use super::LIVE;
use std::collections::BTreeMap;

#[test]
fn every_transition_is_on_record() {
    let mut world =
        world!("[services.a]\n{LIVE}[services.job]\ncommand = [\"/bin/true\"]\nrestart = \"no\"\n");
    world.start();
    world.until_state("a", "running");
    world.until("the job is done", |world| world.inspect("job").exit_code == Some(0));
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

//! What exits mean: the lists of `restart`; and what is none.
use super::World;
use super::holder::kill_at_once;
use super::world::kill;
use sampan_testkit::plugin::C;
use sampan_testkit::{Folder, need};
use std::process::Command;

fn runs(world: &World, name: &str) -> u64 {
    world.inspect(name).status.generation
}

#[test]
fn listed_statuses_go_before_the_policy() {
    let service = |name: &str, program: &str, restart: &str| {
        format!(
            "[services.{name}]\ncommand = [\"/bin/sh\", \"-c\", \"{program}\"]\nrestart = {{ delay = \"10ms\", {restart} }}\n"
        )
    };
    let services = [
        service("done", "exit 3", "policy = \"on-failure\", success_exit_status = [0, 3]"),
        service("ended", "sleep 1000", "policy = \"on-failure\", success_exit_status = [\"SIGKILL\"]"),
        service("zero", "exit 0", "policy = \"no\", success_exit_status = [3]"),
        service("final", "exit 42", "policy = \"always\", prevent_exit_status = [42]"),
        service("again", "sleep 1000", "policy = \"no\", force_exit_status = [\"SIGKILL\"]"),
        service("after", "exit 0", "policy = \"no\"")
            + "depends_on.done.condition = \"service_completed_successfully\"\n",
    ];
    let mut world = world!("{}", services.concat());
    world.start();
    for name in ["ended", "again"] {
        world.until_state(name, "running");
        kill(world.pid(name), libc::SIGKILL);
    }
    for (name, state) in [
        ("done", "stopped"),
        ("ended", "stopped"),
        ("zero", "failed"),
        ("final", "failed"),
        ("after", "stopped"),
    ] {
        world.until(name, |world| runs(world, name) == 1 && world.inspect(name).status.state == state);
    }
    world.until("it lives again", |world| runs(world, "again") == 2);
    world.until_state("again", "running");
    // Live: the lists count for the exit that comes.
    world.configure(&services.concat().replace("force_exit_status", "prevent_exit_status"));
    world.ok(&["apply"]);
    kill(world.pid("again"), libc::SIGKILL);
    world.until_state("again", "failed");
    assert_eq!(runs(&world, "again"), 2);
}

/// Its state says that it runs from just before it is told to go on. Who was to tell it dies in between, with the keel, so that nobody
/// can look at what has ended: the code is that of a child that was left at its barrier, not of the program.
#[test]
fn a_child_that_was_left_at_its_barrier_has_no_exit_of_its_program() {
    if !need::need("cc", Command::new("cc").arg("--version").output().is_ok()) {
        return;
    }
    let dir = Folder::new();
    let call = "if (r->event == SP_EV_START) return SP_PENDING; return SP_OK;";
    let mute = C::new("mute", call).build(&dir);
    let mut world = world!(
        "[plugins.mute]\npath = \"{}\"\ntimeout = \"1m\"\n[services.waits]\n{}restart.delay = \"10ms\"\nstart_timeout = \"5m\"\n",
        mute.display(),
        super::LIVE
    );
    world.start();
    world.until_state("waits", "created");
    kill_at_once(&[world.keel(), world.worker().unwrap()]);
    assert_eq!(world.ended(), None);
    world.until("it has ended", |world| world.processes("waits").is_empty());
    let state = world.dir().join("run/containers/waits/state.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let runs = text.replace(r#""stage":"created""#, r#""stage":"running""#);
    assert_ne!(runs, text, "{text}");
    std::fs::write(&state, runs).unwrap();
    world.start();
    world.until("it is made again", |world| {
        runs_now(world) == ("created".to_owned(), 2) || world.inspect("waits").totals.last_exit.is_some()
    });
    assert_eq!(world.inspect("waits").totals.last_exit, None, "{}", world.ok(&["why", "waits"]));
}

fn runs_now(world: &World) -> (String, u64) {
    (world.inspect("waits").status.state, runs(world, "waits"))
}

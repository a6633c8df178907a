//! What exits mean: the lists of `restart`.
use super::World;
use super::world::kill;

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

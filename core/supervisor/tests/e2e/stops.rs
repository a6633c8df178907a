//! Stops that used to hang, and ends that were taken for others.
use super::LIVE;
use super::world::program;
use std::process::{Command, Stdio};

#[test]
fn a_group_that_somebody_has_frozen_is_stopped_all_the_same() {
    let mut world = world!(
        "[services.polite]\ncommand = [\"/bin/sh\", \"-c\", \"trap 'exit 0' TERM; sleep 100000 & wait\"]\nstop_grace_period = \"10m\"\n[services.killed]\n{LIVE}[services.deaf]\ncommand = [\"/bin/sleep\", \"100000\"]\nstop_grace_period = \"100ms\"\n"
    );
    world.start();
    let names = ["polite", "killed", "deaf"];
    for name in names {
        world.until_state(name, "running");
    }
    let mut frozen = 0;
    for group in world.groups().iter().filter(|group| names.iter().any(|name| group.ends_with(name))) {
        for (file, value) in [("freezer.state", "FROZEN"), ("cgroup.freeze", "1")] {
            let file = group.join(file);
            frozen += u32::from(file.exists() && std::fs::write(file, value).is_ok());
        }
    }
    assert!(frozen >= 3, "{frozen}");
    for name in names {
        world.ok(&["stop", name]);
    }
    assert_eq!(world.inspect("polite").status.exit_code, Some(0), "it was asked, not killed");
}

#[test]
fn a_stop_that_a_start_overtakes_says_so() {
    let mut world = world!(
        r#"[services.slow]
command = ["/bin/sh", "-c", "trap 'exit 0' USR1; trap '' TERM; while :; do sleep 100000 & wait; done"]
stop_grace_period = "10m"
"#
    );
    world.start();
    world.until_state("slow", "running");
    let mut stop = Command::new(program("sampanctl"));
    let stop = stop.arg("--socket").arg(world.socket()).args(["stop", "slow"]);
    let mut stop = stop.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.until_state("slow", "stopping");
    world.ok(&["start", "slow", "-d"]);
    let end = std::time::Instant::now() + super::world::LONG;
    while stop.try_wait().unwrap().is_none() && std::time::Instant::now() < end {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let ended = stop.try_wait().unwrap();
    stop.kill().unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "the client knows that it is not stopped");
    super::world::kill(world.pid("slow"), libc::SIGUSR1);
    world.until("it lives again", |world| world.inspect("slow").status.generation == 2);
    world.until_state("slow", "running");
    world.processes("slow").into_iter().for_each(|pid| super::world::kill(pid, libc::SIGKILL));
    world.ok(&["stop", "slow", "-d"]);
    world.processes("slow").into_iter().for_each(|pid| super::world::kill(pid, libc::SIGKILL));
}

#[test]
fn a_job_that_ends_well_after_its_child_was_killed_for_memory_is_done() {
    let mut world = world!(
        r#"[services.job]
command = ["/bin/sh", "-c", "head -c 200m /dev/zero | tail >/dev/null; exit 0"]
resources.memory = "16M"
restart = {{ policy = "on-failure", delay = "10ms", max_delay = "10ms" }}
"#
    );
    world.start();
    world.until("it has ended", |world| world.inspect("job").status.last_exit.is_some());
    world.until("and it rests", |world| {
        matches!(world.inspect("job").status.state.as_str(), "stopped" | "failed")
            || world.inspect("job").status.generation > 1
    });
    let job = world.inspect("job");
    assert_eq!((job.status.state.as_str(), job.status.generation), ("stopped", 1), "{}", world.said());
    assert_eq!((job.status.exit_code, job.oom), (Some(0), true), "what happened is still told");
}

//! What people are told of a service is what has happened to it.
use super::World;
use super::died::kill_the_worker;
use super::world::kill;

/// What `why` says first.
fn sentence(world: &World, service: &str) -> String {
    let why = world.ok(&["why", service]);
    why.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn the_first_sentence_says_what_is_the_case() {
    let mut world = world!(
        r#"
[services.three]
command = ["sh", "-c", "exit 3"]
restart = {{ policy = "on-failure", delay = "1h", max_delay = "1h", jitter = 0.0 }}
[services.job]
command = ["true"]
restart = "no"
[services.given-up]
command = ["sh", "-c", "exit 4"]
restart = "no"
[services.never]
autostart = false
command = ["true"]
[services.greedy]
command = ["sh", "-c", "x=a; while :; do x=$x$x$x$x; done"]
resources.memory = "16M"
restart = {{ policy = "on-failure", delay = "1h", max_delay = "1h", jitter = 0.0 }}
[services.sick]
command = ["sleep", "1000"]
healthcheck = {{ test = ["CMD-SHELL", "echo the database is gone; exit 5"], interval = "50ms", retries = 2, start_period = "0s" }}
restart = {{ policy = "on-failure", delay = "1h", max_delay = "1h", jitter = 0.0 }}
stop_grace_period = "300ms"
[services.after]
command = ["sleep", "1000"]
depends_on.sick.condition = "service_healthy"
[services.none-such]
command = ["none-such"]
restart = "no"
[services.hand]
command = ["sleep", "1000"]
restart = {{ policy = "on-failure", delay = "1h", max_delay = "1h", jitter = 0.0 }}
stop_grace_period = "300ms"
[services.struck]
command = ["sleep", "1000"]
restart = "no"
stop_signal = "SIGKILL"
[services.killed]
command = ["sleep", "1000"]
restart = {{ policy = "on-failure", delay = "1h", max_delay = "1h", jitter = 0.0 }}
[services.stranger]
command = ["sleep", "1000"]
restart = {{ policy = "on-failure", delay = "1h", max_delay = "1h", jitter = 0.0 }}
"#
    );
    world.start();
    for name in ["hand", "struck", "killed", "stranger"] {
        world.until_state(name, "running");
    }
    world.ok(&["stop", "hand", "struck"]);
    world.ok(&["kill", "killed", "--signal", "KILL"]);
    kill(world.pid("stranger"), libc::SIGKILL);
    for name in ["three", "greedy", "sick", "killed", "stranger"] {
        world.until_state(name, "backoff");
    }
    for name in ["none-such", "given-up"] {
        world.until_state(name, "failed");
    }
    world.until_state("job", "stopped");
    for (service, words) in [
        ("three", &["ended by itself with exit code 3", "starts again in", "attempt 1"][..]),
        ("job", &["job is done", "exit code 0"]),
        ("given-up", &["has failed", "exit code 4", "sampanctl start given-up"]),
        ("never", &["never started", "autostart = false"]),
        ("greedy", &["more memory than resources.memory = 16M", "starts again in"]),
        ("sick", &["health check failed", "exit 5: the database is gone", "did not end within"]),
        ("after", &["waits until sick is healthy", "which is backoff"]),
        ("none-such", &["could not be started", "none-such", "sampanctl start"]),
        ("hand", &["is stopped: its last run was stopped by hand", "did not end within 0.3s and was killed"]),
        ("struck", &["is stopped: its last run was stopped by hand and was killed, at "]),
        ("killed", &["was ended by SIGKILL of `sampanctl kill`"]),
        ("stranger", &["was ended by SIGKILL, which sampand had not sent"]),
    ] {
        let said = sentence(&world, service);
        assert!(words.iter().all(|word| said.contains(word)), "{service}: {words:?}: {said}");
        assert!(!said.contains("  ") && said.ends_with('.'), "{said}");
    }
    let ps = world.ok(&["ps"]);
    let row = |name: &str| ps.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{ps}"));
    for (name, state) in [("job", "done"), ("never", "never started"), ("hand", "stopped by hand")] {
        assert!(row(name).contains(&format!(" {state} ")), "{ps}");
    }
    // The next worker tells the same.
    let before = sentence(&world, "killed");
    kill_the_worker(&world);
    world.until_state("killed", "backoff");
    let end = |said: &str| said.split(" It starts").next().map(str::to_owned);
    assert_eq!(end(&sentence(&world, "killed")), end(&before));
}

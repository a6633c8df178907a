//! What people do with sampanctl and with signals, and what they are told.
use super::world::kill;
use super::{LIVE, World};
use std::time::Duration;

/// Ends well when asked to, dies of SIGUSR1 with 37.
const POLITE: &str = r#"command = ["/bin/sh", "-c", "trap 'exit 0' TERM; trap 'exit 37' USR1; echo ready; sleep 100000 & wait"]
"#;

#[test]
fn everything_can_be_seen() {
    let logging = super::world::library("logging");
    let mut world = world!(
        r#"[plugins.logging]
path = "{}"
[services.web]
{POLITE}
[services.job]
command = ["/bin/sh", "-c", "echo one; echo two >&2; sleep 0.2"]
restart = "no"
[services.crash]
command = ["/bin/sh", "-c", "exit 3"]
restart = {{ policy = "on-failure", delay = "1s", max_delay = "1h", multiplier = 100.0, jitter = 0.0 }}
"#,
        logging.display()
    );
    let none = world.ctl(&["ps"]);
    assert_eq!(none.code, 3, "no sampand: {none:?}");
    world.start();
    world.until_state("web", "running");
    world.until_state("job", "stopped");
    world.until("crash waits for long", |world| world.inspect("crash").status.restarts == 2);

    let ps = world.ok(&["ps"]);
    let row = |name: &str| ps.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{ps}"));
    assert!(ps.starts_with("NAME") && ps.lines().count() == 4, "{ps}");
    assert!(row("web").contains("running "), "{ps}");
    assert_eq!(row("job").split_whitespace().collect::<Vec<_>>(), ["job", "done", "-", "0", "0"], "{ps}");
    assert!(row("crash").contains(" left ") && row("crash").trim_end().ends_with("2         3"), "{ps}");
    assert_eq!(world.ok(&["ps", "-q"]), "crash\njob\nweb\n");

    let web = world.inspect("web");
    let status = web.status;
    assert_eq!(status.pid.map(|pid| world.processes("web").contains(&pid)), Some(true));
    assert_eq!((status.generation, status.wanted.as_str(), status.last_exit), (1, "up", None));
    let crash = world.inspect("crash");
    assert_eq!(
        (crash.status.exit_code, crash.signal, crash.status.restarts, crash.attempt),
        (Some(3), None, 2, 2)
    );
    let shown: serde_json::Value = serde_json::from_str(&world.ok(&["inspect", "web"])).unwrap();
    assert_eq!(shown["container_id"], "web");
    assert!(world.ok(&["status"]).contains("web: running"), "{}", world.ok(&["status"]));
    let why = world.ok(&["why", "crash"]);
    assert!(why.contains("-> backoff") && why.contains("exit 3"), "{why}");

    let events = world.events();
    assert!(events.windows(2).all(|two| two[0].seq < two[1].seq), "{events:#?}");
    let path: Vec<&str> = events.iter().filter(|e| e.service == "job").map(|e| e.to.as_str()).collect();
    assert_eq!(path, ["waiting", "creating", "created", "running", "lingering", "stopped"]);
    let last = events.last().unwrap().seq;
    let since = world.ok(&["--json", "events", "--since", &last.to_string()]);
    assert_eq!(since.lines().count(), 1, "{since}");

    // Each stream comes out where it went in.
    world.until("the job's output is in its log", |world| {
        let logs = world.ctl(&["logs", "job"]);
        (logs.out.as_str(), logs.err.as_str()) == ("one\n", "two\n")
    });
    world.until("output is shown in the foreground", |world| {
        world.said().lines().any(|line| line.starts_with("web ") && line.ends_with("ready"))
    });

    assert_eq!(world.ctl(&["exec", "web", "sh", "-c", "exit 7"]).code, 7);
    assert_eq!(world.ok(&["exec", "web", "cat", "/proc/sys/kernel/hostname"]), "web\n");
    assert!(world.ok(&["version"]).contains("started 1 time)"));
    assert!(world.ok(&["config", "web"]).contains("# default"));
    let unknown = world.ctl(&["inspect", "wbe"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("no service \"wbe\"") && unknown.err.contains("web"), "{unknown:?}");
    assert_eq!(world.ctl(&["no-such-verb"]).code, 2);
}

#[test]
fn the_wait_before_a_restart_doubles() {
    let mut world = world!(
        r#"[services.crash]
command = ["/bin/false"]
restart = {{ delay = "100ms", max_delay = "400ms", jitter = 0.0 }}
"#
    );
    world.start();
    world.until("five lives", |world| world.inspect("crash").status.restarts >= 5);
    let events = world.events();
    // In the log, because its numbers are for people to read.
    let delays: Vec<String> = world
        .said()
        .lines()
        .filter_map(|line| Some(line.split_once("starts again in ")?.1.split_once(',')?.0.to_owned()))
        .take(5)
        .collect();
    assert_eq!(delays, ["0.1s", "0.2s", "0.4s", "0.4s", "0.4s"]);
    let at = |transition: &sampan_api::Transition| {
        let clock = transition.time.split_once('T').unwrap().1.trim_end_matches('Z').to_owned();
        let parts: Vec<f64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
        parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]
    };
    let waits: Vec<f64> = events
        .windows(2)
        .filter(|two| two[0].to == "backoff")
        .map(|two| (at(&two[1]) - at(&two[0]) + 86400.0) % 86400.0)
        .collect();
    // Times are whole milliseconds.
    assert!(waits[0] > 0.098 && waits[1] > 0.198 && waits[2] > 0.398 && waits[3] > 0.398, "{waits:?}");
}

#[test]
fn verbs_change_one_service() {
    let mut world = world!("[services.a]\n{POLITE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    let (a, b) = (world.pid("a"), world.pid("b"));

    world.ok(&["restart", "a"]);
    let again = world.inspect("a").status;
    assert_eq!((again.generation, again.state.as_str()), (2, "running"));
    assert!(again.pid.is_some_and(|pid| pid != a));
    assert_eq!(world.inspect("a").status.exit_code, Some(0), "it ends well when asked to");

    world.ok(&["kill", "a", "-s", "USR1"]);
    world.until("a third life", |world| world.inspect("a").status.generation == 3);
    world.until_state("a", "running");
    assert_eq!(world.inspect("a").status.last_exit.as_deref(), Some("37"));
    world.ok(&["kill", "a"]);
    world.until("a fourth life", |world| world.inspect("a").status.generation == 4);
    let killed = world.inspect("a");
    assert_eq!((killed.status.last_exit.as_deref(), killed.signal), (Some("137 SIGKILL"), Some(9)));

    world.until_state("a", "running");
    world.ok(&["stop", "a"]);
    assert_eq!(world.inspect("a").status.state, "stopped");
    assert_eq!(world.processes("a"), Vec::<i32>::new());
    assert_eq!(world.ctl(&["kill", "a"]).code, 1, "nothing to kill");
    world.ok(&["stop", "a"]);
    world.ok(&["start", "a"]);
    assert_eq!(world.inspect("a").status.state, "running");
    assert_eq!(world.ctl(&["kill", "a", "-s", "NOSUCH"]).code, 2);
    assert_eq!(world.pid("b"), b, "nothing of this is b's business");
}

#[test]
fn stopped_by_hand_stays_stopped() {
    let mut world = world!(
        "[services.a]\n{LIVE}[services.b]\n{LIVE}restart = \"always\"\n[services.c]\n{LIVE}[services.later]\n{LIVE}autostart = false\n"
    );
    world.start();
    for name in ["a", "b", "c"] {
        world.until_state(name, "running");
    }
    assert_eq!(world.inspect("later").status.state, "stopped");
    world.ok(&["stop", "a", "b"]);
    assert_eq!(world.interrupt(), Some(0));
    assert_eq!(world.leftovers(), Vec::<String>::new());
    world.start();
    world.until_state("c", "running");
    world.until_state("b", "running");
    assert_eq!(world.inspect("a").status.state, "stopped", "until start or up");
    world.ok(&["up", "--wait"]);
    assert_eq!(world.inspect("a").status.state, "running");
    assert_eq!(world.inspect("later").status.state, "stopped", "up is for what starts by itself");
    world.ok(&["start", "later"]);
    assert_eq!(world.inspect("later").status.state, "running");
}

#[test]
fn a_service_with_profiles_starts_by_itself_when_one_is_active() {
    let service = |name: &str, keys: &str| format!("[services.{name}]\n{LIVE}{keys}\n");
    let services = [
        service("always", ""),
        service("dev", "profiles = [\"dev\", \"test\"]"),
        service("other", "profiles = [\"other\"]"),
        service("never", "profiles = [\"dev\"]\nautostart = false"),
        service("base", "profiles = [\"none\"]"),
        service("needs", "profiles = [\"dev\"]\ndepends_on = [\"base\"]"),
    ]
    .concat();
    let mut world = world!("{services}");
    let states = |world: &World| {
        let states = world.services().into_iter().filter(|s| s.state == "running").map(|s| s.name);
        states.collect::<Vec<String>>().join(" ")
    };
    world.start();
    world.until_state("always", "running");
    world.ok(&["up", "--wait"]);
    assert_eq!(states(&world), "always");
    world.ok(&["start", "other"]);
    world.until_state("other", "running");
    assert_eq!(world.interrupt(), Some(0));

    world.profiles(&["test", "dev", "typo"]);
    world.start();
    for name in ["always", "dev", "needs"] {
        world.until_state(name, "running");
    }
    assert_eq!(states(&world), "always base dev needs", "base for needs; by hand is not for ever");
    assert!(world.said().contains("--profile typo: no service has this profile"), "{}", world.said());
    // The worker that follows has them too, and so has whoever reads the config for it.
    kill(world.worker().unwrap(), libc::SIGKILL);
    world.configure(&(services + &service("new", "profiles = [\"test\"]")));
    world.until("another worker answers", |world| world.ctl(&["apply"]).code == 0);
    world.until_state("new", "running");
    world.ok(&["stop", "dev"]);
    world.ok(&["up", "--wait"]);
    assert_eq!(states(&world), "always base dev needs new");
}

#[test]
fn start_by_hand_brings_up_what_it_needs() {
    let mut world = world!(
        r#"[services.base]
{LIVE}
[services.done]
command = ["/bin/true"]
restart = "no"
[services.top]
{LIVE}
depends_on = ["base", "done"]
"#
    );
    world.start();
    world.until_state("top", "running");
    world.ok(&["stop", "top", "base"]);
    world.ok(&["start", "top"]);
    assert_eq!(world.inspect("base").status.state, "running", "a hand wanted top, and so base");
    assert_eq!(world.inspect("done").status.generation, 1, "a job that is done is not done again");
}

#[test]
fn a_start_that_cannot_be_says_so() {
    let mut world = world!(
        r#"[services.job]
command = ["/bin/false"]
restart = "no"
[services.top]
{LIVE}
depends_on.job.condition = "service_completed_successfully"
[services.above]
{LIVE}
depends_on = ["top"]
[services.lost]
command = ["/no/such/program"]
restart.delay = "1h"
restart.max_delay = "1h"
"#
    );
    world.start();
    world.until_state("job", "failed");
    let ran = world.ctl(&["start", "above", "top"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("cannot start above: waiting top started"), "{ran:?}");
    assert!(
        ran.err.contains("cannot start top: waiting job completed_successfully (job: failed exit 1)"),
        "{ran:?}"
    );
    assert_eq!(world.inspect("job").status.generation, 3, "each start tries what had failed again");
    assert_eq!(world.ctl(&["up", "--wait", "above"]).code, 4, "nor is there anything to wait for");
    let lost = world.ctl(&["restart", "lost"]);
    assert_eq!((lost.code, lost.err.contains("cannot restart lost: backoff")), (1, true), "{lost:?}");

    let exec = world.ctl(&["exec", "job", "true"]);
    assert_eq!((exec.code, exec.err.as_str()), (1, "sampanctl: job is not running: failed exit 1\n"));
    for name in ["a b", "a/b", "../version", "a?b", "a%62", "\u{8239}", "a&follow=true"] {
        for verb in ["status", "logs", "start", "config"] {
            let ran = world.ctl(&[verb, name]);
            assert!(ran.code == 1 && ran.err.contains(&format!("no service {name:?}")), "{verb}: {ran:?}");
        }
    }
    let both = world.ctl(&["stop", "x", "y"]);
    assert!(both.err.contains("\"x\"") && both.err.contains("\"y\""), "{both:?}");
}

#[test]
fn output_that_is_no_text_comes_out_as_it_went_in() {
    let logging = super::world::library("logging");
    let mut world = world!(
        r#"[plugins.logging]
path = "{}"
[services.job]
command = ["/bin/sh", "-c", "printf 'a\\377\\200 b\\n'"]
restart = "no"
"#,
        logging.display()
    );
    world.start();
    world.until_state("job", "stopped");
    let mut logs = std::process::Command::new(super::world::program("sampanctl"));
    let logs = logs.arg("--socket").arg(world.socket()).args(["logs", "job"]);
    world.until("all of it is in the log", |_| logs.output().unwrap().stdout == b"a\xff\x80 b\n");
}

#[test]
fn down_ends_sampand() {
    let mut world = world!("[services.a]\n{POLITE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.ok(&["down"]);
    assert_eq!(world.ended(), Some(0));
    assert_eq!(world.leftovers(), Vec::<String>::new());
    assert!(world.said().contains("everything is stopped"));
}

#[test]
fn a_second_ctrl_c_hurries() {
    let deaf = "command = [\"/bin/sleep\", \"100000\"]\nstop_grace_period = \"10m\"\n";
    let mut world = world!(
        "[services.deaf]\n{deaf}[services.base]\n{POLITE}[services.top]\n{deaf}depends_on = [\"base\"]\n"
    );
    world.start();
    for name in ["deaf", "base", "top"] {
        world.until_state(name, "running");
    }
    world.signal(libc::SIGINT);
    world.until("it stops", |world| world.inspect("deaf").status.state == "stopping");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(world.inspect("base").status.state, "running", "top, which needs it, is not stopped yet");
    assert_eq!(world.interrupt(), Some(0));
    assert!(world.said().contains("hurry"), "{}", world.said());
}

#[test]
fn with_keep_sigterm_leaves_containers_to_the_next_sampand() {
    let mut world = world!(
        "on_exit = \"keep\"\n---\n[services.a]\n{POLITE}restart = \"no\"\n[services.zero]\n{POLITE}restart = \"no\"\n[services.b]\n{LIVE}"
    );
    world.start();
    for name in ["a", "zero", "b"] {
        world.until_state(name, "running");
    }
    let (a, zero, b) = (world.pid("a"), world.pid("zero"), world.pid("b"));
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0));
    assert_eq!((world.processes("a").contains(&a), world.processes("b")), (true, vec![b]));
    world.start();
    assert_eq!((world.pid("a"), world.pid("b")), (a, b));
    assert!(world.inspect("b").status.text.ends_with("(adopted)"), "{:?}", world.inspect("b").status);
    assert_eq!(world.inspect("a").status.restarts, 0);
    // Not children of the new keel: a code is known from Linux 6.15 on, else (or where PID 1 is slow to reap) it may be
    // unknown, never another one.
    kill(a, libc::SIGUSR1);
    kill(zero, libc::SIGTERM);
    world.until_state("a", "failed");
    let ended = |service: &sampan_api::Inspect| matches!(service.status.state.as_str(), "stopped" | "failed");
    world.until("the other ends", |world| ended(&world.inspect("zero")));
    let exits = [world.inspect("a").status.last_exit, world.inspect("zero").status.last_exit];
    assert!(matches!(exits[0].as_deref(), Some("37" | "unknown")), "{exits:?}");
    assert!(matches!(exits[1].as_deref(), Some("0" | "unknown")), "{exits:?}");
    if World::kernel() >= (6, 15) {
        assert_eq!(exits[0].as_deref(), Some("37"));
    }
}

#[test]
fn check_tells_ten_mistakes_at_once() {
    let world = world!("");
    std::fs::write(world.config(), include_str!("../../../config/tests/ten_mistakes.toml")).unwrap();
    let mut sampand = std::process::Command::new(env!("CARGO_BIN_EXE_sampand"));
    let ran = super::world::run(sampand.arg("--check").arg("--config").arg(world.config()));
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("error")).count(), 10, "{}", ran.out);
    assert!(ran.out.contains("10 errors, nothing changed"), "{}", ran.out);
    let mut sampand = std::process::Command::new(env!("CARGO_BIN_EXE_sampand"));
    let ran = super::world::run(sampand.arg("--config").arg(world.config()));
    assert_eq!(ran.code, 2, "it does not start either: {ran:?}");
}

//! Verbs that look at services, and those that wait.
use super::{LIVE, World};
use sampan_api as api;
use std::time::{Duration, Instant};

#[test]
fn what_lives_can_be_looked_at() {
    let mut world = world!(
        r#"[services.web]
{LIVE}
labels = {{ tier = "front", team = "a" }}
resources.memory = "64M"
depends_on = ["busy"]
[services.busy]
command = ["/bin/sh", "-c", "while :; do :; done"]
labels = {{ tier = "back" }}
stop_signal = "SIGKILL"
[services.done]
command = ["/bin/sh", "-c", "exit 0"]
restart = "no"
"#
    );
    world.start();
    world.until_state("web", "running");
    world.until_state("done", "stopped");

    let web = world.inspect("web");
    assert_eq!((web.addresses.len(), web.environment.is_empty()), (0, true), "loopback is not told");
    assert_eq!(web.limits["memory"], serde_json::json!("64M"), "{}", web.limits);

    let names = |filters: &[&str]| {
        let mut args = vec!["ps", "-q"];
        filters.iter().for_each(|filter| args.extend(["--filter", *filter]));
        world.ok(&args).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names(&["label=tier"]), "busy web");
    assert_eq!(names(&["label=tier=front", "label=team"]), "web");
    assert_eq!(names(&["state=stopped"]), "done");
    assert_eq!(names(&["state=stopped", "state=running"]), "busy done web");
    assert_eq!(names(&["label=tier=front", "state=stopped"]), "");
    let wrong = world.ctl(&["ps", "--filter", "colour=red"]);
    assert_eq!((wrong.code, wrong.err.contains("label=KEY")), (2, true), "{wrong:?}");

    assert_eq!(
        world.ok(&["ps", "--format", "{{.name}} {{.state}}"]),
        "busy running\ndone stopped\nweb running\n"
    );
    assert_eq!(
        world.ok(&["ps", "--format", r"table {{.name}}\t{{.state}}"]).lines().next(),
        Some("NAME  STATE")
    );
    let pid = world.ok(&["inspect", "web", "--format", "{{.pid}}"]);
    assert_eq!(pid.trim().parse(), Ok(world.processes("web")[0]));
    let wrong = world.ctl(&["ps", "--format", "{{.Names}}"]);
    assert!(
        wrong.code == 1 && wrong.err.contains("names here: ") && wrong.err.contains(" name, "),
        "{wrong:?}"
    );

    let top: Vec<api::Process> = serde_json::from_str(&world.ok(&["--json", "top", "web"])).unwrap();
    assert_eq!(top.iter().map(|process| process.pid).collect::<Vec<_>>(), world.processes("web"));
    assert_eq!((top[0].command.as_str(), top[0].uid), ("/bin/sleep 100000", 0));
    assert!(world.ok(&["top", "web"]).contains("/bin/sleep 100000"));
    assert_eq!(world.ok(&["top", "done"]).lines().count(), 1, "nothing of it lives");
    let both = world.ok(&["top", "web", "busy"]);
    assert!(both.starts_with("web:\nPID") && both.contains("\nbusy:\nPID"), "{both}");
    assert!(world.ctl(&["top", "wbe"]).err.contains("no service \"wbe\""));

    let stats = world.ok(&["stats", "--no-stream"]);
    let row =
        |name: &str| stats.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{stats}"));
    assert_eq!(stats.lines().count(), 3, "what is at rest uses nothing: {stats}");
    assert!(row("web").contains("/ 64M"), "{stats}");
    let percent: f64 = row("busy").split_whitespace().nth(1).unwrap().trim_end_matches('%').parse().unwrap();
    assert!(percent > 1.0, "{stats}");
    let one: Vec<api::Usage> =
        serde_json::from_str(&world.ok(&["--json", "stats", "--no-stream", "web"])).unwrap();
    assert_eq!((one.len(), one[0].memory_limit_bytes, one[0].processes), (1, Some(64 << 20), 1), "{one:?}");
    assert_eq!(one[0].network, Some(api::Traffic::default()), "it has loopback alone");
    assert_eq!(world.ctl(&["stats", "--no-stream", "nobody"]).code, 1);

    let graph = world.ok(&["graph"]);
    let place = |name: &str| graph.lines().position(|line| line.starts_with(name)).unwrap();
    assert!(place("busy") < place("web") && graph.contains("busy (started)"), "{graph}");
    assert!(world.ok(&["graph", "--dot"]).contains("\"web\" -> \"busy\""));

    let both = world.ok(&["inspect", "web", "busy"]);
    let both = serde_json::Deserializer::from_str(&both).into_iter::<api::Inspect>();
    let both: Vec<String> = both.map(|one| one.unwrap().status.name).collect();
    assert_eq!(both, ["web", "busy"]);
    assert!(world.ok(&["why", "web", "busy"]).lines().any(|line| line.contains(" busy ")));
}

#[test]
fn ports_are_shown_as_they_are_published() {
    let port = |args: &[&str], world: &World| world.ctl(args);
    let mut world = world!(
        r#"[services.web]
{LIVE}
network_mode = "host"
[services.shut]
{LIVE}
autostart = false
network_mode = "bridge"
ports = ["127.0.0.1:8080:80", "5353:53/udp"]
"#
    );
    world.start();
    let all = port(&["port", "shut"], &world);
    assert_eq!(
        (all.code, all.out.as_str()),
        (0, "80/tcp -> 127.0.0.1:8080\n53/udp -> 0.0.0.0:5353\n"),
        "{all:?}"
    );
    assert_eq!(port(&["port", "shut", "80"], &world).out, "127.0.0.1:8080\n");
    assert_eq!(port(&["port", "shut", "53/udp"], &world).out, "0.0.0.0:5353\n");
    let none = port(&["port", "shut", "53"], &world);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("no port 53/tcp") && none.err.contains("80/tcp, 53/udp"), "{none:?}");
    assert_eq!(port(&["port", "web"], &world).out, "");
}

#[test]
fn waiting_for_a_condition() {
    let mut world = world!(
        r#"[services.live]
{LIVE}
[services.job]
command = ["/bin/sh", "-c", "trap 'exit 7' USR1; sleep 100000 & wait"]
restart = "no"
[services.again]
command = ["/bin/sh", "-c", "trap 'exit 3' USR1; sleep 100000 & wait"]
restart = {{ delay = "1h", max_delay = "1h" }}
"#
    );
    world.start();
    world.ok(&["wait", "--condition", "running", "live", "job", "again"]);
    world.ok(&["wait", "--condition", "healthy", "live"]);
    assert!(["live", "job", "again"].iter().all(|name| world.inspect(name).status.state == "running"));

    let begun = Instant::now();
    let late = world.ctl(&["wait", "live", "--timeout", "1"]);
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.err.contains("live is not exited: running"), "{late:?}");
    assert!(begun.elapsed() >= Duration::from_secs(1));

    // A signal before the shell has its handler ends it with another code.
    for name in ["job", "again"] {
        world.until("its shell waits", |world| world.processes(name).len() == 2);
    }
    let waited = std::thread::scope(|scope| {
        let waits = scope.spawn(|| world.ctl(&["wait", "job", "again"]));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waits.is_finished(), "both live");
        world.ok(&["kill", "job", "again", "USR1"]);
        waits.join().unwrap()
    });
    assert_eq!((waited.code, waited.out.as_str()), (7, "7\n3\n"), "{waited:?}");
    assert_eq!(world.ctl(&["wait", "job"]).out, "7\n", "at rest: at once");
    // A wrong name, and what was to be a signal, end nobody.
    for (last, says) in [("nobody", "no service \"nobody\""), ("hup", "HUP")] {
        let wrong = world.ctl(&["kill", "live", last]);
        assert!(wrong.code == 1 && wrong.err.contains(says), "{wrong:?}");
        assert_eq!(world.inspect("live").status.generation, 1, "{wrong:?}");
    }
    let killed = world.ctl(&["kill", "job", "live"]);
    assert_eq!(killed.code, 1, "job is not running, live is killed all the same: {killed:?}");
    world.until("live lives again", |world| world.inspect("live").status.generation == 2);
}

#[test]
fn a_start_that_waits_ends_as_its_job() {
    let mut world = world!(
        r#"[services.live]
{LIVE}autostart = false
[services.job]
command = ["/bin/sh", "-c", "sleep 1; exit 7"]
restart = "no"
autostart = false
[services.good]
command = ["/bin/sh", "-c", "sleep 0.3"]
restart = "on-failure"
autostart = false
[services.tries]
command = ["/bin/sh", "-c", "exit 5"]
restart = {{ policy = "on-failure", max_attempts = 3, delay = "10ms" }}
autostart = false
[services.none]
command = ["/no/such/program"]
restart = "no"
autostart = false
"#
    );
    world.start();
    let start = |names: &[&str]| world.ctl(&[&["start", "--wait"], names].concat());
    let begun = Instant::now();
    let job = start(&["job"]);
    assert_eq!((job.code, job.out.as_str()), (7, ""), "{job:?}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "it has waited for the job");
    assert_eq!(start(&["good"]).code, 0);
    assert_eq!(start(&["good", "job"]).code, 7);
    let tries = start(&["tries"]);
    assert_eq!((tries.code, world.inspect("tries").status.state.as_str()), (5, "failed"), "{tries:?}");
    assert!(world.inspect("tries").status.generation > 1, "after the last attempt");
    let none = start(&["none"]);
    assert!(none.code == 1 && none.err.contains("none has failed: failed exec"), "{none:?}");
    let refused = start(&["good", "live"]);
    assert!(refused.code == 1 && refused.err.contains("live is no job: with restart ="), "{refused:?}");
    assert_eq!(world.inspect("live").status.state, "stopped", "and is not started");
    assert_eq!(world.ctl(&["wait", "--condition", "done", "job"]).out, "7\n");
    assert_eq!(world.ctl(&["start", "--wait", "-d", "job"]).code, 2);
}

#[test]
fn a_dry_run_changes_nothing() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    let pids = (world.pid("a"), world.pid("b"));
    world.configure(&format!("[services.a]\n{LIVE}hostname = \"other\"\n[services.c]\n{LIVE}"));
    let would = world.ok(&["apply", "--dry-run"]);
    assert_eq!(would, "a: restart hostname\nb: removed\nc: new\n");
    assert_eq!((world.pid("a"), world.pid("b")), pids);
    assert_eq!(world.services().len(), 2);
    assert_eq!(world.ok(&["apply"]), would, "as it was told");
    std::fs::write(world.config(), "[services.a]\nno_such_key = 1\n").unwrap();
    assert_eq!(world.ctl(&["apply", "--dry-run"]).code, 2);
}

#[test]
fn logs_and_events_of_some_time() {
    let logging = super::world::library("logging");
    let mut world = world!(
        r#"[plugins.logging]
path = "{}"
[services.job]
command = ["/bin/sh", "-c", "echo one; trap 'echo two' USR1; sleep 100000 & wait; wait"]
stop_signal = "SIGKILL"
"#,
        logging.display()
    );
    world.start();
    world.until("the first line", |world| world.ctl(&["logs", "job"]).out == "one\n");
    world.until("its shell waits", |world| world.processes("job").len() == 2);
    std::thread::sleep(Duration::from_millis(50));
    let between = world.ok(&["--json", "logs", "job"]);
    let first: serde_json::Value = serde_json::from_str(&between).unwrap();
    let now = std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output().unwrap();
    let now = String::from_utf8(now.stdout).unwrap().trim().to_owned();
    assert!(first["time"].as_str().unwrap() < now.as_str(), "{first} {now}");
    std::thread::sleep(Duration::from_millis(50));
    world.ok(&["kill", "-s", "USR1", "job"]);
    world.until("the second line", |world| world.ctl(&["logs", "job"]).out == "one\ntwo\n");

    assert_eq!(world.ok(&["logs", "--since", &now, "job"]), "two\n");
    assert_eq!(world.ok(&["logs", "--until", &now, "job"]), "one\n");
    assert_eq!(world.ok(&["logs", "--since", "1h", "--no-prefix"]), "one\ntwo\n");
    assert_eq!(world.ok(&["logs", "--since", "1h"]), "job | one\njob | two\n");
    assert_eq!(world.ok(&["logs", "--until", "1h"]), "");
    let wrong = world.ctl(&["logs", "--since", "yesterday"]);
    assert_eq!((wrong.code, wrong.err.contains("10m")), (2, true), "{wrong:?}");

    let since = world.ok(&["events", "--since", &now]);
    assert!(since.lines().count() == 1 && since.contains("SIGUSR1 by hand"), "nothing else: {since}");
    assert_eq!(world.ok(&["events", "--since", "1h"]), world.ok(&["events"]));
    assert_eq!(
        world.ok(&[
            "exec",
            "-e",
            "COLOUR=red",
            "-w",
            "/mnt",
            "-u",
            "7:7",
            "job",
            "sh",
            "-c",
            "echo $COLOUR $PWD $(id -u)"
        ]),
        "red /mnt 7\n"
    );
}

#[test]
fn a_paused_service_keeps_still_and_is_not_checked() {
    let mut world = world!(
        r#"[services.web]
command = ["/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo $n > /out/now; sleep 0.02; done"]
stop_signal = "SIGKILL"
volumes = ["{}:/out"]
[services.web.healthcheck]
test = ["CMD", "true"]
interval = "200ms"
timeout = "500ms"
retries = 1
on_failure = "restart"
[services.rests]
{LIVE}
autostart = false
"#,
        "OUT"
    );
    let out = world.dir().join("data");
    std::fs::create_dir(&out).unwrap();
    let text = std::fs::read_to_string(world.config()).unwrap().replace("OUT", out.to_str().unwrap());
    std::fs::write(world.config(), text).unwrap();
    world.start();
    world.until("it is healthy", |world| world.inspect("web").status.health == "healthy");
    let pid = world.pid("web");
    let beats = || {
        let read = || std::fs::read_to_string(out.join("now")).unwrap_or_default();
        let before = read();
        std::thread::sleep(Duration::from_millis(700));
        read() != before
    };
    assert!(beats());
    world.ok(&["pause", "web"]);
    world.ok(&["pause", "web"]);
    assert!(!beats() && !beats(), "its time stands still, for longer than its check may take");
    assert!(world.ok(&["ps"]).contains("paused "), "{}", world.ok(&["ps"]));
    assert_eq!(world.ok(&["ps", "-q", "--filter", "state=paused"]), "web\n");

    // The next worker finds it as it is.
    super::world::kill(world.worker().unwrap(), libc::SIGKILL);
    world.until("a next worker says so", |world| world.inspect("web").status.state == "paused");
    assert!(!beats());
    let web = world.inspect("web").status;
    assert_eq!((web.pid, web.generation), (Some(pid), 1), "no check has failed");

    world.ok(&["unpause", "web"]);
    assert!(beats());
    world.until("it is checked again", |world| world.inspect("web").last_check.is_some_and(|check| check.ok));
    assert_eq!(world.inspect("web").status.state, "running");
    world.ok(&["pause", "web"]);
    world.ok(&["stop", "web"]);
    assert_eq!(world.processes("web"), Vec::<i32>::new());
    let none = world.ctl(&["pause", "rests"]);
    assert!(none.code == 1 && none.err.contains("cannot pause rests: it is stopped"), "{none:?}");
    world.ok(&["start", "web"]);
    assert_eq!(world.inspect("web").status.state, "running");
    world.ok(&["pause", "web"]);
}

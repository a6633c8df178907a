//! Health checks of each kind, what follows from a bad one, and the order that dependencies ask for.
use super::{LIVE, World};
use sampan_testkit::need;

/// Answers HTTP on port 8000 of its own loopback.
const HTTPD: &str = r#"command = ["/bin/busybox", "httpd", "-f", "-p", "8000", "-h", "/etc"]
stop_signal = "SIGKILL"
"#;

fn healthy(world: &World, name: &str) {
    world.until(&format!("{name} is healthy"), |world| world.inspect(name).status.health == "healthy");
}

#[test]
fn each_kind_of_check_finds_its_service_healthy() {
    let mut world = world!(
        r#"[services.http]
{HTTPD}healthcheck = {{ http = {{ port = 8000, path = "/passwd" }}, interval = "100ms" }}
[services.tcp]
{HTTPD}healthcheck = {{ tcp = 8000, interval = "100ms" }}
[services.exec]
{LIVE}healthcheck = {{ test = ["CMD", "/bin/test", "-e", "/bin/sleep"], interval = "100ms" }}
[services.shell]
{LIVE}healthcheck = {{ test = "test $(hostname) = shell", interval = "100ms" }}
[services.none]
{LIVE}"#
    );
    world.start();
    for name in ["http", "tcp", "exec", "shell"] {
        healthy(&world, name);
        let check = world.inspect(name).last_check;
        assert!(check.is_some_and(|check| check.ok && check.failures == 0), "{name}");
    }
    assert_eq!(world.inspect("none").status.health, "-");
    assert_eq!(world.ctl(&["up", "--wait", "--timeout", "20"]).code, 0);
}

/// Its command goes into the volume once it is born, as the user.
#[test]
fn a_check_runs_in_the_services_working_directory_also_on_a_volume() {
    let mut world = world!("");
    let volume = world.dir().join("volume");
    std::fs::create_dir_all(volume.join("in")).unwrap();
    let service = |user: &str| {
        format!(
            "{LIVE}{user}volumes = [\"{}:/mnt\"]\nworking_dir = \"/mnt/in\"\nhealthcheck = {{ test = \"test $(pwd) = /mnt/in\", interval = \"100ms\" }}\n",
            volume.display()
        )
    };
    world.configure(&format!(
        "[services.root]\n{}[services.user]\n{}",
        service(""),
        service("user = \"1000\"\n")
    ));
    world.start();
    for name in ["root", "user"] {
        healthy(&world, name);
    }
}

/// A socket is looked for in the container alone, wherever links lead.
#[test]
fn a_unix_socket_that_accepts_is_healthy() {
    let mut world = world!("");
    if !need::programs(&["python3"], "python3") {
        return;
    }
    let listens = "import os, socket, time; s = socket.socket(socket.AF_UNIX); s.bind('/run/x'); s.listen(); \
                   os.symlink('/run/x', '/run/link'); os.symlink('../../../..', '/run/out'); time.sleep(100000)";
    let service = |name: &str, path: &str| {
        format!(
            "[services.{name}]\nrootfs = \"host\"\ncommand = [\"/usr/bin/python3\", \"-c\", \"{listens}\"]\n\
             stop_signal = \"SIGKILL\"\nhealthcheck = {{ unix = \"{path}\", interval = \"100ms\", \
             start_period = \"0s\", retries = 1, on_failure = \"none\" }}\n"
        )
    };
    let outside = world.dir().join("outside");
    let _listener = std::os::unix::net::UnixListener::bind(&outside).unwrap();
    let outside = format!("/run/out{}", outside.display());
    world.configure(
        &[service("there", "/run/link"), service("missing", "/run/y"), service("out", &outside)].concat(),
    );
    world.start();
    healthy(&world, "there");
    for name in ["missing", "out"] {
        world.until(&format!("{name} is not"), |world| world.inspect(name).status.health == "unhealthy");
        let said = world.inspect(name).last_check.unwrap().output;
        assert!(said.starts_with("connect to /run/") && said.contains("no such file"), "{said}");
    }
}

#[test]
fn an_unhealthy_service_is_restarted() {
    let mut world = world!(
        r#"[services.sick]
{LIVE}healthcheck = {{ test = ["CMD-SHELL", "if test -e /tmp/sick; then echo I feel sick; exit 1; fi"], interval = "50ms", retries = 2, start_interval = "50ms" }}
restart.delay = "10ms"
[services.left]
{LIVE}healthcheck = {{ test = ["CMD", "/bin/test", "!", "-e", "/tmp/sick"], interval = "50ms", retries = 2, start_interval = "50ms", on_failure = "none" }}
"#
    );
    world.start();
    for name in ["sick", "left"] {
        healthy(&world, name);
        world.ok(&["exec", name, "touch", "/tmp/sick"]);
    }
    let left = world.pid("left");
    world.until("it lives anew", |world| world.inspect("sick").status.generation == 2);
    healthy(&world, "sick");
    let why = world.ok(&["why", "sick"]);
    assert!(why.contains("unhealthy: ") && why.contains("I feel sick"), "{why}");
    assert_eq!(world.inspect("sick").status.restarts, 1);
    world.until("the other is only called so", |world| world.inspect("left").status.health == "unhealthy");
    assert_eq!((world.inspect("left").status.generation, world.pid("left")), (1, left));
}

#[test]
fn a_service_that_never_gets_healthy_is_told_by_up() {
    let mut world = world!(
        r#"[services.sick]
{LIVE}healthcheck = {{ test = ["CMD", "/bin/false"], interval = "50ms", start_period = "10m", start_interval = "50ms" }}
[services.dependant]
{LIVE}depends_on.sick.condition = "service_healthy"
"#
    );
    world.start();
    let ran = world.ctl(&["up", "--wait", "--timeout", "1"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(world.inspect("sick").status.health, "starting");
    assert!(world.ok(&["ps"]).contains("waiting sick healthy"), "{}", world.ok(&["ps"]));
}

#[test]
fn start_follows_dependencies_and_stop_goes_back() {
    let mut world = world!(
        r#"[services.app]
{LIVE}depends_on.migrate.condition = "service_completed_successfully"
depends_on.db.condition = "service_healthy"
[services.migrate]
command = ["/bin/sleep", "0.2"]
restart = "on-failure:3"
depends_on.db.condition = "service_healthy"
[services.db]
{HTTPD}healthcheck = {{ http = {{ port = 8000, path = "/passwd" }}, interval = "1s", start_interval = "50ms" }}
[services.top]
{LIVE}depends_on = ["app"]
"#
    );
    world.start();
    world.until_state("top", "running");
    let events = world.events();
    let healthy = events.iter().position(|event| event.service == "db" && event.cause == "healthy").unwrap();
    let order = [
        world.place("db", "running"),
        healthy,
        world.place("migrate", "creating"),
        world.place("migrate", "stopped"),
        world.place("app", "creating"),
        world.place("app", "running"),
        world.place("top", "creating"),
    ];
    assert!(order.is_sorted(), "{order:?} in {events:#?}");

    assert_eq!(world.interrupt(), Some(0));
    let said = world.said();
    let line = |what: &str| {
        said.lines().position(|line| line.contains(what)).unwrap_or_else(|| panic!("no {what:?} in\n{said}"))
    };
    let order = [
        line("top: is being stopped"),
        line("top: is stopped"),
        line("app: is being stopped"),
        line("app: is stopped"),
        line("db: is being stopped"),
        line("db: is stopped"),
    ];
    assert!(order.is_sorted(), "{order:?} in\n{said}");
}

#[test]
fn a_job_that_fails_holds_up_what_needs_it() {
    let mut world = world!(
        r#"[services.job]
command = ["/bin/false"]
restart = {{ policy = "on-failure", max_attempts = 2, delay = "10ms" }}
[services.app]
{LIVE}depends_on.job.condition = "service_completed_successfully"
"#
    );
    world.start();
    world.until_state("job", "failed");
    assert_eq!(world.inspect("app").status.state, "waiting");
    let ps = world.ok(&["ps"]);
    assert!(ps.contains("failed 2 attempts") && ps.contains("waiting job"), "{ps}");
}

/// A check by a shell, every second, with a second to answer.
fn checked(script: &str) -> String {
    format!(
        "healthcheck = {{ test = [\"CMD-SHELL\", \"{script}\"], timeout = \"1s\", interval = \"1s\", start_period = \"0s\", \
         retries = 2, on_failure = \"none\" }}\n"
    )
}

#[test]
fn what_a_check_has_started_ends_when_its_time_is_over() {
    let mut world = world!("[services.a]\n{LIVE}{}", checked("(sleep 98766; true) | cat; echo no"));
    world.start();
    world.until("two checks ran out of time", |world| world.inspect("a").status.health == "unhealthy");
    // One of the next check may be on its way: the shell, its pipeline of two, a sleep.
    world.until("the service, and one check at most", |world| world.processes("a").len() <= 6);
    world.ok(&["stop", "a"]);
}

#[test]
fn a_check_that_ends_well_is_a_success_whatever_it_leaves() {
    let mut world = world!("[services.a]\n{LIVE}{}", checked("echo fine; sleep 98767 & exit 0"));
    world.start();
    world.until("it is healthy", |world| world.inspect("a").status.health == "healthy");
    let said = world.inspect("a").last_check.unwrap().output;
    assert_eq!(said, "fine");
}

/// `notify = "healthy"`: not ready before, whoever dies meanwhile.
#[test]
fn a_service_that_is_ready_when_it_is_healthy_starts_until_then() {
    let check = r#"healthcheck = { test = ["CMD", "/bin/test", "-e", "/tmp/well"], interval = "50ms", start_interval = "50ms" }
notify = "healthy"
"#;
    let mut world = world!(
        "[services.slow]\n{LIVE}{check}[services.late]\n{LIVE}{check}start_timeout = \"1s\"\n\
         restart = {{ max_attempts = 1, delay = \"10ms\" }}\n"
    );
    world.start();
    world.until_state("slow", "starting");
    let pid = world.pid("slow");
    super::applied::another_worker(&world);
    world.until_state("slow", "starting");
    assert_ne!(world.ctl(&["up", "slow", "--wait", "--timeout", "1"]).code, 0, "not ready");
    world.ok(&["exec", "slow", "touch", "/tmp/well"]);
    world.until_state("slow", "running");
    assert_eq!((world.pid("slow"), world.inspect("slow").status.health), (pid, "healthy".into()));
    assert_eq!(world.ctl(&["up", "slow", "--wait", "--timeout", "20"]).code, 0);
    world.until_state("late", "failed");
    let why = world.ok(&["why", "late"]);
    assert!(why.contains("starting -> stopping (run 2) time is up"), "{why}");
}

#[test]
fn what_is_bound_stops_with_it_and_comes_back_with_it() {
    let mut world = world!(
        "[services.db]\n{LIVE}autostart = false\nrestart.delay = \"2s\"\n\
         [services.app]\n{LIVE}depends_on.db.bind = true\n\
         [services.top]\n{LIVE}depends_on.app.bind = true\n\
         [services.loose]\n{LIVE}depends_on = [\"db\"]\n"
    );
    world.start();
    let all = ["db", "app", "top", "loose"];
    all.iter().for_each(|name| world.until_state(name, "running"));
    let loose = world.pid("loose");
    world.ok(&["stop", "db"]);
    ["app", "top"].iter().for_each(|name| world.until_state(name, "waiting"));
    assert!(world.ok(&["ps"]).contains("waiting db started"), "{}", world.ok(&["ps"]));
    assert!(world.ok(&["why", "app"]).contains("stopped with db"), "{}", world.ok(&["why", "app"]));
    super::applied::another_worker(&world);
    world.ok(&["start", "db"]);
    all.iter().for_each(|name| world.until_state(name, "running"));
    assert_eq!(world.inspect("top").status.generation, 2);
    // Whatever ends it.
    super::world::kill(world.pid("db"), libc::SIGKILL);
    world.until("all three live anew", |world| {
        ["db", "app", "top"].iter().all(|name| {
            let status = world.inspect(name).status;
            status.generation == 3 && status.state == "running"
        })
    });
    assert_eq!(world.pid("loose"), loose);
    let events = world.events();
    let last =
        |service: &str, to: &str| events.iter().rposition(|e| e.service == service && e.to == to).unwrap();
    let order =
        [last("app", "stopping"), last("db", "running"), last("app", "running"), last("top", "running")];
    assert!(order.is_sorted(), "{order:?} in {events:#?}");
}

#[test]
fn a_need_that_is_not_required_holds_nothing_up_for_good() {
    let mut world = world!(
        r#"[services.job]
command = ["/bin/false"]
restart = {{ policy = "on-failure", max_attempts = 2, delay = "10ms" }}
[services.app]
{LIVE}depends_on.job = {{ condition = "service_completed_successfully", required = false }}
depends_on.nowhere.required = false
depends_on.debug.required = false
[services.debug]
{LIVE}profiles = ["debug"]
"#
    );
    world.start();
    world.until_state("app", "running");
    assert_eq!(world.inspect("debug").status.state, "stopped", "it is not in an active profile");
    assert!(world.place("job", "failed") < world.place("app", "creating"), "it waits for its end");
    assert!(world.said().contains("services.app.depends_on.nowhere: no such service"), "{}", world.said());
}

#[test]
fn a_restart_by_hand_takes_along_who_asked_for_it() {
    let check = r#"healthcheck = { test = ["CMD", "/bin/test", "-e", "/tmp/well"], interval = "50ms", start_interval = "50ms" }
notify = "healthy"
"#;
    let mut world = world!(
        "[services.db]\n{LIVE}{check}[services.app]\n{LIVE}depends_on.db = {{ condition = \"service_ready\", restart = true }}\n\
         [services.loose]\n{LIVE}depends_on = [\"db\"]\n"
    );
    world.start();
    world.until_state("loose", "running");
    world.until_state("app", "waiting");
    assert!(world.ok(&["ps"]).contains("waiting db ready"), "{}", world.ok(&["ps"]));
    world.ok(&["exec", "db", "touch", "/tmp/well"]);
    world.until_state("app", "running");
    world.ok(&["restart", "db", "-d"]);
    world.until("it is on its way again", |world| {
        let status = world.inspect("db").status;
        (status.state.as_str(), status.generation) == ("starting", 2)
    });
    world.until_state("app", "waiting");
    world.ok(&["exec", "db", "touch", "/tmp/well"]);
    world.until("it lives anew, too", |world| world.inspect("app").status.generation == 2);
    assert_eq!(world.inspect("loose").status.generation, 1);
    assert!(world.ok(&["why", "app"]).contains("restarted with db"), "{}", world.ok(&["why", "app"]));
}

/// The check says how often it was asked; the service does not hear its stop signal.
#[test]
fn it_is_healthy_after_enough_successes_and_stopped_with_the_grace_of_its_check() {
    let toml = |grace: &str| {
        format!(
            r#"[services.sick]
command = ["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
stop_grace_period = "{grace}"
healthcheck = {{ test = "echo >>/tmp/asked; test ! -e /tmp/sick || exit 1; wc -l </tmp/asked", interval = "50ms", retries = 2, success_threshold = 3, stop_grace_period = "200ms" }}
"#
        )
    };
    let mut world = world!("{}", toml("10m"));
    world.start();
    healthy(&world, "sick");
    let asked: u32 = world.inspect("sick").last_check.unwrap().output.parse().unwrap();
    assert!(asked >= 3, "after {asked} successes");
    world.ok(&["exec", "sick", "touch", "/tmp/sick"]);
    world.until("it lives anew", |world| world.inspect("sick").status.generation == 2);
    let why = world.ok(&["why", "sick"]);
    assert!(why.contains("unhealthy: ") && why.contains("exit 137 SIGKILL"), "{why}");
    world.configure(&toml("100ms"));
    world.ok(&["apply"]);
}

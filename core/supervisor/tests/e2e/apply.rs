//! A changed config, by `apply` and by SIGHUP.
use super::LIVE;
use super::world::kill;

#[test]
fn each_change_does_what_the_reference_says() {
    let mut world = world!(
        "[services.same]\n{LIVE}[services.gone]\n{LIVE}[services.live]\n{LIVE}[services.again]\n{LIVE}"
    );
    world.start();
    for name in ["same", "gone", "live", "again"] {
        world.until_state(name, "running");
    }
    let (same, live, again) = (world.pid("same"), world.pid("live"), world.pid("again"));
    world.configure(&format!(
        "[services.same]\n{LIVE}[services.new]\n{LIVE}[services.live]\n{LIVE}restart.delay = \"7s\"\n\
         [services.again]\n{LIVE}environment = {{ NEW = \"1\" }}\n"
    ));
    let said = world.ok(&["apply"]);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "again: restart environment.NEW",
            "gone: removed",
            "live: live restart.delay",
            "new: new",
            "same: nothing"
        ]
    );
    world.until("gone is gone", |world| world.services().iter().all(|service| service.name != "gone"));
    assert_eq!(world.processes("gone"), Vec::<i32>::new());
    world.until_state("new", "running");
    world.until("again lives again", |world| {
        let status = world.inspect("again").status;
        status.generation == 2 && status.state == "running"
    });
    assert_ne!(world.pid("again"), again);
    assert!(world.ok(&["exec", "again", "env"]).contains("NEW=1"));
    assert_eq!((world.pid("same"), world.pid("live")), (same, live));
    world.ok(&["kill", "live"]);
    world.until_state("live", "backoff");
    assert!(world.inspect("live").status.text.contains("s left"), "seven seconds hold: it is still waiting");
}

#[test]
fn a_config_with_errors_changes_nothing() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let a = world.pid("a");
    world.configure("[services.b]\ncommand = [\"/bin/true\"]\nrestart = \"allways\"\n");
    let ran = world.ctl(&["apply"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("nothing changed") && ran.err.contains("allways"), "{ran:?}");
    assert_eq!(world.ctl(&["up"]).code, 2);
    world.signal(libc::SIGHUP);
    world.until("SIGHUP is answered in the log", |world| world.said().contains("nothing changed"));
    let names: Vec<String> = world.services().into_iter().map(|service| service.name).collect();
    assert_eq!((names, world.pid("a")), (vec!["a".to_owned()], a));
}

#[test]
fn sighup_applies() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.configure(&format!("[services.b]\n{LIVE}"));
    world.signal(libc::SIGHUP);
    world.until("only b is left", |world| {
        let all = world.services();
        all.len() == 1 && all[0].name == "b" && all[0].state == "running"
    });
}

/// Ends by SIGUSR1 alone, for which a stop waits ten minutes.
const SLOW: &str = r#"command = ["/bin/sh", "-c", "trap 'exit 0' USR1; trap '' TERM; while :; do sleep 100000 & wait; done"]
stop_grace_period = "10m"
"#;

fn pids_max(world: &super::World, service: &str) -> String {
    let files =
        world.groups().into_iter().filter(|group| group.ends_with(service)).map(|g| g.join("pids.max"));
    let text = files.into_iter().find_map(|file| std::fs::read_to_string(file).ok());
    text.expect("a group with pids.max").trim().to_owned()
}

#[test]
fn a_second_change_during_the_stop_that_the_first_one_caused_holds() {
    let mut world = world!("[services.a]\n{SLOW}");
    world.start();
    world.until_state("a", "running");
    world.configure(&format!("[services.a]\n{SLOW}environment = {{ FIRST = \"1\" }}\n"));
    world.ok(&["apply"]);
    world.until_state("a", "stopping");
    // Live by itself.
    world.configure(&format!("[services.a]\n{SLOW}environment = {{ FIRST = \"1\" }}\nresources.pids = 77\n"));
    world.ok(&["apply"]);
    kill(world.pid("a"), libc::SIGUSR1);
    world.until("a lives again", |world| world.inspect("a").status.generation == 2);
    world.until_state("a", "running");
    assert_eq!(pids_max(&world, "a"), "77");
    assert!(world.ok(&["exec", "a", "env"]).contains("FIRST=1"));
    world.processes("a").into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    world.ok(&["stop", "a", "-d"]);
    world.processes("a").into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
}

#[test]
fn what_is_removed_and_added_again_while_it_stops_has_its_new_config() {
    let both =
        |a: &str, b: &str| format!("[services.a]\n{SLOW}{a}[services.b]\n{SLOW}{b}[services.c]\n{LIVE}");
    let mut world = world!("{}", both("restart = \"no\"\n", ""));
    world.start();
    for name in ["a", "b"] {
        world.until_state(name, "running");
    }
    let (a, b) = (world.pid("a"), world.pid("b"));
    world.configure(&format!("[services.c]\n{LIVE}"));
    world.ok(&["apply"]);
    world.until_state("a", "stopping");
    world.until_state("b", "stopping");
    let hour = "restart = { policy = \"always\", delay = \"1h\", max_delay = \"1h\" }\n";
    world.configure(&both(hour, "autostart = false\n"));
    world.ok(&["apply"]);
    [a, b].into_iter().for_each(|pid| kill(pid, libc::SIGUSR1));
    world.until("a lives again", |world| world.inspect("a").status.generation == 2);
    world.until_state("a", "running");
    world.until_state("b", "stopped");
    kill(world.pid("a"), libc::SIGUSR1);
    world.until("the first life of the new config has ended", |world| {
        world.inspect("a").status.state != "running"
    });
    world.until_state("a", "backoff");
}

#[test]
fn a_job_that_is_done_stays_done_when_its_config_changes() {
    let job = "[services.job]\ncommand = [\"/bin/true\"]\nrestart = \"no\"\nautostart = false\n";
    let mut world = world!("{job}");
    world.start();
    world.ok(&["start", "job"]);
    world.until("it is done", |world| world.inspect("job").status.exit_code == Some(0));
    world.until_state("job", "stopped");
    world.configure(&format!("{job}user = \"65534:65534\"\n"));
    world.ok(&["apply"]);
    // What an apply starts is waiting when it is answered.
    let status = world.inspect("job").status;
    assert_eq!((status.state.as_str(), status.generation), ("stopped", 1), "{}", world.said());
    world.ok(&["start", "job"]);
    world.until("asked for, it runs", |world| world.inspect("job").status.generation == 2);
}

#[test]
fn what_a_change_needs_is_said() {
    let logging = super::world::library("logging");
    let plugin = format!("[plugins.logging]\npath = \"{}\"\n", logging.display());
    let mut world = world!("{plugin}[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.configure(&format!(
        "log_level = \"debug\"\nsocket = \"{}/other.sock\"\n---\n{plugin}config = {{ compress_nothing = 1 }}\n[services.a]\n{LIVE}",
        world.dir().display()
    ));
    let said = world.ok(&["apply"]);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "a: nothing",
            "plugins.logging: at sampand's next start config",
            "supervisor: at sampand's next start socket",
            "supervisor: live log_level",
        ]
    );
}

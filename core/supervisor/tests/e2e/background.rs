//! `sampand -d` and `sampanctl up -d`: a sampand that nobody waits for.
use super::World;
use super::world::{MARK, Ran, kill, run};
use sampan_api as api;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// One of the world's programs, with the world's mark on what it starts.
fn marked(world: &World, program: &str, args: &[&str]) -> Ran {
    run(Command::new(world.bin().join(program)).args(args).env(MARK, world.dir()))
}

fn sampand(world: &World, args: &[&str]) -> Ran {
    let config = world.config();
    let args: Vec<&str> = args.iter().copied().chain(["--config", config.to_str().unwrap()]).collect();
    marked(world, "sampand", &args)
}

fn up(world: &World, args: &[&str]) -> Ran {
    let (socket, config) = (world.socket(), world.config());
    let first = ["--socket", socket.to_str().unwrap(), "up", "-d", "-c", config.to_str().unwrap()];
    marked(world, "sampanctl", &first.into_iter().chain(args.iter().copied()).collect::<Vec<_>>())
}

fn is_gone(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn down(world: &World) {
    let keel = world.get::<api::Version>("/v1/version").unwrap().keel_pid;
    world.ok(&["down"]);
    assert!(is_gone(keel), "`down` returns when sampand has ended");
}

const TALKS: &str = "[services.web]\ncommand = [\"/bin/sh\", \"-c\", \"echo hello from web; exec sleep 100000\"]\nstop_signal = \"SIGKILL\"\n";

#[test]
fn a_sampand_in_the_background_is_ready_when_the_command_returns() {
    let world = world!("{TALKS}");
    let started = sampand(&world, &["-d"]);
    assert_eq!(started.code, 0, "{started:?}");
    let keel = world.get::<api::Version>("/v1/version").unwrap().keel_pid;
    assert!(started.out.starts_with(&format!("sampand runs as process {keel};")), "{started:?}");
    world.until_state("web", "running");

    let stat = fs::read_to_string(format!("/proc/{keel}/stat")).unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, keel.to_string(), "the terminal's keys and its end are nothing to it");
    assert_eq!(fs::read_link(format!("/proc/{keel}/fd/0")).unwrap(), Path::new("/dev/null"));

    let log = world.dir().join("state/sampand.log");
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    world.until("it is logged", |_| fs::read_to_string(&log).unwrap().contains("web: "));
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.lines().all(|line| line.starts_with("20") && line.contains("Z ")),
        "each with its time: {text}"
    );
    assert!(!text.contains("hello from web"), "the services' output is in their logs: {text}");

    let again = sampand(&world, &["--detach"]);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.err.contains(&format!("sampand runs already, as process {keel}")), "{again:?}");
    assert!(again.err.contains("sampanctl --socket"), "{again:?}");
    assert_eq!(world.get::<api::Version>("/v1/version").unwrap().keel_pid, keel);
    down(&world);
    assert!(!world.dir().join("run").exists());
}

#[test]
fn what_does_not_start_in_the_background_says_why() {
    let world = world!("{TALKS}");
    let good = fs::read_to_string(world.config()).unwrap();
    fs::write(world.config(), good.replace("stop_signal", "stop_singal")).unwrap();
    let wrong = sampand(&world, &["-d"]);
    assert!(wrong.code == 2 && wrong.err.contains("stop_singal"), "{wrong:?}");
    assert!(!world.dir().join("state").exists(), "nothing was begun");

    // Found out by the one in the background alone.
    fs::write(world.dir().join("file"), "").unwrap();
    let run_dir = format!("{}/file/run", world.dir().display());
    let no_folder = good.replacen(&format!("{}/run", world.dir().display()), &run_dir, 1);
    fs::write(world.config(), no_folder).unwrap();
    for ran in [sampand(&world, &["-d"]), up(&world, &[])] {
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("run_dir of [supervisor]") && ran.err.contains(&run_dir), "{ran:?}");
        assert_eq!(
            ran.err.matches("run_dir of [supervisor]").count(),
            1,
            "that of this start alone: {ran:?}"
        );
    }
}

#[test]
fn up_starts_a_sampand_where_there_is_none() {
    let world = world!(
        "{TALKS}[services.other]\nautostart = false\ncommand = [\"sleep\", \"100000\"]\nstop_signal = \"SIGKILL\"\n"
    );
    let none = world.ctl(&["up"]);
    assert!(none.code == 3 && none.err.contains("`sampanctl up -d`"), "{none:?}");

    let first = up(&world, &["--wait", "other"]);
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.out.contains("other") && first.err.contains("sampand runs as process"), "{first:?}");
    assert_eq!(world.inspect("other").status.state, "running");
    world.until_state("web", "running");
    let keel = world.get::<api::Version>("/v1/version").unwrap().keel_pid;

    let second = up(&world, &["--wait"]);
    assert_eq!((second.code, second.err.as_str()), (0, ""), "{second:?}");
    assert_eq!(world.get::<api::Version>("/v1/version").unwrap().keel_pid, keel);
    down(&world);
}

#[test]
fn up_goes_on_where_a_sampand_ended_or_was_killed() {
    let world = world!("{TALKS}");
    let begun = up(&world, &["--wait"]);
    assert_eq!(begun.code, 0, "{begun:?}");
    // At once, as in a script.
    world.ok(&["down"]);
    let again = up(&world, &["--wait"]);
    assert_eq!(again.code, 0, "{again:?}");

    let (keel, pid) = (world.get::<api::Version>("/v1/version").unwrap().keel_pid, world.pid("web"));
    kill(keel, libc::SIGKILL);
    world.until("the keel is gone", |_| is_gone(keel));
    let next = up(&world, &["--wait"]);
    assert!(next.code == 0 && next.err.contains("sampand runs as process"), "{next:?}");
    assert_eq!(world.pid("web"), pid, "it goes on with what runs");
    down(&world);
}

#[test]
fn its_log_stays_short_while_it_runs() {
    use std::io::Write;
    let world = world!("{TALKS}");
    assert_eq!(sampand(&world, &["-d"]).code, 0);
    world.until_state("web", "running");
    let (log, old) = (world.dir().join("state/sampand.log"), world.dir().join("state/sampand.log.1"));
    // As if it had said that much.
    for round in ["first", "second"] {
        let mut writes = fs::File::options().append(true).open(&log).unwrap();
        writes.write_all(format!("{round}{}\n", "x".repeat(9 << 20)).as_bytes()).unwrap();
        world.ok(&["restart", "web"]);
        world.until("it is short", |_| fs::metadata(&log).unwrap().len() < 1 << 20);
        world.until("it is kept", |_| fs::read_to_string(&old).is_ok_and(|text| text.contains(round)));
        world.until_state("web", "running");
    }
    assert!(fs::metadata(&old).unwrap().len() < 10 << 20, "one before it");
    assert_eq!(fs::metadata(&old).unwrap().permissions().mode() & 0o777, 0o600);
    down(&world);
    assert!(fs::read_to_string(&log).unwrap().lines().last().unwrap().starts_with("20"));
}

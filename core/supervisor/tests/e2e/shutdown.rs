//! A shutdown that is interrupted. It goes on when the worker dies, it ends with the keel, and no service's record keeps it:
//! the next sampand runs what is wanted, and every verb works.
use super::died::kill_the_worker;
use super::fuse::Dead;
use super::world::kill;
use super::{LIVE, World};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Ends well when asked to.
const POLITE: &str = "command = [\"/bin/sh\", \"-c\", \"trap 'exit 0' TERM; sleep 100000 & wait\"]\n";
/// Ends by SIGUSR1 alone, for which a stop waits ten minutes.
const DEAF: &str = r#"command = ["/bin/sh", "-c", "trap 'exit 0' USR1; trap '' TERM; while :; do sleep 100000 & wait; done"]
stop_grace_period = "10m"
"#;

/// `top` is asked first and takes its time, `base` waits for that, `held` was stopped by hand, `job` is done.
fn in_the_middle(world: &mut World, how: impl FnOnce(&World)) {
    world.start();
    for name in ["top", "base", "beside"] {
        world.until_state(name, "running");
    }
    world.until("the job is done", |world| world.inspect("job").status.exit_code == Some(0));
    world.ok(&["stop", "held"]);
    how(world);
    world.until_state("top", "stopping");
    world.until_state("beside", "stopped");
    assert_eq!(world.inspect("base").status.state, "running", "what needs it is not stopped yet");
}

fn services() -> Option<World> {
    World::new(&format!(
        "[services.base]\n{POLITE}[services.top]\n{DEAF}depends_on = [\"base\"]\n[services.beside]\n{POLITE}\
         [services.held]\n{LIVE}[services.job]\ncommand = [\"/bin/true\"]\nrestart = \"on-failure\"\n"
    ))
}

/// Of the shell itself: its sleep ignores what it ignores.
fn release(world: &World, service: &str) {
    kill(world.pid(service), libc::SIGUSR1);
}

fn goes_on_without_its_worker(how: impl FnOnce(&World)) {
    let Some(mut world) = services() else { return };
    in_the_middle(&mut world, how);
    for lives in [2, 3] {
        kill_the_worker(&world);
        world.until("a worker is back", |world| {
            world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == lives)
        });
        world.until_state("top", "stopping");
        world.until_state("beside", "stopped");
        assert_eq!(world.inspect("beside").status.generation, 1, "nothing is started during a shutdown");
    }
    release(&world, "top");
    assert_eq!(world.ended(), Some(0), "{}", world.said());
    assert_eq!(world.leftovers(), Vec::<String>::new());
    world.start();
    for name in ["top", "base", "beside"] {
        world.until_state(name, "running");
    }
    assert_eq!(world.inspect("held").status.state, "stopped", "by hand, and that holds");
    release(&world, "top");
    world.until("top lives again", |world| world.inspect("top").status.generation == 2);
    world.until_state("top", "running");
    world.ok(&["stop", "base"]);
    kill_all(&world, "top");
}

/// So that the test's end does not wait for ten minutes.
fn kill_all(world: &World, service: &str) {
    world.ok(&["stop", service, "-d"]);
    world.until_state(service, "stopping");
    world.processes(service).into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
    world.until_state(service, "stopped");
}

#[test]
fn of_sampanctl_down_it_goes_on_without_its_worker() {
    goes_on_without_its_worker(|world| {
        let mut ctl = std::process::Command::new(super::world::program("sampanctl"));
        let ctl = ctl.arg("--socket").arg(world.socket()).arg("down");
        // Its answer goes with the worker.
        drop(ctl.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap());
    });
}

#[test]
fn of_a_signal_it_goes_on_without_its_worker() {
    goes_on_without_its_worker(|world| world.signal(libc::SIGTERM));
}

fn ends_with_its_keel(both: bool) {
    let Some(mut world) = services() else { return };
    in_the_middle(&mut world, |world| world.signal(libc::SIGINT));
    let worker = world.worker();
    world.signal(libc::SIGKILL);
    if let Some(worker) = worker.filter(|_| both) {
        kill(worker, libc::SIGKILL);
    }
    assert_eq!(world.ended(), None);
    world.start();
    for name in ["base", "beside"] {
        world.until_state(name, "running");
    }
    let states = ["held", "job"].map(|name| world.inspect(name).status);
    assert_eq!(states.each_ref().map(|status| status.state.as_str()), ["stopped"; 2]);
    assert_eq!(states[1].generation, 1, "what was done is done");
    // It has had its stop signal, which nothing takes back: it ends, and lives again.
    release(&world, "top");
    world.until("top lives again", |world| world.inspect("top").status.generation == 2);
    world.until_state("top", "running");
    for verb in ["restart", "stop", "start"] {
        world.ok(&[verb, "beside"]);
    }
    world.ok(&["stop", "beside"]);
    world.ok(&["up", "beside"]);
    world.ok(&["start", "held"]);
    kill_all(&world, "top");
}

#[test]
fn it_ends_with_its_keel() {
    ends_with_its_keel(false);
}

#[test]
fn it_ends_with_keel_and_worker() {
    ends_with_its_keel(true);
}

#[test]
fn meanwhile_nothing_is_started_and_the_client_is_told() {
    let Some(mut world) = services() else { return };
    in_the_middle(&mut world, |world| world.signal(libc::SIGINT));
    for verb in [&["start", "beside"][..], &["restart", "beside"], &["up"], &["apply"]] {
        let ran = world.ctl(verb);
        assert!(ran.code == 1 && ran.err.contains("sampand is stopping"), "{verb:?}: {ran:?}");
    }
    let beside = world.inspect("beside").status;
    assert_eq!((beside.state.as_str(), beside.generation), ("stopped", 1));
    release(&world, "top");
    assert_eq!(world.ended(), Some(0), "{}", world.said());
}

/// A mount under state_dir that nobody serves any more: what cannot be saved is said, and sampand ends.
fn ends_on_a_dead_state_dir(on_exit: &str, signal: i32) {
    let Some(mut world) = World::new(&format!(
        "on_exit = \"{on_exit}\"\n---\n[services.a]\n{LIVE}[services.b]\n{LIVE}[services.c]\n{LIVE}"
    )) else {
        return;
    };
    world.start();
    for name in ["a", "b", "c"] {
        world.until_state(name, "running");
    }
    world.ok(&["stop", "a"]);
    let saved = || std::fs::read_to_string(world.dir().join("state/desired.json")).unwrap_or_default();
    world.until("the first stop is saved", |_| saved().contains("\"stopped\": true"));
    let Some(dead) = Dead::mount(&world.dir().join("state"), false) else { return };
    world.ok(&["stop", "b"]);
    world.signal(signal);
    let ended = world.ended();
    drop(dead);
    assert_eq!(ended, Some(0), "{}", world.said());
    let said = world.said();
    let line = said.lines().find(|line| line.contains("did not answer within 5 s")).unwrap_or_default();
    assert!(line.contains("/state") && line.contains("stop of b by hand"), "{said}");
    // The journal in the run folder, which is kept with the containers, knows of the stop.
    world.start();
    world.until_state("b", if on_exit == "keep" { "stopped" } else { "running" });
}

#[test]
fn a_dead_state_dir_does_not_keep_it_from_ending() {
    ends_on_a_dead_state_dir("stop", libc::SIGINT);
}

#[test]
fn a_dead_state_dir_does_not_keep_it_from_leaving_its_containers() {
    ends_on_a_dead_state_dir("keep", libc::SIGTERM);
}

/// A thousand services' answer is more than a socket takes at once.
#[test]
fn down_answers_to_the_last_byte_who_reads_slowly() {
    let label = "x".repeat(4096);
    let services = (0..150).map(|n| {
        format!("[services.s{n}]\ncommand = [\"/bin/true\"]\nautostart = false\nlabels.long = \"{label}\"\n")
    });
    let mut world = world!("{}", services.collect::<String>());
    world.start();
    let mut client = UnixStream::connect(world.socket()).unwrap();
    write!(client, "POST /v1/down HTTP/1.1\r\nHost: sampand\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.len() > 512 << 10, "{} bytes", body.len());
    let done: sampan_api::Done = serde_json::from_str(body).unwrap();
    assert_eq!((done.complete, done.services.len()), (true, 150));
    assert_eq!(world.ended(), Some(0), "{}", world.said());
}

//! The way to sampand stays while its worker does not: no connection is refused, what was asked is answered by the next one.
use super::world::{kill, program};
use super::{LIVE, World};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

impl World {
    fn spawn_ctl(&self, args: &[&str]) -> Child {
        let mut ctl = Command::new(program("sampanctl"));
        ctl.arg("--socket").arg(self.socket()).args(args);
        ctl.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn no_connection_is_refused_while_workers_die() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    for lives in 2..5 {
        super::died::kill_the_worker(&world);
        loop {
            let connected = UnixStream::connect(world.socket());
            assert!(connected.is_ok(), "{connected:?}");
            if world.get::<sampan_api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == lives) {
                break;
            }
        }
    }
}

#[test]
fn a_socket_that_somebody_removed_or_replaced_is_made_again() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    let answers = |world: &World| world.get::<sampan_api::Version>("/v1/version").is_ok();
    std::fs::remove_file(world.socket()).unwrap();
    world.until("it is there again", answers);
    std::fs::rename(world.config(), world.dir().join("kept.toml")).unwrap();
    std::fs::write(world.dir().join("other"), "").unwrap();
    std::fs::rename(world.dir().join("other"), world.socket()).unwrap();
    world.until("it is there again", answers);
    std::fs::rename(world.dir().join("kept.toml"), world.config()).unwrap();
    super::died::kill_the_worker(&world);
    world.until("also under the next worker", answers);
}

/// The keel sleeps, so that the next worker comes when the test says so.
#[test]
fn what_is_asked_while_there_is_no_worker_is_answered_by_the_next() {
    let mut world = world!("[services.a]\n{LIVE}[services.b]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    world.signal(libc::SIGSTOP);
    super::died::kill_the_worker(&world);
    let asked =
        [world.spawn_ctl(&["ps"]), world.spawn_ctl(&["stop", "a"]), world.spawn_ctl(&["restart", "b"])];
    std::thread::sleep(std::time::Duration::from_millis(300));
    world.signal(libc::SIGCONT);
    for child in asked {
        let (code, text) = end(child);
        assert_eq!(code, Some(0), "{text}");
    }
    assert_eq!(world.inspect("a").status.state, "stopped");
    assert_eq!(world.inspect("b").status.generation, 2, "once");
}

/// A worker that dies over a request: what only asks is asked again, what does something is not done twice.
#[test]
fn what_a_worker_died_over_is_asked_again_or_told() {
    let mut world = world!(
        "[services.a]\ncommand = [\"/bin/sh\", \"-c\", \"trap '' TERM; sleep 100000 & wait\"]\nstop_grace_period = \"3s\"\n"
    );
    world.start();
    world.until_state("a", "running");
    let restart = world.spawn_ctl(&["restart", "a"]);
    let stop = |world: &World| world.inspect("a").status.state == "stopping";
    world.until("it stops", stop);
    super::died::kill_the_worker(&world);
    let (code, text) = end(restart);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("it may have been done"), "{text}");
    world.until("it was done", |world| {
        let status = world.inspect("a").status;
        status.generation == 2 && status.state == "running"
    });
    let stop_it = world.spawn_ctl(&["stop", "a"]);
    world.until("it stops", stop);
    super::died::kill_the_worker(&world);
    let (code, text) = end(stop_it);
    assert_eq!(code, Some(0), "to stop once more is to stop: {text}");
    assert_eq!(world.inspect("a").status.state, "stopped");
}

/// As `sampanctl ps` does whose worker died: to ask twice is to ask once.
#[test]
fn a_read_that_is_sent_again_is_answered_and_nothing_is_noted() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    world.until_state("a", "running");
    for path in ["/v1/services", "/v1/services/a", "/v1/version", "/v1/config?service=a", "/v1/plugins"] {
        for _ in 0..2 {
            let mut stream = UnixStream::connect(world.socket()).unwrap();
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nhost: x\r\nrequest-id: again\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
    }
    let noted = std::fs::read_to_string(world.socket().with_file_name("requests")).unwrap();
    assert_eq!(noted, "");
}

#[test]
fn a_stopped_worker_is_named() {
    let mut world = world!("[services.a]\n{LIVE}");
    world.start();
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGSTOP);
    let (code, text) = end(world.spawn_ctl(&["ps"]));
    kill(worker, libc::SIGCONT);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("worker {worker} is stopped")), "{text}");
}

//! Clients that are no sampanctl: the descriptors that they give for a one-off's standard streams may be anything.
use super::super::fuse::Dead;
use super::super::{LIVE, World};
use rustix::fs::{Mode, OFlags};
use serde_json::json;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// So long the loop may take over an answer, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(2);

impl World {
    /// Asks for one under this name, with these descriptors of ours. Its answer comes by the connection.
    fn asks_for_one(&self, name: &str, stdio: &[RawFd]) -> UnixStream {
        let client = json!({ "pid": std::process::id(), "stdio": stdio });
        let body = json!({ "name": name, "command": ["true"], "client": client }).to_string();
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        write!(
            stream,
            "POST /v1/services/web/run HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream
    }
}

fn path(at: &std::path::Path) -> OwnedFd {
    rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn what_is_no_pipe_is_refused_and_one_of_a_dead_mount_holds_nobody_up() {
    let mut world = world!("[services.web]\n{LIVE}autostart = false\n[services.other]\n{LIVE}");
    world.start();
    world.until_state("other", "running");
    let at = world.dir().join("dead");
    let Some(_dead) = Dead::mount(&at, true) else { return };
    let (dead, file) = (path(&at), std::fs::File::open("/etc/hostname").unwrap());
    let (read, write) = std::io::pipe().unwrap();
    let [dead, file, read, write] = [dead.as_raw_fd(), file.as_raw_fd(), read.as_raw_fd(), write.as_raw_fd()];
    for (number, (stdio, why)) in [
        ([read, dead, write], "is a path (O_PATH)"),
        ([file, write, write], "is not a pipe to read from"),
        ([write, write, write], "is not a pipe to read from"),
        ([read, write, read], "is not a pipe to write to"),
        ([read, 999, write], "pidfd_getfd"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("odd{number}");
        let mut answer = world.asks_for_one(&name, &stdio);
        for _ in 0..10 {
            let asked = Instant::now();
            let life = world.get::<sampan_api::Version>("/v1/version").unwrap().worker_lives;
            assert!(
                life == 1 && asked.elapsed() < PATIENCE,
                "{life} {:?}: {}",
                asked.elapsed(),
                world.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut told = String::new();
        answer.read_to_string(&mut told).unwrap();
        let said = world.ok(&["why", &name]);
        assert!(said.contains(why), "{number}: {said} {told}");
    }
}

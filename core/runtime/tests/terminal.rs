//! Terminals as runc's suite has them (tests/integration/tty.bats), each case with the test of the same behaviour:
//!
//! | case | test |
//! |---|---|
//! | run, exec: stdin not a tty | `the_callers_terminal_is_used_though_its_standard_input_is_none` |
//! | run, exec: tty ptsname | `all_three_streams_are_the_containers_own_pty` |
//! | run, exec: tty owner, ({u,g}id != 0) | `it_belongs_to_the_processs_user_and_the_group_of_terminals` |
//! | run/exec --console-socket: relative path; exec: tty consolesize | `a_console_socket_is_relative_to_where_we_are_and_gets_the_size_asked_for` |
//! | create, run, run -d: terminal=false | `lifecycle::create_start_kill_delete`, `stdio_is_ours_in_the_foreground`, `run_detached_keeps_the_container` |
//! | carriage returns of a terminal that is relayed (all cases that compare lines) | `home::a_terminal_has_a_kind_and_its_newlines_are_plain` |

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use sampan_testkit::{Bundle, need};
use serde_json::json;

use crate::sampan::{Root, program, run};

struct Place {
    root: Root,
    bundle: Bundle,
    id: String,
}

impl Place {
    fn new(name: &str) -> Option<Place> {
        if !need::root() || !need::busybox() || !need::program("script") {
            return None;
        }
        let mut bundle = Bundle::new(name).unwrap();
        bundle.set("/process/terminal", json!(true)).set("/root/readonly", json!(false));
        let id = bundle.path().file_name().unwrap().to_str().unwrap().to_owned();
        Some(Place { root: Root::new(&id), bundle, id })
    }

    /// What the line prints, run on a terminal whose input is open and silent; `sampan` is our program with its root.
    fn on_a_terminal(&self, line: &str) -> String {
        let sampan = format!("{} --root {}", program(), self.root.path().display());
        let mut script = Command::new("script");
        script.args(["-qec", &line.replacen("sampan", &sampan, 1), "/dev/null"]);
        let (silent, _open) = std::io::pipe().unwrap();
        let (code, out, err) = run(script.current_dir(self.bundle.path()).stdin(silent));
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        out.replace('\r', "")
    }

    /// The same script as the container's own program, and by `exec` in one.
    fn both(&mut self, script: &str, input: &str, expected: &str) {
        self.bundle.script(script).write().unwrap();
        let id = self.id.clone();
        assert_eq!(self.on_a_terminal(&format!("sampan run -b . {id} {input}")), expected, "run");
        self.bundle.script("exec sleep 1000").set("/process/terminal", json!(false)).write().unwrap();
        self.root.ok(["run", "-d", "-b", self.bundle.path().to_str().unwrap(), &id]);
        assert_eq!(
            self.on_a_terminal(&format!("sampan exec -t {id} sh -c '{script}' {input}")),
            expected,
            "exec"
        );
    }
}

#[test]
fn the_callers_terminal_is_used_though_its_standard_input_is_none() {
    let Some(mut place) = Place::new("no-input") else { return };
    place.both("test -t 0 && echo yes", "</dev/null", "yes\n");
}

#[test]
fn all_three_streams_are_the_containers_own_pty() {
    let Some(mut place) = Place::new("streams") else { return };
    let script = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done";
    place.both(script, "", "/dev/pts/0\n/dev/pts/0\n/dev/pts/0\n");
}

#[test]
fn it_belongs_to_the_processs_user_and_the_group_of_terminals() {
    for uid in [0, 1000] {
        let Some(mut place) = Place::new("owner") else { return };
        place.bundle.set("/process/user", json!({"uid": uid, "gid": uid}));
        place.both("stat -c %u:%g $(tty)", "", &format!("{uid}:5\n"));
    }
}

/// Takes a connection and keeps it: the terminal that comes through it stays as long.
fn connection(socket: &UnixListener) -> UnixStream {
    socket.accept().unwrap().0
}

#[test]
fn a_console_socket_is_relative_to_where_we_are_and_gets_the_size_asked_for() {
    let Some(mut place) = Place::new("console") else { return };
    let folder = place.bundle.path().join("sockets");
    std::fs::create_dir(&folder).unwrap();
    let socket = UnixListener::bind(folder.join("console")).unwrap();
    place.bundle.script("exec sleep 1000").write().unwrap();
    let bundle = place.bundle.path().to_str().unwrap().to_owned();
    let there = |args: &[&str]| {
        let (code, _, err) = run(place.root.command(args).current_dir(&folder).stdin(Stdio::null()));
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
    };
    there(&["run", "-d", "-b", &bundle, "--console-socket", "console", &place.id]);
    let _first = connection(&socket);
    let process = json!({
        "terminal": true, "consoleSize": {"height": 10, "width": 110}, "cwd": "/",
        "args": ["/bin/sh", "-c", "stty size >/tmp/size.new; mv /tmp/size.new /tmp/size"],
    });
    std::fs::write(folder.join("process.json"), process.to_string()).unwrap();
    there(&["exec", "-t", "-d", "--console-socket", "console", "-p", "process.json", &place.id]);
    let _second = connection(&socket);
    let size = place.bundle.rootfs().join("tmp/size");
    crate::world::appears(Path::new(&size));
    assert_eq!(std::fs::read_to_string(size).unwrap(), "10 110\n");
}

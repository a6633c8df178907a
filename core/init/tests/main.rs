//! The program by itself, not as a first process: then it is told by the kernel to reap what its descendants leave.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Init {
    /// Until the test is over.
    _folder: sampan_testkit::Folder,
    path: PathBuf,
}

impl Init {
    fn new() -> Init {
        let folder = sampan_testkit::Folder::new();
        let path = folder.path("init");
        fs::write(&path, sampan_init::PROGRAM).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Init { _folder: folder, path }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

#[test]
fn it_is_small_and_needs_nothing() {
    assert!(sampan_init::PROGRAM.starts_with(b"\x7fELF"));
    assert!(sampan_init::PROGRAM.len() < 32 << 10, "{} bytes", sampan_init::PROGRAM.len());
    let interpreter = |window: &[u8]| window == b"ld-linux";
    assert!(!sampan_init::PROGRAM.windows(8).any(interpreter));
}

#[test]
fn it_ends_as_its_program_does() {
    let init = Init::new();
    let code = |args: &[&str]| init.run(args).status.code();
    assert_eq!(code(&["/bin/sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["sh", "-c", "exit 0"]), Some(0));
    assert_eq!(code(&["sh", "-c", "kill -KILL $$"]), Some(137));
    let said = init.run(&["sh", "-c", "echo $0 $1; echo $WORD >&2", "a b", "c"]);
    assert_eq!(said.stdout, b"a b c\n");
}

#[test]
fn what_it_cannot_start_is_named() {
    let init = Init::new();
    let said = |args: &[&str]| {
        let ran = init.run(args);
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    let not_found = |name: &str| (Some(127), format!("sampan-init: cannot execute {name}: not found\n"));
    assert_eq!(said(&["/no/such"]), not_found("/no/such"));
    assert_eq!(said(&["no-such-program"]), not_found("no-such-program"));
    assert_eq!(
        said(&["/etc/passwd"]),
        (Some(126), "sampan-init: cannot execute /etc/passwd: permission denied\n".into())
    );
    assert_eq!(said(&[]), (Some(127), "sampan-init: no program to start\n".into()));
    let long = "x".repeat(5000);
    assert_eq!(said(&[&long]).0, Some(127));
}

fn children(pid: u32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(str::to_owned).collect()
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < end, "not so: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the program has said that it is ready.
fn ready(child: &mut Child) {
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
}

#[test]
fn signals_come_through_and_orphans_are_reaped() {
    let init = Init::new();
    let script = "trap 'exit 9' TERM; trap 'exit 8' USR1; (sleep 0.1 & sleep 0.1 & sleep 0.1 &); echo ready; \
                  while :; do sleep 0.05; done";
    for (signal, code) in [("TERM", 9), ("USR1", 8), ("KILL", 137)] {
        let mut child = init.command(&["sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        ready(&mut child);
        until("only the program is left", || children(child.id()).len() == 1);
        let whom = if signal == "KILL" { children(child.id())[0].clone() } else { child.id().to_string() };
        assert!(Command::new("kill").args([&format!("-{signal}"), &whom]).status().unwrap().success());
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(code), None), "{signal}");
    }
}

/// sd_listen_fds(3) and sd_watchdog_enabled(3) look whether they are meant by the number.
#[test]
fn what_is_for_the_first_process_is_for_the_program() {
    if !(sampan_testkit::need::root() && sampan_testkit::need::program("unshare")) {
        return;
    }
    let init = Init::new();
    let script = "echo $LISTEN_PID $WATCHDOG_PID $$; env | grep -c _PID=";
    let mut command = Command::new("unshare");
    command.args(["--fork", "--pid"]).arg(&init.path).args(["sh", "-c", script]);
    command.env("LISTEN_PID", "1").env("WATCHDOG_PID", "1").env("OTHER_PID", "1");
    assert_eq!(String::from_utf8(command.output().unwrap().stdout).unwrap(), "2 2 2\n3\n");
    command.env("LISTEN_PID", "17");
    assert_eq!(String::from_utf8(command.output().unwrap().stdout).unwrap(), "17 2 2\n3\n");
    // Where we are not the first one nothing is for us.
    let among = init.command(&["sh", "-c", "echo $LISTEN_PID"]).env("LISTEN_PID", "1").output().unwrap();
    assert_eq!(among.stdout, b"1\n");
}

#[test]
fn what_a_terminal_sends_is_not_passed_on_since_it_has_reached_whom_it_means() {
    if !(sampan_testkit::need::program("setsid") && sampan_testkit::terminal::needed()) {
        return;
    }
    let init = Init::new();
    // In a session of its own it has nothing to do with the terminal, so that all that comes has come from us.
    let script =
        "trap \"echo passed on\" INT; trap \"exit 9\" TERM; echo ready; while :; do sleep 0.05; done";
    let command = format!("exec {} setsid sh -c '{script}'", init.path.display());
    let mut child = sampan_testkit::terminal::on_a_terminal(&command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap().trim(), "ready");
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\x03").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let ours = |pid: u32| children(pid)[0].parse::<u32>().unwrap();
    let mut pid = ours(child.id());
    while fs::read_link(format!("/proc/{pid}/exe")).unwrap() != init.path {
        pid = ours(pid);
    }
    // By a process it is passed on.
    for signal in ["-INT", "-TERM"] {
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(300));
    }
    let said: Vec<String> = lines.map(|line| line.unwrap().trim().to_owned()).collect();
    assert_eq!(said.iter().filter(|line| line.contains("passed on")).count(), 1, "{said:?}");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

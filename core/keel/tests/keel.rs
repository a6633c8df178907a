//! The real keel with a worker that does what it is told (examples/scripted.rs): who lives on when who dies, and
//! what is known of the dead.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

pub(crate) struct Sampand {
    keel: Child,
    stdin: std::fs::File,
    stdout: Mutex<Lines<BufReader<ChildStdout>>>,
    /// The same pipe, to be waited for.
    output: std::os::fd::OwnedFd,
    /// Workers that followed one that died, as the test has seen them.
    pub(crate) workers: u32,
    /// Of processes that must be gone in the end, whatever the test does.
    pids: Vec<i32>,
}

impl Sampand {
    fn start(arguments: &[&str]) -> Sampand {
        Sampand::from(Command::new(scripted()).args(arguments))
    }

    pub(crate) fn from(command: &mut Command) -> Sampand {
        let mut keel = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if std::env::var_os("SAMPAN_TEST_LOUD").is_some() {
                Stdio::inherit()
            } else {
                Stdio::null()
            })
            .spawn()
            .unwrap();
        let stdin = std::os::fd::OwnedFd::from(keel.stdin.take().unwrap()).into();
        let stdout = keel.stdout.take().unwrap();
        let output = std::os::fd::AsFd::as_fd(&stdout).try_clone_to_owned().unwrap();
        let stdout = Mutex::new(BufReader::new(stdout).lines());
        Sampand { keel, stdin, stdout, output, workers: 0, pids: Vec::new() }
    }

    /// With the pid of its first worker.
    fn new() -> (Sampand, i32) {
        let mut sampand = Sampand::start(&[]);
        let worker = sampand.worker(0).0;
        (sampand, worker)
    }

    pub(crate) fn keel_pid(&self) -> i32 {
        self.keel.id() as i32
    }

    pub(crate) fn line(&mut self) -> String {
        self.stdout.lock().unwrap().next().expect("the worker says nothing any more").unwrap()
    }

    /// None: the keel has died. Its holder has our pipe open too, so that there is no end of it.
    pub(crate) fn line_or_end(&mut self) -> Option<String> {
        use std::os::fd::AsFd;
        loop {
            let ended = self.keel.try_wait().unwrap().is_some();
            let output = self.output.as_fd();
            let mut fds = [rustix::event::PollFd::new(&output, rustix::event::PollFlags::IN)];
            let pause = rustix::time::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
            if rustix::event::poll(&mut fds, Some(&pause)) == Ok(1) {
                return self.stdout.lock().unwrap().next()?.ok();
            }
            if ended {
                return None;
            }
        }
    }

    pub(crate) fn say(&mut self, command: &str) {
        let _ = writeln!(self.stdin, "{command}");
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.line()
    }

    pub(crate) fn check(&mut self, command: &str, expected: &str) {
        assert_eq!(self.ask(command), expected, "{command}");
    }

    fn launch(&mut self, tag: &str, command: &str) -> i32 {
        let answer = self.ask(&format!("launch {tag} {command}"));
        let pid = answer.strip_prefix("pid ").unwrap_or_else(|| panic!("{answer}")).parse().unwrap();
        self.pids.push(pid);
        pid
    }

    /// Waits for worker number `n`: its pid and what it heard of the one before.
    fn worker(&mut self, n: u32) -> (i32, String) {
        loop {
            let line = self.line();
            let mut words = line.splitn(4, ' ');
            if words.next() == Some("worker") {
                assert_eq!(words.next(), Some(n.to_string().as_str()), "{line}");
                return (words.next().unwrap().parse().unwrap(), words.next().unwrap().to_owned());
            }
        }
    }

    pub(crate) fn list(&mut self) -> (BTreeMap<String, i32>, BTreeSet<String>) {
        let answer = self.ask("list");
        let (kept, children): (Vec<&str>, Vec<&str>) =
            answer.split_whitespace().partition(|w| w.starts_with('+'));
        let listed: BTreeMap<String, i32> = children
            .iter()
            .map(|child| child.split_once('=').unwrap_or_else(|| panic!("no list: {answer:?}")))
            .map(|(tag, pid)| (tag.to_owned(), pid.parse().unwrap()))
            .collect();
        assert_eq!(listed.len(), children.len(), "a tag is listed twice: {answer}");
        (listed, kept.iter().map(|key| key[1..].to_owned()).collect())
    }

    /// Keel and worker are killed, if they live; the holder is not.
    pub(crate) fn die(mut self) {
        let _ = self.keel.kill();
        let _ = self.keel.wait();
        std::mem::forget(self);
    }

    fn ends_with(&mut self, code: i32) {
        let status = self.keel.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{status}");
    }
}

impl Drop for Sampand {
    fn drop(&mut self) {
        let holders = children(self.keel_pid(), "sampand-holder");
        let _ = self.keel.kill();
        let _ = self.keel.wait();
        holders.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
        while holders.iter().any(|pid| runs(*pid)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.pids.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    }
}

pub(crate) fn scripted() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let program = deps.parent().unwrap().parent().unwrap().join("examples/scripted");
    assert!(program.exists(), "{} is missing: cargo build --example scripted", program.display());
    program
}

pub(crate) fn kill(pid: i32, signal: i32) {
    use nix::sys::signal::{Signal, kill};
    let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::try_from(signal).unwrap());
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn runs(pid: i32) -> bool {
    state(pid).is_some_and(|s| s != 'Z' && s != 'X')
}

/// The children of a process that have this name.
pub(crate) fn children(of: i32, comm: &str) -> Vec<i32> {
    let all = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let named = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|found| found.trim_end() == comm)
    };
    all.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(named).collect()
}

pub(crate) fn soon(what: &str, is: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < Duration::from_secs(10), "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The descriptors of a process, sorted by what they are.
fn descriptors(pid: i32) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut all: Vec<String> = folder
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        // The number in a socket's name is new with each worker.
        .map(|link| link.to_string_lossy().split(":[").next().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

#[test]
fn a_child_keeps_its_exit_code_until_it_is_reaped() {
    let (mut sampand, _) = Sampand::new();
    let pid = sampand.launch("web", "exit 37");
    sampand.check("wait web", "code 37");
    sampand.check(&format!("peek {pid}"), "code 37");
    sampand.check(&format!("peek {pid}"), "code 37");
    assert_eq!(state(pid), Some('Z'));
    sampand.check(&format!("reap {pid}"), "code 37");
    assert_eq!(state(pid), None);
    sampand.check(&format!("peek {pid}"), &format!("error the keel could not look at {pid}: ESRCH"));
}

#[test]
fn a_child_that_runs_is_not_reaped() {
    let (mut sampand, _) = Sampand::new();
    let pid = sampand.launch("web", "sleep 60");
    sampand.check(&format!("peek {pid}"), "runs");
    sampand.check(&format!("reap {pid}"), &format!("error the keel could not reap {pid}: EBUSY"));
    kill(pid, libc::SIGKILL);
    sampand.check("wait web", "signal 9");
    sampand.check(&format!("reap {pid}"), "signal 9");
}

#[test]
fn the_worker_may_ask_about_its_children_alone() {
    let (mut sampand, worker) = Sampand::new();
    for pid in [1, 0, -1, worker, sampand.keel_pid()] {
        sampand.check(&format!("peek {pid}"), &format!("error the keel could not look at {pid}: ESRCH"));
        sampand.check(&format!("reap {pid}"), &format!("error the keel could not reap {pid}: ESRCH"));
    }
}

#[test]
fn one_more_connection_works_like_the_first_and_ends_with_its_worker() {
    let (mut sampand, worker) = Sampand::new();
    sampand.check("connect", "connected");
    let answer = sampand.ask("through-the-link launch web exit 37");
    let pid = answer.strip_prefix("pid ").unwrap_or_else(|| panic!("{answer}")).to_owned();
    // One table, whoever asks.
    sampand.check("wait web", "code 37");
    sampand.check(&format!("through-the-link reap {pid}"), "code 37");
    for of_the_worker in ["ready", "connect"] {
        let answer = sampand.ask(&format!("through-the-link {of_the_worker}"));
        assert!(answer.ends_with(": EPERM"), "{of_the_worker}: {answer}");
    }
    kill(worker, libc::SIGKILL);
    sampand.worker(1);
    let answer = sampand.ask("through-the-link launch late true");
    assert_eq!(answer, "error the keel is gone: this worker must end, containers run on");
    assert_eq!(sampand.list().0, BTreeMap::new(), "nothing is started for a worker that is no more");
}

#[test]
fn connections_are_counted_and_come_back() {
    let (mut sampand, _) = Sampand::new();
    for _ in 0..200 {
        // The one before is dropped.
        sampand.check("connect", "connected");
        sampand.check("through-the-link peek 1", "error the keel could not look at 1: ESRCH");
    }
}

#[test]
fn children_live_on_when_the_worker_is_killed() {
    let (mut sampand, worker) = Sampand::new();
    let (web, db) = (sampand.launch("web", "sleep 60"), sampand.launch("db", "sleep 0.2; exit 37"));
    sampand.check("keep spool bytes", "kept");
    kill(worker, libc::SIGKILL);
    let (_, fate) = sampand.worker(1);
    assert_eq!(fate, "Ended(Signal { number: 9, core: false })");
    assert!(runs(web));
    let (children, kept) = sampand.list();
    assert_eq!(children, BTreeMap::from([("web".to_owned(), web), ("db".to_owned(), db)]));
    assert_eq!(kept, BTreeSet::from(["spool".to_owned()]));
    sampand.check("wait db", "code 37");
    sampand.check("fetch spool", "bytes");
}

#[test]
fn what_died_while_there_was_no_worker_is_known() {
    let (mut sampand, worker) = Sampand::new();
    let (a, b) = (sampand.launch("a", "exit 37"), sampand.launch("b", "sleep 60"));
    kill(worker, libc::SIGKILL);
    kill(b, libc::SIGKILL);
    sampand.worker(1);
    sampand.check("wait a", "code 37");
    sampand.check(&format!("peek {a}"), "code 37");
    sampand.check("wait b", "signal 9");
}

#[test]
fn a_child_at_its_barrier_exits_when_the_worker_dies() {
    let (mut sampand, worker) = Sampand::new();
    let answer = sampand.ask("barrier half-made");
    let pid: i32 = answer.strip_prefix("pid ").unwrap().parse().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(runs(pid), "it must wait for the worker's byte");
    kill(worker, libc::SIGKILL);
    soon("the child's end", || !runs(pid));
    sampand.worker(1);
    assert_eq!(sampand.list().0, BTreeMap::from([("half-made".to_owned(), pid)]));
}

#[test]
fn when_the_keel_dies_the_worker_does_and_children_live_on() {
    let (mut sampand, worker) = Sampand::new();
    let web = sampand.launch("web", "sleep 60");
    kill(sampand.keel_pid(), libc::SIGKILL);
    soon("the worker's end", || !runs(worker));
    assert!(runs(web));
}

#[test]
fn a_thousand_children_and_a_worker_killed_among_them() {
    let (mut sampand, worker) = Sampand::new();
    for n in 0..1000 {
        sampand.launch(&format!("s{n}"), &format!("exec sleep 0.0{}", n % 10));
    }
    kill(worker, libc::SIGKILL);
    sampand.worker(1);
    let (children, _) = sampand.list();
    assert_eq!(children.len(), 1000);
    for pid in children.values() {
        sampand.check(&format!("finish {pid}"), "code 0");
    }
    assert_eq!(sampand.list().0.len(), 0);
}

/// At any moment: whatever the worker had been told of, the next one finds, once, with the right code; what it
/// had reaped it finds no more.
#[test]
fn killed_at_random_moments_nothing_is_lost_or_doubled() {
    let mut random = 0x9e37_79b9_u64 ^ u64::from(std::process::id());
    // A few workers of each keel: to more it would give time to think between them.
    for _ in 0..10 {
        let (mut sampand, mut worker) = Sampand::new();
        let before = descriptors(sampand.keel_pid());
        for round in 1..=4 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            worker = storm(&mut sampand, worker, round, Duration::from_micros(random >> 33 & 0x7fff));
        }
        assert_eq!(descriptors(sampand.keel_pid()), before, "the keel leaks");
    }
}

/// One worker's life and death; returns the next one.
fn storm(sampand: &mut Sampand, worker: i32, round: u32, life: Duration) -> i32 {
    sampand.check("storm", "storm");
    std::thread::sleep(life);
    kill(worker, libc::SIGKILL);

    let (mut launched, mut reaping) = (0, BTreeSet::new());
    let next = loop {
        let line = sampand.line();
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["launched", n] => launched = n.parse::<u32>().unwrap() + 1,
            ["reaping", n, _] => drop(reaping.insert(n.parse::<u32>().unwrap())),
            ["worker", n, pid, ..] => {
                assert_eq!(*n, round.to_string());
                break pid.parse().unwrap();
            }
            _ => panic!("{line}"),
        }
    };
    let (children, kept) = sampand.list();
    for n in 0..launched {
        let there = children.contains_key(&format!("storm-{n}"));
        // Between "it will be reaped" and the reaping there was time to die.
        let either = reaping.last() == Some(&n);
        assert!(either || there != reaping.contains(&n), "round {round}: storm-{n} of {launched}");
    }
    // The request under way may have been carried out without that the worker could tell.
    let number = |tag: &String| tag["storm-".len()..].parse::<u32>().unwrap();
    let unknown = children.keys().filter(|tag| number(tag) >= launched).count();
    assert!(unknown <= 1, "round {round}: {children:?}");
    for (tag, pid) in &children {
        sampand.check(&format!("finish {pid}"), &format!("code {}", number(tag) % 200));
    }
    for key in kept {
        sampand.check(&format!("drop {key}"), "dropped");
    }
    assert_eq!(sampand.list(), Default::default());
    next
}

#[test]
fn signals_reach_the_worker_once_and_only_when_it_is_ready() {
    let mut sampand = Sampand::start(&["--slow"]);
    sampand.worker(0);
    kill(sampand.keel_pid(), libc::SIGHUP);
    sampand.check("keep a b", "kept");
    sampand.say("ready");
    let mut lines = [sampand.line(), sampand.line()];
    lines.sort();
    assert_eq!(lines, ["ready", "signal 1"]);
    kill(sampand.keel_pid(), libc::SIGTERM);
    assert_eq!(sampand.line(), "signal 15");
    kill(sampand.keel_pid(), libc::SIGINT);
    assert_eq!(sampand.line(), "signal 2");
    for ignored in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGTSTP, libc::SIGALRM] {
        kill(sampand.keel_pid(), ignored);
    }
    sampand.check("fetch a", "b");
    assert!(runs(sampand.keel_pid()));
}

/// Ctrl-C goes to the whole foreground process group. A second one would mean "hurry".
#[test]
fn ctrl_c_reaches_the_worker_once_and_a_lost_terminal_ends_it() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let folder = Folder::new("tty");
    let fifo = folder.0.join("stdin");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    // The terminal is the session's, but stdin is ours: a background group may not read from it.
    let shell = r#"exec setsid -c sh -c 'exec "$0" <"$1"' "$0" "$1" <>"$2""#;
    let mut sampand =
        Sampand::from(Command::new("sh").args(["-c", shell]).arg(scripted()).arg(&fifo).arg(&slave));
    sampand.stdin = std::fs::File::options().write(true).open(&fifo).unwrap();
    sampand.worker(0);

    rustix::io::write(&master, b"\x03").unwrap();
    assert_eq!(sampand.line(), "signal 2");
    sampand.check("fetch a", "nothing");
    drop(master);
    assert_eq!(sampand.line(), "signal 15");
    sampand.say("exit 0");
    sampand.ends_with(0);
}

#[test]
fn as_pid_1_it_buries_strangers_and_keeps_its_own() {
    if !sampan_testkit::need::root() {
        return;
    }
    let mut sampand = Sampand::from(
        Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(scripted()),
    );
    sampand.worker(0);
    sampand.say("launch web (sleep 0.1; exit 3) & (sleep 0.1; exit 4) & exit 37");
    let pid: i32 = sampand.line().strip_prefix("pid ").unwrap().parse().unwrap();
    sampand.check("wait web", "code 37");
    std::thread::sleep(Duration::from_millis(300));
    sampand.check("zombies", "1");
    sampand.check(&format!("reap {pid}"), "code 37");
    sampand.check("zombies", "0");
    sampand.say("abort");
    sampand.worker(1);
    sampand.check("zombies", "0");
    sampand.say("exit 0");
    sampand.ends_with(0);
}

#[test]
fn a_worker_that_dies_over_being_asked_to_end_leaves_it_to_the_next() {
    let (mut sampand, worker) = Sampand::new();
    kill(sampand.keel_pid(), libc::SIGINT);
    assert_eq!(sampand.line(), "signal 2");
    kill(worker, libc::SIGKILL);
    let mut lines = [sampand.line(), sampand.line()];
    lines.sort();
    assert_eq!(lines[0], "ending Everything");
    assert!(lines[1].starts_with("worker 1 "));
}

#[test]
fn what_a_client_asked_for_is_told_to_the_next_worker_too() {
    let (mut sampand, worker) = Sampand::new();
    sampand.check("ending", "noted");
    kill(worker, libc::SIGKILL);
    let mut lines = [sampand.line(), sampand.line()];
    lines.sort();
    assert_eq!(lines[0], "ending Everything");
    kill(sampand.keel_pid(), libc::SIGTERM);
    assert_eq!(sampand.line(), "signal 15");
}

/// Its loop's own connection is the worker's, and no process's.
#[test]
fn the_loop_may_ask_what_the_worker_may() {
    let (mut sampand, worker) = Sampand::new();
    sampand.check("of-the-loop holder", "none");
    sampand.check("of-the-loop ending", "noted");
    sampand.check("connect", "connected");
    let answer = sampand.ask("through-the-link ending");
    assert!(answer.ends_with(": EPERM"), "{answer}");
    kill(worker, libc::SIGKILL);
    let mut lines = [sampand.line(), sampand.line()];
    lines.sort();
    assert_eq!(lines[0], "ending Everything");
}

/// As from systemd with KillMode=control-group.
#[test]
fn a_signal_to_the_worker_is_no_order() {
    let (mut sampand, worker) = Sampand::new();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        kill(worker, signal);
    }
    sampand.check("fetch a", "nothing");
    kill(worker, libc::SIGTERM);
    kill(sampand.keel_pid(), libc::SIGTERM);
    kill(worker, libc::SIGTERM);
    assert_eq!(sampand.line(), "signal 15");
    sampand.check("fetch a", "nothing");
}

/// 64 threads ask all the time. The loop asks on a connection of its own, and at most those come before it whose request the
/// keel has already; on the one connection it would be all of them.
#[test]
fn the_loop_does_not_wait_for_threads_that_ask() {
    let (mut sampand, _) = Sampand::new();
    let waited = sampand.ask("answered-before-a-peek 64");
    let median: u32 = waited.parse().unwrap_or_else(|_| panic!("{waited}"));
    assert!(median <= 8, "{median} answers while the loop asked once");
}

#[test]
fn the_worker_is_no_part_of_the_keels_process_group() {
    let (sampand, worker) = Sampand::new();
    let group = |pid| nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))).unwrap();
    assert_ne!(group(worker), group(sampand.keel_pid()));
}

#[test]
fn agreed_codes_end_the_keel() {
    let (mut sampand, _) = Sampand::new();
    sampand.say("exit 0");
    sampand.ends_with(0);
    let (mut sampand, _) = Sampand::new();
    kill(sampand.keel_pid(), libc::SIGTERM);
    assert_eq!(sampand.line(), "signal 15");
    sampand.say("exit 1");
    sampand.ends_with(1);
    Sampand::start(&["--fails"]).ends_with(1);
    Sampand::start(&["--bad-config"]).ends_with(2);
}

/// A worker drops its connection on its way out of main; what it has still to flush may take a moment.
#[test]
fn a_worker_that_is_leaving_is_left_alone() {
    let (mut sampand, _) = Sampand::new();
    sampand.say("leave 0");
    sampand.ends_with(0);
}

#[test]
fn other_codes_do_not() {
    let (mut sampand, _) = Sampand::new();
    sampand.say("exit 101");
    assert_eq!(sampand.worker(1).1, "Ended(Code(101))");
    sampand.say("again");
    assert_eq!(sampand.worker(2).1, "Ended(Code(85))");
    // A worker that follows another and cannot go on leaves services that run.
    sampand.say("exit 2");
    assert_eq!(sampand.worker(3).1, "Ended(Code(2))");
    sampand.say("exit 1");
    assert_eq!(sampand.worker(4).1, "Ended(Code(1))");
}

#[test]
fn a_worker_that_never_gets_ready_is_given_up() {
    Sampand::start(&["--crash"]).ends_with(1);
}

#[test]
fn a_loop_that_hangs_is_killed_and_a_turn_that_ends_is_not() {
    let (mut sampand, _) = Sampand::new();
    let web = sampand.launch("web", "sleep 60");
    sampand.check("turn", "turned");
    sampand.say("hang 50");
    let (_, fate) = sampand.worker(1);
    assert_eq!(fate, "Hung");
    assert!(runs(web));
    sampand.check("turn", "turned");
}

#[test]
fn a_worker_that_speaks_nonsense_is_replaced() {
    let (mut sampand, _) = Sampand::new();
    sampand.say("rubbish");
    sampand.worker(1);
}

/// A scripted sampand that may have so many descriptors open, and that root's capabilities do not help.
fn limited(open_files: u32) -> Sampand {
    let drop_capabilities = if rustix::process::geteuid().is_root() {
        "exec setpriv --bounding-set=-sys_admin,-sys_resource \"$0\""
    } else {
        "exec \"$0\""
    };
    let script = format!("ulimit -n {open_files}; {drop_capabilities}");
    let mut sampand = Sampand::from(Command::new("sh").args(["-c", &script]).arg(scripted()));
    sampand.worker(0);
    sampand
}

#[test]
fn a_request_with_more_descriptors_than_the_keel_has_room_for_is_refused_and_the_worker_lives_on() {
    let mut sampand = limited(48);
    let answer = sampand.ask("launch-with 60 web");
    assert!(answer.starts_with("error the keel could not launch web: EMFILE"), "{answer}");
    sampand.check("keep a b", "kept");
    sampand.check("fetch a", "b");
    sampand.check("list", "+a");
}

#[test]
fn an_answer_whose_descriptor_cannot_be_sent_is_a_refusal_and_the_worker_lives_on() {
    let mut sampand = limited(48);
    sampand.check("keep a b", "kept");
    sampand.check("connect", "connected");
    sampand.check("in-flight 100", "sent");
    let answer = sampand.ask("fetch a");
    assert!(answer.starts_with("error the keel could not fetch a: ETOOMANYREFS"), "{answer}");
    sampand.check("peek 1", "error the keel could not look at 1: ESRCH");
}

#[test]
fn what_is_kept_leaves_room_for_the_next_worker() {
    let mut sampand = limited(100);
    let full = (0..100).find(|n| sampand.ask(&format!("keep k{n} text")) != "kept").expect("a limit");
    let answer = sampand.ask("keep more text");
    assert!(answer.starts_with("error the keel could not keep more: EMFILE"), "{answer}");
    assert!(full > 20, "only {full} are kept");
    sampand.say("abort");
    sampand.worker(1);
    sampand.check("fetch k0", "text");
    for key in ["k0", "k1"] {
        sampand.check(&format!("drop {key}"), "dropped");
    }
    sampand.check("keep more text", "kept");
    sampand.launch("web", "exit 37");
    sampand.check("wait web", "code 37");
}

#[test]
fn kept_descriptors_are_replaced_and_dropped() {
    let (mut sampand, _) = Sampand::new();
    let before = descriptors(sampand.keel_pid());
    sampand.check("keep a one", "kept");
    sampand.check("keep a two", "kept");
    sampand.check("keep b three", "kept");
    sampand.check("fetch a", "two");
    sampand.check("drop a", "dropped");
    sampand.check("drop a", "dropped");
    sampand.check("fetch a", "nothing");
    sampand.check("fetch b", "three");
    sampand.check("drop b", "dropped");
    assert_eq!(descriptors(sampand.keel_pid()), before);
}

#[test]
fn a_child_gets_nothing_of_the_keels() {
    let (mut sampand, _) = Sampand::new();
    sampand.check("keep a one", "kept");
    let pid = sampand.launch("web", "exec sleep 60");
    soon("exec", || std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "sleep\n"));
    assert_eq!(descriptors(pid), ["/dev/null", "/dev/null", "/dev/null"]);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for empty in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"] {
        assert!(status.contains(empty), "{empty} in {status}");
    }
}

pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(of: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sampan-keel-{of}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn one_sampand_per_run_folder() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("rundir");
    let (run, state) = (folder.0.join("run"), folder.0.join("state"));
    let claim = format!("claim {} {} {}", run.display(), state.display(), run.display());
    let lock = run.join("sampand.lock");

    let (mut first, worker) = Sampand::new();
    first.check(&claim, "claimed false");
    let (mut second, _) = Sampand::new();
    let keel = first.keel_pid();
    let held = format!("error {}: sampand runs already, as process {keel} ", lock.display());
    assert!(second.ask(&claim).starts_with(&held));

    // The keel holds the lock: a new worker has it, and nobody comes in between.
    kill(worker, libc::SIGKILL);
    first.worker(1);
    assert!(second.ask(&claim).starts_with(&held));
    first.check(&claim, "claimed false");

    // After a reboot what is ours goes, and nothing else.
    std::fs::create_dir_all(run.join("containers/web")).unwrap();
    std::fs::write(run.join("somebody's"), "").unwrap();
    let (journal, _) = sampan_journal::Journal::open(&run, "an earlier boot").unwrap();
    drop(journal);
    // What was being written when the host went down.
    for half in ["journal.new", "applied.json.new", "cgroup_parent.new"] {
        std::fs::write(run.join(half), "").unwrap();
    }
    drop(first);
    second.check(&claim, "claimed true");
    let mut left: Vec<_> = std::fs::read_dir(&run).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["holder", "sampand.lock", "somebody's"]);

    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = second.ask(&claim);
    assert!(
        error.starts_with(&format!("error {}: everybody may write to it (mode 0777)", run.display())),
        "{error}"
    );
}

/// A tmpfs, for as long as it is needed.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, options: &str) -> Option<Tmpfs> {
        std::fs::create_dir(&at).unwrap();
        sampan_testkit::need::root().then_some(())?;
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).status();
        assert!(mount.unwrap().success());
        Some(Tmpfs(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Read-only, full, not a folder, somebody else's: which key it is and what to do, and nobody waits.
#[test]
fn a_folder_that_cannot_be_used_is_named_by_its_key() {
    let folder = Folder::new("unusable");
    let path = |name: &str| folder.0.join(name);
    let Some(read_only) = Tmpfs::mount(path("ro"), "mode=700,ro") else { return };
    let full = Tmpfs::mount(path("full"), "mode=711,nr_inodes=1").unwrap();
    std::fs::write(path("file"), "").unwrap();
    std::fs::create_dir(path("theirs")).unwrap();
    std::os::unix::fs::chown(path("theirs"), Some(1234), None).unwrap();
    let bad = [(&read_only.0, "Read-only file system"), (&full.0, "No space left on device")];
    let bad = bad.map(|(path, why)| (path.clone(), why));
    let (file, theirs) = ((path("file"), "File exists"), (path("theirs"), "user 1234"));
    for (bad, why) in bad.into_iter().chain([file, theirs]) {
        for key in ["run_dir", "state_dir"] {
            let good = path(key);
            let (run, state) = if key == "run_dir" { (&bad, &good) } else { (&good, &bad) };
            let (mut sampand, _) = Sampand::new();
            let claim = format!("claim {} {} {}", run.display(), state.display(), run.display());
            let error = sampand.ask(&claim);
            let says =
                |text: &str| assert!(error.contains(text), "{key} {}: {error} lacks {text:?}", bad.display());
            says(why);
            says(&bad.display().to_string());
            says(&format!("that is {key} of [supervisor]"));
        }
    }
}

/// With the groups of another sampand it would kill that one's containers for strays; with its state_dir write its logs.
#[test]
fn run_folders_of_their_own_may_not_share_the_rest() {
    let folder = Folder::new("shared");
    let path = |name: &str| folder.0.join(name).display().to_string();
    let claim = |run: &str, state: &str, groups: &str| {
        format!("claim {} {} {}", path(run), path(state), path(groups))
    };
    let (mut first, worker) = Sampand::new();
    first.check(&claim("run1", "state1", "groups1"), "claimed false");
    let (mut second, _) = Sampand::new();
    let mut refused = || {
        let state = second.ask(&claim("run2", "state1", "groups2"));
        assert!(state.contains(&format!("supervisor.state_dir {}: another", path("state1"))), "{state}");
        let groups = second.ask(&claim("run2", "state2", "groups1"));
        assert!(
            groups.contains(&format!("supervisor.cgroup_parent {}: another", path("groups1"))),
            "{groups}"
        );
    };
    refused();
    // Not even between two workers.
    kill(worker, libc::SIGKILL);
    refused();
    first.worker(1);
    first.check(&claim("run1", "state1", "groups1"), "claimed false");
    drop(first);
    second.check(&claim("run2", "state2", "groups1"), "claimed false");
}

/// A worker that dies at each boundary in turn: before it asks, before it hears, after it has heard.
#[test]
fn killed_at_each_boundary_nothing_is_lost_or_doubled() {
    for at in 1.. {
        let mut sampand = Sampand::from(Command::new(scripted()).env("SAMPAN_CRASH_AT", at.to_string()));
        let mut died = sampand.line().starts_with("worker 1 ");
        let mut ask = |sampand: &mut Sampand, command: &str| {
            let line = sampand.ask(command);
            died |= line.starts_with("worker 1 ");
            (!line.starts_with("worker ")).then_some(line)
        };
        let launched = ask(&mut sampand, "launch web exit 37");
        let kept = ask(&mut sampand, "keep key text");
        let waited = ask(&mut sampand, "wait web");
        // Only one of the answers can be missing, and of what was answered nothing is lost.
        assert!([&launched, &kept, &waited].into_iter().filter(|answer| answer.is_none()).count() <= 1);
        if launched.is_some() && waited.is_some() {
            assert_eq!(waited.as_deref(), Some("code 37"), "crash point {at}");
        }
        let (children, keys) = match ask(&mut sampand, "list") {
            Some(list) => list.split_whitespace().map(str::to_owned).partition(|word| !word.starts_with('+')),
            None => (Vec::new(), Vec::<String>::new()),
        };
        assert!(children.len() <= 1 && keys.len() <= 1, "crash point {at}: {children:?} {keys:?}");
        let finished = ask(&mut sampand, "finish-all");
        assert!([None, Some(""), Some("code 37")].contains(&finished.as_deref()), "{finished:?}");
        if finished.is_none() {
            let again = ask(&mut sampand, "finish-all").unwrap();
            assert!(["", "code 37"].contains(&again.as_str()), "crash point {at}: {again}");
        }
        while ask(&mut sampand, "drop key").is_none() {}
        let left = core::iter::from_fn(|| Some(ask(&mut sampand, "list"))).flatten().next();
        assert_eq!(left.as_deref(), Some(""), "crash point {at}");
        if !died {
            assert!(at > 20, "only {at} boundaries");
            return;
        }
    }
}

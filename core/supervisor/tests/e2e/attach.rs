//! `sampanctl attach`, as people have it on their terminals: its own is a pty that the test holds the other end of.
use super::World;
use super::terminal::with_plugin;
use super::world::{LONG, kill};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// One `sampanctl attach` and what it has shown so far.
pub struct Attached {
    child: Child,
    /// Our end of its terminal, or of its output.
    ours: OwnedFd,
    input: Option<std::process::ChildStdin>,
    shown: Vec<u8>,
    /// Those of its terminal before it began; empty: it has none.
    pub modes_before: String,
}

/// The modes of a terminal, in words.
fn modes(terminal: &OwnedFd) -> String {
    format!("{:?}", rustix::termios::tcgetattr(terminal).unwrap())
}

fn command(world: &World, verb: &str, args: &[&str]) -> Command {
    let mut ctl = Command::new(world.bin().join("sampanctl"));
    ctl.arg("--socket").arg(world.socket()).arg(verb).args(args);
    ctl
}

impl Attached {
    /// On a terminal of 24 rows and 80 columns.
    fn on_a_terminal(world: &World, args: &[&str]) -> Attached {
        Attached::by(world, "attach", args)
    }

    /// Another verb.
    pub fn by(world: &World, verb: &str, args: &[&str]) -> Attached {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
        let (input, output) = (theirs.try_clone().unwrap(), theirs.try_clone().unwrap());
        // `setsid --ctty` makes it the terminal that signals come from.
        let plain = command(world, verb, args);
        let mut ctl = Command::new("setsid");
        ctl.args(["--ctty", "--wait"]).arg(plain.get_program()).args(plain.get_args());
        let modes_before = modes(&ours);
        let mut attached = Attached {
            child: ctl.stdin(input).stdout(output).stderr(theirs).spawn().unwrap(),
            ours,
            input: None,
            shown: Vec::new(),
            modes_before,
        };
        attached.resize(24, 80);
        attached.listen();
        attached
    }

    /// With pipes.
    fn with_pipes(world: &World, args: &[&str]) -> Attached {
        let (read, write) = std::io::pipe().unwrap();
        let mut ctl = command(world, "attach", args);
        ctl.stdin(Stdio::piped()).stdout(write.try_clone().unwrap()).stderr(write);
        let mut child = ctl.spawn().unwrap();
        let input = child.stdin.take();
        let (shown, modes_before) = (Vec::new(), String::new());
        let mut attached = Attached { child, ours: read.into(), input, shown, modes_before };
        attached.listen();
        attached
    }

    fn listen(&mut self) {
        fcntl_setfl(&self.ours, fcntl_getfl(&self.ours).unwrap() | OFlags::NONBLOCK).unwrap();
    }

    fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.ours, size).unwrap();
    }

    pub fn modes(&self) -> String {
        modes(&self.ours)
    }

    pub fn types(&mut self, bytes: &[u8]) {
        match &mut self.input {
            Some(input) => input.write_all(bytes).unwrap(),
            None => assert_eq!(rustix::io::write(&self.ours, bytes), Ok(bytes.len())),
        }
    }

    /// All that it has shown until now.
    pub fn shown(&mut self) -> String {
        let mut buffer = [0; 64 << 10];
        while let Ok(count) = rustix::io::read(&self.ours, &mut buffer) {
            if count == 0 {
                break;
            }
            self.shown.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    #[track_caller]
    pub fn until(&mut self, what: &str) {
        let end = Instant::now() + LONG;
        while !self.shown().contains(what) {
            let ended = self.child.try_wait().unwrap();
            assert!(Instant::now() < end, "it never shows {what:?} ({ended:?}): {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types something, and waits until this is shown.
    #[track_caller]
    pub fn asks(&mut self, typed: &[u8], shows: &str) {
        self.types(typed);
        self.until(shows);
    }

    /// A key of the terminal is for the program in it, and no signal to us: a shell goes on.
    pub fn interrupts_the_shell(&mut self) {
        self.asks(b"sleep 1000\r", "sleep 1000");
        std::thread::sleep(Duration::from_millis(300));
        self.types(b"\x03");
    }

    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + LONG;
        loop {
            self.shown();
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shell on a terminal, whose prompt is `$ `.
const SHELL: &str = "[services.a]\ntty = true\nstdin_open = true\nrestart = \"no\"\nenvironment = { PS1 = \"$ \" }\n\
    command = [\"/bin/sh\"]\nstop_signal = \"SIGKILL\"\n";
const CAT: &str = "[services.a]\nstdin_open = true\nrestart = \"no\"\nstop_signal = \"SIGKILL\"\n\
    command = [\"/bin/sh\", \"-c\", \"trap 'echo got USR1' USR1; trap 'exit 9' TERM; echo ready >&2; while :; do read line && echo \\\"<$line>\\\"; done\"]\n";

/// With the service `a`, which runs.
fn running(toml: &str) -> Option<World> {
    let mut world = with_plugin(toml)?;
    world.start();
    world.until_state("a", "running");
    Some(world)
}

#[test]
fn a_shell_is_typed_to_and_ends_attach_with_its_code() {
    let Some(world) = running(SHELL) else { return };
    let mut a = Attached::on_a_terminal(&world, &["a"]);
    a.asks(b"echo $((6*7))\r", "42\r\n");
    a.asks(b"stty size\r", "24 80\r\n");
    a.resize(31, 97);
    a.asks(b"stty size\r", "31 97\r\n");
    a.interrupts_the_shell();
    a.asks(b"echo still $((6*8))\r", "still 48\r\n");
    a.types(b"exit 7\r");
    assert_eq!(a.ended().code(), Some(7), "{}", a.shown());
    let log = world.ok(&["logs", "a"]);
    assert!(log.contains("42\r\n") && log.contains("31 97\r\n"), "{log}");
}

#[test]
fn the_keys_detach_and_the_service_goes_on() {
    let Some(world) = running(SHELL) else { return };
    for (args, keys) in [(&["a"][..], &b"\x10\x11"[..]), (&["--detach-keys", "ctrl-x,x", "a"], b"\x18x")] {
        let mut a = Attached::on_a_terminal(&world, args);
        a.asks(b"echo $((6*7))\r", "42\r\n");
        a.types(keys);
        assert_eq!(a.ended().code(), Some(0));
        assert!(a.shown().contains("detached; a goes on"), "{}", a.shown());
    }
    // Its process is the same one, and has not been sent anything.
    let mut a = Attached::on_a_terminal(&world, &["a"]);
    a.asks(b"echo $((9*9)) $$\r", "81 1\r\n");
    assert_eq!(world.inspect("a").status.generation, 1);
}

#[test]
fn two_clients_see_the_same_and_both_type() {
    let Some(world) = running(SHELL) else { return };
    let (mut one, mut two) =
        (Attached::on_a_terminal(&world, &["a"]), Attached::on_a_terminal(&world, &["a"]));
    one.asks(b"echo $((6*7))\r", "42\r\n");
    two.until("42\r\n");
    two.types(b"echo $((9*9))\r");
    one.until("81\r\n");
    let mut looks = Attached::on_a_terminal(&world, &["--no-stdin", "a"]);
    looks.types(b"echo $((3*3*3))\r");
    two.types(b"echo $((4*4*4))\r");
    for each in [&mut one, &mut two, &mut looks] {
        // One that types nothing has its terminal as it was, which adds a carriage return of its own.
        each.until("64\r");
        assert!(!each.shown().contains("27\r"));
    }
}

#[test]
fn an_open_input_is_read_and_stays_open_when_a_client_s_ends() {
    let Some(world) = running(CAT) else { return };
    let mut one = Attached::with_pipes(&world, &["a"]);
    one.types(b"first\n");
    one.until("<first>\n");
    // A part of a line, and the end of what this client says: it goes on to listen.
    one.types(b"sec");
    drop(one.input.take());
    let mut two = Attached::with_pipes(&world, &["a"]);
    std::thread::sleep(Duration::from_millis(300));
    two.types(b"ond\n");
    for each in [&mut one, &mut two] {
        each.until("<second>\n");
    }
    world.ok(&["kill", "a", "KILL"]);
    for each in [&mut one, &mut two] {
        assert_eq!(each.ended().code(), Some(137), "{}", each.shown());
    }
    assert_eq!(world.ok(&["logs", "a"]), "<first>\n<second>\n");
}

#[test]
fn signals_are_for_the_service_unless_asked_otherwise() {
    let Some(mut world) = with_plugin(CAT) else { return };
    world.start();
    world.until("it is ready", |world| world.ctl(&["logs", "a"]).err.contains("ready"));
    let mut a = Attached::with_pipes(&world, &["a"]);
    a.types(b"one\n");
    a.until("<one>");
    kill(a.pid(), libc::SIGUSR1);
    a.types(b"two\n");
    a.until("got USR1");
    let mut plain = Attached::with_pipes(&world, &["--sig-proxy=false", "a"]);
    plain.types(b"three\n");
    plain.until("<three>");
    kill(plain.pid(), libc::SIGTERM);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&plain.ended()), Some(libc::SIGTERM));
    kill(a.pid(), libc::SIGTERM);
    assert_eq!(a.ended().code(), Some(9));
}

/// Output that nobody takes: a signal ends it all the same, whatever the service makes of it.
#[test]
fn signals_end_one_whose_output_nobody_reads() {
    let deaf = |name: &str, tty: bool| {
        format!(
            "[services.{name}]\ntty = {tty}\nstdin_open = true\nstop_signal = \"SIGKILL\"\n\
             command = [\"/bin/sh\", \"-c\", \"trap '' INT TERM; while :; do yes | head -n 9000; sleep 0.1; done\"]\n"
        )
    };
    let Some(mut world) = with_plugin(&format!("{}{}", deaf("pipes", false), deaf("tty", true))) else {
        return;
    };
    world.start();
    for (name, signal) in
        [("pipes", libc::SIGINT), ("pipes", libc::SIGTERM), ("tty", libc::SIGINT), ("tty", libc::SIGTERM)]
    {
        world.until_state(name, "running");
        let mut attached = match name {
            "tty" => Attached::on_a_terminal(&world, &[name]),
            _ => Attached::with_pipes(&world, &[name]),
        };
        attached.until("y");
        // Its output is full after this.
        std::thread::sleep(Duration::from_secs(1));
        kill(attached.pid(), signal);
        let end = Instant::now() + LONG;
        let ended = loop {
            match attached.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < end, "{name}: signal {signal} does not end it"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_eq!(ended.code(), Some(128 + signal), "{name}");
        assert_eq!(world.inspect(name).status.state, "running");
    }
}

/// Neither `tty` nor `stdin_open`: what it writes is seen, and its end.
#[test]
fn any_service_can_be_looked_at() {
    let script = "sleep 1; echo out; echo err >&2; sleep 1; printf part; exit 4";
    let toml = format!("[services.a]\nrestart = \"no\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n");
    let Some(world) = running(&toml) else { return };
    let mut a = Attached::with_pipes(&world, &["a"]);
    assert_eq!(a.ended().code(), Some(4), "{}", a.shown());
    let shown = a.shown();
    assert!(shown.contains("out\n") && shown.contains("err\n") && shown.contains("part"), "{shown}");
    let ran = world.ctl(&["attach", "a"]);
    assert!(ran.code == 1 && ran.err.contains("a is not running: "), "{ran:?}");
    let ran = world.ctl(&["attach", "b"]);
    assert!(ran.code == 1 && ran.err.contains("no service \"b\""), "{ran:?}");
}

#[test]
fn a_service_without_a_log_is_seen_by_whoever_is_attached_and_nobody_else() {
    let toml = format!("{}logging.driver = \"none\"\n", SHELL);
    let Some(mut world) =
        with_plugin(&format!("{toml}[services.b]\n{}logging.driver = \"none\"\n", super::LIVE))
    else {
        return;
    };
    world.start();
    world.until_state("a", "running");
    world.until_state("b", "running");
    let mut a = Attached::on_a_terminal(&world, &["a"]);
    // More than a terminal and a pipe hold.
    a.asks(b"seq 1 100000 | tail -c 200000 | tail -n 1; echo $((6*7))\r", "42\r\n");
    drop(a);
    world.ok(&["stop", "a"]);
    let ran = world.ctl(&["attach", "b"]);
    assert!(ran.code == 1 && ran.err.contains("there is nothing to attach to"), "{ran:?}");
}

#[test]
fn whoever_is_attached_when_the_worker_dies_is_told_and_the_service_loses_nothing() {
    let Some(mut world) = running(SHELL) else { return };
    let mut a = Attached::on_a_terminal(&world, &["a"]);
    a.asks(b"echo $((6*7))\r", "42\r\n");
    kill(world.worker().unwrap(), libc::SIGKILL);
    assert_eq!(a.ended().code(), Some(1));
    assert!(a.shown().contains("broke off"), "{}", a.shown());
    let mut again = Attached::on_a_terminal(&world, &["a"]);
    again.asks(b"echo $((9*9)) $$\r", "81 1\r\n");
    kill(world.keel(), libc::SIGKILL);
    assert_eq!(again.ended().code(), Some(1));
    world.ended();
    world.start();
    let mut last = Attached::on_a_terminal(&world, &["a"]);
    last.asks(b"echo $((4*4*4)) $$\r", "64 1\r\n");
    let log = world.ok(&["logs", "a"]);
    assert!(["42\r\n", "81 1\r\n", "64 1\r\n"].iter().all(|line| log.contains(line)), "{log}");
}

#[test]
fn a_restart_ends_attach_with_the_life() {
    let Some(world) = running(SHELL) else { return };
    let mut a = Attached::on_a_terminal(&world, &["a"]);
    a.asks(b"echo $((6*7))\r", "42\r\n");
    world.ok(&["restart", "a"]);
    assert_eq!(a.ended().code(), Some(137), "{}", a.shown());
    assert_eq!(world.inspect("a").status.generation, 2);
}

/// A client that is stopped holds up neither the service nor the loop, and hears that it was cut off. One that writes into a file
/// gets all.
#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let line = "x".repeat(99);
    let script = format!("read go; yes {line} | head -n 120000; echo flood is over; exec sleep 100000");
    for tty in [true, false] {
        let toml = format!(
            "[services.a]\ntty = {tty}\nstdin_open = true\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\nstop_signal = \"SIGKILL\"\n"
        );
        let Some(world) = running(&toml) else { return };
        let file = world.dir().join("seen");
        let output = std::fs::File::create(&file).unwrap();
        let mut other = command(&world, "attach", &["--no-stdin", "a"]).stdout(output).spawn().unwrap();
        let mut stopped = Attached::with_pipes(&world, &["a"]);
        std::thread::sleep(Duration::from_millis(500));
        kill(stopped.pid(), libc::SIGSTOP);
        let mut starter = Attached::with_pipes(&world, &["a"]);
        starter.types(b"go\n");
        starter.until("xxx");
        drop(starter);
        let is_over = |world: &World| world.ctl(&["logs", "-n", "1", "a"]).out.contains("flood is over");
        world.until("the log has all of it", is_over);
        kill(stopped.pid(), libc::SIGCONT);
        assert_eq!(stopped.ended().code(), Some(1), "tty = {tty}");
        let shown = stopped.shown();
        assert!(
            shown.contains("cut off: 4 MiB of output waited"),
            "{}",
            &shown[shown.len().saturating_sub(300)..]
        );
        let seen = || std::fs::read_to_string(&file).unwrap();
        world.until("the other client has all of it", |_| seen().contains("flood is over"));
        assert_eq!(seen().lines().filter(|seen| *seen == line).count(), 120_000);
        kill(other.id().try_into().unwrap(), libc::SIGKILL);
        other.wait().unwrap();
    }
}

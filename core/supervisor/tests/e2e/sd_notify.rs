//! Services that say how they are: on NOTIFY_SOCKET, as sd_notify(3) has it.
use super::World;
use super::world::kill;
use sampan_testkit::need;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Says what it reads from a FIFO, a message a line; `fork ` before it: by a process that ends at once.
const SAYS: &str = r#"
import os, socket, struct
fifo = '/mnt/' + os.environ['FIFO']
fd = os.open(fifo, os.O_RDWR)
open(fifo + '.up', 'w')
def say(text, fds=[]):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ['NOTIFY_SOCKET'])
    socket.send_fds(s, [text], fds)
for line in os.fdopen(fd, 'rb'):
    line = line.rstrip(b'\n').decode('unicode_escape').encode('latin1')
    if line == b'barrier':
        r, w = os.pipe()
        say(b'BARRIER=1', [w])
        os.close(w)
        os.read(r, 1)
        open('/mnt/passed', 'w')
    elif line == b'flood':
        r, w = os.pipe()
        while True:
            try:
                say(b'STATUS=flood\nFDSTORE=1', [w] * 100)
            # ETOOMANYREFS: more are in flight than it may have open.
            except OSError:
                say(b'STATUS=flood\nFDSTORE=1')
    elif line == b'handle':
        import signal
        def reload(*_):
            say(b'RELOADING=1\nMONOTONIC_USEC=1')
            open('/mnt/reloading', 'w')
        signal.signal(signal.SIGHUP, reload)
        open('/mnt/handles', 'w')
    elif line.startswith(b'linger '):
        for _ in range(5):
            s = socket.create_connection(('127.0.0.1', int(line[7:])))
            s.setblocking(False)
            try:
                while True:
                    s.send(bytes(65536))
            except BlockingIOError:
                pass
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 20))
            say(b'READY=1\nSTATUS=lingers', [s.fileno()])
            s.close()
        say(b'STATUS=all is said')
        open('/mnt/passed', 'w')
    elif line == b'exit':
        os._exit(0)
    elif line.startswith(b'fork '):
        if os.fork() == 0:
            say(line[5:])
            os._exit(0)
    else:
        say(line)
"#;

/// A service that says what it is told to.
pub fn service(world: &World, name: &str, more: &str) -> String {
    let dir = world.dir().join("talk");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("says.py"), SAYS).unwrap();
    let fifo = dir.join(name);
    if !fifo.exists() {
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    }
    format!(
        "[services.{name}]\nrootfs = \"host\"\ncommand = [\"/usr/bin/python3\", \"/mnt/says.py\"]\n\
         environment = {{ FIFO = \"{name}\" }}\nvolumes = [\"{}:/mnt\"]\nstop_signal = \"SIGKILL\"\n\
         restart.delay = \"10ms\"\n{more}\n",
        dir.display()
    )
}

pub fn tell(world: &World, name: &str, line: &str) {
    let fifo = world.dir().join("talk").join(name);
    // What is written before it has opened the FIFO is lost.
    world.until("it listens", |_| fifo.with_extension("up").exists());
    let mut fifo = fs::File::options().read(true).write(true).open(fifo).unwrap();
    writeln!(fifo, "{line}").unwrap();
}

pub fn has_python() -> bool {
    need::programs(&["python3"], "python3")
}

/// With one such service, `web`, when it has come to this state.
fn speaking(more: &str, state: &str) -> Option<World> {
    let mut world = World::new("").filter(|_| has_python())?;
    world.configure(&service(&world, "web", more));
    world.start();
    world.until_state("web", state);
    Some(world)
}

#[test]
fn a_service_is_ready_when_it_says_so() {
    let mut world = world!("");
    if !has_python() {
        return;
    }
    let web = service(&world, "web", "notify = \"ready\"");
    world.configure(&format!(
        "{web}[services.after]\n{}depends_on.web.condition = \"service_ready\"\n",
        super::LIVE
    ));
    world.start();
    world.until_state("web", "starting");
    assert_eq!(world.inspect("after").status.text, "waiting web ready");
    tell(&world, "web", r"STATUS=reads \x1b[31m12 files\nX_MINE=1");
    world.until("its status is shown", |world| {
        world
            .inspect("web")
            .notified
            .is_some_and(|said| said.status.as_deref() == Some("reads ?[31m12 files"))
    });
    assert_eq!(world.inspect("web").status.text, "starting (reads ?[31m12 files)");
    assert_eq!(world.inspect("web").status.state, "starting");
    tell(&world, "web", r"STATUS=\nREADY=1\nMAINPID=1");
    world.until_state("web", "running");
    world.until_state("after", "running");
    tell(&world, "web", "RELOADING=1");
    world.until("it reloads", |world| world.inspect("web").status.text.ends_with("(reloading)"));
    tell(&world, "web", "READY=1");
    world.until("it is ready again", |world| !world.inspect("web").status.text.contains('('));
    tell(&world, "web", "STOPPING=1");
    world.until("it stops", |world| world.inspect("web").status.text.ends_with("(stopping)"));
    let said = world.inspect("web").notified.unwrap();
    assert_eq!((said.says.as_deref(), said.dropped), (Some("stopping"), 0));
    let why = world.ok(&["why", "web"]);
    assert!(why.contains("it says that it is ready"), "{why}");
}

/// `start_timeout` holds until it says so, and for longer where it asks for that.
#[test]
fn one_that_does_not_say_so_in_time_is_ended() {
    let mut world = world!("");
    if !has_python() {
        return;
    }
    let more = "notify = \"ready\"\nstart_timeout = \"8s\"";
    let (late, longer) = (service(&world, "late", more), service(&world, "longer", more));
    world.configure(&format!("{late}{longer}"));
    world.start();
    world.until_state("longer", "starting");
    tell(&world, "longer", "EXTEND_TIMEOUT_USEC=600000000");
    world.until("it was ended", |world| world.inspect("late").status.generation > 1);
    let timed_out = |event: &sampan_api::Transition| event.service == "late" && event.cause == "time is up";
    assert!(world.events().iter().any(timed_out), "{:?}", world.events());
    std::thread::sleep(Duration::from_secs(1));
    let longer = world.inspect("longer").status;
    assert_eq!((longer.generation, longer.state.as_str()), (1, "starting"));
}

/// What it said while nobody heard stands in the socket's queue, which the keel holds; also of a process that has ended since.
#[test]
fn what_is_said_while_there_is_no_worker_is_heard_by_the_next() {
    let mut world = world!("");
    if !has_python() {
        return;
    }
    let services = ["main", "child"].map(|name| service(&world, name, "notify = \"ready\""));
    world.configure(&services.concat());
    world.start();
    // A launch that is under way ends with its worker.
    ["main", "child"].iter().for_each(|name| world.until_state(name, "starting"));
    for (name, line) in [("main", "READY=1"), ("child", "fork READY=1")] {
        let worker = world.worker().unwrap();
        kill(worker, libc::SIGSTOP);
        let fifo = world.dir().join("talk").join(name);
        tell(&world, name, line);
        // The service has read the line, and sends what it says at once.
        while unread(&fifo) > 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        kill(worker, libc::SIGKILL);
        world.until_state(name, "running");
        assert_eq!(world.inspect(name).status.generation, 1);
    }
}

fn unread(fifo: &std::path::Path) -> u64 {
    let fifo = fs::File::options().read(true).write(true).open(fifo).unwrap();
    rustix::io::ioctl_fionread(fifo).unwrap()
}

/// Bytes that mean nothing, too many of them, and what somebody else says: each is counted, and told once.
#[test]
fn what_is_not_understood_or_not_its_own_is_dropped_and_counted() {
    let Some(world) = speaking("notify = \"ready\"", "starting") else { return };
    let dropped = |world: &World| world.inspect("web").notified.map_or(0, |said| said.dropped);
    // Root of the host, in another control group.
    let stranger = UnixDatagram::unbound().unwrap();
    for _ in 0..3 {
        stranger.send_to(b"READY=1", world.dir().join("run/notify/web/notify")).unwrap();
    }
    tell(&world, "web", r"\xff\x00\xfe=\n=");
    tell(&world, "web", &format!("STATUS={}", "x".repeat(5000)));
    tell(&world, "web", "MAINPID=2");
    tell(&world, "web", "FDSTORE=1\\nFDNAME=x");
    world.until("all are counted", |world| dropped(world) == 7);
    assert_eq!(world.inspect("web").status.state, "starting");
    let said = world.said();
    for reason in ["control group", "longer than", "sd_notify(3) knows", "MAINPID", "fd_store_max"] {
        assert_eq!(said.matches(reason).count(), 1, "{reason}: {said}");
    }
    tell(&world, "web", "fork READY=1");
    world.until_state("web", "running");
}

/// It can neither starve the loop nor fill its table of descriptors; nor can it keep the next message out.
#[test]
fn a_flood_of_messages_holds_nobody_up() {
    let Some(world) = speaking("notify = \"ready\"", "starting") else { return };
    tell(&world, "web", "READY=1");
    tell(&world, "web", "barrier");
    world.until("the barrier is passed", |world| world.dir().join("talk/passed").exists());
    assert_eq!(world.inspect("web").status.state, "running", "what was said before the barrier is done");
    let worker = world.worker().unwrap();
    let open = || fs::read_dir(format!("/proc/{worker}/fd")).unwrap().count();
    let before = open();
    tell(&world, "web", "flood");
    world.until("it is heard", |world| world.inspect("web").notified.is_some_and(|said| said.dropped > 20));
    let begun = Instant::now();
    for _ in 0..20 {
        world.services();
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "20 answers took {:?}", begun.elapsed());
    // A connection of ours may still be open.
    assert!(open() <= before + 8, "{before} descriptors, now {}", open());
    assert_eq!(world.worker(), Some(worker));
}

/// What it sends with its messages would keep whoever closes it for as long as it chose: the worker, and the keel when it closes
/// the queue in which some are left.
#[test]
fn sockets_that_linger_hold_nobody_up() {
    let mut world = world!("");
    if !has_python() {
        return;
    }
    // Its own would end with it, and with it what lingers. It reads nothing.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let linger = format!("linger {}", other.local_addr().unwrap().port());
    world.configure(&service(&world, "web", "notify = \"ready\"\nnetwork_mode = \"host\""));
    world.start();
    world.until_state("web", "starting");
    let (worker, main) = (world.worker().unwrap(), world.pid("web"));
    // All of it stands in the queue before anybody hears it: the last reference is there.
    let queued = |world: &World| {
        kill(worker, libc::SIGSTOP);
        tell(world, "web", &linger);
        let file = world.dir().join("talk/passed");
        world.until("all is said", |_| file.exists());
        fs::remove_file(file).unwrap();
    };
    queued(&world);
    kill(worker, libc::SIGCONT);
    let begun = Instant::now();
    let status = |world: &World| world.inspect("web").notified.and_then(|said| said.status);
    world.until("all is heard", |world| status(world).as_deref() == Some("all is said"));
    queued(&world);
    fs::remove_file(world.dir().join("talk/web.up")).unwrap();
    kill(main, libc::SIGKILL);
    kill(worker, libc::SIGCONT);
    world.until("it lives anew", |world| world.inspect("web").status.generation == 2);
    tell(&world, "web", "READY=1");
    world.until_state("web", "running");
    assert!(begun.elapsed() < Duration::from_secs(18), "{:?}", begun.elapsed());
    assert_eq!(world.worker(), Some(worker));
}

/// Each life has a socket of its own; a service that left the config leaves none.
#[test]
fn a_life_does_not_hear_what_the_one_before_has_said() {
    let Some(world) = speaking("notify = \"ready\"", "starting") else { return };
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGSTOP);
    tell(&world, "web", "READY=1\nexit");
    std::thread::sleep(Duration::from_millis(300));
    kill(worker, libc::SIGCONT);
    world.until("it lives anew", |world| world.inspect("web").status.generation == 2);
    world.until_state("web", "starting");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(world.inspect("web").status.state, "starting", "the second life has said nothing");
    world.configure(&format!("[services.web]\n{}", super::LIVE));
    world.ok(&["apply"]);
    world.until("its socket is gone", |world| !world.dir().join("run/notify/web").exists());
}

/// What it is told how often it must say so.
#[test]
fn a_missed_watchdog_is_an_unhealthy_service() {
    let mut world = world!("");
    if !has_python() {
        return;
    }
    let silent = service(&world, "silent", "notify = \"ready\"\nwatchdog = \"1s\"");
    let kept = service(
        &world,
        "kept",
        "watchdog = \"2s\"\nhealthcheck = { notify = true, on_failure = \"none\", start_period = \"1h\" }",
    );
    world.configure(&format!(
        "{silent}{kept}[services.after]\n{}depends_on.kept.condition = \"service_healthy\"\n",
        super::LIVE
    ));
    world.start();
    world.until_state("silent", "starting");
    let env = world.ok(&["exec", "silent", "cat", "/proc/1/environ"]);
    for variable in ["NOTIFY_SOCKET=/run/host/notify", "WATCHDOG_USEC=1000000", "WATCHDOG_PID=1"] {
        assert!(env.split('\0').any(|entry| entry == variable), "{variable}: {env}");
    }
    // Longer than it may be silent, but it is not ready yet.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(world.inspect("silent").status.generation, 1);
    tell(&world, "silent", "READY=1");
    // The next life makes its own when it listens.
    fs::remove_file(world.dir().join("talk/silent.up")).unwrap();
    world.until("it was restarted", |world| world.inspect("silent").status.generation == 2);
    let why = world.ok(&["why", "silent"]);
    assert!(why.contains("unhealthy: no WATCHDOG=1 in 1s"), "{why}");
    // What it says of that before it is ready holds from then on.
    world.until_state("silent", "starting");
    tell(&world, "silent", "WATCHDOG_USEC=1500000\\nREADY=1");
    world.until("it was restarted again", |world| world.inspect("silent").status.generation == 3);
    let why = world.ok(&["why", "silent"]);
    assert!(why.contains("unhealthy: no WATCHDOG=1 in 1s500ms"), "{why}");
    // By its watchdog alone: healthy from its first word, unhealthy when it is silent, and healthy again.
    let health = |world: &World| world.inspect("kept").status.health;
    assert_eq!(
        (health(&world).as_str(), world.inspect("after").status.state.as_str()),
        ("starting", "waiting")
    );
    tell(&world, "kept", "WATCHDOG=1");
    world.until("it is healthy", |world| health(world) == "healthy");
    world.until_state("after", "running");
    world.until("it is not", |world| health(world) == "unhealthy");
    tell(&world, "kept", "WATCHDOG=1");
    world.until("it is again", |world| health(world) == "healthy");
    tell(&world, "kept", "WATCHDOG=trigger");
    world.until("it says that it is not", |world| health(world) == "unhealthy");
    assert_eq!(world.inspect("kept").status.generation, 1);
}

/// Neither what is paused nor what spoke while no worker heard it.
#[test]
fn a_service_that_could_say_nothing_has_not_missed_its_watchdog() {
    let Some(world) = speaking("watchdog = \"3s\"", "running") else { return };
    tell(&world, "web", "WATCHDOG=1");
    world.ok(&["pause", "web"]);
    std::thread::sleep(Duration::from_secs(4));
    world.ok(&["unpause", "web"]);
    tell(&world, "web", "WATCHDOG=1");
    let worker = world.worker().unwrap();
    kill(worker, libc::SIGSTOP);
    std::thread::sleep(Duration::from_secs(4));
    tell(&world, "web", "WATCHDOG=1");
    std::thread::sleep(Duration::from_millis(500));
    kill(worker, libc::SIGCONT);
    assert_eq!(world.inspect("web").status.state, "running");
    kill(worker, libc::SIGKILL);
    assert_eq!(world.inspect("web").status.generation, 1);
    world.until("it is missed by the next worker", |world| world.inspect("web").status.generation == 2);
}

/// One that says RELOADING=1 is waited for, one that says nothing is told.
#[test]
fn a_reload_signals_or_runs_what_the_config_says() {
    let mut world = world!("");
    if !has_python() {
        return;
    }
    let web = service(&world, "web", "notify = \"ready\"\nreload = { signal = \"SIGHUP\" }");
    let live = |name: &str, reload: &str| format!("[services.{name}]\n{}{reload}\n", super::LIVE);
    world.configure(
        &[
            web,
            live("runs", "reload = { command = [\"/bin/touch\", \"/tmp/reloaded\"] }"),
            live("fails", "reload = { command = [\"/bin/sh\", \"-c\", \"echo no such file; exit 3\"] }"),
            live("none", ""),
        ]
        .concat(),
    );
    world.start();
    tell(&world, "web", "handle");
    world.until("it handles the signal", |world| world.dir().join("talk/handles").exists());
    let early = world.ctl(&["reload", "web"]);
    assert!(early.code == 1 && early.err.contains("it is starting, and must run"), "{early:?}");
    tell(&world, "web", "READY=1");
    for name in ["web", "runs", "fails", "none"] {
        world.until_state(name, "running");
    }
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| world.ctl(&["reload", "web"]));
        world.until("it reloads", |world| world.inspect("web").status.text.ends_with("(reloading)"));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!reload.is_finished(), "it is not ready yet");
        tell(&world, "web", "READY=1");
        assert_eq!(reload.join().unwrap().code, 0);
    });
    world.ok(&["reload", "runs"]);
    world.ok(&["exec", "runs", "test", "-e", "/tmp/reloaded"]);
    let failed = world.ctl(&["reload", "fails"]);
    assert!(failed.code == 1 && failed.err.contains("/bin/sh: exit 3: no such file"), "{failed:?}");
    let none = world.ctl(&["reload", "none"]);
    assert!(none.code == 1 && none.err.contains("services.none.reload"), "{none:?}");
    assert!(["web", "runs", "fails"].iter().all(|name| world.inspect(name).status.generation == 1));
}

/// Says it on descriptor `fd` when it is told to by a file, writes again and again behind it, and closes it.
fn by_newline(fd: u32, more: &str) -> String {
    format!(
        "notify = {{ fd = {fd} }}\nstop_signal = \"SIGKILL\"\nrestart.delay = \"10ms\"\n\
         command = [\"/bin/sh\", \"-c\", \"printf 'not yet' >&{fd}; while ! [ -e /tmp/go ]; do sleep 0.05; done; echo >&{fd}; echo more >&{fd}; exec {fd}>&-; touch /tmp/said; sleep 100000\"]\n{more}\n"
    )
}

fn let_say(world: &World, name: &str) {
    world.ok(&["exec", name, "touch", "/tmp/go"]);
    world.until("it has said so", |world| world.ctl(&["exec", name, "test", "-e", "/tmp/said"]).code == 0);
}

/// As s6 has it: a newline, and the descriptor may be closed.
#[test]
fn a_service_is_ready_when_it_writes_a_newline() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sockets = format!("sockets = [{{ listen = \"tcp:127.0.0.1:{port}\" }}]");
    let mut world = world!(
        "[services.web]\n{}[services.both]\n{}[services.short]\nrestart = \"no\"\nstop_signal = \"SIGKILL\"\n\
         notify = {{ fd = 3 }}\ncommand = [\"/bin/sh\", \"-c\", \"echo >&3; exec 3>&-; sleep 1000\"]\n\
         [services.after]\n{}depends_on.web.condition = \"service_ready\"\n",
        by_newline(3, ""),
        by_newline(4, &sockets),
        super::LIVE
    );
    world.start();
    world.until_state("short", "running");
    for name in ["web", "both"] {
        world.until_state(name, "starting");
        world.until("it has written", |world| world.ctl(&["exec", name, "true"]).code == 0);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(world.inspect("web").status.state, "starting", "it has written no newline");
    assert_eq!(world.inspect("after").status.text, "waiting web ready");
    let env = world.ok(&["exec", "both", "cat", "/proc/1/environ"]);
    assert!(env.contains("LISTEN_FDS=1\0") && !env.contains("NOTIFY_SOCKET"), "{env}");
    for name in ["web", "both"] {
        let_say(&world, name);
        world.until_state(name, "running");
    }
    world.until_state("after", "running");
    for name in ["web", "both", "short"] {
        let inspect = world.inspect(name);
        assert_eq!((inspect.status.generation, inspect.notified.unwrap().dropped), (1, 0), "{name}");
    }
    // Each life has one of its own.
    kill(world.pid("web"), libc::SIGKILL);
    world.until("it lives anew", |world| world.inspect("web").status.generation == 2);
    // One that says nothing any more has none.
    world.configure(&format!("[services.web]\n{}", super::LIVE));
    world.ok(&["apply"]);
    world.until_state("web", "running");
    let fd = fs::read_dir(format!("/proc/{}/fd", world.pid("web"))).unwrap().flatten();
    assert_eq!(fd.filter(|fd| fd.file_name().to_str().unwrap().parse::<u32>().unwrap() > 2).count(), 0);
    assert!(!world.dir().join("run/notify/web").exists());
}

#[test]
fn one_that_writes_no_newline_in_time_is_ended_and_one_that_did_while_no_worker_heard_is_ready() {
    let mut world = world!(
        "[services.late]\n{}[services.web]\n{}",
        by_newline(3, "start_timeout = \"4s\""),
        by_newline(3, "")
    );
    world.start();
    world.until_state("web", "starting");
    world.until("it can be told", |world| world.ctl(&["exec", "web", "true"]).code == 0);
    let (worker, service) = (world.worker().unwrap(), world.pid("web"));
    kill(worker, libc::SIGSTOP);
    let root = format!("/proc/{service}/root/tmp");
    fs::write(format!("{root}/go"), "").unwrap();
    world.until("it has said so", |_| fs::exists(format!("{root}/said")).unwrap());
    kill(worker, libc::SIGKILL);
    world.until_state("web", "running");
    assert_eq!((world.inspect("web").status.generation, world.pid("web")), (1, service));
    world.until("it was ended", |world| world.inspect("late").status.generation > 1);
    let timed_out = |event: &sampan_api::Transition| event.service == "late" && event.cause == "time is up";
    assert!(world.events().iter().any(timed_out), "{:?}", world.events());
}

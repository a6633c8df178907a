//! `sockets`: a service gets them as systemd hands them over, they stay open over its restarts and the death of a worker, and are
//! closed when it leaves the config.
use super::World;
use super::died::kill_the_worker;
use super::world::kill;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Restarts soon.
const QUICK: &str = "restart = { delay = \"10ms\", max_delay = \"10ms\" }\nstop_signal = \"SIGKILL\"\n";

/// A port that is free on loopback.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What its first process says of the variables.
fn environment(world: &World, service: &str) -> Vec<String> {
    let text = fs::read(format!("/proc/{}/environ", world.pid(service))).unwrap();
    let all = text.split(|byte| *byte == 0).map(|entry| String::from_utf8_lossy(entry).into_owned());
    all.filter(|entry| entry.starts_with("LISTEN_")).collect()
}

/// Descriptors from 3 on, by their numbers, as the kernel calls them.
fn beyond_stdio(world: &World, service: &str) -> Vec<(u32, String)> {
    let entries = fs::read_dir(format!("/proc/{}/fd", world.pid(service))).unwrap().flatten();
    let number = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().parse::<u32>().unwrap();
    let mut all: Vec<(u32, String)> = entries
        .map(|entry| (number(&entry), fs::read_link(entry.path()).unwrap().display().to_string()))
        .filter(|(number, _)| *number > 2)
        .collect();
    all.sort();
    all
}

#[test]
fn they_are_handed_over_and_outlive_the_service_and_the_worker() {
    let (tcp, udp) = (port(), port());
    let mut world = world!("");
    let unix = world.dir().join("web.sock");
    let sockets = format!(
        "sockets = [{{ listen = \"tcp:127.0.0.1:{tcp}\", name = \"http\" }}, {{ listen = \"udp:127.0.0.1:{udp}\" }}, {{ listen = \"unix:{}\", name = \"local\" }}]\n",
        unix.display()
    );
    let sleeps = format!("command = [\"/bin/sleep\", \"100000\"]\n{QUICK}");
    world.configure(&format!("[services.web]\n{sleeps}{sockets}[services.plain]\n{sleeps}"));
    world.start();
    world.until_state("web", "running");
    let expected = ["LISTEN_FDNAMES=http:web:local", "LISTEN_FDS=3", "LISTEN_PID=1"];
    let mut said = environment(&world, "web");
    said.sort();
    assert_eq!(said, expected);
    let first = beyond_stdio(&world, "web");
    assert_eq!(first.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [3, 4, 5], "{first:?}");
    assert!(first.iter().all(|(_, link)| link.starts_with("socket:")), "{first:?}");
    world.until_state("plain", "running");
    assert!(beyond_stdio(&world, "plain").is_empty() && environment(&world, "plain").is_empty());
    assert_eq!(fs::metadata(&unix).unwrap().permissions().mode() & 0o777, 0o666);

    // Who comes meanwhile waits, and is the next life's.
    let waits = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    let local = UnixStream::connect(&unix).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", ("127.0.0.1", udp)).unwrap();
    kill(world.pid("web"), libc::SIGKILL);
    world.until("it lives again", |world| world.inspect("web").status.generation == 2);
    world.until_state("web", "running");
    assert_eq!(beyond_stdio(&world, "web"), first, "the same sockets");
    kill_the_worker(&world);
    world.ok(&["restart", "web"]);
    world.until_state("web", "running");
    assert_eq!(beyond_stdio(&world, "web"), first, "the same sockets");
    world.ok(&["stop", "web"]);
    drop(TcpStream::connect(("127.0.0.1", tcp)).unwrap());
    drop((waits, local));

    // What the config names no more is closed, the rest is not.
    let fewer = format!("sockets = [{{ listen = \"udp:127.0.0.1:{udp}\" }}]\n");
    world.configure(&format!("[services.web]\n{sleeps}{fewer}"));
    world.ok(&["apply"]);
    world.until("the others are closed", |_| {
        TcpStream::connect(("127.0.0.1", tcp)).is_err() && UnixStream::connect(&unix).is_err()
    });
    assert!(UdpSocket::bind(("127.0.0.1", udp)).is_err());
    world.configure("");
    world.ok(&["apply"]);
    world.until("all are closed", |_| UdpSocket::bind(("127.0.0.1", udp)).is_ok());
}

#[test]
fn a_program_serves_what_it_was_given() {
    serves("");
}

#[test]
fn a_program_that_our_init_has_started_does_too() {
    serves("init = true\n");
}

/// With a program that accepts on descriptor 3, and only if its number is the one that it is told.
fn serves(keys: &str) {
    let python = "/usr/bin/python3";
    if !sampan_testkit::need::need(python, std::path::Path::new(python).exists()) {
        return;
    }
    let port = port();
    let program = "import os,socket\\ns=socket.socket(fileno=3)\\nassert os.environ['LISTEN_PID']==str(os.getpid())\\nwhile True:\\n c,_=s.accept()\\n c.sendall(b'served')\\n c.close()";
    let mut world = world!(
        "[services.web]\nrootfs = \"host\"\n{QUICK}{keys}sockets = [{{ listen = \"tcp:127.0.0.1:{port}\" }}]\ncommand = [\"{python}\", \"-c\", \"{program}\"]\n"
    );
    world.start();
    for generation in 1..4 {
        // Also while none is there that accepts.
        let mut text = String::new();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|_| {
            world.until_state("web", "running");
            TcpStream::connect(("127.0.0.1", port)).unwrap()
        });
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(b"");
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
        world.until("this life", |world| world.inspect("web").status.generation >= generation);
        kill(world.pid("web"), libc::SIGKILL);
        world.until("the next life", |world| world.inspect("web").status.generation > generation);
    }
}

/// The socket is the service's as much as ours: what it did to it ends with its life.
#[test]
fn one_that_a_life_has_shut_down_is_opened_anew() {
    let python = "/usr/bin/python3";
    if !sampan_testkit::need::need(python, std::path::Path::new(python).exists()) {
        return;
    }
    let port = port();
    let shuts =
        "import socket,time\\ns=socket.socket(fileno=3)\\nc,_=s.accept()\\ns.shutdown(socket.SHUT_RDWR)";
    let mut world = world!(
        "[services.web]\nrootfs = \"host\"\n{QUICK}sockets = [{{ listen = \"tcp:127.0.0.1:{port}\" }}]\ncommand = [\"{python}\", \"-c\", \"{shuts}\"]\n"
    );
    world.start();
    for generation in 1..4 {
        world.until("a life that can be reached", |_| TcpStream::connect(("127.0.0.1", port)).is_ok());
        world.until("the next life", |world| world.inspect("web").status.generation > generation);
    }
    let told = format!("sockets: tcp:127.0.0.1:{port} does not listen any more, and is opened anew");
    assert!(world.said().contains(&told), "{}", world.said());
}

#[test]
fn an_address_that_somebody_else_has_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut world = world!("");
    let stale = world.dir().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let file = world.dir().join("file");
    fs::write(&file, "kept").unwrap();
    let sleeps = "command = [\"/bin/sleep\", \"100000\"]\nstop_signal = \"SIGKILL\"\n";
    world.configure(&format!(
        "[services.file]\n{sleeps}restart = \"no\"\nsockets = [{{ listen = \"unix:{}\" }}]\n\
         [services.web]\n{sleeps}restart = \"no\"\nsockets = [{{ listen = \"tcp:127.0.0.1:{port}\" }}]\n\
         [services.again]\n{sleeps}sockets = [{{ listen = \"unix:{}\" }}]\n",
        file.display(),
        stale.display()
    ));
    world.start();
    world.until_state("web", "failed");
    world.until_state("file", "failed");
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    let wrong = format!(
        "sockets: cannot listen on tcp:127.0.0.1:{port}: bind: address already in use; ss -lnp shows by whom"
    );
    assert!(world.said().contains(&wrong), "{}", world.said());
    world.until_state("again", "running");
    drop(UnixStream::connect(&stale).unwrap());
}

#[test]
fn a_sampand_that_follows_closes_what_its_config_does_not_name() {
    let (kept, gone) = (port(), port());
    let sleeps = format!("command = [\"/bin/sleep\", \"100000\"]\n{QUICK}");
    let listens = |port: u16| format!("{{ listen = \"tcp:127.0.0.1:{port}\" }}");
    let mut world = world!(
        "on_exit = \"keep\"\n---\n[services.web]\n{sleeps}sockets = [{}, {}]\n",
        listens(kept),
        listens(gone)
    );
    world.start();
    world.until_state("web", "running");
    let first = beyond_stdio(&world, "web");
    world.signal(libc::SIGTERM);
    assert_eq!(world.ended(), Some(0));
    // Nobody accepts, and nobody is refused.
    drop(TcpStream::connect(("127.0.0.1", kept)).unwrap());
    world.configure(&format!("[services.web]\n{sleeps}sockets = [{}]\n", listens(kept)));
    world.start();
    world.until("the other one is closed", |_| TcpStream::connect(("127.0.0.1", gone)).is_err());
    world.until_state("web", "running");
    assert_eq!(beyond_stdio(&world, "web"), first[..1], "the one that is left is the same");
}

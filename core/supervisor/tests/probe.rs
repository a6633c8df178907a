//! Health checks against real sockets, in network namespaces and roots of their own.

use async_trait::async_trait;
use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sampan_config::schema::{Healthcheck, HttpProbe, OnUnhealthy, Probe};
use sampan_service::{Event, Health, Life, Verdict};
use sampan_supervisor::probe::{Check, Exec, Helper, Outcome, Probes, Ran, Target, Turn, check};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use sampan_testkit::need;

/// Answers with a code, or not at all.
struct Ends(Option<i32>);

#[async_trait]
impl Exec for Ends {
    async fn run(&self, _: &Target, argv: &[String], _: usize, _: Turn) -> std::io::Result<Ran> {
        match self.0 {
            Some(code) => Ok(Ran { code, output: argv.join(" ").into_bytes() }),
            None => std::future::pending().await,
        }
    }
}

/// Its start hangs in a thread, of which it counts those that there were.
#[derive(Default)]
struct Hangs(AtomicUsize);

#[async_trait]
impl Exec for Hangs {
    async fn run(&self, _: &Target, _: &[String], _: usize, turn: Turn) -> std::io::Result<Ran> {
        self.0.fetch_add(1, Ordering::SeqCst);
        // A thread that never ends would keep the test's process.
        std::mem::forget(turn);
        std::future::pending().await
    }
}

#[tokio::test]
async fn starts_of_commands_that_hang_do_not_pile_up() {
    let hangs = Arc::new(Hangs::default());
    let target = Target { exec: hangs.clone(), ..here() };
    let (helper, exec) = (Helper::default(), Check::Exec { argv: vec!["x".into()] });
    let short = Duration::from_millis(20);
    check(&exec, &target, &helper, short).await;
    for _ in 0..3 {
        let outcome = check(&exec, &target, &helper, short).await;
        assert!(!outcome.ok && outcome.output.contains("hangs in the kernel"), "{}", outcome.output);
    }
    assert_eq!(hangs.0.load(Ordering::SeqCst), 1);
}

fn target(pid: u32, netns: Option<OwnedFd>) -> Target {
    let pid = i32::try_from(pid).unwrap();
    Target {
        service: "web".to_owned(),
        generation: 3,
        pid,
        pidfd: Arc::new(pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap()),
        netns: netns.map(Arc::new),
        exec: Arc::new(Ends(Some(0))),
    }
}

fn here() -> Target {
    target(std::process::id(), None)
}

async fn checked(what: Check, target: &Target) -> Outcome {
    check(&what, target, &Helper::default(), Duration::from_millis(500)).await
}

fn http(port: u16) -> Check {
    Check::Http { port, path: "/".to_owned(), status: (200, 399), host: "localhost".to_owned() }
}

/// Serves `status` (0: silence) on `address` until the test ends; returns the port.
fn serve(address: &str, status: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            match status.load(Ordering::SeqCst) {
                0 => silent.push(stream),
                code => drop(write!(stream, "HTTP/1.1 {code} x\r\nContent-Length: 4\r\n\r\nbody")),
            }
        }
    });
    port
}

fn fixed(status: u16) -> Arc<AtomicU16> {
    Arc::new(AtomicU16::new(status))
}

/// A network namespace with a loopback, and `address` served with `status` in it.
fn namespace(address: &'static str, status: u16) -> (OwnedFd, u16) {
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let port = serve(address, fixed(status));
        (File::open("/proc/thread-self/ns/net").unwrap().into(), port)
    })
    .join()
    .unwrap()
}

#[tokio::test]
async fn http_is_asked_inside_the_containers_network_namespace() {
    if !need::root() {
        return;
    }
    let (netns, port) = namespace("127.0.0.1:0", 200);
    let inside = target(std::process::id(), Some(netns));
    let outcome = checked(http(port), &inside).await;
    assert_eq!((outcome.ok, outcome.output.as_str()), (true, "HTTP 200\nbody"));
    let outside = checked(http(port), &here()).await;
    assert_eq!(outside.output, format!("connect to 127.0.0.1:{port}: connection refused"));
    let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    assert_eq!(std::fs::read_link("/proc/self/ns/net").unwrap(), ours, "the loop's thread stayed at home");
}

#[tokio::test]
async fn a_service_on_the_ipv6_loopback_alone_is_found() {
    if !need::root() {
        return;
    }
    let (netns, port) = namespace("[::1]:0", 204);
    let inside = target(std::process::id(), Some(netns));
    assert!(checked(http(port), &inside).await.ok);
    assert!(checked(Check::Tcp { port }, &inside).await.ok);
}

#[tokio::test]
async fn a_status_out_of_range_is_a_failure() {
    let port = serve("127.0.0.1:0", fixed(503));
    let outcome = checked(http(port), &here()).await;
    assert_eq!((outcome.ok, outcome.output.as_str()), (false, "HTTP 503\nbody"));
    let wide = Check::Http { port, path: "/".to_owned(), status: (200, 599), host: "localhost".to_owned() };
    assert!(checked(wide, &here()).await.ok);
}

#[tokio::test]
async fn a_server_that_says_nothing_runs_into_the_deadline() {
    let port = serve("127.0.0.1:0", fixed(0));
    let outcome = checked(http(port), &here()).await;
    assert_eq!((outcome.ok, outcome.output.as_str()), (false, "no answer in 500ms"));
    assert!(outcome.took >= Duration::from_millis(500), "{:?}", outcome.took);
}

#[tokio::test]
async fn tcp_needs_no_more_than_an_open_port() {
    let port = serve("127.0.0.1:0", fixed(0));
    assert!(checked(Check::Tcp { port }, &here()).await.ok);
}

#[tokio::test]
async fn a_command_is_judged_by_its_exit_code() {
    let run = |code| Target { exec: Arc::new(Ends(code)), ..here() };
    let argv = vec!["pg_isready".to_owned(), "-q".to_owned()];
    for (code, ok, output) in [
        (Some(0), true, "pg_isready -q"),
        (Some(2), false, "exit 2: pg_isready -q"),
        (None, false, "no answer in 500ms"),
    ] {
        let outcome = checked(Check::Exec { argv: argv.clone() }, &run(code)).await;
        assert_eq!((outcome.ok, outcome.output.as_str()), (ok, output));
    }
}

/// A folder of this test's own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("probe-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Jail(Child);

impl Drop for Jail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process whose root is `root`.
fn jail(root: &Path) -> Option<Jail> {
    if !need::root() || !need::busybox() {
        return None;
    }
    std::fs::copy("/bin/busybox", root.join("busybox")).unwrap();
    let jail = Jail(Command::new("chroot").arg(root).args(["/busybox", "sleep", "60"]).spawn().unwrap());
    let link = format!("/proc/{}/root", jail.0.id());
    while std::fs::read_link(&link).unwrap() == Path::new("/") {
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(jail)
}

#[tokio::test]
async fn a_unix_socket_is_found_in_the_containers_root_and_never_outside() {
    let folder = Folder::new("unix");
    let root = folder.0.join("root");
    std::fs::create_dir_all(root.join("run")).unwrap();
    let Some(jail) = jail(&root) else { return };
    let target = target(jail.0.id(), None);
    let at = |path: &str| Check::Unix { path: path.into() };

    let inside = UnixListener::bind(root.join("run/app.sock")).unwrap();
    assert!(checked(at("/run/app.sock"), &target).await.ok);
    std::os::unix::fs::symlink("/run/app.sock", root.join("absolute")).unwrap();
    assert!(checked(at("/absolute"), &target).await.ok, "an absolute link means the container's root");

    let _outside = UnixListener::bind(folder.0.join("host.sock")).unwrap();
    std::os::unix::fs::symlink("../host.sock", root.join("dots")).unwrap();
    std::os::unix::fs::symlink(folder.0.join("host.sock"), root.join("host")).unwrap();
    for path in ["/dots", "/host", "/../host.sock"] {
        let outcome = checked(at(path), &target).await;
        assert!(!outcome.ok && outcome.output.contains("no such file"), "{path}: {}", outcome.output);
    }

    assert!(checked(at("/busybox"), &target).await.output.ends_with("no socket"));
    drop(inside);
    assert!(checked(at("/run/app.sock"), &target).await.output.ends_with("connection refused"));
}

#[tokio::test]
async fn the_number_of_a_process_that_has_ended_is_not_trusted() {
    let mut child = Command::new("true").spawn().unwrap();
    let mut target = target(child.id(), None);
    child.wait().unwrap();
    target.pid = i32::try_from(std::process::id()).unwrap();
    let outcome = checked(Check::Unix { path: "/tmp/x".into() }, &target).await;
    assert!(outcome.output.ends_with("the container has ended"), "{}", outcome.output);
}

fn plan(port: u16) -> Healthcheck {
    let probe = HttpProbe { port, path: "/".to_owned(), status: (200, 399), host: "localhost".to_owned() };
    Healthcheck {
        probe: Probe::Http(probe),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(1),
        retries: 2,
        start_period: Duration::from_secs(5),
        start_interval: Duration::from_millis(5),
        success_threshold: 1,
        stop_grace_period: None,
        on_failure: OnUnhealthy::Restart,
    }
}

#[tokio::test]
async fn verdicts_come_when_they_change_and_end_with_the_schedule() {
    let status = fixed(500);
    let port = serve("127.0.0.1:0", Arc::clone(&status));
    let (tx, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let mut probes = Probes::new(tx);
    probes.begin(here(), &plan(port), Health::Starting);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(reports.try_recv().is_err(), "failures in the start period do not count");
    assert_eq!(probes.last("web").map(|last| (last.outcome.ok, last.failures)), Some((false, 0)));

    status.store(200, Ordering::SeqCst);
    let report = reports.recv().await.unwrap();
    assert_eq!(report.service, "web");
    assert_eq!(report.event, Event::life(3, Life::Health(Verdict::Healthy)));

    status.store(500, Ordering::SeqCst);
    let report = reports.recv().await.unwrap();
    assert_eq!(report.event, Event::life(3, Life::Health(Verdict::Unhealthy("HTTP 500".to_owned()))));
    assert!(probes.last("web").unwrap().failures >= 2);

    probes.end("web");
    status.store(200, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(reports.try_recv().is_err());
    assert_eq!(probes.last("web"), None);
}

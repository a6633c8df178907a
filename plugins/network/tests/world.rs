//! A host of one's own: a thread in a fresh network namespace, and containers that are namespaces without a process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use network::netlink::{Family, Socket};
use network::wire::Message;
use nix::sched::{CloneFlags, setns, unshare};
use sampan_testkit::need::{need, root};

/// Runs `test` as root of a network namespace with nothing in it but `lo`, which is up.
pub fn on_a_fresh_host(test: impl FnOnce() + Send + 'static) {
    let there = |program: &str| need(&format!("{program} in /usr/sbin or /sbin"), found(program));
    if !(root() && there("ip") && there("nft")) {
        return;
    }
    let host = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        // A new namespace has what the first one has (net.core.devconf_inherit_init_net).
        run("echo 0 >/proc/sys/net/ipv4/ip_forward");
        test();
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn found(program: &str) -> bool {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

/// A command in this thread's namespace; its output.
pub fn run(line: &str) -> String {
    let out = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A machine at 192.0.2.2, the host being 192.0.2.1 there.
pub fn lan() -> Namespace {
    neighbour("lan", "192.0.2")
}

/// A machine at PREFIX.2, the host being PREFIX.1 there, on interface NAME0. It sends everything by this host.
pub fn neighbour(name: &str, prefix: &str) -> Namespace {
    let there = Namespace::new();
    run(&format!("ip link add {name}0 type veth peer name {name}1"));
    let mut socket = Socket::open(Family::Route).unwrap();
    let peer = format!("{name}1");
    let over = Message::new(16, 0).fixed(&[0; 16]).text(3, &peer).u32(28, there.fd().as_raw_fd() as u32);
    socket.request(|| format!("move {peer}"), over).unwrap();
    run(&format!("ip addr add {prefix}.1/24 dev {name}0 && ip link set {name}0 up"));
    there.run(&format!(
        "ip link set lo up && ip addr add {prefix}.2/24 dev {peer} && ip link set {peer} up && \
         ip route add default via {prefix}.1"
    ));
    there
}

/// The interfaces that take packets to be forwarded; `all` is ip_forward.
pub fn forwarding() -> Vec<String> {
    let said = run("grep -l 1 /proc/sys/net/ipv4/conf/*/forwarding || true");
    said.lines().filter_map(|path| Some(path.split('/').nth(6)?.to_owned())).collect()
}

/// What another thread does in the background, waited for.
pub fn soon(what: &str, limit: Duration, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A network namespace: a container, or a machine on the LAN. Gone when dropped.
pub struct Namespace {
    pub netns: File,
}

impl Namespace {
    pub fn new() -> Namespace {
        let make = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Namespace { netns: make.join().unwrap() }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    pub fn id(&self) -> u64 {
        self.netns.metadata().unwrap().ino()
    }

    /// Runs `f` on a thread inside.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|s| {
            let inside = s.spawn(|| {
                setns(&self.netns, CloneFlags::CLONE_NEWNET).unwrap();
                f()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn run(&self, line: &str) -> String {
        self.within(|| run(line))
    }

    /// Answers each TCP connection on `port` with who the server thinks is calling, until the namespace's test ends.
    pub fn serve_tcp(&self, port: u16) {
        let listener = self.within(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                use std::io::Write;
                let who = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
                let _ = (&stream).write_all(who.as_bytes());
            }
        });
    }

    pub fn serve_udp(&self, port: u16) {
        let socket = self.within(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 100];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
    }

    pub fn call(&self, to: &str) -> Option<String> {
        self.within(|| call(to))
    }

    pub fn cannot_reach(&self, to: &str) -> bool {
        self.within(|| nobody_answers(to))
    }
}

/// Dials from this thread's namespace: what the server says, or None. Patient: the machine may be busy.
pub fn call(to: &str) -> Option<String> {
    dial(to, Duration::from_secs(5))
}

/// The wait that it takes to believe it is short: a busy machine makes it pass more easily, not less.
pub fn nobody_answers(to: &str) -> bool {
    dial(to, Duration::from_millis(500)).is_none()
}

fn dial(to: &str, patience: Duration) -> Option<String> {
    use std::io::Read;
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).ok()?;
    (!said.is_empty()).then_some(said)
}

pub fn call_udp(to: &str) -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"?", to).ok()?;
    let mut buffer = [0; 100];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

//! The name server in network namespaces: services ask the gateway, the world is a server on the host's loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use simple_dns::rdata::{A, RData, TXT};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::host::{Host, ports};
use crate::messages::question;
use crate::world::{Namespace, lan, on_a_fresh_host, run};

const PATIENCE: Duration = Duration::from_secs(6);

/// What came back: the code and the addresses, or nothing in time.
pub fn ask_at(to: &str, name: &str, kind: TYPE, patience: Duration) -> Option<(RCODE, Vec<IpAddr>)> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect(to).ok()?;
    socket.send(&question(9, name, kind, Some(1232))).ok()?;
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    Some(read(&buffer[..length]))
}

fn read(bytes: &[u8]) -> (RCODE, Vec<IpAddr>) {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(packet.id(), 9);
    let address = |record: &ResourceRecord<'_>| match &record.rdata {
        RData::A(a) => Some(IpAddr::from(a.address.to_be_bytes())),
        RData::AAAA(a) => Some(IpAddr::from(a.address.to_be_bytes())),
        _ => None,
    };
    (packet.rcode(), packet.answers.iter().filter_map(address).collect())
}

fn ask(from: &Namespace, name: &str) -> (RCODE, Vec<IpAddr>) {
    ask_kind(from, name, TYPE::A).unwrap_or_else(|| panic!("{name}: no answer"))
}

pub fn ask_kind(from: &Namespace, name: &str, kind: TYPE) -> Option<(RCODE, Vec<IpAddr>)> {
    let gateway = gateway(from);
    from.within(|| ask_at(&format!("{gateway}:53"), name, kind, PATIENCE))
}

/// The first address of eth0's network.
fn gateway(of: &Namespace) -> String {
    let shown = of.run("ip -o -4 addr show eth0");
    let address = shown.split("inet ").nth(1).unwrap().split('/').next().unwrap();
    format!("{}.1", address.rsplit_once('.').unwrap().0)
}

fn ask_by_tcp(from: &Namespace, bytes: &[u8]) -> Vec<u8> {
    let gateway = gateway(from);
    from.within(|| {
        let mut stream = TcpStream::connect(format!("{gateway}:53")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[&(bytes.len() as u16).to_be_bytes(), bytes].concat()).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        answer
    })
}

fn addresses(list: &[&str]) -> (RCODE, Vec<IpAddr>) {
    (RCODE::NoError, list.iter().map(|a| a.parse().unwrap()).collect())
}

/// A server of the world: each name has this address, and three kilobytes of text. What was asked is counted.
fn upstream(at: &str, address: &'static str) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let at: SocketAddr = format!("{at}:53").parse().unwrap();
    let (udp, tcp) = (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap());
    let asked = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            asked.fetch_add(1, Ordering::SeqCst);
            let _ = udp.send_to(&upstream_answer(&buffer[..length], address, true), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_ok() {
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut bytes).unwrap();
                let answer = upstream_answer(&bytes, address, false);
                let _ = stream.write_all(&[&(answer.len() as u16).to_be_bytes(), &*answer].concat());
            }
        }
    });
    count
}

fn upstream_answer(bytes: &[u8], address: &str, by_udp: bool) -> Vec<u8> {
    let query = Packet::parse(bytes).unwrap();
    let mut answer = Packet::new_reply(query.id());
    answer.questions = query.questions.clone();
    let asked = &query.questions[0];
    let text = "x".repeat(250);
    let mut add = |data| answer.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, 60, data));
    match asked.qtype {
        QTYPE::TYPE(TYPE::A) => add(RData::A(A::from(address.parse::<std::net::Ipv4Addr>().unwrap()))),
        QTYPE::TYPE(TYPE::TXT) if by_udp => answer.set_flags(PacketFlag::TRUNCATION),
        QTYPE::TYPE(TYPE::TXT) => {
            (0..12).for_each(|_| add(RData::TXT(TXT::new().with_string(&text).unwrap())))
        }
        _ => *answer.rcode_mut() = RCODE::NameError,
    }
    answer.build_bytes_vec_compressed().unwrap()
}

fn resolv_conf(host: &Host, servers: &[&str]) {
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    std::fs::write(host.folder.path("new"), text).unwrap();
    std::fs::rename(host.folder.path("new"), host.folder.path("resolv.conf")).unwrap();
}

#[test]
fn services_find_each_other_by_name_alias_and_hostname() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({ "networks": { "front": {}, "back": {} } }));
        host.start("web", json!({ "networks": ["front"] })).unwrap();
        let networks = json!([{ "name": "back", "aliases": ["postgres"] }, "front"]);
        host.start("db", json!({ "networks": networks, "hostname": "database" })).unwrap();
        host.start("job", json!({ "networks": ["back"] })).unwrap();
        let (web, job) = (host.container("web"), host.container("job"));
        let (front, back) = (["10.144.0.3"], ["10.144.16.2"]);
        for name in ["db", "DATABASE", "db.front"] {
            assert_eq!(ask(web, name), addresses(&front), "{name}");
        }
        for name in ["db", "postgres", "database.back", "postgres.back"] {
            assert_eq!(ask(job, name), addresses(&back), "{name}");
        }
        assert_eq!(ask_kind(web, "db", TYPE::AAAA).unwrap().0, RCODE::NoError);
        let by_tcp = ask_by_tcp(web, &question(9, "db", TYPE::A, None));
        assert_eq!(read(&by_tcp), addresses(&front));
        // By the other network's gateway nobody answers: its sockets are bound to its bridge.
        let other = web.within(|| ask_at("10.144.16.1:53", "db", TYPE::A, Duration::from_millis(500)));
        assert_eq!(other, None);
    });
}

#[test]
fn a_name_is_there_before_its_service_runs_and_goes_with_it() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let _world = upstream("127.0.0.53", "192.0.2.53");
        resolv_conf(&host, &["127.0.0.53"]);
        host.start("web", json!({})).unwrap();
        host.run(|engine, effects| engine.prepare("db", &json!({}), effects)).unwrap();
        assert_eq!(ask(host.container("web"), "db"), addresses(&["10.144.0.3"]));
        host.stop("db");
        assert_eq!(ask(host.container("web"), "db"), addresses(&["192.0.2.53"]), "the world's name by now");
    });
}

#[test]
fn the_world_is_asked_of_the_hosts_servers_also_on_its_loopback() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let first = upstream("127.0.0.53", "192.0.2.53");
        let second = upstream("127.0.0.54", "192.0.2.54");
        resolv_conf(&host, &["127.0.0.53"]);
        host.start("web", json!({})).unwrap();
        let web = host.container("web");
        assert_eq!(ask(web, "example.org"), addresses(&["192.0.2.53"]));
        assert_eq!(ask_kind(web, "example.org", TYPE::AAAA).unwrap().0, RCODE::NameError, "as it came");
        assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (2, 0));
        // Three kilobytes come by TCP.
        let long = question(9, "example.org", TYPE::TXT, None);
        let answer = ask_by_tcp(web, &long);
        assert!(answer.len() > 3000, "{}", answer.len());
        assert_eq!(Packet::parse(&answer).unwrap().answers.len(), 12);
        // The file is followed.
        resolv_conf(&host, &["127.0.0.54"]);
        assert_eq!(ask(web, "example.org"), addresses(&["192.0.2.54"]));
    });
}

#[test]
fn a_server_that_is_silent_costs_little_and_is_asked_last_afterwards() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let silent = UdpSocket::bind("127.0.0.52:53").unwrap();
        let _world = upstream("127.0.0.53", "192.0.2.53");
        resolv_conf(&host, &["127.0.0.52", "127.0.0.53"]);
        host.start("web", json!({})).unwrap();
        let start = Instant::now();
        assert_eq!(ask(host.container("web"), "example.org"), addresses(&["192.0.2.53"]));
        let first = start.elapsed();
        assert!(first >= Duration::from_millis(280) && first < Duration::from_millis(1500), "{first:?}");
        // The race ended before the first one's second was over; a server that is refused is known at once.
        drop(silent);
        assert_eq!(ask(host.container("web"), "example.org"), addresses(&["192.0.2.53"]));
        let start = Instant::now();
        assert_eq!(ask(host.container("web"), "example.org"), addresses(&["192.0.2.53"]));
        assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
    });
}

#[test]
fn a_service_has_servers_of_its_own() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let _hosts = upstream("127.0.0.53", "192.0.2.53");
        let _own = upstream("127.0.0.99", "192.0.2.99");
        resolv_conf(&host, &["127.0.0.53"]);
        host.start("web", json!({ "dns": ["127.0.0.99"] })).unwrap();
        host.start("db", json!({})).unwrap();
        assert_eq!(ask(host.container("web"), "example.org"), addresses(&["192.0.2.99"]));
        assert_eq!(ask(host.container("web"), "db"), addresses(&["10.144.0.3"]), "names first");
        assert_eq!(ask(host.container("db"), "example.org"), addresses(&["192.0.2.53"]));
    });
}

#[test]
fn nobody_outside_is_answered() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        lan.run("ip route add 10.144.0.0/20 via 192.0.2.1");
        // Even where all of our rules are gone.
        run("nft flush ruleset");
        for to in ["10.144.0.1:53", "192.0.2.1:53"] {
            assert_eq!(lan.within(|| ask_at(to, "web", TYPE::A, Duration::from_millis(500))), None, "{to}");
        }
        assert!(
            lan.within(|| TcpStream::connect_timeout(
                &"10.144.0.1:53".parse().unwrap(),
                Duration::from_millis(500)
            ))
            .is_err()
        );
    });
}

#[test]
fn while_a_worker_is_dead_questions_wait_for_the_next() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        host.start("db", json!({})).unwrap();
        assert_eq!(host.keel.keys().filter(|key| key.starts_with("dns/")).count(), 2);
        host.engine = None;
        let socket = host.container("web").within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&question(9, "db", TYPE::A, None), "10.144.0.1:53").unwrap();
        let mut stream = host.container("web").within(|| TcpStream::connect("10.144.0.1:53").unwrap());
        host.crash_and_reopen();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(read(&buffer[..length]), addresses(&["10.144.0.3"]));
        let asked = question(9, "db", TYPE::A, None);
        stream.write_all(&[&(asked.len() as u16).to_be_bytes(), &*asked].concat()).unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        for name in ["web", "db"] {
            host.stop(name);
        }
        assert!(host.keel.is_empty(), "{:?}", host.keel);
    });
}

#[test]
fn a_service_may_publish_port_53_and_names_are_found_all_the_same() {
    on_a_fresh_host(|| {
        let lan = lan();
        let dns = || json!({ "ports": ports(&[("", 53, 53, "udp"), ("", 53, 53, "tcp")]) });
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        host.start("pihole", dns()).unwrap();
        host.container("pihole").serve_udp(53);
        assert_eq!(lan.within(|| crate::world::call_udp("192.0.2.1:53")).as_deref(), Some("192.0.2.2"));
        assert_eq!(ask(host.container("web"), "pihole"), addresses(&["10.144.0.3"]));
        assert_eq!(
            read(&ask_by_tcp(host.container("web"), &question(9, "pihole", TYPE::A, None))),
            addresses(&["10.144.0.3"])
        );
        // The other way round: the port is held first.
        for name in ["web", "pihole"] {
            host.stop(name);
        }
        host.start("pihole", dns()).unwrap();
        host.start("web", json!({})).unwrap();
        assert_eq!(ask(host.container("web"), "pihole").0, RCODE::NoError);
        assert!(UdpSocket::bind("192.0.2.1:53").is_err(), "held, whoever asks for it");
        assert!(TcpListener::bind("10.144.0.1:53").is_err());
    });
}

#[test]
fn a_port_53_that_is_anothers_is_told_and_the_service_runs() {
    on_a_fresh_host(|| {
        let _other = UdpSocket::bind("0.0.0.0:53").unwrap();
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        let told = host.engine().status()["obstacles"][0].as_str().unwrap_or_default().to_owned();
        let begin = "network default: services find no names: 10.144.0.1:53/udp is in use by ";
        assert!(
            told.starts_with(begin) && told.ends_with(&format!("(pid {})", std::process::id())),
            "{told}"
        );
        drop(_other);
        host.start("db", json!({})).unwrap();
        assert_eq!(host.engine().status()["obstacles"], json!([]));
        assert_eq!(ask(host.container("web"), "db").0, RCODE::NoError);
    });
}

#[test]
fn a_network_that_comes_back_at_once_has_its_names() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        // Its answer does not come, so the question keeps a socket for a while.
        let _silent = UdpSocket::bind("127.0.0.52:53").unwrap();
        resolv_conf(&host, &["127.0.0.52"]);
        for _ in 0..3 {
            host.start("web", json!({})).unwrap();
            assert_eq!(ask(host.container("web"), "web").0, RCODE::NoError);
            host.container("web")
                .within(|| ask_at("10.144.0.1:53", "example.org", TYPE::A, Duration::from_millis(20)));
            host.stop("web");
            host.engine().sweep();
        }
    });
}

#[test]
fn one_that_asks_without_end_does_not_keep_others_from_their_answers() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let _silent = UdpSocket::bind("127.0.0.52:53").unwrap();
        resolv_conf(&host, &["127.0.0.52"]);
        host.start("flood", json!({})).unwrap();
        host.start("web", json!({})).unwrap();
        let socket = host.container("flood").within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect("10.144.0.1:53").unwrap();
        for n in 0..2000 {
            let _ = socket.send(&question(9, &format!("n{n}.example.org"), TYPE::A, None));
        }
        let connections: Vec<_> = host
            .container("flood")
            .within(|| (0..200).filter_map(|_| TcpStream::connect("10.144.0.1:53").ok()).collect());
        assert_eq!(ask(host.container("web"), "flood").0, RCODE::NoError);
        // What is one too many is told so at once.
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(read(&buffer[..length]).0, RCODE::ServerFailure);
        assert_eq!(ask_by_tcp(host.container("web"), &question(9, "flood", TYPE::A, None)).len(), 39);
        drop(connections);
    });
}

/// While a service comes and goes all the time: its name leads to it, or nowhere, and every question has an answer.
#[test]
fn while_services_come_and_go_no_answer_is_stale_or_missing() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let _world = upstream("127.0.0.53", "192.0.2.53");
        resolv_conf(&host, &["127.0.0.53"]);
        host.start("web", json!({})).unwrap();
        let socket = host.container("web").within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect("10.144.0.1:53").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let ends = Arc::new(AtomicUsize::new(0));
        let end = Arc::clone(&ends);
        let asking = std::thread::spawn(move || {
            let (mut ours, mut worlds) = (0, 0);
            while end.load(Ordering::SeqCst) == 0 {
                socket.send(&question(9, "db", TYPE::A, None)).unwrap();
                let mut buffer = [0; 512];
                let length = socket.recv(&mut buffer).expect("an answer");
                match read(&buffer[..length]) {
                    found if found == addresses(&["10.144.0.3"]) => ours += 1,
                    found if found == addresses(&["192.0.2.53"]) => worlds += 1,
                    found => panic!("{found:?}"),
                }
            }
            (ours, worlds)
        });
        for n in 0..20 {
            host.run(|engine, effects| engine.prepare("db", &json!({}), effects)).unwrap();
            assert_eq!(ask(host.container("web"), "db"), addresses(&["10.144.0.3"]), "{n}: at once");
            host.stop("db");
            assert_eq!(ask(host.container("web"), "db"), addresses(&["192.0.2.53"]), "{n}: gone at once");
        }
        ends.store(1, Ordering::SeqCst);
        let (ours, worlds) = asking.join().unwrap();
        assert!(ours > 0 && worlds > 0, "{ours} {worlds}");
    });
}

/// `cargo nextest run --release -p sampan-plugin-network how_many --run-ignored all --no-capture`
#[test]
#[ignore = "a measurement"]
fn how_many_questions_are_answered_a_second() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        for n in 0..50 {
            host.start(&format!("s{n}"), json!({})).unwrap();
        }
        let socket = host.container("s0").within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect("10.144.0.1:53").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let (count, rate) = (50_000u32, 10_000u32);
        let receiver = socket.try_clone().unwrap();
        let start = Instant::now();
        let received = std::thread::spawn(move || {
            let (mut at, mut buffer) = (vec![Duration::ZERO; 65_536], [0; 512]);
            let mut received = 0u32;
            while received < count && receiver.recv(&mut buffer).is_ok() {
                at[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))] = start.elapsed();
                received += 1;
            }
            (received, at)
        });
        let mut sent = vec![Duration::ZERO; count as usize];
        for n in 0..count {
            let due = Duration::from_secs(1) * n / rate;
            if start.elapsed() < due {
                std::thread::sleep(due.saturating_sub(start.elapsed()));
            }
            sent[n as usize] = start.elapsed();
            socket.send(&question(n as u16, &format!("s{}", n % 50), TYPE::A, None)).unwrap();
        }
        let (received, at) = received.join().unwrap();
        // What got lost waited for ever.
        let waited =
            |sent: &Duration, at: &Duration| if at.is_zero() { PATIENCE } else { at.saturating_sub(*sent) };
        let mut took: Vec<Duration> = sent.iter().zip(&at).map(|(sent, at)| waited(sent, at)).collect();
        took.sort();
        let of = |share: usize| took[took.len() * share / 1000];
        let busy = cpu_of("network-dns");
        println!(
            "{received} of {count} answered at {rate} a second: median {:?}, p99 {:?}, p99.9 {:?}; {:?} of CPU for each",
            of(500),
            of(990),
            of(999),
            busy / count
        );
        assert!(busy / count < Duration::from_micros(100), "a core is not enough for {rate} a second");
    });
}

/// What a thread of this process has used, in steps of 10 ms.
fn cpu_of(thread: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut its = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    let stat = its.find(|stat| stat.contains(&format!("({thread})"))).unwrap();
    let words: Vec<&str> = stat.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
    Duration::from_millis(10) * (words[11].parse::<u32>().unwrap() + words[12].parse::<u32>().unwrap())
}

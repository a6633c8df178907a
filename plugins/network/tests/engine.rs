//! The engine on a host of its own, with a machine on the LAN beside it: who reaches whom, and what is left afterwards.

use std::net::UdpSocket;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use sampan_testkit::need::need;
use serde_json::json;

use crate::host::{Host, nothing_is_left, ports, web};
use crate::world::{
    Namespace, call, call_udp, forwarding, lan, neighbour, nobody_answers, on_a_fresh_host, run,
};

#[test]
fn a_published_port_answers_the_lan_the_host_and_the_container_itself() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.start("peer", json!({})).unwrap();
        host.container("web").serve_tcp(80);
        // The LAN sees the port, the service sees who calls.
        assert_eq!(lan.call("192.0.2.1:8080").as_deref(), Some("192.0.2.2"));
        // The host, on its address and on loopback (there the gateway is who calls).
        assert_eq!(call("192.0.2.1:8080").as_deref(), Some("192.0.2.1"));
        assert_eq!(call("127.0.0.1:8080").as_deref(), Some("10.144.0.1"));
        // Itself, through the host: out and in by one port of the bridge, with bridge netfilter on where the kernel has it.
        let nf = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        println!("bridge-nf-call-iptables: {:?}", std::fs::read_to_string(nf));
        assert_eq!(host.container("web").call("192.0.2.1:8080").as_deref(), Some("10.144.0.1"));
        // A peer of the same network, through the host and directly.
        assert!(host.container("peer").call("192.0.2.1:8080").is_some());
        assert_eq!(host.container("peer").call("10.144.0.2:80").as_deref(), Some("10.144.0.3"));
        // And the way out is masqueraded.
        lan.serve_tcp(7);
        assert_eq!(host.container("web").call("192.0.2.2:7").as_deref(), Some("192.0.2.1"));
        host.stop("web");
        assert!(nobody_answers("127.0.0.1:8080"));
        host.stop("peer");
        nothing_is_left(&mut host);
    });
}

#[test]
fn what_is_published_on_loopback_is_not_reached_from_outside() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({}));
        let service = json!({ "ports": ports(&[("127.0.0.1", 8080, 80, "tcp")]) });
        host.start("web", service).unwrap();
        host.container("web").serve_tcp(80);
        assert!(call("127.0.0.1:8080").is_some());
        lan.run("ip route add 10.144.0.0/20 via 192.0.2.1");
        lan.run(
            "ip route del local 127.0.0.0/8 table local; ip route add 127.0.0.0/8 via 192.0.2.1; \
                 echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet",
        );
        run("echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet"); // the worst host there is
        assert!(lan.cannot_reach("192.0.2.1:8080"), "by the host's address");
        assert!(lan.cannot_reach("127.0.0.1:8080"), "by loopback, routed to the host");
        assert!(lan.cannot_reach("10.144.0.2:80"), "by the container's address");
        assert!(lan.cannot_reach("10.144.0.1:8080"), "by the gateway's address");
    });
}

#[test]
fn networks_do_not_meet_and_an_internal_one_has_no_way_out() {
    on_a_fresh_host(|| {
        let lan = lan();
        lan.serve_tcp(7);
        let mut host =
            Host::new(json!({ "networks": { "front": {}, "back": {}, "shut": { "internal": true } } }));
        host.start("a", json!({ "networks": ["front"], "ports": ports(&[("", 8080, 80, "tcp")]) })).unwrap();
        host.start("b", json!({ "networks": ["back"] })).unwrap();
        host.start("both", json!({ "networks": ["back", "shut"] })).unwrap();
        host.start("in", json!({ "networks": ["shut"] })).unwrap();
        host.container("a").serve_tcp(80);
        host.container("in").serve_tcp(80);
        let b = host.container("b");
        assert!(b.cannot_reach("10.144.0.2:80"), "directly");
        assert!(b.cannot_reach("192.0.2.1:8080"), "by its published port");
        assert!(b.call("192.0.2.2:7").is_some());
        assert!(host.container("in").cannot_reach("192.0.2.2:7"));
        assert_eq!(host.container("in").run("ip route show default"), "");
        let inner = host.address("in");
        assert!(host.container("both").call(&format!("{inner}:80")).is_some());
        assert!(host.container("both").call("192.0.2.2:7").is_some());
        let said = host
            .start("bad", json!({ "networks": ["shut"], "ports": ports(&[("", 1, 1, "tcp")]) }))
            .unwrap_err();
        assert_eq!(
            said,
            "service bad: port 1/tcp of all addresses cannot be published: all its networks are internal; \
             add one that is not, or publish on 127.0.0.1"
        );
    });
}

#[test]
fn a_network_has_the_gateway_and_range_that_it_is_given_and_services_the_addresses_that_they_ask_for() {
    on_a_fresh_host(|| {
        let front = json!({ "subnet": "10.9.0.0/24", "gateway": "10.9.0.254", "ip_range": "10.9.0.128/25" });
        let mut host =
            Host::new(json!({ "networks": { "front": front, "back": { "subnet": "10.8.0.0/24" } } }));
        let db = json!({ "networks": [{ "name": "front", "ipv4_address": "10.9.0.7" }, "back"] });
        host.start("db", db.clone()).unwrap();
        host.start("web", json!({ "networks": ["front"] })).unwrap();
        assert_eq!((host.address("db").as_str(), host.address("web").as_str()), ("10.9.0.7", "10.9.0.128"));
        let shown = host.container("db").run("ip -o -4 addr; ip route");
        assert!(
            shown.contains("eth0    inet 10.9.0.7/24") && shown.contains("eth1    inet 10.8.0.2/24"),
            "{shown}"
        );
        assert!(shown.contains("default via 10.9.0.254 dev eth0"), "{shown}");
        host.container("db").serve_tcp(80);
        assert_eq!(host.container("web").call("10.9.0.7:80").as_deref(), Some("10.9.0.128"));
        let said = host.start("thief", db).unwrap_err();
        assert_eq!(
            said,
            "service thief: network front (10.9.0.0/24): 10.9.0.7 is held by service db; choose another, or keep such \
             addresses out of ip_range"
        );
        host.crash_and_reopen();
        assert_eq!(host.address("db"), "10.9.0.7");
    });
}

#[test]
fn services_of_an_isolated_network_do_not_see_each_other() {
    on_a_fresh_host(|| {
        let lan = lan();
        lan.serve_tcp(7);
        let mut host = Host::new(json!({ "networks": { "guests": { "isolated": true, "mtu": 1300 } } }));
        for name in ["a", "b"] {
            host.start(name, json!({ "networks": ["guests"] })).unwrap();
            host.container(name).serve_tcp(80);
        }
        let there = format!("{}:80", host.address("b"));
        assert!(host.container("a").cannot_reach(&there));
        assert!(host.container("a").call("192.0.2.2:7").is_some(), "the way out stays");
        assert!(call(&there).is_some(), "and so does the host");
        assert!(host.container("a").run("ip -o link show eth0").contains("mtu 1300"));
        host.crash_and_reopen();
        assert!(host.container("a").cannot_reach(&there));
    });
}

#[test]
fn a_port_that_is_taken_says_by_whom() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        let said = host.start("api", web()).unwrap_err();
        assert_eq!(
            said,
            "service api: port 8080/tcp of all addresses is published by service web already (8080/tcp of all addresses)"
        );
        let _other = std::net::TcpListener::bind("127.0.0.1:9090").unwrap();
        let said = host.start("api", json!({ "ports": ports(&[("", 9090, 80, "tcp")]) })).unwrap_err();
        assert!(said.ends_with(&format!("(pid {})", std::process::id())), "{said}");
        // And a process of the host cannot take ours.
        assert!(std::net::TcpListener::bind("127.0.0.1:8080").is_err());
        host.stop("api");
        host.stop("web");
        nothing_is_left(&mut host);
    });
}

#[test]
fn after_a_crash_everything_is_as_before_and_strays_are_gone() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.start("gone", json!({ "ports": ports(&[("", 9090, 80, "tcp")]) })).unwrap();
        host.container("web").serve_tcp(80);
        let lost = host.containers.remove("gone").unwrap();
        // Half-made things of a process that died at a bad moment.
        run("ip link add vstray type veth peer name vstray2 && ip link set vstray group 7267");
        run("ip link add sp-old type bridge && ip link set sp-old group 7267");
        host.crash_and_reopen();
        host.engine().sweep();
        assert_eq!(call("127.0.0.1:8080").as_deref(), Some("10.144.0.1"));
        let links = run("ip -o link");
        assert!(!links.contains("stray") && !links.contains("sp-old"), "{links}");
        assert_eq!(links.matches(": v").count(), 1, "{links}");
        assert!(!run("nft list ruleset").contains("9090"));
        assert!(std::net::TcpListener::bind("127.0.0.1:9090").is_ok(), "its port is free again");
        assert!(std::net::TcpListener::bind("127.0.0.1:8080").is_err(), "web's is still held");
        drop(lost);
        host.stop("web");
        nothing_is_left(&mut host);
    });
}

#[test]
fn rules_that_were_flushed_are_back_after_the_next_reconcile() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        let before = run("nft list ruleset");
        run("nft flush ruleset && nft add table inet mine");
        host.run(|engine, effects| engine.reconcile(effects)).unwrap();
        let after = run("nft list ruleset");
        assert!(after.contains(&before) && after.contains("table inet mine"), "{after}");
        // A start does not need one: its step is refused, so it writes all.
        run("nft flush ruleset");
        host.start("api", json!({ "ports": ports(&[("", 9090, 80, "tcp")]) })).unwrap();
        let after = run("nft list ruleset");
        assert!(after.contains("8080") && after.contains("9090"), "{after}");
    });
}

#[test]
fn a_bridge_that_somebody_removed_is_made_again_with_its_ports() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.container("web").serve_tcp(80);
        run("ip link del sp-default");
        assert!(nobody_answers("127.0.0.1:8080"));
        host.run(|engine, effects| engine.reconcile(effects)).unwrap();
        assert_eq!(call("127.0.0.1:8080").as_deref(), Some("10.144.0.1"));
    });
}

#[test]
fn a_router_is_left_a_router() {
    on_a_fresh_host(|| {
        run("echo 1 >/proc/sys/net/ipv4/ip_forward");
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        assert_eq!(host.engine().status()["forwarding_for_us_alone"], json!([]));
        host.stop("web");
        assert_eq!(run("cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    });
}

#[test]
fn what_forwards_for_us_alone_is_known_after_a_crash() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.container("web").serve_tcp(80);
        host.crash_and_reopen();
        assert_eq!(host.engine().status()["forwarding_for_us_alone"], json!(["lan0"]));
        assert!(lan.call("192.0.2.1:8080").is_some());
        host.stop("web");
        nothing_is_left(&mut host);
    });
}

#[test]
fn who_made_this_host_a_router_while_nobody_looked_has_one() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.engine = None;
        run("echo 1 >/proc/sys/net/ipv4/ip_forward");
        host.crash_and_reopen();
        assert_eq!(host.engine().status()["forwarding_for_us_alone"], json!([]));
        host.container("web").serve_tcp(80);
        assert!(lan.call("192.0.2.1:8080").is_some());
        host.stop("web");
        let left = forwarding();
        assert!(left.contains(&"all".to_owned()) && left.contains(&"lan0".to_owned()), "{left:?}");
    });
}

#[test]
fn an_interface_that_an_operator_takes_out_of_a_router_stays_out_over_a_crash() {
    on_a_fresh_host(|| {
        let (lan, far) = (lan(), neighbour("far", "198.51.100"));
        far.serve_tcp(7);
        run("echo 1 >/proc/sys/net/ipv4/ip_forward");
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.container("web").serve_tcp(80);
        assert!(lan.call("198.51.100.2:7").is_some());
        for _ in 0..2 {
            run("echo 0 >/proc/sys/net/ipv4/conf/lan0/forwarding");
            host.engine().see_to_forwarding().unwrap();
            host.crash_and_reopen();
            assert_eq!(host.engine().status()["forwarding_for_us_alone"], json!(["lan0"]));
            assert!(lan.cannot_reach("198.51.100.2:7"));
            assert!(lan.call("192.0.2.1:8080").is_some());
            // Whoever wants a router again, of all interfaces, says so by both.
            run("echo 0 >/proc/sys/net/ipv4/ip_forward");
            host.engine().see_to_forwarding().unwrap();
            run("echo 1 >/proc/sys/net/ipv4/ip_forward");
            host.engine().see_to_forwarding().unwrap();
            assert_eq!(host.engine().status()["forwarding_for_us_alone"], json!([]));
            assert!(lan.call("198.51.100.2:7").is_some());
        }
        host.stop("web");
        host.engine().sweep();
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn a_subnet_that_config_changes_waits_for_those_who_use_it() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({ "networks": { "default": { "subnet": "10.1.0.0/24" } } }));
        host.start("a", json!({})).unwrap();
        host.start("b", json!({})).unwrap();
        host.config = json!({ "networks": { "default": { "subnet": "10.2.0.0/24" } } });
        host.crash_and_reopen();
        assert_eq!(host.address("a"), "10.1.0.2");
        host.stop("a");
        assert_eq!(host.start("a", json!({})).unwrap_err(), "network default: has 10.1.0.0/24 until b stop");
        host.stop("b");
        host.start("a", json!({})).unwrap();
        assert_eq!(host.address("a"), "10.2.0.2");
        host.start("b", json!({})).unwrap();
        let gateways = run("ip -o -4 addr show sp-default");
        assert!(gateways.contains("10.2.0.1/24") && !gateways.contains("10.1.0.1"), "{gateways}");
    });
}

#[test]
fn a_new_subnet_that_the_disk_refused_is_written_by_the_next_start() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({ "networks": { "default": { "subnet": "10.1.0.0/24" } } }));
        host.start("web", web()).unwrap();
        host.stop("web");
        host.config = json!({ "networks": { "default": { "subnet": "10.2.0.0/24" } } });
        host.crash_and_reopen();
        // Nothing of it gets to the disk.
        host.engine().prepare("web", &web(), &mut Vec::new()).unwrap();
        host.start("web", web()).unwrap();
        host.container("web").serve_tcp(80);
        host.crash_and_reopen();
        assert_eq!(host.address("web"), "10.2.0.2");
        assert!(call("127.0.0.1:8080").is_some());
    });
}

#[test]
fn a_restart_in_the_same_namespace_changes_nothing_and_in_a_new_one_keeps_the_address() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        let (link, address) = (host.container("web").run("ip -o link show eth0"), host.address("web"));
        let written = host.kv.clone();
        host.run(|engine, effects| engine.prepare("web", &web(), effects)).unwrap();
        host.attach("web").unwrap();
        assert_eq!(host.kv, written);
        assert_eq!(host.container("web").run("ip -o link show eth0"), link);
        // The old namespace is still there when the new one is attached.
        let old = host.containers.insert("web".into(), Namespace::new());
        host.attach("web").unwrap();
        host.container("web").serve_tcp(80);
        assert_eq!(host.address("web"), address);
        assert!(call("127.0.0.1:8080").is_some());
        host.engine().sweep();
        assert!(!old.unwrap().run("ip -o link").contains("eth0"));
        let mac = |link: &str| link.split("link/ether ").nth(1).map(|m| m[..17].to_owned());
        assert_eq!(mac(&host.container("web").run("ip -o link show eth0")), mac(&link));
        // Released and prepared again, in a namespace that lives on.
        host.run(|engine, effects| {
            engine.release("web", effects);
            Ok(())
        })
        .unwrap();
        host.run(|engine, effects| engine.prepare("web", &web(), effects)).unwrap();
        host.attach("web").unwrap();
        host.engine().sweep();
        assert!(call("127.0.0.1:8080").is_some());
        // Stopped and started, with others in between.
        host.stop("web");
        host.start("other", json!({})).unwrap();
        host.start("web", web()).unwrap();
        assert_eq!(host.address("web"), address);
    });
}

/// Each request about a link takes the kernel's one lock for all links, so the ends of many services ask for nothing one by one.
#[test]
fn what_a_release_leaves_is_marked_in_one_batch_and_before_the_next_attachment() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let in_group = |group: u32| run(&format!("ip -o link show group {group}")).matches(": v").count();
        let marked = |host: &mut Host, names: [&str; 2]| {
            // Their namespaces live on, so the kernel takes nothing away by itself.
            let old = names.map(|name| host.containers.remove(name).unwrap());
            names.into_iter().for_each(|name| host.stop(name));
            assert_eq!(in_group(7268), 0);
            old
        };
        for name in ["a", "b", "c", "d"] {
            host.start(name, json!({})).unwrap();
        }
        let first = marked(&mut host, ["a", "b"]);
        host.start("e", json!({})).unwrap();
        assert_eq!([in_group(7267), in_group(7268)], [3, 2]);
        host.engine().sweep();
        assert_eq!([in_group(7267), in_group(7268)], [3, 0]);
        // Killed between a release and the batch.
        let second = marked(&mut host, ["c", "d"]);
        assert_eq!(in_group(7267), 3);
        host.crash_and_reopen();
        assert_eq!([in_group(7267), in_group(7268)], [1, 2]);
        host.stop("e");
        nothing_is_left(&mut host);
        drop((first, second));
    });
}

#[test]
fn another_target_behind_the_same_port_is_the_same_held_port() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.container("web").serve_tcp(81);
        let other = json!({ "ports": ports(&[("", 8080, 81, "tcp")]) });
        host.run(|engine, effects| engine.prepare("web", &other, effects)).unwrap();
        host.attach("web").unwrap();
        assert!(call("127.0.0.1:8080").is_some());
        assert_eq!(host.ports_held(), 1);
    });
}

#[test]
fn udp_flows_do_not_stick_to_an_address_that_is_gone() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({ "networks": { "default": { "subnet": "10.9.0.0/29" } } }));
        let dns = json!({ "ports": ports(&[("", 5353, 53, "udp")]) });
        host.start("dns", dns.clone()).unwrap();
        host.container("dns").serve_udp(53);
        lan.within(|| {
            let socket = std::net::UdpSocket::bind("192.0.2.2:4444").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let ask = || {
                socket.send_to(b"?", "192.0.2.1:5353").unwrap();
                socket.recv(&mut [0; 64]).is_ok()
            };
            assert!(ask());
        });
        host.stop("dns");
        // Its address goes to others: all that are free are taken.
        for i in 0..5 {
            host.start(&format!("s{i}"), json!({})).unwrap();
        }
        host.stop("s0");
        host.start("dns", dns).unwrap();
        host.container("dns").serve_udp(53);
        let answered = lan.within(|| {
            let socket = std::net::UdpSocket::bind("192.0.2.2:4444").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send_to(b"?", "192.0.2.1:5353").unwrap();
            socket.recv(&mut [0; 64]).is_ok()
        });
        assert!(answered, "{}", host.engine().status());
        assert!(call_udp("127.0.0.1:5353").is_some());
    });
}

#[test]
fn a_udp_flow_that_lives_is_none_of_those_that_stick() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({}));
        host.start("dns", json!({ "ports": ports(&[("", 5353, 53, "udp")]) })).unwrap();
        let server = host.container("dns").within(|| udp("0.0.0.0:53"));
        let client = lan.within(|| udp("192.0.2.2:4444"));
        client.send_to(b"?", "192.0.2.1:5353").unwrap();
        let (_, who) = server.recv_from(&mut [0; 64]).unwrap();
        host.attach("dns").unwrap();
        server.send_to(b"!", who).unwrap();
        let (_, from) = client.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from.to_string(), "192.0.2.1:5353", "the answer comes from where the question went");
    });
}

/// A server speaks first, and so its port of the host leads to it, without a rule of ours.
#[test]
fn nor_does_one_that_the_service_began_itself() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({ "networks": { "default": { "subnet": "10.9.0.0/29" } } }));
        let dns = json!({ "ports": ports(&[("", 53, 53, "udp")]) });
        host.start("dns", dns.clone()).unwrap();
        let (first, client) = (host.address("dns"), lan.within(|| udp("192.0.2.2:4444")));
        let server = host.container("dns").within(|| udp("0.0.0.0:53"));
        server.send_to(b"news", "192.0.2.2:4444").unwrap();
        let (_, from) = client.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from.to_string(), "192.0.2.1:53");
        drop(server);
        host.stop("dns");
        for i in 0..5 {
            host.start(&format!("s{i}"), json!({})).unwrap();
        }
        let other = if host.address("s0") == first { "s1" } else { "s0" };
        host.stop(other);
        host.start("dns", dns).unwrap();
        assert_ne!(host.address("dns"), first);
        let server = host.container("dns").within(|| udp("0.0.0.0:53"));
        client.send_to(b"?", "192.0.2.1:53").unwrap();
        assert_eq!(server.recv(&mut [0; 64]).unwrap(), 1);
    });
}

/// What its old address has sent last begins a flow of its own, and the client's next question would follow it there.
#[test]
fn nor_does_one_that_an_answer_from_an_old_address_began() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({ "networks": { "default": { "subnet": "10.9.0.0/24" } } }));
        let dns = json!({ "ports": ports(&[("", 53, 53, "udp")]) });
        host.start("dns", dns.clone()).unwrap();
        let client = lan.within(|| udp("192.0.2.2:4444"));
        let old = host.container("dns").within(|| udp("0.0.0.0:53"));
        old.send_to(b"late", "192.0.2.2:4444").unwrap();
        client.recv(&mut [0; 64]).unwrap();
        // The record of it is lost, so nobody hears that it goes.
        host.engine = None;
        host.kv.remove("service/dns");
        host.keel.retain(|key, _| !key.starts_with("port/"));
        host.containers.remove("dns");
        host.crash_and_reopen();
        host.start("other", json!({})).unwrap();
        host.start("dns", dns).unwrap();
        assert_eq!((host.address("other").as_str(), host.address("dns").as_str()), ("10.9.0.2", "10.9.0.3"));
        let server = host.container("dns").within(|| udp("0.0.0.0:53"));
        client.send_to(b"?", "192.0.2.1:53").unwrap();
        assert_eq!(server.recv(&mut [0; 64]).unwrap(), 1);
    });
}

/// The kernel keeps a connection that was cut for a while, and with it where its port of the host leads.
#[test]
fn flows_of_a_service_that_is_gone_are_forgotten_tcp_too() {
    on_a_fresh_host(|| {
        let lan = lan();
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.container("web").serve_tcp(80);
        assert!(lan.call("192.0.2.1:8080").is_some());
        lan.serve_tcp(7);
        assert!(host.container("web").call("192.0.2.2:7").is_some());
        let tracked = || run("cat /proc/net/nf_conntrack 2>/dev/null || true").matches("10.144.0.2").count();
        let has_list = std::path::Path::new("/proc/self/net/nf_conntrack").exists();
        if !need("/proc/net/nf_conntrack", has_list) {
            return;
        }
        assert!(tracked() > 0);
        host.stop("web");
        assert_eq!(tracked(), 0);
    });
}

fn udp(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

#[test]
fn an_mtu_of_the_default_route_reaches_the_container() {
    on_a_fresh_host(|| {
        let _lan = lan();
        run("ip link set lan0 mtu 1400 && ip route add default via 192.0.2.2");
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        assert!(host.container("web").run("ip -o link show eth0").contains("mtu 1400"));
        let veths = run("ip -o link show type veth");
        assert_eq!(veths.matches("mtu 1400").count(), 2, "{veths}");
    });
}

/// Any user may take any name in the abstract namespace, and so may a service on the host's network.
#[test]
fn who_takes_our_name_for_a_socket_keeps_no_service_from_its_network() {
    on_a_fresh_host(|| {
        let name = SocketAddr::from_abstract_name("sampan/network").unwrap();
        let _held = UnixListener::bind_addr(&name).unwrap();
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.stop("web");
        nothing_is_left(&mut host);
    });
}

#[test]
fn a_second_sampand_is_told_who_was_first() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        let said = Host::new(json!({})).start("web", web()).unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            said,
            format!(
                "another sampand (pid {pid}) manages bridge networks here; stop it, or use network_mode \"host\" or \"none\""
            )
        );
    });
}

#[test]
fn a_network_is_refused_where_the_host_is_already() {
    on_a_fresh_host(|| {
        let _lan = lan();
        let mut host = Host::new(
            json!({ "networks": { "front": { "subnet": "192.0.2.128/25" }, "next": { "driver": "macvlan" } } }),
        );
        let said = host.start("web", json!({ "networks": ["front"] })).unwrap_err();
        assert_eq!(
            said,
            "networks.front.subnet: 192.0.2.128/25 overlaps 192.0.2.0/24, which this host routes or has an address in; \
             choose another"
        );
        let said = host.start("web", json!({ "networks": ["nowhere"] })).unwrap_err();
        assert_eq!(said, "service web: there is no network nowhere; add [networks.nowhere]");
        let said = host.start("web", json!({ "networks": ["next"] })).unwrap_err();
        assert_eq!(said, "networks.next.driver: only \"bridge\" is built in this version");
        nothing_is_left(&mut host);
    });
}

#[test]
fn five_hundred_attachments_with_crashes_leave_nothing() {
    on_a_fresh_host(|| {
        let mut host = Host::new(json!({}));
        let mut seed = 7u32;
        let mut random = |n: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % n
        };
        let mut times = Vec::new();
        for i in 0..500 {
            let name = format!("s{}", random(20));
            let port = 10_000 + name[1..].parse::<u16>().unwrap();
            let service = json!({ "ports": ports(&[("", port, 80, "tcp")]) });
            if host.containers.contains_key(&name) {
                host.stop(&name);
            } else if random(10) == 0 {
                // Dies between create and attach.
                host.run(|engine, effects| engine.prepare(&name, &service, effects)).unwrap();
                host.crash_and_reopen();
            } else {
                let start = Instant::now();
                host.start(&name, service).unwrap();
                times.push(start.elapsed());
            }
            if random(25) == 0 {
                host.crash_and_reopen();
            }
            if i % 50 == 0 {
                host.engine().sweep();
            }
        }
        let live = host.containers.len();
        host.engine().sweep();
        std::thread::sleep(Duration::from_millis(200)); // the kernel takes dead namespaces apart
        assert_eq!(run("ip -o link").matches(": v").count(), live);
        assert_eq!(run("nft list map inet sampan published").matches("tcp .").count(), live);
        assert_eq!(host.ports_held(), live);
        times.sort();
        println!(
            "create and attach: median {:?}, worst {:?}",
            times[times.len() / 2],
            times[times.len() - 1]
        );
        let names: Vec<String> = host.containers.keys().cloned().collect();
        names.iter().for_each(|name| host.stop(name));
        nothing_is_left(&mut host);
    });
}

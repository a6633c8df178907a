//! IPv6 of networks: among services, out of the host, in by published ports, and what is left as it was.

use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::thread;

use sampan_testkit::need::need;
use serde_json::json;

use crate::host::{Host, nothing_is_left, ports, web};
use crate::world::{Namespace, call, neighbour, nobody_answers, on_a_fresh_host, run};

/// Runs `test` where the kernel forwards by single interfaces.
fn where_each_forwards(test: impl FnOnce() + Send + 'static) {
    let setting = "/proc/sys/net/ipv6/conf/lo/force_forwarding";
    if need("Linux 6.17, for force_forwarding", std::path::Path::new(setting).exists()) {
        on_a_host_with_ipv6(test);
    }
}

fn on_a_host_with_ipv6(test: impl FnOnce() + Send + 'static) {
    if need("IPv6", std::path::Path::new("/proc/sys/net/ipv6").exists()) {
        on_a_fresh_host(|| {
            run(
                "echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 >/proc/sys/net/ipv6/conf/default/disable_ipv6",
            );
            run("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding; ip link set lo down; ip link set lo up");
            test();
        });
    }
}

/// A machine at 2001:db8:N::2, the host being 2001:db8:N::1 there.
fn lan6(name: &str, n: u8) -> Namespace {
    let lan = neighbour(name, &format!("192.0.{n}"));
    run(&format!("ip -6 addr add 2001:db8:{n}::1/64 dev {name}0 nodad"));
    lan.run(&format!(
        "ip -6 addr add 2001:db8:{n}::2/64 dev {name}1 nodad && ip -6 route add default via 2001:db8:{n}::1"
    ));
    lan
}

/// Answers each connection with who is calling.
fn serve(at: &Namespace, port: u16) {
    let listener = at.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            use std::io::Write;
            let who = stream.peer_addr().map(|a| a.ip().to_canonical().to_string()).unwrap_or_default();
            let _ = (&stream).write_all(who.as_bytes());
        }
    });
}

fn address6(host: &mut Host, name: &str) -> String {
    host.engine().status()["services"][name]["networks"][0]["ipv6_address"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn setting(name: &str) -> String {
    run(&format!("cat /proc/sys/net/ipv6/conf/{name}")).trim().to_owned()
}

#[test]
fn services_reach_each_other_and_take_no_route_from_one_another() {
    on_a_host_with_ipv6(|| {
        let mut host = Host::new(
            json!({ "networks": { "front": {}, "back": { "internal": true }, "old": { "ipv6": false } } }),
        );
        for name in ["web", "db"] {
            host.start(name, json!({ "networks": ["front"] })).unwrap();
        }
        let (web, db) = (address6(&mut host, "web"), address6(&mut host, "db"));
        assert!(web.starts_with("fd") && web.ends_with(":a90:2"), "{web}");
        serve(host.container("db"), 80);
        assert_eq!(host.container("web").call(&format!("[{db}]:80")), Some(web.clone()));
        for setting in ["accept_ra", "accept_dad"] {
            let path = format!("/proc/sys/net/ipv6/conf/eth0/{setting}");
            assert_eq!(host.container("web").run(&format!("cat {path}")), "0\n", "{setting}");
        }
        let own = host.container("web").run("ip -6 addr show dev eth0");
        assert!(
            own.contains("fe80:") && !own.contains("tentative"),
            "nobody is asked whether he has it: {own}"
        );
        host.start("in", json!({ "networks": ["back"] })).unwrap();
        assert_eq!(host.container("in").run("ip -6 route show default"), "");
        let inside = address6(&mut host, "in");
        serve(host.container("in"), 80);
        assert!(host.container("web").cannot_reach(&format!("[{inside}]:80")), "networks do not meet");
        host.start("plain", json!({ "networks": ["old"] })).unwrap();
        assert_eq!(address6(&mut host, "plain"), "");
        assert!(!host.container("plain").run("ip -6 addr show eth0").contains("fd"));
        // As after kill -9 of the worker.
        host.crash_and_reopen();
        assert_eq!(address6(&mut host, "web"), web);
        assert!(host.container("web").call(&format!("[{db}]:80")).is_some());
    });
}

#[test]
fn the_way_out_is_masqueraded_and_nobody_comes_in_but_by_published_ports() {
    where_each_forwards(|| {
        let lan = lan6("lan", 2);
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.start("peer", json!({})).unwrap();
        serve(host.container("web"), 80);
        serve(&lan, 7);
        assert_eq!(host.container("peer").call("[2001:db8:2::2]:7").as_deref(), Some("2001:db8:2::1"));
        assert_eq!(
            lan.call("[2001:db8:2::1]:8080").as_deref(),
            Some("2001:db8:2::2"),
            "and who calls is seen"
        );
        assert!(call("[2001:db8:2::1]:8080").is_some(), "the host itself");
        assert!(host.container("peer").call("[2001:db8:2::1]:8080").is_some());
        assert!(host.container("web").call("[2001:db8:2::1]:8080").is_some(), "its own port");
        assert_eq!(lan.call("192.0.2.1:8080").as_deref(), Some("192.0.2.2"));
        let web = address6(&mut host, "web");
        lan.run(&format!("ip -6 route add {web} via 2001:db8:2::1"));
        assert!(lan.cannot_reach(&format!("[{web}]:80")), "by the container's address");
        host.crash_and_reopen();
        assert!(lan.call("[2001:db8:2::1]:8080").is_some());
        host.stop("web");
        assert!(nobody_answers("[2001:db8:2::1]:8080"));
        host.stop("peer");
        nothing_is_left(&mut host);
        assert_eq!(setting("lan0/force_forwarding"), "0");
    });
}

#[test]
fn a_host_that_is_no_router_becomes_none_and_goes_on_taking_its_route_from_advertisements() {
    where_each_forwards(|| {
        let (lan, far) = (lan6("lan", 2), lan6("far", 3));
        serve(&far, 7);
        let before = setting("lan0/accept_ra");
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        serve(host.container("web"), 80);
        assert!(lan.call("[2001:db8:2::1]:8080").is_some());
        assert_eq!((setting("all/forwarding"), setting("lan0/forwarding")), ("0".into(), "0".into()));
        assert_eq!(setting("lan0/accept_ra"), before);
        assert!(lan.cannot_reach("[2001:db8:3::2]:7"), "through the host");
        host.crash_and_reopen();
        assert!(lan.cannot_reach("[2001:db8:3::2]:7"));
        // Whoever wants a router has one.
        run("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
        host.engine().see_to_forwarding().unwrap();
        assert!(lan.call("[2001:db8:3::2]:7").is_some());
        assert!(lan.call("[2001:db8:2::1]:8080").is_some());
        host.stop("web");
        host.engine().sweep();
        assert_eq!(setting("all/forwarding"), "1");
        assert!(lan.call("[2001:db8:3::2]:7").is_some());
    });
}

#[test]
fn a_host_without_ipv6_has_networks_of_ipv4() {
    on_a_host_with_ipv6(|| {
        run(
            "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6",
        );
        let mut host = Host::new(json!({}));
        host.start("web", web()).unwrap();
        host.container("web").serve_tcp(80);
        assert!(call("127.0.0.1:8080").is_some());
        assert_eq!(address6(&mut host, "web"), "");
        let at = json!({ "networks": [{ "name": "default", "ipv6_address": "fd00::7" }] });
        assert_eq!(
            host.start("six", at).unwrap_err(),
            "service six: network default has no IPv6 for fd00::7"
        );
        let port = json!({ "ports": ports(&[("2001:db8::1", 80, 80, "tcp")]) });
        let said = host.start("six", port).unwrap_err();
        assert_eq!(
            said,
            "service six: port 80/tcp of 2001:db8::1 cannot be published: network default has no IPv6"
        );
    });
}

#[test]
fn an_address_that_is_asked_for_is_within_its_network_and_nobody_elses() {
    on_a_host_with_ipv6(|| {
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        let web: Ipv6Addr = address6(&mut host, "web").parse().unwrap();
        let prefix = u128::from(web) >> 64 << 64;
        let at = |last: u128| json!({ "networks": [{ "name": "default", "ipv6_address": Ipv6Addr::from(prefix | last) }] });
        host.start("db", at(7)).unwrap();
        assert_eq!(address6(&mut host, "db").parse::<Ipv6Addr>().unwrap(), Ipv6Addr::from(prefix | 7));
        assert!(host.container("db").run("ip -6 addr show eth0").contains(&address6(&mut host, "db")));
        let mut said = |name: &str, table| host.start(name, table).unwrap_err();
        assert!(said("a", at(7)).ends_with("is held by service db"));
        assert!(said("b", at(u128::from(web) & 0xffff_ffff)).ends_with("is held by service web"));
        assert!(
            said("c", at(u128::from(u32::from_be_bytes([10, 144, 0, 1]))))
                .ends_with("is the gateway of network default")
        );
        let far = json!({ "networks": [{ "name": "default", "ipv6_address": "2001:db8::7" }] });
        assert!(said("d", far).starts_with("service d: 2001:db8::7 is no address of network default (fd"));
        let loopback = json!({ "ports": ports(&[("::1", 80, 80, "tcp")]) });
        assert!(said("e", loopback).contains("the kernel redirects nothing from there"));
    });
}

#[test]
fn names_lead_to_both_addresses() {
    on_a_host_with_ipv6(|| {
        use simple_dns::TYPE;
        let mut host = Host::new(json!({}));
        host.start("web", json!({})).unwrap();
        host.start("db", json!({})).unwrap();
        let db: IpAddr = address6(&mut host, "db").parse().unwrap();
        let found = crate::names::ask_kind(host.container("web"), "db", TYPE::AAAA).unwrap();
        assert_eq!(found.1, [db]);
        let found = crate::names::ask_kind(host.container("web"), "db", TYPE::A).unwrap();
        assert_eq!(found.1, ["10.144.0.3".parse::<IpAddr>().unwrap()]);
    });
}

//! Forwarding: turned on for our networks alone, left to whoever else wants it, and as it was when we end.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use network::Network;
use sampan_plugin::testing::Rig;
use serde_json::json;

use crate::plugin::{attach, create, detach, web};
use crate::world::{Namespace, forwarding, lan, neighbour, on_a_fresh_host, run, soon};

/// Of a thread that sleeps until the kernel tells it.
const SOON: Duration = Duration::from_secs(5);

/// `web` is reached on 8080 and runs until the last `detach`.
fn started() -> (Rig, Namespace) {
    let rig = Rig::new::<Network>(json!({})).unwrap();
    rig.synchronize().unwrap();
    create(&rig, "web", web()).unwrap();
    let ns = Namespace::new();
    attach(&rig, "web", &ns).unwrap();
    ns.serve_tcp(80);
    (rig, ns)
}

/// A machine at 198.51.100.2, behind this host as the LAN sees it, that answers on port 7.
fn far() -> Namespace {
    let far = neighbour("far", "198.51.100");
    far.serve_tcp(7);
    far
}

/// Once our bridge has been swept away.
fn is_left(forwarding_ones: &[&str]) {
    soon("what others do not want is off", SOON, || forwarding() == forwarding_ones);
}

fn ip_forward() -> String {
    run("cat /proc/sys/net/ipv4/ip_forward").trim().to_owned()
}

#[test]
fn a_host_that_is_no_router_forwards_for_our_networks_alone_and_looks_like_none() {
    on_a_fresh_host(|| {
        let (lan, _far) = (lan(), far());
        let (rig, web) = started();
        assert!(lan.call("192.0.2.1:8080").is_some());
        assert!(web.call("198.51.100.2:7").is_some());
        assert!(lan.cannot_reach("198.51.100.2:7"));
        // Whoever needs a router looks here, and would take ours for his own.
        assert_eq!(ip_forward(), "0");
        detach(&rig, "web", true);
        is_left(&[]);
    });
}

#[test]
fn who_makes_this_host_a_router_while_we_are_there_has_one_and_keeps_it() {
    on_a_fresh_host(|| {
        let (lan, _far) = (lan(), far());
        let (rig, _web) = started();
        run("echo 1 >/proc/sys/net/ipv4/ip_forward");
        soon("foreign traffic passes", SOON, || !lan.cannot_reach("198.51.100.2:7"));
        assert!(lan.call("192.0.2.1:8080").is_some());
        detach(&rig, "web", true);
        assert!(lan.call("198.51.100.2:7").is_some());
        assert_eq!(ip_forward(), "1");
    });
}

#[test]
fn who_makes_it_none_again_keeps_nobody_from_our_ports() {
    on_a_fresh_host(|| {
        let (lan, _far) = (lan(), far());
        run("echo 1 >/proc/sys/net/ipv4/ip_forward");
        let (rig, _web) = started();
        assert!(lan.call("198.51.100.2:7").is_some());
        run("echo 0 >/proc/sys/net/ipv4/ip_forward");
        soon("our port answers", SOON, || !lan.cannot_reach("192.0.2.1:8080"));
        assert!(lan.cannot_reach("198.51.100.2:7"));
        assert_eq!(ip_forward(), "0");
        detach(&rig, "web", true);
        is_left(&[]);
    });
}

#[test]
fn an_interface_that_comes_later_is_one_of_which_ports_are_reached() {
    on_a_fresh_host(|| {
        let _far = far();
        let (rig, _web) = started();
        let lan = lan();
        soon("our port answers", SOON, || !lan.cannot_reach("192.0.2.1:8080"));
        assert!(lan.cannot_reach("198.51.100.2:7"));
        run("ip link set lan0 down && ip link set lan0 name wan0 && ip link set wan0 up");
        soon("also by its new name", SOON, || !lan.cannot_reach("192.0.2.1:8080"));
        detach(&rig, "web", true);
        is_left(&[]);
    });
}

#[test]
fn an_interface_that_forwarded_before_us_goes_on() {
    on_a_fresh_host(|| {
        let (lan, far) = (lan(), far());
        lan.serve_tcp(7);
        run("echo 1 >/proc/sys/net/ipv4/conf/lan0/forwarding");
        run("echo 1 >/proc/sys/net/ipv4/conf/far0/forwarding");
        assert!(lan.call("198.51.100.2:7").is_some());
        run("echo 0 >/proc/sys/net/ipv4/conf/far0/forwarding");
        let (rig, web) = started();
        // From the LAN as before; the other way a connection needs what only we turned on.
        assert!(web.call("198.51.100.2:7").is_some());
        assert!(far.cannot_reach("192.0.2.2:7"));
        detach(&rig, "web", true);
        is_left(&["lan0"]);
    });
}

/// While another owns our table nothing can be written there; when it ends, its table goes without a word.
#[test]
fn rules_and_forwarding_that_could_not_be_written_are_written_later() {
    on_a_fresh_host(|| {
        let lan = lan();
        let (rig, _web) = started();
        assert!(lan.call("192.0.2.1:8080").is_some());
        let mut owner =
            Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stdin = owner.stdin.as_mut().unwrap();
        writeln!(stdin, "delete table inet sampan; add table inet sampan {{ flags owner; }}").unwrap();
        let failed =
            |what: &str| rig.logs().iter().any(|line| line.level == 1 && line.message.starts_with(what));
        soon("rules that cannot be written", SOON, || {
            failed("rules: taken away by another program, and cannot")
        });
        run("echo 0 >/proc/sys/net/ipv4/conf/lan0/forwarding");
        soon("forwarding that cannot be seen to", SOON, || {
            failed("forwarding was changed by another program, and")
        });
        owner.kill().unwrap();
        owner.wait().unwrap();
        soon("our port answers", SOON, || !lan.cannot_reach("192.0.2.1:8080"));
        let errors = rig.logs().iter().filter(|line| line.level == 1).count();
        assert_eq!(errors, 2, "each is told once: {:?}", rig.logs());
    });
}

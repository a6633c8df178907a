//! Bridges and veth pairs, without rules.

use std::net::SocketAddrV6;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use network::addresses::Mac;
use network::bridge::{self, Attachment, Bridge};
use network::link::{self, DOOMED, GROUP};
use network::netlink::{Family, Socket};
use network::routes;
use sampan_testkit::need::need;

use crate::world::{Namespace, on_a_fresh_host, run};

fn front() -> Bridge {
    Bridge {
        network: "front".into(),
        name: bridge::bridge_name("front"),
        mac: Mac::of(&["test", "front"]),
        subnet: "10.144.0.0/20".parse().unwrap(),
        gateway: "10.144.0.1".parse().unwrap(),
        gateway6: None,
        mtu: 1400,
        forwards: true,
    }
}

fn web(address: &str) -> Attachment {
    Attachment {
        service: "web".into(),
        network: "front".into(),
        interface: "eth0".into(),
        bridge: "sp-front".into(),
        mac: Mac::of(&["test", "web", address]),
        address: address.parse().unwrap(),
        prefix: 20,
        gateway: Some("10.144.0.1".parse().unwrap()),
        address6: None,
        gateway6: None,
        mtu: 1400,
        isolated: false,
    }
}

fn attach(host: &mut Socket, ns: &Namespace, bridge: u32, a: &Attachment) -> String {
    let (inside, veth) =
        Socket::open_in(ns.fd(), Family::Route, || bridge::connect(host, ns.fd(), ns.id(), bridge, a));
    bridge::configure(&mut inside.unwrap(), a).unwrap();
    veth.unwrap()
}

#[test]
fn the_host_takes_no_route_from_a_container_that_says_it_is_a_router() {
    if !need("IPv6", Path::new("/proc/sys/net/ipv6").exists()) {
        return;
    }
    on_a_fresh_host(|| {
        // As on a host that takes its own routes from the LAN.
        run("echo 1 > /proc/sys/net/ipv6/conf/default/accept_ra");
        let mut host = Socket::open(Family::Route).unwrap();
        let index = bridge::ensure_bridge(&mut host, &front()).unwrap();
        let container = Namespace::new();
        attach(&mut host, &container, index, &web("10.144.0.2"));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            container.within(advertise_a_router);
            let routes = run("ip -6 route show default");
            assert_eq!(routes, "", "the host's traffic goes to the container");
            std::thread::sleep(Duration::from_millis(200));
        }
    });
}

/// A router advertisement (RFC 4861, section 4.2) to all on the link; fails as long as the address is not ready.
fn advertise_a_router() {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt, socket,
        sockopt,
    };
    let socket =
        socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6).unwrap();
    // Any other would be from beyond the link.
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).unwrap();
    // Type 134; the kernel fills in the checksum; a lifetime of 1,800 s.
    let advertisement = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let interface = nix::net::if_::if_nametoindex("eth0").unwrap();
    let all = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, interface);
    let _ = sendto(socket.as_raw_fd(), &advertisement, &SockaddrIn6::from(all), MsgFlags::empty());
}

#[test]
fn two_containers_on_a_bridge_reach_each_other_and_the_gateway() {
    on_a_fresh_host(|| {
        let mut host = Socket::open(Family::Route).unwrap();
        let index = bridge::ensure_bridge(&mut host, &front()).unwrap();
        let (a, b) = (Namespace::new(), Namespace::new());
        for (ns, address) in [(&a, "10.144.0.2"), (&b, "10.144.0.3")] {
            attach(&mut host, ns, index, &web(address));
        }
        b.serve_tcp(80);
        assert_eq!(a.call("10.144.0.3:80").as_deref(), Some("10.144.0.2"));
        assert_eq!(crate::world::call("10.144.0.3:80").as_deref(), Some("10.144.0.1"));
        assert!(a.run("ip -o link show eth0").contains("mtu 1400"));
        assert!(a.run("ip route").starts_with("default via 10.144.0.1 dev eth0"));
        assert!(a.run("ip -o link show lo").contains("UP"));
        let ports = run("ip -d -o link show master sp-front");
        assert_eq!(ports.matches("hairpin on").count(), 2, "{ports}");
    });
}

/// Else each container that comes would have the guard look at all there are.
#[test]
fn a_containers_end_is_known_before_it_has_its_alias() {
    on_a_fresh_host(|| {
        run(&format!("ip link add new group {GROUP} type veth peer name other"));
        let mut host = Socket::open(Family::Route).unwrap();
        bridge::ensure_bridge(&mut host, &front()).unwrap();
        let is_end = |host: &mut Socket, name| link::link(host, name).unwrap().unwrap().is_end_of_ours();
        assert!(is_end(&mut host, "new"));
        assert!(!is_end(&mut host, "other"), "somebody else's");
        assert!(!is_end(&mut host, "sp-front"), "a bridge has to forward");
    });
}

/// Each address there is a group that is reported, and a search for a duplicate, for every container.
#[test]
fn the_hosts_end_has_no_address_of_its_own() {
    if !need("IPv6", Path::new("/proc/sys/net/ipv6").exists()) {
        return;
    }
    on_a_fresh_host(|| {
        let mut host = Socket::open(Family::Route).unwrap();
        let index = bridge::ensure_bridge(&mut host, &front()).unwrap();
        let ns = Namespace::new();
        let veth = attach(&mut host, &ns, index, &web("10.144.0.2"));
        let has_one = |shown: &str| shown.contains("fe80:");
        let begin = Instant::now();
        while !has_one(&ns.run("ip -6 addr show dev eth0")) {
            assert!(begin.elapsed() < Duration::from_secs(10), "the container has one");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(!has_one(&run(&format!("ip -6 addr show dev {veth}"))), "{veth}");
    });
}

#[test]
fn attaching_again_changes_nothing() {
    on_a_fresh_host(|| {
        let mut host = Socket::open(Family::Route).unwrap();
        let ns = Namespace::new();
        // IPv4 alone: the kernel gives link-local IPv6 addresses when it likes.
        let mut shown = Vec::new();
        for _ in 0..2 {
            let index = bridge::ensure_bridge(&mut host, &front()).unwrap();
            attach(&mut host, &ns, index, &web("10.144.0.2"));
            shown.push((
                run("ip -o addr; ip -o link | sed 's/state [A-Z]*//'"),
                ns.run("ip -4 -o addr; ip -o route"),
            ));
        }
        assert_eq!(shown[0].1, shown[1].1);
        assert_eq!(link::ours(&mut host).unwrap().len(), 2);
    });
}

#[test]
fn an_interface_of_another_owner_is_left_alone_and_named() {
    on_a_fresh_host(|| {
        run("ip link add sp-front type bridge");
        let mut host = Socket::open(Family::Route).unwrap();
        let said = bridge::ensure_bridge(&mut host, &front()).unwrap_err().to_string();
        assert_eq!(said, "network front: an interface sp-front is there that is not ours: File exists");
    });
}

#[test]
fn an_interface_of_our_group_that_is_no_bridge_is_left_alone_and_named() {
    on_a_fresh_host(|| {
        for group in [GROUP, DOOMED] {
            run(&format!("ip link add sp-front group {group} type veth peer name other"));
            let before = run("ip -d link show sp-front");
            let mut host = Socket::open(Family::Route).unwrap();
            let said = bridge::ensure_bridge(&mut host, &front()).unwrap_err().to_string();
            assert!(
                said.starts_with("network front: an interface sp-front is there that is no bridge but veth"),
                "{said}"
            );
            assert_eq!(run("ip -d link show sp-front"), before);
            run("ip link del sp-front");
        }
    });
}

#[test]
fn one_sweep_removes_all_that_is_doomed_and_a_rescued_bridge_stays() {
    on_a_fresh_host(|| {
        let mut host = Socket::open(Family::Route).unwrap();
        let back = Bridge {
            network: "back".into(),
            name: "sp-back".into(),
            subnet: "10.1.0.0/24".parse().unwrap(),
            ..front()
        };
        let index = bridge::ensure_bridge(&mut host, &front()).unwrap();
        bridge::ensure_bridge(&mut host, &back).unwrap();
        let ns = Namespace::new();
        let veth = attach(&mut host, &ns, index, &web("10.144.0.2"));
        let names = [veth.as_str(), "sp-front", "sp-back", "never-was"].map(String::from);
        assert!(link::doom(&mut host, &names).is_empty());
        assert_eq!(bridge::ensure_bridge(&mut host, &front()).unwrap(), index);
        link::remove_doomed(&mut host).unwrap();
        link::remove_doomed(&mut host).unwrap();
        let left: Vec<String> = link::ours(&mut host).unwrap().into_iter().map(|l| l.name).collect();
        assert_eq!(left, ["sp-front"]);
    });
}

/// More than one datagram has, and than answers have room for: each is marked, whatever the kernel says of those before it.
#[test]
fn however_many_links_are_doomed_all_of_them_go() {
    on_a_fresh_host(|| {
        run(
            "for i in $(seq 300); do echo link add v$i group 7267 type veth peer name p$i; done | ip -batch -",
        );
        let mut host = Socket::open(Family::Route).unwrap();
        let names = (0..600).map(|i| format!("v{i}")).collect::<Vec<_>>();
        let refused = link::doom(&mut host, &names);
        assert!(refused.is_empty(), "{refused:?}");
        let left = link::ours(&mut host).unwrap().into_iter().filter(|l| l.group != link::DOOMED);
        assert_eq!(left.count(), 0);
        link::remove_doomed(&mut host).unwrap();
        assert!(link::ours(&mut host).unwrap().is_empty());
    });
}

#[test]
fn a_subnet_is_known_to_be_in_use_by_address_and_by_route() {
    on_a_fresh_host(|| {
        run(
            "ip link add lan type bridge && ip addr add 10.144.0.9/24 dev lan && ip link set lan up mtu 1400 && \
             ip route add 10.144.16.0/20 dev lan && ip route add default via 10.144.0.1",
        );
        let mut host = Socket::open(Family::Route).unwrap();
        let used = routes::prefixes_in_use(&mut host, &[]).unwrap();
        assert_eq!(network::addresses::pick_subnet(&used), Some("10.144.32.0/20".parse().unwrap()));
        assert_eq!(routes::default_mtu(&mut host).unwrap(), 1400);
    });
}

/// Not asserted: printed, beside what the loop costs without us.
#[test]
fn attach_is_quick() {
    on_a_fresh_host(|| {
        let mut host = Socket::open(Family::Route).unwrap();
        let mut times = Vec::new();
        let spaces: Vec<Namespace> = (0..50).map(|_| Namespace::new()).collect();
        for (i, ns) in spaces.iter().enumerate() {
            let start = Instant::now();
            let index = bridge::ensure_bridge(&mut host, &front()).unwrap();
            attach(&mut host, ns, index, &web(&format!("10.144.0.{}", i + 2)));
            times.push(start.elapsed());
        }
        times.sort();
        println!("links of one attach: median {:?}, worst {:?}", times[25], times[49]);
    });
}

#[test]
fn a_bridge_that_is_full_says_so() {
    on_a_fresh_host(|| {
        let mut host = Socket::open(Family::Route).unwrap();
        let index = bridge::ensure_bridge(&mut host, &front()).unwrap();
        let ns = Namespace::new();
        let mut full = None;
        for i in 0..1100 {
            let a =
                Attachment { interface: format!("eth{i}"), service: format!("s{i}"), ..web("10.144.0.2") };
            if let Err(e) = bridge::connect(&mut host, ns.fd(), ns.id(), index, &a) {
                full = Some((i, e.to_string()));
                break;
            }
        }
        let (ports, said) = full.unwrap();
        assert_eq!(ports, 1023);
        assert_eq!(
            said,
            "service s1023: cannot connect eth1023 to network front: Exchange full (kernel: bridge sp-front has no port \
             left, the kernel's limit is 1,023; put some services on another network)"
        );
        assert!(link::doom(&mut host, &["sp-front".into()]).is_empty());
        link::remove_doomed(&mut host).unwrap();
    });
}

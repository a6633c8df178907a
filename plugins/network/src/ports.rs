//! Published ports and what may pass between bridges: the desired rules, and what separates them from the present ones.
//!
//! All rules are static and stand in one table of our own; what changes is set elements, one per publication, so that two
//! publications of one port cannot both be there and none is left behind in a chain. `Rules` is all that is wanted as plain data:
//! `anew` writes all of it, `change` a step. A published port is also held by a bound socket
//! (held.rs), for a redirect would silently take it from a process of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::addresses::Subnet;
use crate::config::Protocol;
use crate::listing;
use crate::netlink::{Result, Socket};
use crate::nft::{Element, Hook, Rule, Set, Transaction, Type, interface, port, protocol};

pub const TABLE: &str = "sampan";
const DNS: u16 = 53;

/// A port of the host that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publication {
    pub protocol: Protocol,
    /// 0.0.0.0: all addresses, of IPv6 too.
    pub host_ip: IpAddr,
    pub published: u16,
    pub target: u16,
}

impl Publication {
    /// Whether both want one port of one address.
    pub fn collides(&self, other: &Publication) -> bool {
        let any = self.host_ip.is_unspecified() || other.host_ip.is_unspecified();
        (self.protocol, self.published) == (other.protocol, other.published)
            && (any || self.host_ip == other.host_ip)
    }
}

/// The host's part of a publication: what a socket can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: Protocol,
    pub host_ip: IpAddr,
    pub published: u16,
}

impl From<&Publication> for HostPort {
    fn from(p: &Publication) -> HostPort {
        HostPort { protocol: p.protocol, host_ip: p.host_ip, published: p.published }
    }
}

impl std::fmt::Display for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} of ", self.published, self.protocol.name())?;
        if self.host_ip.is_unspecified() { f.write_str("all addresses") } else { self.host_ip.fmt(f) }
    }
}

/// Where a publication leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub v4: Ipv4Addr,
    /// None: the service has no IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// A network as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub bridge: String,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    /// None: no IPv6.
    pub prefix6: Option<Ipv6Addr>,
    pub internal: bool,
}

/// Every element of every set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    sets: BTreeMap<&'static str, BTreeSet<Element>>,
    subnets: BTreeSet<Subnet>,
    /// The first addresses of their /64.
    prefixes6: BTreeSet<Ipv6Addr>,
    guarded: Guarded,
}

/// Interfaces that forward for us alone, by number, of each family. Of IPv4 with [`ROUTER`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    pub v4: BTreeSet<u32>,
    pub v6: BTreeSet<u32>,
}

const BRIDGES: Set = Set { name: "bridges", key: &[Type::Interface], data: &[], interval: false };
const EGRESS: Set = Set { name: "egress", key: &[Type::Interface], data: &[], interval: false };
const INTERNAL: Set = Set { name: "internal", key: &[Type::Interface], data: &[], interval: false };
const WITHIN: Set =
    Set { name: "within", key: &[Type::Interface, Type::Interface], data: &[], interval: false };
const SUBNETS: Set = Set { name: "subnets", key: &[Type::Ipv4], data: &[], interval: true };
/// Where name servers of ours listen.
const GATEWAYS: Set = Set { name: "gateways", key: &[Type::Ipv4], data: &[], interval: false };
const PUBLISHED: Set = Set {
    name: "published",
    key: &[Type::Protocol, Type::Port],
    data: &[Type::Ipv4, Type::Port],
    interval: false,
};
const PUBLISHED_AT: Set = Set {
    name: "published_at",
    key: &[Type::Ipv4, Type::Protocol, Type::Port],
    data: &[Type::Ipv4, Type::Port],
    interval: false,
};
const PUBLISHED6: Set = Set {
    name: "published6",
    key: &[Type::Protocol, Type::Port],
    data: &[Type::Ipv6, Type::Port],
    interval: false,
};
const PUBLISHED6_AT: Set = Set {
    name: "published6_at",
    key: &[Type::Ipv6, Type::Protocol, Type::Port],
    data: &[Type::Ipv6, Type::Port],
    interval: false,
};
/// Interfaces that forward for us alone, by number: it was us who turned that on. It is the record of it, too: the kernel keeps it
/// when we die, and forgets it with the setting itself.
const GUARDED: Set = Set { name: "guarded", key: &[Type::Index], data: &[], interval: false };
const GUARDED6: Set = Set { name: "guarded6", key: &[Type::Index], data: &[], interval: false };
const SUBNETS6: Set = Set { name: "subnets6", key: &[Type::Ipv6], data: &[], interval: true };
/// Among them, and the number of no interface: ip_forward was on when we last looked, so an interface that forwards for us alone is one
/// that an operator took out.
pub const ROUTER: u32 = 0;
const SETS: [Set; 13] = [
    BRIDGES,
    EGRESS,
    INTERNAL,
    WITHIN,
    SUBNETS,
    SUBNETS6,
    GATEWAYS,
    GUARDED,
    GUARDED6,
    PUBLISHED,
    PUBLISHED_AT,
    PUBLISHED6,
    PUBLISHED6_AT,
];

impl Rules {
    /// With interfaces by which foreign traffic is not to be forwarded, and [`ROUTER`].
    pub fn new(guarded: Guarded) -> Rules {
        let mut rules = Rules::default();
        for (set, interfaces) in [(GUARDED, &guarded.v4), (GUARDED6, &guarded.v6)] {
            for index in interfaces {
                rules.element(set, Element::key(index.to_ne_bytes().to_vec()));
            }
        }
        Rules { guarded, ..rules }
    }

    /// What an earlier life of ours has put there: interfaces, and whether it knew this host for a router.
    pub fn forwarding_before(nft: &mut Socket) -> Result<(Guarded, Option<bool>)> {
        let mut of = |set: Set| Ok(listing::indexes(nft, TABLE, set.name)?.into_iter().collect());
        let mut guarded = Guarded { v4: of(GUARDED)?, v6: of(GUARDED6)? };
        let router = guarded.v4.remove(&ROUTER).then_some(true);
        Ok((guarded, router))
    }

    pub fn add_network(&mut self, passage: &Passage) {
        let bridge = interface(&passage.bridge);
        self.element(BRIDGES, Element::key(bridge.to_vec()));
        self.element(if passage.internal { INTERNAL } else { EGRESS }, Element::key(bridge.to_vec()));
        self.element(WITHIN, Element::key([bridge, bridge].concat()));
        self.element(GATEWAYS, Element::key(passage.gateway.octets().to_vec()));
        self.subnets.insert(passage.subnet);
        self.prefixes6.extend(passage.prefix6);
    }

    pub fn add_publication(&mut self, p: &Publication, to: Target) {
        for (set, element) in publication(p, to) {
            self.element(set, element);
        }
    }

    /// A few publications go or come, in place: what a start or stop costs does not grow with the number of services.
    pub fn change(&mut self, gone: &[(Publication, Target)], fresh: &[(Publication, Target)]) -> Transaction {
        let mut t = Transaction::new(TABLE);
        for (set, element) in gone.iter().flat_map(|(p, to)| publication(p, *to)) {
            if self.sets.get_mut(set.name).is_some_and(|s| s.remove(&element)) {
                t.delete_elements(set.name, &[element]);
            }
        }
        for (set, element) in fresh.iter().flat_map(|(p, to)| publication(p, *to)) {
            if self.sets.entry(set.name).or_default().insert(element.clone()) {
                t.add_elements(set.name, &[element]);
            }
        }
        t
    }

    /// Whether these and no other networks are in the rules.
    pub fn are_about(&self, subnets: impl Iterator<Item = Subnet>, guarded: &Guarded) -> bool {
        self.guarded == *guarded && subnets.collect::<BTreeSet<_>>() == self.subnets
    }

    fn element(&mut self, set: Set, element: Element) {
        self.sets.entry(set.name).or_default().insert(element);
    }

    pub fn is_empty(&self) -> bool {
        self.sets.values().all(BTreeSet::is_empty)
    }

    /// The table with all that is in it, made anew; foreign tables are not touched. Empty rules are no table.
    pub fn anew(&self) -> Transaction {
        let mut t = Transaction::new(TABLE);
        t.add_table();
        t.delete_table(); // whatever is in it: nobody sees the gap
        if self.is_empty() {
            return t;
        }
        t.add_table();
        for set in SETS {
            t.add_set(&set);
        }
        filter(&mut t);
        redirect(&mut t);
        for (name, elements) in &self.sets {
            t.add_elements(name, &elements.iter().cloned().collect::<Vec<_>>());
        }
        t.add_elements(SUBNETS.name, &ranges(&self.subnets));
        t.add_elements(SUBNETS6.name, &ranges6(&self.prefixes6));
        t
    }
}

fn filter(t: &mut Transaction) {
    // Before connection tracking, so before any redirect has changed where a packet goes.
    t.add_chain("raw", "filter", Hook::Prerouting, -300);
    t.add_rule(
        "raw",
        Rule::new("loopback is the host's own").ipv4().iifname_is_not("lo").daddr_is_loopback().drop(),
    );
    t.add_rule(
        "raw",
        Rule::new("bridges are reached by published ports")
            .ipv4()
            .iifname_is_not("lo")
            .iifname_not_in("bridges")
            .daddr_in("subnets")
            .drop(),
    );
    let rule = Rule::new("bridges are reached by published ports").ipv6();
    t.add_rule("raw", rule.iifname_is_not("lo").iifname_not_in("bridges").daddr6_in("subnets6").drop());
    t.add_chain("forward", "filter", Hook::Forward, 0);
    t.add_rule("forward", Rule::new("within one network").way_in("within").accept());
    t.add_rule(
        "forward",
        Rule::new("networks do not meet").iifname_in("bridges").oifname_in("bridges").drop(),
    );
    t.add_rule("forward", Rule::new("no way out").iifname_in("internal").drop());
    t.add_rule("forward", Rule::new("no way in").oifname_in("internal").drop());
    for rule in [Rule::new("path MTU").iifname_in("bridges"), Rule::new("path MTU").oifname_in("bridges")] {
        t.add_rule("forward", rule.opens_tcp().clamp_mss());
    }
    // An interface that forwards for us alone is none of a router's.
    let rule = || Rule::new("forwards for bridges alone");
    t.add_rule("forward", rule().ipv4().iif_in("guarded").oifname_not_in("bridges").drop());
    t.add_rule("forward", rule().ipv6().iif_in("guarded6").oifname_not_in("bridges").drop());
}

/// One element for each family.
fn publication(p: &Publication, to: Target) -> Vec<(Set, Element)> {
    let key = [protocol(p.protocol.number()), port(p.published)].concat();
    let v4 = [&to.v4.octets()[..], &port(p.target)].concat();
    let v6 = to.v6.map(|to| [&to.octets()[..], &port(p.target)].concat());
    let element = |key, data| Element { key, data, end: false };
    match p.host_ip {
        all if all.is_unspecified() => {
            let v6 = v6.map(|data| (PUBLISHED6, element(key.clone(), data)));
            [(PUBLISHED, element(key.clone(), v4))].into_iter().chain(v6).collect()
        }
        IpAddr::V4(ip) => vec![(PUBLISHED_AT, element([ip.octets().to_vec(), key].concat(), v4))],
        IpAddr::V6(ip) => {
            let key = [ip.octets().to_vec(), key].concat();
            v6.map(|data| (PUBLISHED6_AT, element(key, data))).into_iter().collect()
        }
    }
}

/// Subnets as ranges, neighbours joined: the kernel takes one that ends where the next begins for an overlap.
fn ranges(subnets: &BTreeSet<Subnet>) -> Vec<Element> {
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for subnet in subnets {
        let first = u32::from(subnet.network());
        let beyond = u32::from(subnet.broadcast()).saturating_add(1);
        match joined.last_mut() {
            Some((_, end)) if first <= *end => *end = beyond.max(*end),
            _ => joined.push((first, beyond)),
        }
    }
    let element = |at: u32, end| Element { end, ..Element::key(at.to_be_bytes().to_vec()) };
    joined.into_iter().flat_map(|(first, beyond)| [element(first, false), element(beyond, true)]).collect()
}

/// As `ranges`; two that are neighbours by chance are one.
fn ranges6(prefixes: &BTreeSet<Ipv6Addr>) -> Vec<Element> {
    let bounds = prefixes.iter().map(|first| (u128::from(*first), u128::from(*first) + (1 << 64)));
    let bounds: Vec<(u128, u128)> = bounds.collect();
    let begins = bounds.iter().filter(|(first, _)| bounds.iter().all(|(_, end)| end != first));
    let ends = bounds.iter().filter(|(_, end)| bounds.iter().all(|(first, _)| first != end));
    let element = |at: u128, end| Element { end, ..Element::key(at.to_be_bytes().to_vec()) };
    let pairs = begins.zip(ends);
    pairs.flat_map(|((first, _), (_, end))| [element(*first, false), element(*end, true)]).collect()
}

/// The three cases of masquerade: out of the host, from the host's loopback, and back to the same network (a container that
/// dials its own published port would else answer itself with the wrong address).
fn redirect(t: &mut Transaction) {
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        t.add_chain(chain, "nat", hook, -100);
        // A service may publish port 53, and a name server of ours is asked at the gateway all the same.
        t.add_rule(chain, Rule::new("names").ipv4().daddr_in("gateways").to_port(DNS).accept());
        t.add_rule(
            chain,
            Rule::new("published on one address").ipv4().redirect_by_address_and_port("published_at"),
        );
        t.add_rule(chain, Rule::new("published on all").ipv4().daddr_is_ours().redirect_by_port("published"));
        let rule = Rule::new("published on one address").ipv6();
        t.add_rule(chain, rule.redirect6_by_address_and_port("published6_at"));
        let rule = Rule::new("published on all").ipv6();
        t.add_rule(chain, rule.daddr_is_ours().redirect6_by_port("published6"));
    }
    t.add_chain("postrouting", "nat", Hook::Postrouting, 100);
    t.add_rule(
        "postrouting",
        Rule::new("from the host's loopback").ipv4().oifname_in("bridges").saddr_is_loopback().masquerade(),
    );
    t.add_rule(
        "postrouting",
        // By source: with bridge netfilter the packet may be bridged, not routed, and then has no incoming interface here.
        Rule::new("to one's own network")
            .ipv4()
            .oifname_in("bridges")
            .saddr_in("subnets")
            .was_redirected()
            .masquerade(),
    );
    let rule = Rule::new("to one's own network").ipv6().oifname_in("bridges");
    t.add_rule("postrouting", rule.saddr6_in("subnets6").was_redirected().masquerade());
    t.add_rule(
        "postrouting",
        Rule::new("out").ipv4().iifname_in("egress").oifname_not_in("bridges").masquerade(),
    );
    let rule = Rule::new("out").ipv6();
    t.add_rule("postrouting", rule.iifname_in("egress").oifname_not_in("bridges").masquerade());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host_ip: &str, published: u16) -> Publication {
        let host_ip = host_ip.parse().unwrap();
        Publication { protocol: Protocol::Tcp, host_ip, published, target: 80 }
    }

    #[test]
    fn ports_collide_on_one_address_or_on_all() {
        let udp = Publication { protocol: Protocol::Udp, ..at("0.0.0.0", 80) };
        assert!(at("0.0.0.0", 80).collides(&at("127.0.0.1", 80)));
        assert!(at("127.0.0.1", 80).collides(&at("127.0.0.1", 80)));
        assert!(!at("127.0.0.1", 80).collides(&at("127.0.0.2", 80)));
        assert!(!at("0.0.0.0", 80).collides(&at("0.0.0.0", 81)));
        assert!(!at("0.0.0.0", 80).collides(&udp));
    }

    #[test]
    fn a_publication_is_named_as_people_say_it() {
        assert_eq!(at("0.0.0.0", 80).to_string(), "80/tcp of all addresses");
        assert_eq!(at("127.0.0.1", 80).to_string(), "80/tcp of 127.0.0.1");
    }

    #[test]
    fn neighbouring_subnets_are_one_range() {
        let of = |subnets: &[&str]| {
            let ranges = ranges(&subnets.iter().map(|s| s.parse().unwrap()).collect());
            ranges
                .iter()
                .map(|e| Ipv4Addr::from(<[u8; 4]>::try_from(&*e.key).unwrap()).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&["10.0.0.0/24", "10.0.1.0/24"]), ["10.0.0.0", "10.0.2.0"]);
        assert_eq!(of(&["10.0.0.0/24", "10.0.2.0/24"]), ["10.0.0.0", "10.0.1.0", "10.0.2.0", "10.0.3.0"]);
    }

    #[test]
    fn what_is_there_already_is_no_change() {
        let mut rules = Rules::default();
        let web = (at("0.0.0.0", 80), Target { v4: Ipv4Addr::new(10, 0, 0, 2), v6: None });
        assert!(rules.change(&[web], &[]).is_empty());
        assert!(!rules.change(&[], &[web]).is_empty());
        assert!(rules.change(&[], &[web]).is_empty());
        assert!(!rules.change(&[web], &[]).is_empty());
        assert!(rules.is_empty());
    }
}

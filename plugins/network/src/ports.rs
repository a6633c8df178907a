//! Published ports and what may pass between bridges: the desired rules, and what separates them from the present ones.
//!
//! All rules are static and stand in one table of our own; what changes is set elements, one per publication, so that two
//! publications of one port cannot both be there and none is left behind in a chain. `Rules` is all that is wanted as plain data:
//! `anew` writes all of it, `change` a step. A published port is also held by a bound socket
//! (held.rs), for a redirect would silently take it from a process of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

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
    /// 0.0.0.0: all addresses.
    pub host_ip: Ipv4Addr,
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
    pub host_ip: Ipv4Addr,
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

/// A network as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub bridge: String,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    pub internal: bool,
}

/// Every element of every set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    sets: BTreeMap<&'static str, BTreeSet<Element>>,
    subnets: BTreeSet<Subnet>,
    guarded: BTreeSet<u32>,
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
/// Interfaces that forward for us alone, by number: it was us who turned that on. It is the record of it, too: the kernel keeps it
/// when we die, and forgets it with the setting itself.
const GUARDED: Set = Set { name: "guarded", key: &[Type::Index], data: &[], interval: false };
/// Among them, and the number of no interface: ip_forward was on when we last looked, so an interface that forwards for us alone is one
/// that an operator took out.
pub const ROUTER: u32 = 0;
const SETS: [Set; 9] =
    [BRIDGES, EGRESS, INTERNAL, WITHIN, SUBNETS, GATEWAYS, GUARDED, PUBLISHED, PUBLISHED_AT];

impl Rules {
    /// With interfaces by which foreign traffic is not to be forwarded, and [`ROUTER`].
    pub fn new(guarded: BTreeSet<u32>) -> Rules {
        let mut rules = Rules { guarded, ..Rules::default() };
        for index in rules.guarded.clone() {
            rules.element(GUARDED, Element::key(index.to_ne_bytes().to_vec()));
        }
        rules
    }

    /// What an earlier life of ours has put there: interfaces, and whether it knew this host for a router.
    pub fn forwarding_before(nft: &mut Socket) -> Result<(BTreeSet<u32>, Option<bool>)> {
        let mut guarded: BTreeSet<u32> = listing::indexes(nft, TABLE, GUARDED.name)?.into_iter().collect();
        let router = guarded.remove(&ROUTER).then_some(true);
        Ok((guarded, router))
    }

    pub fn add_network(&mut self, passage: &Passage) {
        let bridge = interface(&passage.bridge);
        self.element(BRIDGES, Element::key(bridge.to_vec()));
        self.element(if passage.internal { INTERNAL } else { EGRESS }, Element::key(bridge.to_vec()));
        self.element(WITHIN, Element::key([bridge, bridge].concat()));
        self.element(GATEWAYS, Element::key(passage.gateway.octets().to_vec()));
        self.subnets.insert(passage.subnet);
    }

    pub fn add_publication(&mut self, p: &Publication, to: Ipv4Addr) {
        let (set, element) = publication(p, to);
        self.element(set, element);
    }

    /// A few publications go or come, in place: what a start or stop costs does not grow with the number of services.
    pub fn change(
        &mut self,
        gone: &[(Publication, Ipv4Addr)],
        fresh: &[(Publication, Ipv4Addr)],
    ) -> Transaction {
        let mut t = Transaction::new(TABLE);
        for (p, to) in gone {
            let (set, element) = publication(p, *to);
            if self.sets.get_mut(set.name).is_some_and(|s| s.remove(&element)) {
                t.delete_elements(set.name, &[element]);
            }
        }
        for (p, to) in fresh {
            let (set, element) = publication(p, *to);
            if self.sets.entry(set.name).or_default().insert(element.clone()) {
                t.add_elements(set.name, &[element]);
            }
        }
        t
    }

    /// Whether these and no other networks are in the rules.
    pub fn are_about(&self, subnets: impl Iterator<Item = Subnet>, guarded: &BTreeSet<u32>) -> bool {
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
    let rule = Rule::new("forwards for bridges alone");
    t.add_rule("forward", rule.iif_in("guarded").oifname_not_in("bridges").drop());
}

fn publication(p: &Publication, to: Ipv4Addr) -> (Set, Element) {
    let key = [protocol(p.protocol.number()), port(p.published)].concat();
    let data = [to.octets(), port(p.target)].concat();
    if p.host_ip.is_unspecified() {
        (PUBLISHED, Element { key, data, end: false })
    } else {
        (PUBLISHED_AT, Element { key: [p.host_ip.octets().to_vec(), key].concat(), data, end: false })
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
    t.add_rule(
        "postrouting",
        Rule::new("out").ipv4().iifname_in("egress").oifname_not_in("bridges").masquerade(),
    );
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
        let web = (at("0.0.0.0", 80), Ipv4Addr::new(10, 0, 0, 2));
        assert!(rules.change(&[web], &[]).is_empty());
        assert!(!rules.change(&[], &[web]).is_empty());
        assert!(rules.change(&[], &[web]).is_empty());
        assert!(!rules.change(&[web], &[]).is_empty());
        assert!(rules.is_empty());
    }
}

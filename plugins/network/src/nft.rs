//! nf_tables as messages: tables, chains, sets, rules, and the expressions that we need, sent as one transaction.
//!
//! What `nft -f` would send, without `nft`: it need not be installed, and a process costs 4 ms where a transaction costs
//! 0.1. A rule is a list of expressions that pass 4-byte registers along; `Rule`'s methods are the nft language's words.
//! `nft list table` is the tests' oracle. Deliberately absent: which rules there are (ports.rs).

use crate::netlink::{Error, Result, Socket};
use crate::wire::{APPEND, CREATE, Message};

pub const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEWTABLE: u16 = SUBSYSTEM;
pub const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
pub const DELCHAIN: u16 = SUBSYSTEM | 5;
const NEWRULE: u16 = SUBSYSTEM | 6;
pub const DELRULE: u16 = SUBSYSTEM | 8;
const NEWSET: u16 = SUBSYSTEM | 9;
pub const DELSET: u16 = SUBSYSTEM | 11;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
pub const DELSETELEM: u16 = SUBSYSTEM | 14;

pub const INET: u8 = 1;
pub const IPV4: u8 = 2;
pub const IPV6: u8 = 10;

/// Every nf_tables object names its table in attribute 1.
pub const TABLE: u16 = 1;
const ELEM: u16 = 1;

/// Changes that happen together or not at all.
#[derive(Debug)]
pub struct Transaction {
    table: &'static str,
    messages: Vec<Message>,
    sets: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// A type of nft's own numbering: it is for `nft list` alone, the kernel sees lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Ipv4 = 7,
    Ipv6 = 8,
    Protocol = 12,
    Port = 13,
    /// An interface by its number.
    Index = 20,
    Interface = 41,
}

impl Type {
    /// In a register: padded to four.
    fn length(self) -> u32 {
        match self {
            Type::Interface | Type::Ipv6 => 16,
            _ => 4,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub name: &'static str,
    pub key: &'static [Type],
    /// Of a map: what a key leads to.
    pub data: &'static [Type],
    /// Elements are ranges: each is followed by the first key that is no longer in it.
    pub interval: bool,
}

/// One element: the key and, in a map, the data, each part padded as in registers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element {
    pub key: Vec<u8>,
    pub data: Vec<u8>,
    /// The end of a range.
    pub end: bool,
}

impl Element {
    pub fn key(key: Vec<u8>) -> Element {
        Element { key, data: Vec::new(), end: false }
    }
}

/// Parts of a key or of data, each in its registers.
pub fn port(port: u16) -> [u8; 4] {
    let [a, b] = port.to_be_bytes();
    [a, b, 0, 0]
}

pub fn protocol(number: u8) -> [u8; 4] {
    [number, 0, 0, 0]
}

pub fn interface(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    let bytes = name.as_bytes();
    let length = bytes.len().min(15);
    padded[..length].copy_from_slice(&bytes[..length]);
    padded
}

impl Transaction {
    pub fn new(table: &'static str) -> Transaction {
        Transaction { table, messages: Vec::new(), sets: 0 }
    }

    pub fn add_table(&mut self) {
        self.messages.push(self.message(NEWTABLE, CREATE).be32(2, 0));
    }

    /// Refused where there is none: add it first.
    pub fn delete_table(&mut self) {
        self.messages.push(self.message(DELTABLE, 0));
    }

    /// A base chain, policy accept.
    pub fn add_chain(&mut self, name: &str, kind: &str, hook: Hook, priority: i32) {
        const ACCEPT: u32 = 1;
        let chain = self
            .message(NEWCHAIN, CREATE)
            .text(3, name)
            .nest(4, |m| m.be32(1, hook as u32).be32(2, priority as u32))
            .be32(5, ACCEPT)
            .text(7, kind);
        self.messages.push(chain);
    }

    pub fn add_set(&mut self, set: &Set) {
        const INTERVAL: u32 = 4;
        const MAP: u32 = 8;
        const CONCAT: u32 = 0x80;
        let concat = set.key.len() > 1;
        let flags = if set.interval { INTERVAL } else { 0 }
            | if set.data.is_empty() { 0 } else { MAP }
            | if concat { CONCAT } else { 0 };
        self.sets += 1;
        let mut message = self
            .message(NEWSET, CREATE)
            .text(2, set.name)
            .be32(3, flags)
            .be32(4, type_number(set.key))
            .be32(5, length(set.key));
        if !set.data.is_empty() {
            message = message.be32(6, type_number(set.data)).be32(7, length(set.data));
        }
        if concat {
            message = message.nest(9, |m| {
                m.nest(2, |m| set.key.iter().fold(m, |m, t| m.nest(ELEM, |m| m.be32(1, t.length()))))
            });
        }
        // nft's own note (key byte order 1 = host, 2 = network), without which it lists names of interfaces reversed.
        let of_host = |t: &Type| matches!(t, Type::Interface | Type::Index);
        let order = if set.key.iter().all(of_host) { 1u32 } else { 2 };
        let [a, b, c, d] = order.to_ne_bytes();
        message = message.be32(10, self.sets).attr(13, &[0, 4, a, b, c, d]);
        self.messages.push(message);
    }

    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(NEWSETELEM, CREATE, set, elements);
    }

    /// Refused as a whole where one is missing.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        // An attribute's length is 16 bits: a long list goes in several messages.
        for some in elements.chunks(500) {
            let message = self.message(kind, flags).text(2, set).nest(3, |m| {
                some.iter().fold(m, |m, e| {
                    m.nest(ELEM, |mut m| {
                        if e.end {
                            m = m.be32(3, 1);
                        }
                        m = m.nest(1, |m| m.attr(1, &e.key));
                        if !e.data.is_empty() {
                            m = m.nest(2, |m| m.attr(1, &e.data));
                        }
                        m
                    })
                })
            });
            self.messages.push(message);
        }
    }

    pub fn add_rule(&mut self, chain: &str, rule: Rule) {
        let message = self.message(NEWRULE, CREATE | APPEND).text(2, chain);
        let note = [&[0, rule.comment.len() as u8 + 1], rule.comment.as_bytes(), &[0]].concat();
        self.messages.push(message.nest(4, |m| m.put(&rule.expressions)).attr(7, &note));
    }

    fn message(&self, kind: u16, flags: u16) -> Message {
        Message::new(kind, flags).fixed(&[INET, 0, 0, 0]).text(TABLE, self.table)
    }

    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// All of it, or an error that says which part was refused and nothing changed.
    pub fn commit(self, socket: &mut Socket, doing: &str) -> Result<()> {
        let Transaction { messages, .. } = self;
        if messages.is_empty() {
            return Ok(());
        }
        let [high, low] = (SUBSYSTEM >> 8).to_be_bytes();
        let count = messages.len() as u32 + 2;
        let first = socket.take_sequence(count);
        let mut bytes = Vec::new();
        bytes.extend_from_slice(Message::new(BATCH_BEGIN, 0).fixed(&[0, 0, high, low]).seal(first));
        let last = first + count - 2;
        for (mut message, sequence) in messages.into_iter().zip(first + 1..) {
            if sequence == last {
                message.want_ack();
            }
            bytes.extend_from_slice(message.seal(sequence));
        }
        bytes.extend_from_slice(Message::new(BATCH_END, 0).fixed(&[0, 0, high, low]).seal(last + 1));
        let refused = socket.batch(&bytes, first, last)?;
        match refused.into_iter().next() {
            None => Ok(()),
            Some((at, errno, said)) => {
                let doing = format!("{doing}: nf_tables refused part {} of {}", at - first, count - 2);
                Err(Error { doing, errno, said })
            }
        }
    }
}

fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |n, t| n << 6 | *t as u32)
}

fn length(types: &[Type]) -> u32 {
    types.iter().map(|t| t.length()).sum()
}

/// A rule being written, left to right as in nft.
pub struct Rule {
    expressions: Message,
    comment: &'static str,
}

/// The first of sixteen registers of four bytes.
const R0: u32 = 8;

const EQ: u32 = 0;
const NEQ: u32 = 1;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
const L4PROTO: u32 = 16;

impl Rule {
    /// `comment` is shown by `nft list`.
    pub fn new(comment: &'static str) -> Rule {
        Rule { expressions: Message::part(), comment }
    }

    pub fn ipv4(self) -> Rule {
        self.family(IPV4)
    }

    pub fn ipv6(self) -> Rule {
        self.family(IPV6)
    }

    fn family(self, family: u8) -> Rule {
        const NFPROTO: u32 = 15;
        self.meta(NFPROTO, R0).compare(EQ, R0, &[family])
    }

    pub fn saddr6_in(self, set: &'static str) -> Rule {
        self.payload(NETWORK, 8, 16, R0).lookup(set, false)
    }

    pub fn daddr6_in(self, set: &'static str) -> Rule {
        self.payload(NETWORK, 24, 16, R0).lookup(set, false)
    }

    pub fn iif_in(self, set: &'static str) -> Rule {
        self.meta(4, R0).lookup(set, false)
    }

    pub fn iifname_in(self, set: &'static str) -> Rule {
        self.iifname(R0).lookup(set, false)
    }

    pub fn iifname_not_in(self, set: &'static str) -> Rule {
        self.iifname(R0).lookup(set, true)
    }

    pub fn iifname_is_not(self, name: &str) -> Rule {
        self.iifname(R0).compare(NEQ, R0, &interface(name))
    }

    pub fn oifname_in(self, set: &'static str) -> Rule {
        self.oifname(R0).lookup(set, false)
    }

    pub fn oifname_not_in(self, set: &'static str) -> Rule {
        self.oifname(R0).lookup(set, true)
    }

    /// `iifname . oifname @set`
    pub fn way_in(self, set: &'static str) -> Rule {
        self.iifname(R0).oifname(R0 + 4).lookup(set, false)
    }

    pub fn saddr_in(self, set: &'static str) -> Rule {
        self.saddr(R0).lookup(set, false)
    }

    /// `ip saddr 127.0.0.0/8`
    pub fn saddr_is_loopback(self) -> Rule {
        self.saddr(R0).and(&[255, 0, 0, 0]).compare(EQ, R0, &[127, 0, 0, 0])
    }

    /// `ip daddr 127.0.0.0/8`
    pub fn daddr_is_loopback(self) -> Rule {
        self.daddr(R0).and(&[255, 0, 0, 0]).compare(EQ, R0, &[127, 0, 0, 0])
    }

    pub fn daddr_in(self, set: &'static str) -> Rule {
        self.daddr(R0).lookup(set, false)
    }

    /// `th dport PORT`, of UDP and TCP.
    pub fn to_port(self, port: u16) -> Rule {
        self.payload(TRANSPORT, 2, 2, R0).compare(EQ, R0, &port.to_be_bytes())
    }

    /// `fib daddr type local`
    pub fn daddr_is_ours(self) -> Rule {
        const ADDRTYPE: u32 = 3;
        const DADDR: u32 = 2;
        const RTN_LOCAL: u32 = 2;
        self.then("fib", |m| m.be32(1, R0).be32(2, ADDRTYPE).be32(3, DADDR)).compare(
            EQ,
            R0,
            &RTN_LOCAL.to_ne_bytes(),
        )
    }

    /// `ct status dnat`
    pub fn was_redirected(self) -> Rule {
        const STATUS: u32 = 2;
        const DST_NAT: u32 = 1 << 5;
        self.then("ct", |m| m.be32(1, R0).be32(2, STATUS))
            .and(&DST_NAT.to_ne_bytes())
            .compare(NEQ, R0, &[0; 4])
    }

    /// `tcp flags syn / syn,rst`
    pub fn opens_tcp(self) -> Rule {
        self.meta(L4PROTO, R0).compare(EQ, R0, &[6]).payload(TRANSPORT, 13, 1, R0).and(&[0x06]).compare(
            EQ,
            R0,
            &[0x02],
        )
    }

    /// `tcp option maxseg size set rt mtu`
    pub fn clamp_mss(self) -> Rule {
        const TCPMSS: u32 = 3;
        const HTON: u32 = 1;
        const TCP_OPTION: u32 = 1;
        const MAXSEG: u8 = 2;
        self.then("rt", |m| m.be32(1, R0).be32(2, TCPMSS))
            .then("byteorder", |m| m.be32(1, R0).be32(2, R0).be32(3, HTON).be32(4, 2).be32(5, 2))
            .then("exthdr", |m| m.u8(2, MAXSEG).be32(3, 2).be32(4, 2).be32(6, TCP_OPTION).be32(7, R0))
    }

    /// `dnat ip to meta l4proto . th dport map @map`
    pub fn redirect_by_port(self, map: &'static str) -> Rule {
        self.meta(L4PROTO, R0).payload(TRANSPORT, 2, 2, R0 + 1).redirect(map)
    }

    /// `dnat ip to ip daddr . meta l4proto . th dport map @map`
    pub fn redirect_by_address_and_port(self, map: &'static str) -> Rule {
        self.daddr(R0).meta(L4PROTO, R0 + 1).payload(TRANSPORT, 2, 2, R0 + 2).redirect(map)
    }

    /// `dnat ip6 to meta l4proto . th dport map @map`
    pub fn redirect6_by_port(self, map: &'static str) -> Rule {
        self.meta(L4PROTO, R0).payload(TRANSPORT, 2, 2, R0 + 1).redirect_to(IPV6, R0 + 4, map)
    }

    /// `dnat ip6 to ip6 daddr . meta l4proto . th dport map @map`
    pub fn redirect6_by_address_and_port(self, map: &'static str) -> Rule {
        let key = self.payload(NETWORK, 24, 16, R0).meta(L4PROTO, R0 + 4).payload(TRANSPORT, 2, 2, R0 + 5);
        key.redirect_to(IPV6, R0 + 4, map)
    }

    fn redirect(self, map: &'static str) -> Rule {
        self.redirect_to(IPV4, R0 + 1, map)
    }

    /// What the map holds: an address, and after it, in `port`, a port.
    fn redirect_to(self, family: u8, port: u32, map: &'static str) -> Rule {
        const DNAT: u32 = 1;
        self.then("lookup", |m| m.text(1, map).be32(2, R0).be32(3, R0)).then("nat", |m| {
            m.be32(1, DNAT).be32(2, u32::from(family)).be32(3, R0).be32(4, R0).be32(5, port).be32(6, port)
        })
    }

    pub fn masquerade(self) -> Rule {
        self.then("masq", |m| m)
    }

    pub fn drop(self) -> Rule {
        self.verdict(0)
    }

    pub fn accept(self) -> Rule {
        self.verdict(1)
    }

    fn verdict(self, code: u32) -> Rule {
        const VERDICT: u32 = 0;
        self.then("immediate", |m| m.be32(1, VERDICT).nest(2, |m| m.nest(2, |m| m.be32(1, code))))
    }

    fn iifname(self, to: u32) -> Rule {
        self.meta(6, to)
    }

    fn oifname(self, to: u32) -> Rule {
        self.meta(7, to)
    }

    fn saddr(self, to: u32) -> Rule {
        self.payload(NETWORK, 12, 4, to)
    }

    fn daddr(self, to: u32) -> Rule {
        self.payload(NETWORK, 16, 4, to)
    }

    fn meta(self, key: u32, to: u32) -> Rule {
        self.then("meta", |m| m.be32(1, to).be32(2, key))
    }

    fn payload(self, base: u32, offset: u32, length: u32, to: u32) -> Rule {
        self.then("payload", |m| m.be32(1, to).be32(2, base).be32(3, offset).be32(4, length))
    }

    fn compare(self, how: u32, from: u32, with: &[u8]) -> Rule {
        self.then("cmp", |m| m.be32(1, from).be32(2, how).nest(3, |m| m.attr(1, with)))
    }

    fn and(self, mask: &[u8]) -> Rule {
        self.then("bitwise", |m| {
            m.be32(1, R0)
                .be32(2, R0)
                .be32(3, mask.len() as u32)
                .nest(4, |m| m.attr(1, mask))
                .nest(5, |m| m.attr(1, &vec![0; mask.len()]))
        })
    }

    fn lookup(self, set: &'static str, inverted: bool) -> Rule {
        self.then("lookup", |m| m.text(1, set).be32(2, R0).be32(5, u32::from(inverted)))
    }

    fn then(mut self, name: &'static str, attributes: impl FnOnce(Message) -> Message) -> Rule {
        self.expressions = self.expressions.nest(ELEM, |m| m.text(1, name).nest(2, attributes));
        self
    }
}

//! Firewalls of others: what their chains do with a packet that is forwarded, or is for the host itself, as far as names of
//! interfaces decide.
//!
//! A packet goes through every base chain of its hook, and from there by jumps. Rules are followed as the kernel follows them.
//! What else a rule asks (addresses, states, sets) is not known: such a rule counts only if it accepts and names our bridge, because
//! whoever wrote it knows us. Absent: tables of iptables-legacy, which cannot be seen.

use std::collections::BTreeMap;

use crate::listing::{FIXED, text};
use crate::netlink::{Result, Socket, dump_request};
use crate::nft::{Hook, INET, IPV4, SUBSYSTEM, TABLE};
use crate::wire;

const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
/// The kernel allows 16 jumps.
const DEPTH_MAX: u32 = 16;

/// A packet from or to one of our bridges; of an interface that is not known no name fits.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    pub bridge: &'a str,
    pub way_in: Option<&'a str>,
    pub way_out: Option<&'a str>,
    /// To a published port: its address was another before.
    pub is_redirected: bool,
}

/// A table with a base chain in one of the hooks.
pub struct Table {
    family: u8,
    name: String,
    chains: Vec<Chain>,
    rules: BTreeMap<String, Vec<Rule>>,
}

pub struct Chain {
    name: String,
    /// Of a base chain: its hook, and whether its policy is to drop.
    base: Option<(Hook, Policy)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Accept,
    Drop,
}

impl Chain {
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Table {
    pub fn family(&self) -> &'static str {
        if self.family == INET { "inet" } else { "ip" }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn has_chain(&self, name: &str) -> bool {
        self.chains.iter().any(|chain| chain.name == name)
    }

    pub fn base_chains(&self, hook: Hook) -> impl Iterator<Item = &Chain> {
        self.chains.iter().filter(move |chain| chain.base.is_some_and(|(its, _)| its == hook))
    }

    pub fn drops(&self, base: &Chain, packet: &Packet<'_>) -> bool {
        match self.walk(&base.name, packet, 0) {
            Outcome::Accepted { .. } => false,
            Outcome::Dropped => true,
            Outcome::GoesOn => base.base.is_some_and(|(_, policy)| policy == Policy::Drop),
        }
    }

    fn walk(&self, chain: &str, packet: &Packet<'_>, depth: u32) -> Outcome {
        let rules = self.rules.get(chain).filter(|_| depth <= DEPTH_MAX);
        for rule in rules.into_iter().flatten() {
            let Some(fit) = rule.fit(packet) else { continue };
            let outcome = match &rule.then {
                Then::Nothing => continue,
                Then::Accept => Outcome::Accepted { by_name: fit.by_name },
                Then::Drop => Outcome::Dropped,
                Then::Return => Outcome::GoesOn,
                Then::Jump(chain) | Then::Goto(chain) => self.walk(chain, packet, depth + 1),
            };
            match outcome {
                Outcome::Accepted { by_name } if fit.is_certain || fit.by_name || by_name => {
                    return Outcome::Accepted { by_name: by_name || fit.by_name };
                }
                Outcome::Dropped if fit.is_certain => return outcome,
                // Back from a jump: the next rule. From a goto, to whoever jumped here.
                Outcome::GoesOn if fit.is_certain && !matches!(rule.then, Then::Jump(_)) => return outcome,
                _ => {}
            }
        }
        Outcome::GoesOn
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    /// `by_name`: a rule on the way names our bridge.
    Accepted {
        by_name: bool,
    },
    Dropped,
    GoesOn,
}

/// How a rule is about a packet: for certain, or as far as is known.
struct Fit {
    is_certain: bool,
    by_name: bool,
}

struct Rule {
    conditions: Vec<Condition>,
    then: Then,
}

enum Condition {
    /// The name of an interface begins so, or does not; a whole name ends in a zero byte, which no name has.
    Name {
        side: Side,
        is: bool,
        begins: Vec<u8>,
    },
    Redirected,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    In,
    Out,
}

enum Then {
    Nothing,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Rule {
    /// None: not about this packet.
    fn fit(&self, packet: &Packet<'_>) -> Option<Fit> {
        let mut fit = Fit { is_certain: true, by_name: false };
        for condition in &self.conditions {
            match condition {
                Condition::Unknown => fit.is_certain = false,
                Condition::Redirected if packet.is_redirected => {}
                Condition::Redirected => return None,
                Condition::Name { side, is, begins } => {
                    let name = if *side == Side::In { packet.way_in } else { packet.way_out };
                    let begins_so =
                        name.is_some_and(|name| [name.as_bytes(), &[0]].concat().starts_with(begins));
                    if begins_so != *is {
                        return None;
                    }
                    fit.by_name |= begins_so && name == Some(packet.bridge);
                }
            }
        }
        Some(fit)
    }
}

/// Those that IPv4 goes through when it is forwarded or is for the host itself, but for our own.
pub fn tables(socket: &mut Socket, ours: &str) -> Result<Vec<Table>> {
    const ANY: u8 = 0;
    let mut tables: BTreeMap<(u8, String), Vec<Chain>> = BTreeMap::new();
    let chains =
        socket.dump("cannot list the chains of nf_tables", dump_request(GETCHAIN, &[ANY, 0, 0, 0]), chain)?;
    for (family, table, chain) in chains {
        if matches!(family, INET | IPV4) && table != ours {
            tables.entry((family, table)).or_default().push(chain);
        }
    }
    tables.retain(|_, chains| chains.iter().any(|chain| chain.base.is_some()));
    let mut found = Vec::new();
    for ((family, name), chains) in tables {
        let request = dump_request(GETRULE, &[family, 0, 0, 0]).text(TABLE, &name);
        let listed = socket.dump("cannot list the rules of nf_tables", request, |body| {
            let attributes = wire::after(body, FIXED);
            // Not every kernel lists that table's alone.
            let of = (*body.first()?, text(attributes, TABLE)?);
            (of == (family, name.clone())).then_some(())?;
            Some((text(attributes, 2)?, rule(wire::attribute(attributes, 4).unwrap_or_default())))
        })?;
        let mut rules: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
        listed.into_iter().for_each(|(chain, rule)| rules.entry(chain).or_default().push(rule));
        found.push(Table { family, name, chains, rules });
    }
    Ok(found)
}

fn chain(body: &[u8]) -> Option<(u8, String, Chain)> {
    const DROP: u32 = 0;
    let attributes = wire::after(body, FIXED);
    let hook = wire::attribute(attributes, 4).and_then(|hook| be32(hook, 1));
    let policy = if be32(attributes, 5) == Some(DROP) { Policy::Drop } else { Policy::Accept };
    let hook = [Hook::Input, Hook::Forward].into_iter().find(|known| hook == Some(*known as u32));
    let base = hook.map(|hook| (hook, policy));
    Some((*body.first()?, text(attributes, TABLE)?, Chain { name: text(attributes, 3)?, base }))
}

/// What the last expression has put into a register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Name(Side),
    /// Of a connection; after the mask, whether it was redirected.
    Status,
    Redirected,
    Other,
}

fn rule(expressions: &[u8]) -> Rule {
    let mut rule = Rule { conditions: Vec::new(), then: Then::Nothing };
    let mut loaded = Loaded::Other;
    for (_, expression) in wire::attributes(expressions) {
        let data = wire::attribute(expression, 2).unwrap_or_default();
        let name = text(expression, 1).unwrap_or_default();
        match name.as_str() {
            "counter" | "log" => {}
            "meta" | "ct" => loaded = load(&name, data),
            "bitwise" => loaded = masked(loaded, data),
            "cmp" => rule.conditions.push(comparison(loaded, data)),
            "immediate" => rule.then = verdict(data).unwrap_or(rule.then),
            "reject" => rule.then = Then::Drop,
            // Of iptables, by the name of its extension.
            "match" if text(data, 1).as_deref() == Some("comment") => {}
            "target" if text(data, 1).as_deref() == Some("REJECT") => rule.then = Then::Drop,
            "target" => {}
            _ => rule.conditions.push(Condition::Unknown),
        }
    }
    rule
}

fn load(what: &str, data: &[u8]) -> Loaded {
    const IIFNAME: u32 = 6;
    const OIFNAME: u32 = 7;
    const STATUS: u32 = 2;
    match (what, be32(data, 2)) {
        ("meta", Some(IIFNAME)) => Loaded::Name(Side::In),
        ("meta", Some(OIFNAME)) => Loaded::Name(Side::Out),
        ("ct", Some(STATUS)) => Loaded::Status,
        _ => Loaded::Other,
    }
}

fn masked(loaded: Loaded, data: &[u8]) -> Loaded {
    const DNAT: u32 = 1 << 5;
    let mask = wire::attribute(data, 4).and_then(|data| wire::u32_at(wire::attribute(data, 1)?, 0));
    match loaded {
        Loaded::Status if mask == Some(DNAT) => Loaded::Redirected,
        _ => Loaded::Other,
    }
}

fn comparison(loaded: Loaded, data: &[u8]) -> Condition {
    const EQUAL: u32 = 0;
    const UNEQUAL: u32 = 1;
    let value = wire::attribute(data, 3).and_then(|value| wire::attribute(value, 1)).unwrap_or_default();
    match (loaded, be32(data, 2)) {
        (Loaded::Name(side), Some(op @ (EQUAL | UNEQUAL))) => {
            // Padded with zeros to the length of a register: one of them is the end of the name.
            let end = value.iter().position(|byte| *byte == 0).map_or(value.len(), |at| at + 1);
            Condition::Name { side, is: op == EQUAL, begins: value.get(..end).unwrap_or(value).to_vec() }
        }
        (Loaded::Redirected, Some(UNEQUAL)) if value.iter().all(|byte| *byte == 0) => Condition::Redirected,
        _ => Condition::Unknown,
    }
}

/// None: a value for a register.
fn verdict(data: &[u8]) -> Option<Then> {
    const DROP: i32 = 0;
    const ACCEPT: i32 = 1;
    const JUMP: i32 = -3;
    const GOTO: i32 = -4;
    const RETURN: i32 = -5;
    let verdict = wire::attribute(wire::attribute(data, 2)?, 2)?;
    let to = text(verdict, 2).unwrap_or_default();
    Some(match be32(verdict, 1)?.cast_signed() {
        DROP => Then::Drop,
        ACCEPT => Then::Accept,
        JUMP => Then::Jump(to),
        GOTO => Then::Goto(to),
        RETURN => Then::Return,
        _ => Then::Nothing,
    })
}

fn be32(attributes: &[u8], kind: u16) -> Option<u32> {
    wire::u32_at(wire::attribute(attributes, kind)?, 0).map(u32::from_be)
}

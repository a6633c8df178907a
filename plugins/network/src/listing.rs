//! What is in nf_tables already: elements of a set of ours, what others change, and chains of others that drop what is forwarded.

use crate::netlink::{Error, Result, Socket, dump_request};
use crate::nft::{DELCHAIN, DELRULE, DELSET, DELSETELEM, DELTABLE, Hook, INET, IPV4, SUBSYSTEM, TABLE};
use crate::wire;

use nix::errno::Errno;

const GETCHAIN: u16 = SUBSYSTEM | 4;
const GETRULE: u16 = SUBSYSTEM | 7;
const GETSETELEM: u16 = SUBSYSTEM | 13;

/// The multicast group that says what changes in nf_tables.
pub const NOTIFICATIONS: u32 = 7;

/// nfgenmsg.
const FIXED: usize = 4;

/// Whether a notification says that something was taken out of `table`, by someone other than the socket `port`.
pub fn took_from(notice: &wire::Received<'_>, table: &str, port: u32) -> bool {
    matches!(notice.kind, DELTABLE | DELCHAIN | DELRULE | DELSET | DELSETELEM)
        && notice.port != port
        && text(wire::after(notice.body, FIXED), TABLE).as_deref() == Some(table)
}

/// The keys of a set whose keys are numbers of interfaces; none where there is no such set.
pub fn indexes(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<u32>> {
    let request = dump_request(GETSETELEM, &[INET, 0, 0, 0]).text(TABLE, table).text(2, set);
    let found = socket.dump("cannot list a set of nf_tables", request, |body| {
        let elements = wire::attribute(wire::after(body, FIXED), 3)?;
        let key = |element| wire::u32_at(wire::attribute(wire::attribute(element, 1)?, 1)?, 0);
        Some(wire::attributes(elements).filter_map(|(_, element)| key(element)).collect::<Vec<u32>>())
    });
    match found {
        Err(Error { errno: Errno::ENOENT, .. }) => Ok(Vec::new()),
        found => Ok(found?.concat()),
    }
}

/// A chain through which all that is forwarded goes, and which drops what none of its rules accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropsByDefault {
    family: u8,
    pub table: String,
    pub chain: String,
    /// The other chains of its table.
    pub beside: Vec<String>,
}

impl DropsByDefault {
    pub fn family(&self) -> &'static str {
        if self.family == INET { "inet" } else { "ip" }
    }
}

struct Chain {
    family: u8,
    table: String,
    name: String,
    drops_by_default: bool,
}

/// Those that IPv4 goes through, but for our own table's.
pub fn drops_by_default(socket: &mut Socket, ours: &str) -> Result<Vec<DropsByDefault>> {
    const ANY: u8 = 0;
    const DROP: u32 = 0;
    let request = dump_request(GETCHAIN, &[ANY, 0, 0, 0]);
    let chains = socket.dump("cannot list the chains of nf_tables", request, |body| {
        let (family, chain) = (*body.first()?, wire::after(body, FIXED));
        let hook = wire::attribute(chain, 4).and_then(|hook| be32(hook, 1));
        let drops_by_default = hook == Some(Hook::Forward as u32) && be32(chain, 5) == Some(DROP);
        let found = Chain { family, table: text(chain, TABLE)?, name: text(chain, 3)?, drops_by_default };
        Some(found).filter(|found| matches!(family, INET | IPV4) && found.table != ours)
    })?;
    let beside = |of: &Chain| {
        let same = |c: &&Chain| (c.family, &c.table) == (of.family, &of.table) && c.name != of.name;
        chains.iter().filter(same).map(|c| c.name.clone()).collect()
    };
    let dropping = chains.iter().filter(|chain| chain.drops_by_default);
    let known = |c: &Chain| DropsByDefault {
        family: c.family,
        table: c.table.clone(),
        chain: c.name.clone(),
        beside: beside(c),
    };
    Ok(dropping.map(known).collect())
}

/// What the rules of a table accept by the name of an interface: names, or beginnings of names.
pub struct Accepted(Vec<Vec<u8>>);

impl Accepted {
    pub fn has(&self, interface: &str) -> bool {
        // A whole name ends in a zero byte, which no interface's name has.
        let name = [interface.as_bytes(), &[0]].concat();
        self.0.iter().any(|accepted| name.starts_with(accepted))
    }
}

pub fn accepted(socket: &mut Socket, of: &DropsByDefault) -> Result<Accepted> {
    let request = dump_request(GETRULE, &[of.family, 0, 0, 0]).text(TABLE, &of.table);
    let names = socket.dump("cannot list the rules of nf_tables", request, |body| {
        let rule = wire::after(body, FIXED);
        let is_its = text(rule, TABLE)? == of.table;
        wire::attribute(rule, 4).filter(|_| is_its).map(names_accepted)
    })?;
    Ok(Accepted(names.concat()))
}

/// What a rule compares names of interfaces with, if it accepts.
fn names_accepted(expressions: &[u8]) -> Vec<Vec<u8>> {
    const NAMES: [u32; 2] = [6, 7];
    const ACCEPT: u32 = 1;
    const EQUAL: u32 = 0;
    let (mut names, mut loaded, mut accepts) = (Vec::new(), false, false);
    for (_, expression) in wire::attributes(expressions) {
        let data = wire::attribute(expression, 2).unwrap_or_default();
        match text(expression, 1).as_deref() {
            Some("meta") => loaded = be32(data, 2).is_some_and(|key| NAMES.contains(&key)),
            Some("cmp") if loaded && be32(data, 2) == Some(EQUAL) => {
                let value = wire::attribute(data, 3).and_then(|value| wire::attribute(value, 1));
                names.extend(value.map(|value| {
                    // Padded with zeros to the length of a register: one of them is the end of the name.
                    let end = value.iter().position(|byte| *byte == 0).map_or(value.len(), |at| at + 1);
                    value.get(..end).unwrap_or(value).to_vec()
                }));
            }
            Some("immediate") => {
                let verdict = wire::attribute(data, 2).and_then(|data| wire::attribute(data, 2));
                accepts |= verdict.and_then(|verdict| be32(verdict, 1)) == Some(ACCEPT);
            }
            _ => {}
        }
    }
    if accepts { names } else { Vec::new() }
}

fn text(attributes: &[u8], kind: u16) -> Option<String> {
    wire::attribute(attributes, kind).map(wire::text)
}

fn be32(attributes: &[u8], kind: u16) -> Option<u32> {
    wire::u32_at(wire::attribute(attributes, kind)?, 0).map(u32::from_be)
}

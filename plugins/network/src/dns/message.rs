//! DNS messages as bytes: what is read of a question, and how an answer is written.
//!
//! A question of a type that nobody has heard of is passed on as it is, so only what decides is read: the header, the one question,
//! and the size that EDNS allows. simple-dns refuses types that it does not know and sets memory aside by the counts that a header
//! claims, so it is the oracle of the tests. Whatever the bytes are, reading ends and nothing panics.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 255;
/// Without EDNS.
const UDP_BYTES: usize = 512;
/// Of an answer by UDP, whatever the asker would take: larger ones are fragmented, or lost.
pub const UDP_BYTES_MAX: usize = 4096;
/// What we say that we take, as the flag day of 2020 has it.
const UDP_BYTES_OURS: u16 = 1232;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;
const RCODE: u16 = 0x000f;

const OPT: u16 = 41;

pub mod kind {
    pub const A: u16 = 1;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const ANY: u16 = 255;
}

const IN: u16 = 1;
const ANY_CLASS: u16 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
}

/// What cannot be answered as a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No header, or an answer: whoever sent it expects nothing.
    Silent,
    Say(Rcode),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    flags: u16,
    /// In lower case, without the last dot. None: no name that anybody could have given (a dot or a blank in a label).
    pub name: Option<String>,
    pub kind: u16,
    class: u16,
    /// Where the question ends.
    question_end: usize,
    /// The size of an answer by UDP that the asker takes; None: it does not speak EDNS.
    edns: Option<u16>,
}

impl Query {
    pub fn parse(bytes: &[u8]) -> Result<Query, Malformed> {
        let flags = u16_at(bytes, 2).ok_or(Malformed::Silent)?;
        if bytes.len() < HEADER || flags & RESPONSE != 0 {
            return Err(Malformed::Silent);
        }
        if flags & OPCODE != 0 {
            return Err(Malformed::Say(Rcode::NotImp));
        }
        let wrong = Malformed::Say(Rcode::FormErr);
        if u16_at(bytes, 4) != Some(1) {
            return Err(wrong);
        }
        let (name, end) = question_name(bytes).ok_or(wrong)?;
        let kind = u16_at(bytes, end).ok_or(wrong)?;
        let class = u16_at(bytes, end + 2).ok_or(wrong)?;
        let question_end = end + 4;
        let edns = edns(bytes, question_end).ok_or(wrong)?;
        Ok(Query { flags, name, kind, class, question_end, edns })
    }

    /// Of the class in which addresses are.
    pub fn is_internet(&self) -> bool {
        matches!(self.class, IN | ANY_CLASS)
    }

    /// The question as it was sent.
    pub fn question<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        bytes.get(HEADER..self.question_end).unwrap_or_default()
    }

    /// What fits into an answer by UDP.
    pub fn udp_bytes(&self) -> usize {
        self.edns.map_or(UDP_BYTES, |size| usize::from(size).clamp(UDP_BYTES, UDP_BYTES_MAX))
    }

    /// An answer of our own with these records.
    pub fn reply(&self, bytes: &[u8], rcode: Rcode, records: &[Record]) -> Vec<u8> {
        let flags = RESPONSE
            | AUTHORITATIVE
            | RECURSION_AVAILABLE
            | (self.flags & (RECURSION_DESIRED | CHECKING_DISABLED))
            | rcode as u16;
        let question = self.question(bytes);
        let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
        let mut out = Vec::with_capacity(HEADER + question.len() + records.len() * 28 + 11);
        out.extend_from_slice(bytes.get(..2).unwrap_or(&[0; 2]));
        for word in [flags, 1, count, 0, u16::from(self.edns.is_some())] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(question);
        records.iter().take(usize::from(count)).for_each(|record| record.write(&mut out));
        if self.edns.is_some() {
            out.push(0);
            for word in [OPT, UDP_BYTES_OURS, 0, 0, 0] {
                out.extend_from_slice(&word.to_be_bytes());
            }
        }
        out
    }

    /// As `reply`, for UDP: what does not fit is left out, and said to be, so that the asker comes by TCP.
    pub fn reply_by_udp(&self, bytes: &[u8], rcode: Rcode, records: &[Record]) -> Vec<u8> {
        let whole = self.reply(bytes, rcode, records);
        if whole.len() <= self.udp_bytes() { whole } else { self.truncated(bytes) }
    }

    pub fn truncated(&self, bytes: &[u8]) -> Vec<u8> {
        let mut out = self.reply(bytes, Rcode::NoError, &[]);
        if let Some(high) = out.get_mut(2) {
            *high |= (TRUNCATED >> 8) as u8;
        }
        out
    }
}

/// To what could not be read: the header alone.
pub fn reply_to_malformed(bytes: &[u8], rcode: Rcode) -> Vec<u8> {
    let flags = u16_at(bytes, 2).unwrap_or(0) & (OPCODE | RECURSION_DESIRED);
    let mut out = bytes.get(..2).unwrap_or(&[0; 2]).to_vec();
    out.extend_from_slice(&(RESPONSE | RECURSION_AVAILABLE | flags | rcode as u16).to_be_bytes());
    out.resize(HEADER, 0);
    out
}

/// One record of an answer: about the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Address(IpAddr),
    /// A reverse look-up's.
    Name(String),
}

/// Clients may cache for so long, in seconds. An address is a service's own over restarts, but a stopped one's name goes at once.
pub const TTL: u32 = 0;

impl Record {
    fn write(&self, out: &mut Vec<u8>) {
        const ASKED_FOR: u16 = 0xc000 | HEADER as u16;
        let (kind, data) = match self {
            Record::Address(IpAddr::V4(address)) => (kind::A, address.octets().to_vec()),
            Record::Address(IpAddr::V6(address)) => (kind::AAAA, address.octets().to_vec()),
            Record::Name(name) => (kind::PTR, wire_name(name)),
        };
        for word in [ASKED_FOR, kind, IN] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&TTL.to_be_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&data);
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|label| (1..=LABEL_MAX).contains(&label.len())) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// Of an answer by a server: whether it is one to this question, and what it says.
pub fn rcode_of_answer(answer: &[u8], id: u16, question: &[u8]) -> Option<u8> {
    let flags = u16_at(answer, 2)?;
    if u16_at(answer, 0)? != id || flags & RESPONSE == 0 || answer.len() < HEADER {
        return None;
    }
    let rcode = (flags & RCODE) as u8;
    // A server that understood nothing may leave the question out.
    let same = answer.get(HEADER..HEADER + question.len()).is_some_and(|q| q.eq_ignore_ascii_case(question));
    let none = u16_at(answer, 4) == Some(0) && rcode != Rcode::NoError as u8;
    (same || none).then_some(rcode)
}

pub fn is_truncated(answer: &[u8]) -> bool {
    u16_at(answer, 2).is_some_and(|flags| flags & TRUNCATED != 0)
}

pub fn id(bytes: &[u8]) -> u16 {
    u16_at(bytes, 0).unwrap_or(0)
}

pub fn set_id(bytes: &mut [u8], id: u16) {
    if let Some(place) = bytes.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// The address that a name below in-addr.arpa or ip6.arpa stands for.
pub fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0u8; 4];
        let mut labels = rest.rsplit('.');
        for octet in &mut octets {
            *octet = labels.next()?.parse().ok()?;
        }
        return labels.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let (mut bits, mut count) = (0u128, 0);
    for label in rest.rsplit('.') {
        let digit = u8::from_str_radix(label, 16).ok().filter(|_| label.len() == 1)?;
        bits = bits << 4 | u128::from(digit);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

/// The name of the question, and where it ends. A question has nothing before it that a pointer could lead to.
fn question_name(bytes: &[u8]) -> Option<(Option<String>, usize)> {
    let (mut at, mut name, mut plain) = (HEADER, String::with_capacity(32), true);
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            return Some((plain.then_some(name), at + 1));
        }
        let label = bytes.get(at + 1..at + 1 + length).filter(|_| length <= LABEL_MAX)?;
        at += 1 + length;
        if at - HEADER >= NAME_MAX {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        plain &= label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        name.extend(label.iter().map(|byte| byte.to_ascii_lowercase() as char));
    }
}

/// What EDNS says of the asker's size; None: what follows the question is damaged.
fn edns(bytes: &[u8], mut at: usize) -> Option<Option<u16>> {
    let mut count = 0usize;
    for section in [6, 8, 10] {
        count += usize::from(u16_at(bytes, section)?);
    }
    let mut found = None;
    // Each is eleven bytes or more, so the counts that a header claims do not matter.
    for _ in 0..count {
        at = after_name(bytes, at)?;
        let (kind, class) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
        let length = usize::from(u16_at(bytes, at + 8)?);
        at += 10 + length;
        if at > bytes.len() {
            return None;
        }
        if kind == OPT {
            found = Some(class);
        }
    }
    Some(found)
}

fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

//! Netlink messages as bytes: a writer that nests, and a reader that never panics.
//!
//! One vocabulary serves rtnetlink, nf_tables and conntrack: a header, a family's own fixed part, then attributes
//! (type, length, value, padded to four), some of which hold attributes. Lengths are filled in when a nest closes.
//! Deliberately absent: what any attribute means (links.rs, nft.rs, conntrack.rs) and the socket (netlink.rs).

use std::net::{Ipv4Addr, Ipv6Addr};

pub const HEADER: usize = 16;

pub const REQUEST: u16 = 0x1;
pub const ACK: u16 = 0x4;
pub const REPLACE: u16 = 0x100;
pub const EXCL: u16 = 0x200;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
pub const DUMP: u16 = 0x300;

const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// One request. The sequence number is the socket's to set.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        Message { bytes }
    }

    /// Attributes without a header, to be `put` into a message.
    pub fn part() -> Message {
        Message { bytes: Vec::new() }
    }

    pub fn put(self, part: &Message) -> Message {
        self.raw(&part.bytes)
    }

    /// Attributes that are bytes already.
    pub fn raw(mut self, attributes: &[u8]) -> Message {
        self.bytes.extend_from_slice(attributes);
        self
    }

    /// The family's fixed part (ifinfomsg, nfgenmsg, ...); comes before any attribute.
    pub fn fixed(mut self, part: &[u8]) -> Message {
        self.bytes.extend_from_slice(part);
        self.pad();
        self
    }

    pub fn attr(mut self, kind: u16, value: &[u8]) -> Message {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
        self
    }

    pub fn u8(self, kind: u16, value: u8) -> Message {
        self.attr(kind, &[value])
    }

    pub fn u16(self, kind: u16, value: u16) -> Message {
        self.attr(kind, &value.to_ne_bytes())
    }

    pub fn u32(self, kind: u16, value: u32) -> Message {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Netfilter's numbers are in network order, rtnetlink's are not.
    pub fn be32(self, kind: u16, value: u32) -> Message {
        self.attr(kind, &value.to_be_bytes())
    }

    pub fn ipv6(self, kind: u16, value: Ipv6Addr) -> Message {
        self.attr(kind, &value.octets())
    }

    pub fn ipv4(self, kind: u16, value: Ipv4Addr) -> Message {
        self.attr(kind, &value.octets())
    }

    /// With the NUL that every netlink string ends in.
    pub fn text(mut self, kind: u16, value: &str) -> Message {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    pub fn nest(self, kind: u16, inside: impl FnOnce(Message) -> Message) -> Message {
        self.nest_after(kind, &[], inside)
    }

    /// A nest that begins with a fixed part, as veth's peer does with its ifinfomsg.
    pub fn nest_after(mut self, kind: u16, part: &[u8], inside: impl FnOnce(Message) -> Message) -> Message {
        let start = self.open(kind | NESTED);
        self.bytes.extend_from_slice(part);
        self.pad();
        let mut filled = inside(self);
        filled.close(start);
        filled
    }

    /// The message with its length and number; what is sent.
    pub fn seal(&mut self, sequence: u32) -> &[u8] {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }

    pub fn want_ack(&mut self) {
        self.bytes[6] |= ACK as u8;
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One message as received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
    pub body: &'a [u8],
}

/// The messages of one datagram; stops at the first that does not fit.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER {
            return None;
        }
        let received = Received {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            port: u32_at(bytes, 12)?,
            body: bytes.get(HEADER..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(received)
    })
}

/// The attributes in `bytes`, flags of the type masked out; stops at the first that does not fit.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The first attribute of this kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// What follows a fixed part of `length` bytes.
pub fn after(body: &[u8], length: usize) -> &[u8] {
    body.get(length..).unwrap_or(&[])
}

pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub fn ipv4_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?))
}

pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_nest_knows_its_length_and_what_follows_is_aligned() {
        let mut message = Message::new(16, CREATE).fixed(&[0; 16]);
        message = message.text(3, "lo").nest(18, |m| m.text(1, "veth").u8(2, 1)).u32(4, 1500);
        let bytes = message.seal(7).to_vec();
        let received = messages(&bytes).next().unwrap();
        assert_eq!((received.kind, received.sequence), (16, 7));
        let body = after(received.body, 16);
        assert_eq!(text(attribute(body, 3).unwrap()), "lo");
        let inner = attribute(body, 18).unwrap();
        assert_eq!(text(attribute(inner, 1).unwrap()), "veth");
        assert_eq!(attribute(inner, 2).unwrap(), [1]);
        assert_eq!(u32_at(attribute(body, 4).unwrap(), 0), Some(1500));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for m in messages(&bytes) {
                for (_, value) in attributes(m.body) {
                    attributes(value).for_each(drop);
                    let _ = text(value);
                }
            }
        }
    }
}

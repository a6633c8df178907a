//! Which interfaces take packets that are for others: IPv4 forwarding, as the kernel has it.
//!
//! The kernel asks the interface that a packet comes in by (`net.ipv4.conf.X.forwarding`). `net.ipv4.ip_forward` is `all`: writing it
//! sets every interface's own at once, and nothing else. So what we need is turned on interface by interface, and `ip_forward` says
//! whether somebody else wants a router.
//!
//! `ip_forward` is never written: it goes on saying whether somebody else wants a router, and a write of 1 over our own 1 would be a
//! change that nobody is told of. Which interfaces are ours is a set in our own table, so the kernel forgets it when it forgets the
//! setting (docs/network.md).

use std::collections::BTreeMap;

use crate::netlink::{Result, Socket, dump_request};
use crate::sysctl;
use crate::wire;

const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;
const IFINDEX: u16 = 1;
const FORWARDING: u16 = 2;
const ALL: i32 = -1;
/// netconfmsg is one byte, padded.
const FIXED: usize = 4;
const REQUEST: [u8; 1] = [nix::libc::AF_INET as u8];

/// The multicast groups that say what changes here, of IPv4 and IPv6.
pub const NOTIFICATIONS: [u32; 2] = [24, 25];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `ip_forward`.
    pub all: bool,
    /// By number; an interface without IPv4 is not there.
    pub interfaces: BTreeMap<u32, bool>,
}

pub fn read(socket: &mut Socket) -> Result<Forwarding> {
    let mut found = Forwarding::default();
    let doing = "cannot list which interfaces forward";
    for (index, on) in socket.dump(doing, dump_request(RTM_GETNETCONF, &REQUEST), parse)? {
        match u32::try_from(index) {
            Ok(index) => drop(found.interfaces.insert(index, on)),
            Err(_) => found.all |= index == ALL && on,
        }
    }
    Ok(found)
}

fn parse(body: &[u8]) -> Option<(i32, bool)> {
    let attributes = wire::after(body, FIXED);
    let number = |kind| wire::u32_at(wire::attribute(attributes, kind)?, 0);
    Some((number(IFINDEX)? as i32, number(FORWARDING)? != 0))
}

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// `ip_forward`.
    All,
    /// This interface does not forward: it is new, or it was turned off.
    Off(u32),
}

/// None: nothing that we have to see to.
pub fn changed(notice: &wire::Received<'_>) -> Option<Changed> {
    match parse(notice.body).filter(|_| notice.kind == RTM_NEWNETCONF)? {
        (ALL, _) => Some(Changed::All),
        (index, false) => u32::try_from(index).ok().map(Changed::Off),
        (_, true) => None,
    }
}

pub fn set(interface: &str, on: bool) -> Result<()> {
    sysctl::write(&format!("net/ipv4/conf/{interface}/forwarding"), if on { "1" } else { "0" })
}

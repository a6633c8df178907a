//! Links: what a dump says of them, and the two groups that mark ours.
//!
//! Every link of ours is marked twice: by its group, so that all can be found and removed in one request, and by its
//! alias (`sampan:<service>:<network>`), so that a dump says whose it is. Removing a link costs the kernel 19 ms or more under its
//! global lock (an RCU grace period), so links are only marked doomed here and removed later, many at once (guard.rs).

use nix::errno::Errno;

use crate::netlink::{Error, Result, Socket, dump_request};
use crate::wire::{self, Message};

/// The group of every link of ours, and of those that are to go. ("SAMP" on a telephone.)
pub const GROUP: u32 = 7267;
pub const DOOMED: u32 = 7268;
/// In one datagram: an answer to each request has to have room in the socket's buffer (208 KiB, of which the kernel counts
/// about 1 KiB for each).
const DOOMED_AT_ONCE: usize = 48;
const ALIAS: &str = "sampan:";

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

pub const IFLA_ADDRESS: u16 = 1;
pub const IFLA_IFNAME: u16 = 3;
pub const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
pub const IFLA_MASTER: u16 = 10;
pub const IFLA_LINKINFO: u16 = 18;
pub const IFLA_IFALIAS: u16 = 20;
pub const IFLA_GROUP: u16 = 27;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
pub const INFO_KIND: u16 = 1;
pub const INFO_DATA: u16 = 2;
pub const INFO_SLAVE_KIND: u16 = 4;
pub const INFO_SLAVE_DATA: u16 = 5;
const BRPORT_STATE: u16 = 1;
const BRPORT_LEARNING: u16 = 8;
const BRPORT_UNICAST_FLOOD: u16 = 9;
const BRPORT_FLUSH: u16 = 24;
const BRPORT_MCAST_FLOOD: u16 = 27;
const BRPORT_BCAST_FLOOD: u16 = 30;
pub const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;

pub const LINK: usize = 16;

pub fn alias(service: &str, network: &str) -> String {
    format!("{ALIAS}{service}:{network}")
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub loopback: bool,
    pub mtu: u32,
    pub group: u32,
    pub master: u32,
    /// Of a veth: the other end's index, in its own namespace.
    pub peer: u32,
    pub mac: Vec<u8>,
    pub alias: String,
    /// As `bridge`, `veth`; empty: hardware.
    pub kind: String,
}

impl Link {
    fn parse(body: &[u8]) -> Option<Link> {
        let mut link = Link {
            index: wire::u32_at(body, 4)?,
            up: wire::u32_at(body, 8)? & IFF_UP != 0,
            loopback: wire::u32_at(body, 8)? & IFF_LOOPBACK != 0,
            ..Link::default()
        };
        for (kind, value) in wire::attributes(wire::after(body, LINK)) {
            let number = || wire::u32_at(value, 0).unwrap_or(0);
            match kind {
                IFLA_IFNAME => link.name = wire::text(value),
                IFLA_MTU => link.mtu = number(),
                IFLA_GROUP => link.group = number(),
                IFLA_MASTER => link.master = number(),
                IFLA_LINK => link.peer = number(),
                IFLA_ADDRESS => link.mac = value.to_vec(),
                IFLA_IFALIAS => link.alias = wire::text(value),
                IFLA_LINKINFO => {
                    link.kind = wire::attribute(value, INFO_KIND).map(wire::text).unwrap_or_default();
                }
                _ => {}
            }
        }
        Some(link)
    }

    pub fn is_ours(&self) -> bool {
        self.group == GROUP || self.group == DOOMED
    }

    /// The host's end of a container's pair. By its kind, which it is made with: whoever hears of a new one may look at it before it
    /// has its alias.
    pub fn is_end_of_ours(&self) -> bool {
        self.is_ours() && self.kind == "veth"
    }

    /// Whose it is, by its alias.
    pub fn owner(&self) -> Option<(&str, &str)> {
        self.alias.strip_prefix(ALIAS)?.split_once(':')
    }
}

pub fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let request = Message::new(RTM_GETLINK, 0)
        .fixed(&[0; LINK])
        .text(IFLA_IFNAME, name)
        .u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.get(|| format!("cannot look up interface {name}"), request, Link::parse)
}

pub fn link_at(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    let request =
        Message::new(RTM_GETLINK, 0).fixed(&link_part(index, 0)).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.get(|| format!("cannot look up interface {index}"), request, Link::parse)
}

/// Every link of this host.
pub fn all(socket: &mut Socket) -> Result<Vec<Link>> {
    let request = dump_request(RTM_GETLINK, &[0; LINK]).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.dump("cannot list the host's interfaces", request, Link::parse)
}

/// Every link of ours, doomed ones too.
pub fn ours(socket: &mut Socket) -> Result<Vec<Link>> {
    let mut links = all(socket)?;
    links.retain(Link::is_ours);
    Ok(links)
}

/// Marks links to be removed by the next sweep, and cuts them off at once: an old namespace that is still there must not
/// answer for the address that its successor has, nor frames to its MAC (the same) go to it. Disabling the port is not
/// enough: the bridge enables it again at the next change of carrier. One that is gone is as wanted.
///
/// All of them are tried; what the kernel refused is returned.
pub fn doom(socket: &mut Socket, names: &[String]) -> Vec<Error> {
    let mut errors = Vec::new();
    for names in names.chunks(DOOMED_AT_ONCE) {
        let requests = names.iter().flat_map(|name| [set_group(name, DOOMED), cut(name)]).collect();
        let failed = |name: &str, errno, said| {
            (errno != Errno::ENODEV).then(|| Error {
                doing: format!("cannot mark {name} for removal"),
                errno,
                said,
            })
        };
        match socket.request_each(requests) {
            // Only the mark counts: to cut is refused where the link is no port of a bridge.
            Ok(refused) => errors.extend(refused.into_iter().filter(|(at, ..)| at % 2 == 0).filter_map(
                |(at, errno, said)| names.get(at / 2).and_then(|name| failed(name, errno, said)),
            )),
            Err(errno) => errors.extend(failed(&names.join(", "), errno, None)),
        }
    }
    errors
}

fn cut(name: &str) -> Message {
    let deaf = [BRPORT_STATE, BRPORT_LEARNING, BRPORT_UNICAST_FLOOD, BRPORT_MCAST_FLOOD, BRPORT_BCAST_FLOOD];
    Message::new(RTM_NEWLINK, 0).fixed(&[0; LINK]).text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |m| {
        m.text(INFO_SLAVE_KIND, "bridge")
            .nest(INFO_SLAVE_DATA, |m| deaf.iter().fold(m, |m, what| m.u8(*what, 0)).attr(BRPORT_FLUSH, &[]))
    })
}

/// Removes all doomed links in one request, one grace period for all of them. Blocks for 20 ms or more.
pub fn remove_doomed(socket: &mut Socket) -> Result<()> {
    let remove = Message::new(RTM_DELLINK, 0).fixed(&[0; LINK]).u32(IFLA_GROUP, DOOMED);
    match socket.request(|| "cannot remove old interfaces".into(), remove) {
        Err(e) if e.errno == Errno::ENODEV => Ok(()), // none left: their namespaces took them along
        other => other,
    }
}

pub fn set_group(name: &str, group: u32) -> Message {
    Message::new(RTM_NEWLINK, 0).fixed(&[0; LINK]).text(IFLA_IFNAME, name).u32(IFLA_GROUP, group)
}

/// ifinfomsg with `flags` set and no other touched.
pub fn link_part(index: u32, flags: u32) -> [u8; LINK] {
    let mut part = [0; LINK];
    part[4..8].copy_from_slice(&index.to_ne_bytes());
    part[8..12].copy_from_slice(&flags.to_ne_bytes());
    part[12..16].copy_from_slice(&flags.to_ne_bytes());
    part
}

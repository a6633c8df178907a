//! What the host has already: its addresses, its routes, and the MTU of its way out.

use std::net::Ipv4Addr;

use crate::addresses::Subnet;
use crate::link;
use crate::netlink::{Result, Socket, dump_request};
use crate::wire;

const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

pub const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
pub const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;

const ADDR: usize = 8;
pub const ROUTE: usize = 12;

#[derive(Clone, Copy, Debug)]
pub struct Address {
    pub index: u32,
    pub address: Ipv4Addr,
    pub prefix: u8,
}

pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>> {
    let request = dump_request(RTM_GETADDR, &addr_part(0, 0));
    socket.dump("cannot list the host's addresses", request, |body| {
        let local = wire::attribute(wire::after(body, ADDR), IFA_LOCAL)?;
        Some(Address {
            index: wire::u32_at(body, 4)?,
            address: wire::ipv4_at(local, 0)?,
            prefix: *body.get(1)?,
        })
    })
}

/// Every prefix that the host routes or has an address in, but for what is on links in `except` and default routes.
pub fn prefixes_in_use(socket: &mut Socket, except: &[u32]) -> Result<Vec<Subnet>> {
    let mut found: Vec<Subnet> = addresses(socket)?
        .into_iter()
        .filter(|a| !except.contains(&a.index))
        .map(|a| Subnet::containing(a.address, a.prefix))
        .collect();
    for r in routes(socket)? {
        if let (Some(subnet), false) = (r.to, r.oif.is_some_and(|o| except.contains(&o))) {
            found.push(subnet);
        }
    }
    Ok(found)
}

struct Route {
    /// None: the default route.
    to: Option<Subnet>,
    oif: Option<u32>,
    metric: u32,
}

fn routes(socket: &mut Socket) -> Result<Vec<Route>> {
    const UNICAST: u8 = 1;
    let mut part = [0; ROUTE];
    part[0] = nix::libc::AF_INET as u8;
    socket.dump("cannot list the host's routes", dump_request(RTM_GETROUTE, &part), |body| {
        if *body.get(7)? != UNICAST {
            return None;
        }
        let attrs = wire::after(body, ROUTE);
        let number = |kind| wire::attribute(attrs, kind).and_then(|v| wire::u32_at(v, 0));
        let prefix = *body.get(1)?;
        let to = wire::attribute(attrs, RTA_DST).and_then(|v| wire::ipv4_at(v, 0));
        Some(Route {
            to: to.filter(|_| prefix > 0).map(|a| Subnet::containing(a, prefix)),
            oif: number(RTA_OIF),
            metric: number(RTA_PRIORITY).unwrap_or(0),
        })
    })
}

/// The MTU of the device that the default route leaves by; 1500 without one.
pub fn default_mtu(socket: &mut Socket) -> Result<u32> {
    let best = routes(socket)?.into_iter().filter(|r| r.to.is_none()).min_by_key(|r| r.metric);
    let Some(index) = best.and_then(|r| r.oif) else {
        return Ok(1500);
    };
    Ok(link::link_at(socket, index)?.map_or(1500, |l| l.mtu.clamp(68, 65_535)))
}

/// The names of the interfaces that default routes leave by.
pub fn default_interfaces(socket: &mut Socket) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for index in routes(socket)?.into_iter().filter(|r| r.to.is_none()).filter_map(|r| r.oif) {
        names.extend(link::link_at(socket, index)?.map(|link| link.name));
    }
    Ok(names)
}

/// ifaddrmsg.
pub fn addr_part(prefix: u8, index: u32) -> [u8; ADDR] {
    let [a, b, c, d] = index.to_ne_bytes();
    [nix::libc::AF_INET as u8, prefix, 0, 0, a, b, c, d]
}

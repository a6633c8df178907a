//! Links: a bridge per network on the host, a pair of veth per container and network.
//!
//! Every link of ours is marked twice: by its group, so that all can be found and removed in one request, and by its
//! alias (`sampan:<service>:<network>`), so that a dump says whose it is. Each function may be called again: what is
//! there already is left or mended. Removing a link costs the kernel 19 ms or more under its global lock (an RCU grace
//! period), so links are only marked doomed here and swept later, many at once (sweep.rs).

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::addresses::{Mac, Subnet, hash};
use crate::netlink::{Error, Result, Socket, dump_request, failed};
use crate::wire::{self, CREATE, EXCL, Message, REPLACE};

/// The group of every link of ours, and of those that are to go. ("SAMP" on a telephone.)
pub const GROUP: u32 = 7267;
pub const DOOMED: u32 = 7268;
const ALIAS: &str = "sampan:";

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const BRPORT_STATE: u16 = 1;
const BRPORT_MODE: u16 = 4;
const BRPORT_LEARNING: u16 = 8;
const BRPORT_UNICAST_FLOOD: u16 = 9;
const BRPORT_FLUSH: u16 = 24;
const BRPORT_MCAST_FLOOD: u16 = 27;
const BRPORT_BCAST_FLOOD: u16 = 30;
const BRPORT_ISOLATED: u16 = 33;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const IFF_UP: u32 = 1;

const LINK: usize = 16;
const ADDR: usize = 8;
const ROUTE: usize = 12;

/// A bridge's name: `sp-<network>`, or where that is too long its beginning and a hash.
pub fn bridge_name(network: &str) -> String {
    if network.len() <= 12 {
        return format!("sp-{network}");
    }
    let start: String = network.chars().take(3).collect();
    format!("sp-{start}-{:08x}", hash(&["bridge", network]) as u32)
}

/// The host's end. The namespace is part of the name: a restart into a fresh one must not wait until the old is gone.
pub fn veth_name(service: &str, network: &str, netns: u64) -> String {
    format!("v{:013x}", hash(&["veth", service, network, &netns.to_string()]) >> 12)
}

pub fn alias(service: &str, network: &str) -> String {
    format!("{ALIAS}{service}:{network}")
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub group: u32,
    pub master: u32,
    /// Of a veth: the other end's index, in its own namespace.
    pub peer: u32,
    pub mac: Vec<u8>,
    pub alias: String,
}

impl Link {
    fn parse(body: &[u8]) -> Option<Link> {
        let mut link = Link {
            index: wire::u32_at(body, 4)?,
            up: wire::u32_at(body, 8)? & IFF_UP != 0,
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
                _ => {}
            }
        }
        Some(link)
    }

    pub fn is_bridge_name(&self) -> bool {
        self.name.starts_with("sp-")
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

/// Every link of ours, doomed ones too.
pub fn ours(socket: &mut Socket) -> Result<Vec<Link>> {
    let request = dump_request(RTM_GETLINK, &[0; LINK]).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    socket.dump("cannot list the host's interfaces", request, |body| {
        Link::parse(body).filter(|l| l.group == GROUP || l.group == DOOMED)
    })
}

/// What a network's bridge must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub network: String,
    pub name: String,
    pub mac: Mac,
    pub subnet: Subnet,
    pub mtu: u32,
}

/// Makes the bridge, or mends it; returns its index.
pub fn ensure_bridge(socket: &mut Socket, bridge: &Bridge) -> Result<u32> {
    let name = &bridge.name;
    let found = link(socket, name)?;
    if let Some(l) = &found
        && l.group != GROUP
        && l.group != DOOMED
    {
        let doing = format!("network {}: an interface {name} is there that is not ours", bridge.network);
        return Err(failed(&doing, Errno::EEXIST));
    }
    let doing = || format!("network {}: cannot make bridge {name}", bridge.network);
    if found.as_ref().is_none_or(|l| l.group == DOOMED) {
        // A doomed one may be swept at any moment; the answer to the rescue says whether it was in time.
        let rescued = found.is_some() && socket.request(doing, set_group(name, GROUP)).is_ok();
        if !rescued {
            let make = Message::new(RTM_NEWLINK, CREATE | EXCL)
                .fixed(&link_part(0, IFF_UP))
                .text(IFLA_IFNAME, name)
                .attr(IFLA_ADDRESS, &bridge.mac.0)
                .u32(IFLA_MTU, bridge.mtu)
                .u32(IFLA_GROUP, GROUP)
                .nest(IFLA_LINKINFO, |m| m.text(INFO_KIND, "bridge"));
            socket.request(doing, make)?;
        }
    }
    let made = link(socket, name)?.ok_or_else(|| failed(&doing(), Errno::ENODEV))?;
    let alias = format!("{ALIAS}:{}", bridge.network);
    if made.alias != alias || !made.up || made.mtu != bridge.mtu {
        let set = Message::new(RTM_NEWLINK, 0)
            .fixed(&link_part(made.index, IFF_UP))
            .u32(IFLA_MTU, bridge.mtu)
            .text(IFLA_IFALIAS, &alias);
        socket.request(doing, set)?;
    }
    ensure_gateway(socket, bridge, made.index)?;
    // Without it a packet from 127.0.0.1 may not leave by this bridge: it is what a port published on loopback needs.
    // Packets *to* 127/8 from anywhere but lo are dropped by our own rule (ports.rs).
    set_sysctl(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    // A container may say that it is a router, and the host would send its own traffic there (CVE-2020-13401).
    let advertisements = format!("net/ipv6/conf/{name}/accept_ra");
    if sysctl(&advertisements).is_some() {
        set_sysctl(&advertisements, "0")?;
    }
    Ok(made.index)
}

fn ensure_gateway(socket: &mut Socket, bridge: &Bridge, index: u32) -> Result<()> {
    let (gateway, prefix) = (bridge.subnet.gateway(), bridge.subnet.prefix());
    let doing = || format!("network {}: cannot give {gateway}/{prefix} to {}", bridge.network, bridge.name);
    let there = addresses(socket)?;
    let mut there: Vec<_> = there.into_iter().filter(|a| a.index == index).collect();
    let right = |a: &Address| a.address == gateway && a.prefix == prefix;
    if !there.iter().any(right) {
        let add = Message::new(RTM_NEWADDR, CREATE | REPLACE)
            .fixed(&addr_part(prefix, index))
            .ipv4(IFA_LOCAL, gateway)
            .ipv4(IFA_ADDRESS, gateway);
        socket.request(doing, add)?;
    }
    there.retain(|a| !right(a)); // of an earlier subnet
    for a in there {
        let remove =
            Message::new(RTM_DELADDR, 0).fixed(&addr_part(a.prefix, index)).ipv4(IFA_LOCAL, a.address);
        socket.request(doing, remove)?;
    }
    Ok(())
}

/// One interface of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub service: String,
    pub network: String,
    /// eth0, eth1, ...
    pub interface: String,
    pub bridge: String,
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// Where all else goes; None in an internal network, and on all interfaces but one.
    pub gateway: Option<Ipv4Addr>,
    pub mtu: u32,
    pub isolated: bool,
}

/// The host's half: a pair of veth, one end on the bridge, the other inside the namespace. Returns the host end's name.
pub fn connect(
    host: &mut Socket,
    netns: BorrowedFd<'_>,
    netns_id: u64,
    bridge: u32,
    a: &Attachment,
) -> Result<String> {
    let name = veth_name(&a.service, &a.network, netns_id);
    let doing = || format!("service {}: cannot connect {} to network {}", a.service, a.interface, a.network);
    let mut there = link(host, &name)?;
    if there.as_ref().is_some_and(|l| l.group == DOOMED) {
        // Cut off, and swept at any moment: a new pair is simpler. Seldom: it was released, and its namespace lives on.
        host.request(doing, Message::new(RTM_DELLINK, 0).fixed(&[0; LINK]).text(IFLA_IFNAME, &name))?;
        there = None;
    }
    match there {
        None => host.request(doing, make_veth(&name, netns, bridge, a)).map_err(|e| explain(e, a))?,
        Some(there) if there.master != bridge => host.request(doing, set_master(&name, bridge))?,
        Some(_) => {}
    }
    let port =
        port(&name, a.isolated).u32(IFLA_GROUP, GROUP).text(IFLA_IFALIAS, &alias(&a.service, &a.network));
    host.request(doing, port)?;
    Ok(name)
}

/// Up, on its bridge already. A frame may go back out of the port it came in by: a container reaching its own published
/// port. With bridge netfilter on (br_netfilter loaded) nothing else makes that work.
fn port(name: &str, isolated: bool) -> Message {
    Message::new(RTM_NEWLINK, 0).fixed(&link_part(0, IFF_UP)).text(IFLA_IFNAME, name).nest(
        IFLA_LINKINFO,
        |m| {
            m.text(INFO_SLAVE_KIND, "bridge").nest(INFO_SLAVE_DATA, |m| {
                let m = m.u8(BRPORT_MODE, 1);
                if isolated { m.u8(BRPORT_ISOLATED, 1) } else { m }
            })
        },
    )
}

fn set_master(name: &str, bridge: u32) -> Message {
    Message::new(RTM_NEWLINK, 0).fixed(&[0; LINK]).text(IFLA_IFNAME, name).u32(IFLA_MASTER, bridge)
}

/// The container's half: up, with its address and its way out; `inside` is a socket of its namespace.
pub fn configure(inside: &mut Socket, a: &Attachment) -> Result<()> {
    let missing = || format!("service {}: {} is not ours, or not there", a.service, a.interface);
    match link(inside, &a.interface)? {
        Some(link) if link.mac == a.mac.0 => configure_inside(inside, link.index, a),
        _ => Err(failed(&missing(), Errno::ENODEV)),
    }
}

fn make_veth(name: &str, netns: BorrowedFd<'_>, bridge: u32, a: &Attachment) -> Message {
    Message::new(RTM_NEWLINK, CREATE | EXCL)
        .fixed(&link_part(0, IFF_UP))
        .text(IFLA_IFNAME, name)
        .u32(IFLA_MTU, a.mtu)
        .u32(IFLA_GROUP, GROUP)
        .u32(IFLA_MASTER, bridge)
        .nest(IFLA_LINKINFO, |m| {
            m.text(INFO_KIND, "veth").nest(INFO_DATA, |m| {
                // Not up yet: the peer is opened before the pair is one (ENOTCONN from veth_open).
                m.nest_after(VETH_INFO_PEER, &link_part(0, 0), |m| {
                    m.text(IFLA_IFNAME, &a.interface)
                        .u32(IFLA_MTU, a.mtu)
                        .attr(IFLA_ADDRESS, &a.mac.0)
                        .u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32)
                })
            })
        })
}

fn configure_inside(inside: &mut Socket, index: u32, a: &Attachment) -> Result<()> {
    let mut messages = vec![
        Message::new(RTM_NEWLINK, 0).fixed(&link_part(0, IFF_UP)).text(IFLA_IFNAME, "lo"),
        Message::new(RTM_NEWLINK, 0).fixed(&link_part(index, IFF_UP)),
        Message::new(RTM_NEWADDR, CREATE | REPLACE)
            .fixed(&addr_part(a.prefix, index))
            .ipv4(IFA_LOCAL, a.address)
            .ipv4(IFA_ADDRESS, a.address),
    ];
    if let Some(gateway) = a.gateway {
        const MAIN: u8 = 254;
        const PROTO_STATIC: u8 = 4;
        const UNICAST: u8 = 1;
        let mut part = [0; ROUTE];
        (part[0], part[4], part[5], part[7]) = (nix::libc::AF_INET as u8, MAIN, PROTO_STATIC, UNICAST);
        messages.push(
            Message::new(RTM_NEWROUTE, CREATE | REPLACE)
                .fixed(&part)
                .ipv4(RTA_GATEWAY, gateway)
                .u32(RTA_OIF, index),
        );
    }
    inside.request_all(messages).map_err(|(at, errno, said)| {
        let what = ["bring up lo", "bring up the interface", "set the address", "set the default route"];
        let what = what.get(at).copied().unwrap_or("configure the interface");
        let doing = format!(
            "service {}: network {}: cannot {what} ({} {}/{})",
            a.service, a.network, a.interface, a.address, a.prefix
        );
        Error { doing, errno, said }
    })
}

/// A bridge has 1,024 ports (BR_PORT_BITS = 10), and the kernel says only "exchange full".
fn explain(mut e: Error, a: &Attachment) -> Error {
    match e.errno {
        Errno::EXFULL => {
            e.said = Some(format!(
                "bridge {} has no port left, the kernel's limit is 1,023; put some services on another network",
                a.bridge
            ));
        }
        Errno::EEXIST => e.said = Some(format!("an interface {} is in the namespace already", a.interface)),
        _ => {}
    }
    e
}

/// Puts a host end back on its bridge: two requests, for the second speaks to the bridge that the first set.
pub fn enslave(socket: &mut Socket, name: &str, bridge: u32, isolated: bool) -> Result<()> {
    let steps = vec![set_master(name, bridge), port(name, isolated)];
    socket.request_all(steps).map_err(|(_, errno, said)| Error {
        doing: format!("cannot put {name} on its bridge"),
        errno,
        said,
    })
}

/// Marks a link to be removed by the next sweep, and cuts it off at once: an old namespace that is still there must not
/// answer for the address that its successor has, nor frames to its MAC (the same) go to it. Disabling the port is not
/// enough: the bridge enables it again at the next change of carrier. One that is gone is as wanted.
pub fn doom(socket: &mut Socket, name: &str) -> Result<()> {
    let deaf = [BRPORT_STATE, BRPORT_LEARNING, BRPORT_UNICAST_FLOOD, BRPORT_MCAST_FLOOD, BRPORT_BCAST_FLOOD];
    let cut =
        Message::new(RTM_NEWLINK, 0).fixed(&[0; LINK]).text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |m| {
            m.text(INFO_SLAVE_KIND, "bridge").nest(INFO_SLAVE_DATA, |m| {
                deaf.iter().fold(m, |m, what| m.u8(*what, 0)).attr(BRPORT_FLUSH, &[])
            })
        });
    match socket.request_all(vec![set_group(name, DOOMED), cut]) {
        // Only the first counts: the second is refused where the link is no port of a bridge.
        Err((0, errno, said)) if errno != Errno::ENODEV => {
            Err(Error { doing: format!("cannot mark {name} for removal"), errno, said })
        }
        _ => Ok(()),
    }
}

/// Removes all doomed links in one request, one grace period for all of them. Blocks for 20 ms or more.
pub fn remove_doomed(socket: &mut Socket) -> Result<()> {
    let remove = Message::new(RTM_DELLINK, 0).fixed(&[0; LINK]).u32(IFLA_GROUP, DOOMED);
    match socket.request(|| "cannot remove old interfaces".into(), remove) {
        Err(e) if e.errno == Errno::ENODEV => Ok(()), // none left: their namespaces took them along
        other => other,
    }
}

fn set_group(name: &str, group: u32) -> Message {
    Message::new(RTM_NEWLINK, 0).fixed(&[0; LINK]).text(IFLA_IFNAME, name).u32(IFLA_GROUP, group)
}

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
    let request =
        Message::new(RTM_GETLINK, 0).fixed(&link_part(index, 0)).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let found = socket.get(|| "cannot look up the default route's device".into(), request, Link::parse)?;
    Ok(found.map_or(1500, |l| l.mtu.clamp(68, 65_535)))
}

/// `path` below /proc/sys; of the network namespace of the calling thread where it is below `net`.
pub fn set_sysctl(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{path}");
    fs::write(&path, value).map_err(|e| {
        failed(&format!("cannot write {value} to {path}"), Errno::from_raw(e.raw_os_error().unwrap_or(0)))
    })
}

pub fn sysctl(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|s| s.trim().to_owned())
}

/// ifinfomsg with `flags` set and no other touched.
fn link_part(index: u32, flags: u32) -> [u8; LINK] {
    let mut part = [0; LINK];
    part[4..8].copy_from_slice(&index.to_ne_bytes());
    part[8..12].copy_from_slice(&flags.to_ne_bytes());
    part[12..16].copy_from_slice(&flags.to_ne_bytes());
    part
}

fn addr_part(prefix: u8, index: u32) -> [u8; ADDR] {
    let [a, b, c, d] = index.to_ne_bytes();
    [nix::libc::AF_INET as u8, prefix, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bridge_is_named_after_its_network() {
        assert_eq!(bridge_name("default"), "sp-default");
        assert_eq!(bridge_name("twelve-chars"), "sp-twelve-chars");
        assert_eq!(bridge_name("much-longer-than-that"), "sp-muc-6f7cbc9a");
    }

    proptest! {
        #[test]
        fn names_fit_an_interface(network in "[a-z0-9][a-z0-9_.-]{0,62}", service in "[a-z0-9]{1,63}", id: u64) {
            prop_assert!(bridge_name(&network).len() <= 15);
            prop_assert_eq!(veth_name(&service, &network, id).len(), 14);
        }
    }
}

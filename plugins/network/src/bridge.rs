//! A bridge per network on the host, a pair of veth per container and network. Each function may be called again: what is there
//! already is left or mended.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

use crate::addresses::{Mac, Subnet, hash};
use crate::link::{
    DOOMED, GROUP, IFF_UP, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, INFO_DATA, INFO_KIND, INFO_SLAVE_DATA, INFO_SLAVE_KIND, LINK, Link, RTM_DELLINK, RTM_NEWLINK,
    alias, link, link_part, set_group,
};
use crate::netlink::{Error, Result, Socket, failed};
use crate::routes::{Address, IFA_LOCAL, ROUTE, RTA_OIF, addr_part, addresses};
use crate::wire::{CREATE, EXCL, Message, REPLACE};
use crate::{forwarding, ipv6, sysctl};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;

const IFLA_NET_NS_FD: u16 = 28;
const IFLA_AF_SPEC: u16 = 26;
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
const VETH_INFO_PEER: u16 = 1;
const BRPORT_MODE: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;
const IFA_ADDRESS: u16 = 1;
const RTA_GATEWAY: u16 = 5;

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

/// What a network's bridge must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub network: String,
    pub name: String,
    pub mac: Mac,
    pub subnet: Subnet,
    pub gateway: Ipv4Addr,
    /// None: no IPv6.
    pub gateway6: Option<Ipv6Addr>,
    pub mtu: u32,
    /// It has a way out.
    pub forwards: bool,
}

/// Makes the bridge, or mends it; returns its index.
pub fn ensure_bridge(socket: &mut Socket, bridge: &Bridge) -> Result<u32> {
    let name = &bridge.name;
    let found = link(socket, name)?;
    if let Some(found) = &found {
        may_be_mended(bridge, found)?;
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
    let alias = alias("", &bridge.network);
    if made.alias != alias || !made.up || made.mtu != bridge.mtu {
        let set = Message::new(RTM_NEWLINK, 0)
            .fixed(&link_part(made.index, IFF_UP))
            .u32(IFLA_MTU, bridge.mtu)
            .text(IFLA_IFALIAS, &alias);
        socket.request(doing, set)?;
    }
    ensure_gateway(socket, bridge, made.index)?;
    if let Some(gateway) = bridge.gateway6 {
        ensure_gateway6(socket, bridge, gateway, made.index)?;
    }
    // Without it a packet from 127.0.0.1 may not leave by this bridge: it is what a port published on loopback needs.
    // Packets *to* 127/8 from anywhere but lo are dropped by our own rule (ports.rs).
    sysctl::write(&format!("net/ipv4/conf/{name}/route_localnet"), "1")?;
    if bridge.forwards {
        forwarding::set(name, true)?;
    }
    // A container may say that it is a router, and the host would send its own traffic there (CVE-2020-13401).
    let advertisements = format!("net/ipv6/conf/{name}/accept_ra");
    if sysctl::read(&advertisements).is_some() {
        sysctl::write(&advertisements, "0")?;
    }
    Ok(made.index)
}

/// What has the name already is ours, and what it must be.
fn may_be_mended(bridge: &Bridge, found: &Link) -> Result<()> {
    let is_there = format!("network {}: an interface {} is there that is", bridge.network, bridge.name);
    if !found.is_ours() {
        return Err(failed(&format!("{is_there} not ours"), Errno::EEXIST));
    }
    // Whoever made it put it into our group.
    if found.kind != "bridge" {
        let kind = if found.kind.is_empty() { "hardware" } else { &found.kind };
        let name = &bridge.name;
        let doing = format!(
            "{is_there} no bridge but {kind}; remove it (ip link del {name}), or call the network otherwise"
        );
        return Err(failed(&doing, Errno::EEXIST));
    }
    Ok(())
}

fn ensure_gateway(socket: &mut Socket, bridge: &Bridge, index: u32) -> Result<()> {
    let (gateway, prefix) = (bridge.gateway, bridge.subnet.prefix());
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

/// An address that is ours alone: whether somebody else has it is not asked, so it can be used at once.
fn address6(index: u32, address: Ipv6Addr) -> Message {
    const NODAD: u8 = 2;
    let [a, b, c, d] = index.to_ne_bytes();
    let part = [nix::libc::AF_INET6 as u8, ipv6::PREFIX, NODAD, 0, a, b, c, d];
    Message::new(RTM_NEWADDR, CREATE | REPLACE)
        .fixed(&part)
        .ipv6(IFA_LOCAL, address)
        .ipv6(IFA_ADDRESS, address)
}

fn ensure_gateway6(socket: &mut Socket, bridge: &Bridge, gateway: Ipv6Addr, index: u32) -> Result<()> {
    // Where new interfaces have none.
    let off = format!("net/ipv6/conf/{}/disable_ipv6", bridge.name);
    if sysctl::read(&off).is_some_and(|off| off != "0") {
        sysctl::write(&off, "0")?;
    }
    let doing =
        || format!("network {}: cannot give {gateway}/{} to {}", bridge.network, ipv6::PREFIX, bridge.name);
    socket.request(doing, address6(index, gateway))
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
    /// None: no IPv6.
    pub address6: Option<Ipv6Addr>,
    pub gateway6: Option<Ipv6Addr>,
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
        None => make_pair(host, &name, make_veth(&name, netns, bridge, a))
            .map_err(|(errno, said)| explain(Error { doing: doing(), errno, said }, a))?,
        Some(there) if there.master != bridge => host.request(doing, set_master(&name, bridge))?,
        Some(_) => {}
    }
    let port =
        port(&name, a.isolated).u32(IFLA_GROUP, GROUP).text(IFLA_IFALIAS, &alias(&a.service, &a.network));
    host.request(doing, port)?;
    Ok(name)
}

/// A port of a bridge needs no address of its own. With one the host would send its groups and its search for a duplicate through every
/// pair, and each of them is work in every container of the bridge. To be said before it is up.
fn make_pair(
    host: &mut Socket,
    name: &str,
    make: Message,
) -> std::result::Result<(), (Errno, Option<String>)> {
    const INET6: u16 = nix::libc::AF_INET6 as u16;
    let mute = Message::new(RTM_NEWLINK, 0)
        .fixed(&[0; LINK])
        .text(IFLA_IFNAME, name)
        .nest(IFLA_AF_SPEC, |m| m.nest(INET6, |m| m.u8(INET6_ADDR_GEN_MODE, ADDR_GEN_NONE)));
    match host.request_all(vec![make, mute]) {
        Err((0, errno, said)) => Err((errno, said)),
        // A host without IPv6, or an MTU that is too small for it: as wanted.
        Ok(()) | Err(_) => Ok(()),
    }
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
        Some(link) if link.mac == a.mac.0 => {
            configure_inside(inside, link.index, a)?;
            configure_inside6(inside, link.index, a)
        }
        _ => Err(failed(&missing(), Errno::ENODEV)),
    }
}

fn make_veth(name: &str, netns: BorrowedFd<'_>, bridge: u32, a: &Attachment) -> Message {
    Message::new(RTM_NEWLINK, CREATE | EXCL)
        // Up once it is what it is to be (`port`).
        .fixed(&link_part(0, 0))
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
    messages.extend(a.gateway.map(|gateway| way_out(nix::libc::AF_INET, index).ipv4(RTA_GATEWAY, gateway)));
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

/// A container may have turned IPv6 off (`sysctls`): then it has none.
fn configure_inside6(inside: &mut Socket, index: u32, a: &Attachment) -> Result<()> {
    let Some(address) = a.address6 else { return Ok(()) };
    let mut messages = vec![address6(index, address)];
    messages.extend(a.gateway6.map(|gateway| way_out(nix::libc::AF_INET6, index).ipv6(RTA_GATEWAY, gateway)));
    match inside.request_all(messages) {
        Ok(()) | Err((0, Errno::EACCES | Errno::EPERM | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT, _)) => {
            Ok(())
        }
        Err((at, errno, said)) => {
            let what = if at == 0 { "set the address" } else { "set the default route" };
            let doing = format!(
                "service {}: network {}: cannot {what} ({} {address}/{})",
                a.service,
                a.network,
                a.interface,
                ipv6::PREFIX
            );
            Err(Error { doing, errno, said })
        }
    }
}

/// A default route, without its gateway.
fn way_out(family: i32, index: u32) -> Message {
    const MAIN: u8 = 254;
    const PROTO_STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    let mut part = [0; ROUTE];
    (part[0], part[4], part[5], part[7]) = (family as u8, MAIN, PROTO_STATIC, UNICAST);
    Message::new(RTM_NEWROUTE, CREATE | REPLACE).fixed(&part).u32(RTA_OIF, index)
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

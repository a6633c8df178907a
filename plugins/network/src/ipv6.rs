//! IPv6 of a network: a /64 of unique local addresses (RFC 4193) that follows from the machine and the network's name, and in it, for each
//! IPv4 address, the one that ends in its four bytes. So nothing of it is written down, and no two services have the same.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use crate::addresses::hash;
use crate::netlink::{self, Result};
use crate::sysctl;

pub const PREFIX: u8 = 64;

/// Whether this host speaks IPv6.
pub fn is_there() -> bool {
    sysctl::read("net/ipv6/conf/all/disable_ipv6").is_some_and(|off| off == "0")
}

/// The first address of a network's /64.
pub fn prefix(machine: &str, network: &str) -> Ipv6Addr {
    let mut bytes = [0; 16];
    let (ours, hash) = (&mut bytes[..8], hash(&["ipv6", machine, network]).to_be_bytes());
    ours.copy_from_slice(&hash);
    // fd00::/8: assigned by whoever uses it.
    bytes[0] = 0xfd;
    Ipv6Addr::from(bytes)
}

pub fn address(prefix: Ipv6Addr, of: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(prefix) | u128::from(u32::from(of)))
}

pub fn contains(prefix: Ipv6Addr, address: Ipv6Addr) -> bool {
    u128::from(prefix) >> 64 == u128::from(address) >> 64
}

/// How the kernel forwards IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwards {
    /// By all interfaces: somebody wants a router.
    All,
    /// By those that are told to, since Linux 6.17.
    Each,
    /// It does not, and could only by all: that is not ours to turn on, for an interface that forwards takes no route from
    /// advertisements any more.
    No,
}

pub fn forwards() -> Forwards {
    match sysctl::read("net/ipv6/conf/all/forwarding").as_deref() {
        Some("1") => Forwards::All,
        Some(_) if sysctl::read("net/ipv6/conf/lo/force_forwarding").is_some() => Forwards::Each,
        _ => Forwards::No,
    }
}

/// Apart from `forwarding`, so that the interface goes on listening to advertisements.
pub fn is_forwarding(interface: &str) -> bool {
    sysctl::read(&format!("net/ipv6/conf/{interface}/force_forwarding")).is_some_and(|on| on == "1")
}

pub fn set_forwarding(interface: &str, on: bool) -> Result<()> {
    sysctl::write(&format!("net/ipv6/conf/{interface}/force_forwarding"), if on { "1" } else { "0" })
}

/// Of a container's interface, before it is up. Whoever is on the bridge may say that it is a router, and a container would send its
/// packets there (CVE-2020-10749). Its addresses follow from a MAC that is its own, so it asks nobody whether he has them: a question to
/// all of a bridge is work in each container of it.
const INSIDE: [(&str, &str); 2] = [("accept_ra", "0"), ("accept_dad", "0")];

/// Settings of a container's interfaces.
pub fn settle(netns: BorrowedFd<'_>, interfaces: &[&str]) -> Result<()> {
    netlink::within(netns, || {
        let all = interfaces.iter().map(|interface| format!("net/ipv6/conf/{interface}"));
        all.into_iter().try_for_each(|folder| sysctl::set_all(&folder, &INSIDE))
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_its_networks_and_ends_in_that_of_ipv4() {
        let front = prefix("machine", "front");
        assert_eq!(front.octets()[0], 0xfd);
        assert_eq!(front.octets()[8..], [0; 8]);
        assert_ne!(front, prefix("machine", "back"));
        assert_ne!(front, prefix("other", "front"));
        let web = address(front, Ipv4Addr::new(10, 144, 0, 2));
        assert_eq!(web.octets()[12..], [10, 144, 0, 2]);
        assert!(contains(front, web) && !contains(prefix("machine", "back"), web));
    }
}

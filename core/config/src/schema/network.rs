//! `[networks.X]`, and what of a service concerns its networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::text;

/// A network that a service is in, and what it has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    pub network: String,
    /// None: any that is free.
    pub ipv4_address: Option<Ipv4Addr>,
    pub ipv6_address: Option<Ipv6Addr>,
    /// What it is called there besides its own name.
    pub aliases: Vec<String>,
}

impl Membership {
    /// With nothing of its own.
    pub fn of(network: &str) -> Membership {
        let network = network.to_owned();
        Membership { network, ipv4_address: None, ipv6_address: None, aliases: Vec::new() }
    }
}

/// How a service finds what is no service's name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resolver {
    /// Servers; empty: the host's.
    pub dns: Vec<IpAddr>,
    pub dns_search: Vec<String>,
    pub dns_opt: Vec<String>,
    pub extra_hosts: Vec<ExtraHost>,
}

/// A line of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    pub name: String,
    pub address: HostAddress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAddress {
    Is(IpAddr),
    /// This host, as the service reaches it.
    Gateway,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    /// None = a free /20 of 10.144.0.0/12.
    #[serde(serialize_with = "text::or_auto")]
    pub subnet: Option<Subnet>,
    /// None = the subnet's first address.
    #[serde(serialize_with = "text::or_auto")]
    pub gateway: Option<Ipv4Addr>,
    /// Where addresses are taken from unasked; None = the whole subnet.
    #[serde(serialize_with = "text::or_auto")]
    pub ip_range: Option<Subnet>,
    pub ipv6: bool,
    pub internal: bool,
    pub isolated: bool,
    /// 0 = the default route's.
    pub mtu: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Subnet {
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let [first, last] = self.ends();
        (first..=last).contains(&address)
    }

    /// The network's own address and the broadcast.
    pub fn ends(&self) -> [Ipv4Addr; 2] {
        let IpAddr::V4(first) = self.address else { return [Ipv4Addr::UNSPECIFIED; 2] };
        let hosts = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        [first, Ipv4Addr::from(u32::from(first) | hosts)]
    }
}

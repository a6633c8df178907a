//! What is written down: a record per service and per network.
//!
//! The records are the whole truth; links, rules and sockets are made to agree with them. They are kept in the plugin's
//! key-value store under `service/NAME` and `network/NAME`, and are durable before what they promise is used.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::addresses::Subnet;
use crate::ports::{HostPort, Publication};

pub fn service_key(service: &str) -> String {
    format!("service/{service}")
}

pub fn network_key(network: &str) -> String {
    format!("network/{network}")
}

/// The key of a held port's descriptor in the keel.
pub fn port_key(service: &str, p: &HostPort) -> String {
    format!("port/{service}/{}/{}/{}", p.protocol.name(), p.host_ip, p.published)
}

/// The key of a half (`udp`, `tcp`) of a network's name server in the keel.
pub fn dns_key(network: &str, half: &str) -> String {
    format!("dns/{half}/{network}")
}

/// The network and the half; None: another kind of key.
pub fn network_of_dns_key(key: &str) -> Option<(String, String)> {
    let (half, network) = key.strip_prefix("dns/")?.split_once('/')?;
    Some((network.to_owned(), half.to_owned()))
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// eth0, eth1, ... in this order.
    pub places: Vec<Place>,
    pub ports: Vec<Publication>,
    /// None while held. Else the addresses are the service's until somebody else needs them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freed: Option<u64>,
    /// Where it is another name than its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The servers that it asks of the world outside; empty: the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub network: String,
    pub address: Ipv4Addr,
    /// That it asks for; None: the one that its network gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// What it is called there besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub subnet: Subnet,
}

/// All of it, as read when the plugin is opened.
#[derive(Clone, Debug, Default)]
pub struct Records {
    pub services: Vec<(String, Service)>,
    pub networks: Vec<(String, Network)>,
}

/// Something to be written down, or to be given to or taken from the keel.
#[derive(Debug)]
pub enum Effect {
    Put(String, serde_json::Value),
    Delete(String),
    Keep(String, std::os::fd::OwnedFd),
    Drop(String),
}

impl Effect {
    pub fn put(key: String, value: &impl Serialize) -> Effect {
        // These types are plain: they always serialize.
        Effect::Put(key, serde_json::to_value(value).unwrap_or_default())
    }
}

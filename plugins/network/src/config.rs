//! What the operator may say to this plugin, and what of a service's table it looks at.
//!
//! `networks` and `publish_address` arrive in the plugin's own config; a service's mode, networks and ports in the
//! table that `create` brings. Only what concerns the network is read; a key that is not built yet is refused by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::addresses::{Addressing, Subnet};

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The `[networks.X]` tables; `default` is always there.
    #[serde(default)]
    pub networks: BTreeMap<String, Network>,
    /// Where a port without an address of its own is published.
    #[serde(default = "all_addresses")]
    #[schemars(with = "String")]
    pub publish_address: IpAddr,
}

impl Config {
    /// What of a network's subnet is whose.
    pub fn addressing(&self, network: &str, subnet: Subnet) -> Addressing {
        let config = self.networks.get(network);
        // What fits no more (the subnet is another than the config's until the network's users stop) is as if not said.
        let gateway = config.and_then(|c| c.gateway).filter(|gateway| subnet.contains(*gateway));
        let range = config
            .and_then(|c| c.ip_range)
            .map(|range| range.0)
            .filter(|range| subnet.contains(range.network()));
        Addressing::new(subnet, gateway, range)
    }
}

fn all_addresses() -> IpAddr {
    Ipv4Addr::UNSPECIFIED.into()
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// `bridge`.
    #[serde(default)]
    pub driver: Driver,
    /// `10.1.0.0/16`, or `auto`: a free /20 of 10.144.0.0/12.
    #[serde(default, deserialize_with = "or_auto")]
    #[schemars(with = "Option<String>")]
    pub subnet: Option<Subnet>,
    /// This host's address there; `auto`: the first.
    #[serde(default, deserialize_with = "or_auto")]
    #[schemars(with = "Option<String>")]
    pub gateway: Option<Ipv4Addr>,
    /// Where addresses are taken from unasked; `auto`: the whole subnet.
    #[serde(default, deserialize_with = "or_auto")]
    #[schemars(with = "Option<String>")]
    pub ip_range: Option<Range>,
    /// No way out and none in.
    #[serde(default)]
    pub internal: bool,
    /// Services of this network do not see each other.
    #[serde(default)]
    pub isolated: bool,
    /// 0: that of the default route's device.
    #[serde(default)]
    pub mtu: u32,
    /// Where the host has it.
    #[serde(default = "yes")]
    pub ipv6: bool,
}

fn yes() -> bool {
    true
}

impl Network {
    /// Asked for by name, and not there yet. `ipv6` is true by default, so that is not asking.
    pub fn not_built(&self) -> Option<&'static str> {
        matches!(self.driver, Driver::Other).then_some("driver: only \"bridge\" is built in this version")
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    #[default]
    Bridge,
    #[serde(other)]
    Other,
}

fn or_auto<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    match Option::<String>::deserialize(d)?.as_deref() {
        None | Some("auto" | "") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// A part of a subnet; may be a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range(pub Subnet);

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let bad = || format!("{text:?} is not a range; write it as \"10.144.8.0/21\"");
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(bad)?;
        Some(Subnet::containing(address, prefix))
            .filter(|s| s.network() == address)
            .map(Range)
            .ok_or_else(bad)
    }
}

/// The part of a service's table that is ours.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Service {
    #[serde(default = "bridge")]
    pub network_mode: String,
    #[serde(default)]
    networks: Option<Vec<Membership>>,
    #[serde(default)]
    pub ports: Vec<Port>,
    #[serde(default)]
    pub hostname: Option<String>,
    #[serde(default)]
    pub dns: Vec<IpAddr>,
    #[serde(default)]
    pub dns_search: Vec<String>,
    #[serde(default)]
    pub dns_opt: Vec<String>,
    #[serde(default)]
    pub extra_hosts: Vec<ExtraHost>,
    /// Files of its root that may be mounted over.
    #[serde(default)]
    pub network_files: Vec<String>,
}

/// A line of /etc/hosts, as `NAME:ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ExtraHost {
    pub name: String,
    pub address: HostAddress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddress {
    Is(IpAddr),
    /// This host, as the service reaches it.
    Gateway,
}

impl TryFrom<String> for ExtraHost {
    type Error = String;

    fn try_from(text: String) -> Result<ExtraHost, String> {
        let bad = || format!("extra_hosts: {text:?} is not NAME:ADDRESS");
        let (name, address) = text.split_once(':').ok_or_else(bad)?;
        let address = match address {
            "host-gateway" => HostAddress::Gateway,
            address => HostAddress::Is(address.parse().map_err(|_| bad())?),
        };
        Ok(ExtraHost { name: name.to_owned(), address })
    }
}

fn bridge() -> String {
    "bridge".into()
}

/// A network that a service is in: its name alone, or with what the service has there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "NameOrTable")]
pub struct Membership {
    pub name: String,
    /// None: any that is free.
    pub ipv4_address: Option<Ipv4Addr>,
    pub ipv6_address: Option<Ipv6Addr>,
    /// What the service is called there besides.
    pub aliases: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrTable {
    Name(String),
    Table {
        name: String,
        #[serde(default)]
        ipv4_address: Option<Ipv4Addr>,
        #[serde(default)]
        ipv6_address: Option<Ipv6Addr>,
        #[serde(default)]
        aliases: Vec<String>,
    },
}

impl From<NameOrTable> for Membership {
    fn from(said: NameOrTable) -> Membership {
        match said {
            NameOrTable::Name(name) => Membership { name, ..Membership::default() },
            NameOrTable::Table { name, ipv4_address, ipv6_address, aliases } => {
                Membership { name, ipv4_address, ipv6_address, aliases }
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Port {
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    pub published: u16,
    pub target: u16,
    #[serde(default = "tcp")]
    pub protocol: Protocol,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

impl Service {
    pub fn parse(table: &Value) -> Result<Service, String> {
        Service::deserialize(table).map_err(|e| format!("network settings: {e}"))
    }

    /// Whether there is anything for us to do; `none` and `host` are the runtime's.
    pub fn is_bridged(&self) -> bool {
        self.network_mode == "bridge"
    }

    pub fn networks(&self) -> Vec<Membership> {
        let default = || vec![Membership { name: "default".into(), ..Membership::default() }];
        self.networks.clone().unwrap_or_else(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_without_networks_is_on_the_default_one() {
        let service =
            Service::parse(&json!({"rootfs": "x", "ports": [{"published": 80, "target": 8080}]})).unwrap();
        assert_eq!(service.networks()[0].name, "default");
        assert_eq!(service.ports[0].protocol, Protocol::Tcp);
        assert!(service.is_bridged());
    }

    #[test]
    fn what_is_wrong_with_a_table_is_named() {
        let said = |v| serde_json::from_value::<Config>(v).unwrap_err().to_string();
        assert!(
            said(json!({"networks": {"a": {"subnet": "10.0.0.1/8"}}}))
                .contains("did you mean \"10.0.0.0/8\"?")
        );
        assert!(said(json!({"publish": 1})).contains("unknown field `publish`"));
    }
}

//! `[networks.X]`, and what of a service concerns its networks: `networks`, `dns`, `extra_hosts`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Field, Fields, Value};
use crate::schema::{ExtraHost, HostAddress, Membership, Network, Resolver, Subnet};
use crate::source::Spot;
use crate::tree::Node;

pub fn network(t: &Fields<'_>) -> Network {
    t.or("driver", |f| f.word("driver", &[("bridge", ())], &["cni:*", "macvlan", "ipvlan", "ptp"]), ());
    let subnet = t.or("subnet", subnet, None);
    let within = |f: &Field<'_>, address: Ipv4Addr, what: &str| {
        let Some(subnet) = subnet else {
            f.wrong(format!("without a subnet there is no {what}"), "write subnet, too");
            return false;
        };
        let inside = subnet.contains(address) && !subnet.ends().contains(&address);
        if !inside {
            f.wrong(format!("no address of {subnet}"), "its first and its last are nobody's");
        }
        inside
    };
    Network {
        subnet,
        gateway: t.or(
            "gateway",
            |f| {
                f.or_auto(ipv4)?
                    .map_or(Some(None), |address| within(f, address, "gateway").then_some(Some(address)))
            },
            None,
        ),
        ip_range: t.or("ip_range", |f| ip_range(f, subnet), None),
        ipv6: t.or("ipv6", Field::boolean, true),
        internal: t.or("internal", Field::boolean, false),
        isolated: t.or("isolated", Field::boolean, false),
        mtu: t.or("mtu", mtu, 0),
    }
}

fn mtu(f: &Field<'_>) -> Option<u32> {
    let mtu = f.integer(0..=65_535)? as u32;
    // RFC 791: every host takes so much.
    if (1..68).contains(&mtu) {
        f.wrong(
            format!("{mtu} is out of range"),
            "0 for the default route's, or 68 to 65535; IPv6 needs 1280",
        );
        return None;
    }
    Some(mtu)
}

fn subnet(f: &Field<'_>) -> Option<Option<Subnet>> {
    f.or_auto(|f| cidr(f, 8..=29, "10.7.0.0/24"))
}

/// Within the subnet: addresses outside of it are for those who ask for one.
fn ip_range(f: &Field<'_>, subnet: Option<Subnet>) -> Option<Option<Subnet>> {
    let Some(range) = f.or_auto(|f| cidr(f, 8..=32, "10.7.0.128/25"))? else { return Some(None) };
    match (subnet, range.address) {
        (Some(subnet), IpAddr::V4(first)) if subnet.contains(first) && range.prefix >= subnet.prefix => {
            Some(Some(range))
        }
        (Some(subnet), _) => {
            f.wrong(format!("no part of {subnet}"), "it is where addresses are taken from unasked");
            None
        }
        (None, _) => {
            f.wrong("without a subnet there is no range of it", "write subnet, too");
            None
        }
    }
}

fn cidr(f: &Field<'_>, prefixes: std::ops::RangeInclusive<u8>, example: &str) -> Option<Subnet> {
    let text = f.text()?;
    let form = format!("as \"{example}\"");
    let parsed =
        text.split_once('/').and_then(|(a, p)| Some((a.parse::<IpAddr>().ok()?, p.parse::<u8>().ok()?)));
    let Some((address, prefix)) = parsed else {
        f.wrong("not a subnet", form);
        return None;
    };
    let IpAddr::V4(v4) = address else {
        f.not_built("IPv6 subnets", form);
        return None;
    };
    if !prefixes.contains(&prefix) {
        f.wrong(
            format!("/{prefix} is out of range"),
            format!("/{} to /{}", prefixes.start(), prefixes.end()),
        );
        return None;
    }
    let first = Ipv4Addr::from(u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
    if first != v4 {
        f.wrong("an address, not a subnet", format!("write \"{first}/{prefix}\""));
        return None;
    }
    Some(Subnet { address, prefix })
}

/// `[name]`, `[{ name, .. }]`, or `{ NAME = { .. } }`; in the order in which they are written.
pub fn memberships(t: &Fields<'_>, node: &Node) -> Vec<(Membership, Spot)> {
    let Some(f) = t.get("networks") else {
        return vec![(Membership::of("default"), node.key.clone())];
    };
    match &f.node.value {
        Value::Array(_) => f.list(in_list).unwrap_or_default(),
        Value::Table(_) => {
            let mut entries: Vec<_> = f.fields().entries().collect();
            entries.sort_by_key(|(_, field)| field.node.key.place());
            let read = |(name, field): (&str, Field<'_>)| {
                field.node.table().map_or_else(|| field.expected::<()>("a table"), |_| Some(()))?;
                Some((membership(&field.fields(), name.to_owned(), MEMBER), field.node.key.clone()))
            };
            entries.into_iter().filter_map(read).collect()
        }
        _ => {
            f.expected::<()>("an array of names or a table");
            Vec::new()
        }
    }
}

const MEMBER: &[&str] = &["ipv4_address", "ipv6_address", "aliases"];

fn in_list(f: &Field<'_>) -> Option<(Membership, Spot)> {
    let at = f.node.at.clone();
    if f.node.table().is_none() {
        return Some((Membership::of(&f.nonempty()?), at));
    }
    let t = f.fields();
    let Some(name) = t.get("name") else {
        t.missing("name", "as { name = \"default\", aliases = [\"db\"] }");
        return None;
    };
    Some((membership(&t, name.nonempty()?, &["name", "ipv4_address", "ipv6_address", "aliases"]), at))
}

fn membership(t: &Fields<'_>, network: String, known: &[&str]) -> Membership {
    t.only(known, &["mac_address"]);
    Membership {
        network,
        ipv4_address: t.or("ipv4_address", |f| f.or_auto(ipv4), None),
        ipv6_address: t.or("ipv6_address", |f| f.or_auto(ipv6), None),
        aliases: t.or("aliases", |f| f.list(name_of_host), Vec::new()),
    }
}

fn ipv4(f: &Field<'_>) -> Option<Ipv4Addr> {
    address(f, "10.7.0.5")
}

fn ipv6(f: &Field<'_>) -> Option<Ipv6Addr> {
    address(f, "fd00::5")
}

fn address<T: std::str::FromStr>(f: &Field<'_>, example: &str) -> Option<T> {
    let text = f.text()?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        f.wrong(format!("`{text}` is not an address"), format!("as \"{example}\""));
    }
    parsed
}

pub fn resolver(t: &Fields<'_>) -> Resolver {
    Resolver {
        dns: t.or("dns", |f| f.list(|f| address(f, "192.0.2.53")), Vec::new()),
        dns_search: t.or("dns_search", words, Vec::new()),
        dns_opt: t.or("dns_opt", words, Vec::new()),
        extra_hosts: t.or("extra_hosts", extra_hosts, Vec::new()),
    }
}

/// Words of resolv.conf's lines.
fn words(f: &Field<'_>) -> Option<Vec<String>> {
    f.list(|f| {
        let word = f.nonempty()?;
        if word.chars().any(char::is_whitespace) {
            f.wrong("a blank", "one word each");
            return None;
        }
        Some(word)
    })
}

/// `NAME:ADDRESS`, or as compose has it since 2.24, `NAME=ADDRESS`.
fn extra_hosts(f: &Field<'_>) -> Option<Vec<ExtraHost>> {
    f.list(|f| {
        const FORM: &str = "as \"NAME:192.0.2.7\" or \"NAME:host-gateway\"";
        let text = f.nonempty()?;
        let Some((name, address)) = text.split_once(['=', ':']) else {
            f.wrong("the address is missing", FORM);
            return None;
        };
        if !is_name_of_host(name) {
            f.wrong(format!("`{name}` is no name of a host"), FORM);
            return None;
        }
        let address = match address.trim_start_matches('[').trim_end_matches(']') {
            "host-gateway" => HostAddress::Gateway,
            text => match text.parse() {
                Ok(address) => HostAddress::Is(address),
                Err(_) => {
                    f.wrong(format!("`{address}` is not an address"), FORM);
                    return None;
                }
            },
        };
        Some(ExtraHost { name: name.to_owned(), address })
    })
}

fn name_of_host(f: &Field<'_>) -> Option<String> {
    let name = f.nonempty()?;
    if !is_name_of_host(&name) {
        f.wrong(format!("`{name}` is no name of a host"), "letters, digits, _ and -, with dots between");
        return None;
    }
    Some(name)
}

/// As DNS has it, and with an underscore, as many have it.
fn is_name_of_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

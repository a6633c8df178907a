//! `ports`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::{Field, Fields, Value};
use crate::schema::{Port, Protocol};
use crate::source::Spot;

pub fn ports(t: &Fields<'_>) -> (Vec<Port>, Vec<(Port, Spot)>) {
    let Some(items) = t.get("ports").and_then(|f| f.items()) else { return (Vec::new(), Vec::new()) };
    let at = |f: &Field<'_>, port| (port, f.node.at.clone());
    let read = |f: &Field<'_>| Some(port(f)?.into_iter().map(|port| at(f, port)).collect::<Vec<_>>());
    let spots: Vec<(Port, Spot)> = items.iter().filter_map(read).flatten().collect();
    (spots.iter().map(|(port, _)| port.clone()).collect(), spots)
}

/// One, or one for each of a range.
fn port(f: &Field<'_>) -> Option<Vec<Port>> {
    match &f.node.value {
        Value::Text(_) => short(f),
        Value::Table(_) => long(f),
        _ => f.expected("a string \"HOST:CONTAINER\" or a table"),
    }
}

const FORM: &str = "as \"8080:80\", \"127.0.0.1:8080:80\", \"53:53/udp\", \"8000-8010:80-90\"";
/// Each is held by a socket.
const RANGE_MAX: usize = 1000;

fn short(f: &Field<'_>) -> Option<Vec<Port>> {
    let text = f.text()?;
    let (numbers, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => {
            f.wrong(format!("no such protocol: `{other}`"), "tcp or udp");
            return None;
        }
    };
    let mut parts = numbers.rsplitn(3, ':');
    let (Some(target), Some(published)) = (parts.next(), parts.next()) else {
        f.wrong("the host's port is missing", format!("write \"{text}:{text}\" to publish it as itself"));
        return None;
    };
    let host_ip = match parts.next() {
        Some(address) => address_of(f, address)?,
        None => None,
    };
    each(f, host_ip, range(f, published)?, range(f, target)?, protocol)
}

/// `80` or `80-90`.
fn range(f: &Field<'_>, text: &str) -> Option<RangeInclusive<u16>> {
    let number = |part: &str| match part.parse::<u16>() {
        Ok(n) if n > 0 => Some(n),
        _ => {
            f.wrong(format!("`{part}` is not a port"), FORM);
            None
        }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        f.wrong(format!("the range {text} ends before it begins"), format!("write {last}-{first}"));
        return None;
    }
    Some(first..=last)
}

fn each(
    f: &Field<'_>,
    host_ip: Option<IpAddr>,
    published: RangeInclusive<u16>,
    target: RangeInclusive<u16>,
    protocol: Protocol,
) -> Option<Vec<Port>> {
    let (here, inside) = (published.len(), target.len());
    if here != inside {
        f.wrong(
            format!("{here} ports of the host for {inside} of the container"),
            "ranges are of one length",
        );
        return None;
    }
    if here > RANGE_MAX {
        f.wrong(format!("a range of {here} ports"), format!("at most {RANGE_MAX}: each is held by a socket"));
        return None;
    }
    let pairs = published.zip(target);
    Some(pairs.map(|(published, target)| Port { host_ip, published, target, protocol }).collect())
}

fn long(f: &Field<'_>) -> Option<Vec<Port>> {
    let t = f.fields();
    t.only(&["target", "published", "host_ip", "protocol"], &[]);
    for name in ["target", "published"] {
        if t.get(name).is_none() {
            t.missing(name, "as { published = 8080, target = 80 }");
        }
    }
    let host_ip = match t.get("host_ip") {
        Some(f) => address_of(&f, &f.text()?)?,
        None => None,
    };
    let ports = |name: &str| {
        let f = t.get(name)?;
        match f.node.text() {
            Some(text) if text.contains('-') => range(&f, &f.text()?),
            _ => f.port().map(|port| port..=port),
        }
    };
    let (published, target) = (ports("published"), ports("target"));
    let protocol = t.or(
        "protocol",
        |f| f.word("protocol", &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)], &[]),
        Protocol::Tcp,
    );
    each(f, host_ip, published?, target?, protocol)
}

/// `0.0.0.0` and `::` are all addresses; one of IPv6 is in brackets where ports follow.
fn address_of(f: &Field<'_>, text: &str) -> Option<Option<IpAddr>> {
    match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Some(None),
        Ok(address) => Some(Some(address)),
        Err(_) => {
            f.wrong(
                format!("`{text}` is not an address"),
                "as \"127.0.0.1:8080:80\", \"[2001:db8::1]:8080:80\"",
            );
            None
        }
    }
}

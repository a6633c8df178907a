//! `ports`.

use std::net::IpAddr;

use super::{Field, Fields, Value};
use crate::schema::{Port, Protocol};
use crate::source::Spot;

pub fn ports(t: &Fields<'_>) -> (Vec<Port>, Vec<(Port, Spot)>) {
    let Some(items) = t.get("ports").and_then(|f| f.items()) else { return (Vec::new(), Vec::new()) };
    let spots: Vec<(Port, Spot)> = items.iter().filter_map(|f| Some((port(f)?, f.node.at.clone()))).collect();
    (spots.iter().map(|(port, _)| port.clone()).collect(), spots)
}

fn port(f: &Field<'_>) -> Option<Port> {
    match &f.node.value {
        Value::Text(_) => short(f),
        Value::Table(_) => long(f),
        _ => f.expected("a string \"HOST:CONTAINER\" or a table"),
    }
}

fn short(f: &Field<'_>) -> Option<Port> {
    const FORM: &str = "as \"8080:80\", \"127.0.0.1:8080:80\", \"53:53/udp\"";
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
    if numbers.starts_with('[') {
        f.not_built("IPv6 addresses", FORM);
        return None;
    }
    let mut parts = numbers.rsplitn(3, ':');
    let (Some(target), Some(published)) = (parts.next(), parts.next()) else {
        f.wrong("the host's port is missing", format!("write \"{text}:{text}\" to publish it as itself"));
        return None;
    };
    if target.contains('-') || published.contains('-') {
        f.not_built("ranges of ports", "write each");
        return None;
    }
    let number = |part: &str| match part.parse::<u16>() {
        Ok(n) if n > 0 => Some(n),
        _ => {
            f.wrong(format!("`{part}` is not a port"), FORM);
            None
        }
    };
    let host_ip = match parts.next() {
        Some(address) => address_of(f, address)?,
        None => None,
    };
    Some(Port { host_ip, published: number(published)?, target: number(target)?, protocol })
}

fn long(f: &Field<'_>) -> Option<Port> {
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
    let port = |name: &str| t.get(name).and_then(|f| f.port());
    let (published, target) = (port("published"), port("target"));
    Some(Port {
        host_ip,
        published: published?,
        target: target?,
        protocol: t.or(
            "protocol",
            |f| f.word("protocol", &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)], &[]),
            Protocol::Tcp,
        ),
    })
}

/// `0.0.0.0` is all addresses.
fn address_of(f: &Field<'_>, text: &str) -> Option<Option<IpAddr>> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) if v4.is_unspecified() => Some(None),
        Ok(address @ IpAddr::V4(_)) => Some(Some(address)),
        Ok(IpAddr::V6(_)) => {
            f.not_built("IPv6 addresses", "as \"127.0.0.1:8080:80\"");
            None
        }
        Err(_) => {
            f.wrong(format!("`{text}` is not an address"), "as \"127.0.0.1:8080:80\"");
            None
        }
    }
}

//! What no service can see alone: dependencies, ports published twice, networks that do not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sampan_plan::host_root::VOID;

use crate::decode::{Draft, lives_on};
use crate::diagnostic::Diagnostic;
use crate::inputs::Asked;
use crate::merge::join;
use crate::near::nearest;
use crate::schema::{Condition, Membership, Network, NetworkMode, Port, Protocol, RootMode, Source, Subnet};
use crate::source::Spot;
use crate::tree::Table;

pub fn check(
    asked: &Asked<'_>,
    drafts: &BTreeMap<String, Draft>,
    networks: &BTreeMap<String, Network>,
    network_nodes: Option<&Table>,
    errors: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) {
    dependencies(drafts, errors, warnings);
    cycles(drafts, errors);
    ports(drafts, errors);
    memberships(drafts, networks, errors);
    subnets(networks, network_nodes, errors);
    shared_roots(asked, drafts, warnings);
    host_roots(asked, drafts, errors, warnings);
}

/// Most likely a misspelt one: nothing would say why its services do not run.
pub fn unused_profiles(active: &BTreeSet<String>, drafts: &BTreeMap<String, Draft>) -> Vec<Diagnostic> {
    let known: BTreeSet<&str> =
        drafts.values().flat_map(|draft| &draft.service.profiles).map(String::as_str).collect();
    let unused = active.iter().filter(|name| !known.contains(name.as_str()));
    let warning = |name: &String| {
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean --profile {near}?"),
            None => String::new(),
        };
        Diagnostic::warning_nowhere("", format!("--profile {name}: no service has this profile"), hint)
    };
    unused.map(warning).collect()
}

fn dependencies(
    drafts: &BTreeMap<String, Draft>,
    errors: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) {
    for (name, draft) in drafts {
        for (on, (key, condition_at)) in &draft.depends_on {
            let service = join("services", name);
            let path = match draft.service.joins().into_iter().find(|(_, joined)| joined == on) {
                Some((key, _)) => join(&service, key),
                None => join(&join(&service, "depends_on"), on),
            };
            let Some(other) = drafts.get(on) else {
                let hint = match nearest(on, drafts.keys().filter(|k| *k != name).map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add [services.{on}]"),
                };
                match draft.service.depends_on.get(on).is_none_or(|need| need.required) {
                    true => errors.push(Diagnostic::error(&path, key, "no such service", hint)),
                    false => {
                        let wrong = "no such service; goes on without it";
                        warnings.push(Diagnostic::warning(&path, key, wrong, hint));
                    }
                }
                continue;
            };
            match draft.service.depends_on.get(on).map(|d| d.condition) {
                Some(Condition::Healthy) if !other.has_healthcheck => {
                    let hint =
                        format!("add [{}.healthcheck] or use \"service_started\"", join("services", on));
                    errors.push(Diagnostic::error(
                        &path,
                        condition_at,
                        format!("{on} has no healthcheck"),
                        hint,
                    ));
                }
                Some(Condition::CompletedSuccessfully) if lives_on(other.service.restart.policy) => {
                    let wrong = format!("{on} never completes: its restart policy brings it back");
                    let hint = format!("write {}.restart = \"on-failure\" or \"no\"", join("services", on));
                    errors.push(
                        Diagnostic::error(&path, condition_at, wrong, hint)
                            .also(&other.at, "never completes"),
                    );
                }
                _ => {}
            }
        }
    }
}

/// Each cycle once, told from the service that is written first.
fn cycles(drafts: &BTreeMap<String, Draft>, errors: &mut Vec<Diagnostic>) {
    let mut order: Vec<&str> = drafts.keys().map(String::as_str).collect();
    order.sort_by_key(|name| drafts[*name].at.place());
    let mut done = BTreeSet::new();
    for root in order {
        // Depth first without recursion: a chain may be as long as there are services.
        let mut path: Vec<(&str, Vec<&str>)> = Vec::new();
        if !done.contains(root) {
            path.push((root, neighbours(drafts, root)));
        }
        while let Some((name, rest)) = path.last_mut() {
            let Some(next) = rest.pop() else {
                done.insert(*name);
                path.pop();
                continue;
            };
            if let Some(start) = path.iter().position(|(name, _)| *name == next) {
                let cycle: Vec<&str> = path[start..].iter().map(|(name, _)| *name).collect();
                errors.push(cycle_error(drafts, &cycle));
            } else if !done.contains(next) {
                path.push((next, neighbours(drafts, next)));
            }
        }
    }
}

/// Last first, as a stack wants them.
fn neighbours<'d>(drafts: &'d BTreeMap<String, Draft>, name: &str) -> Vec<&'d str> {
    let Some(draft) = drafts.get(name) else { return Vec::new() };
    draft.depends_on.keys().filter_map(|on| drafts.get_key_value(on)).map(|(k, _)| k.as_str()).rev().collect()
}

fn cycle_error(drafts: &BTreeMap<String, Draft>, cycle: &[&str]) -> Diagnostic {
    let (first, last) = (cycle[0], cycle[cycle.len() - 1]);
    let second = cycle.get(1).copied().unwrap_or(first);
    let message = format!("dependency cycle {} -> {first}", cycle.join(" -> "));
    let edge = |from: &str, to: &str| &drafts[from].depends_on[to].0;
    if cycle.len() == 1 {
        return Diagnostic::error("services", edge(first, first), message, "waits for itself: drop it");
    }
    Diagnostic::error("services", edge(first, second), message, format!("{first} waits for {second}"))
        .also(edge(last, first), format!("{last} waits for {first}: drop one"))
}

/// By whom, what, and where it says so.
type Published<'d> = (&'d str, &'d Port, &'d Spot);

fn ports(drafts: &BTreeMap<String, Draft>, errors: &mut Vec<Diagnostic>) {
    let mut all: Vec<Published<'_>> = Vec::new();
    for (name, draft) in drafts {
        all.extend(draft.ports.iter().map(|(port, at)| (name.as_str(), port, at)));
        if let (mode @ (NetworkMode::Host | NetworkMode::None), Some((_, at))) =
            (&draft.service.network_mode, draft.ports.first())
        {
            let path = join(&join("services", name), "ports");
            let mode = if *mode == NetworkMode::Host { "host" } else { "none" };
            let wrong = format!("nothing is published with network_mode = \"{mode}\"");
            errors.push(Diagnostic::error(&path, at, wrong, "drop ports, or use \"bridge\""));
        }
    }
    all.sort_by_key(|(.., at)| at.place());
    // By number: a list of those seen on it, which is short.
    let mut seen: BTreeMap<(u16, bool), Vec<Published<'_>>> = BTreeMap::new();
    for (name, port, at) in all {
        let on_number = seen.entry((port.published, port.protocol == Protocol::Udp)).or_default();
        let clash = on_number.iter().find(|(_, other, _)| {
            other.host_ip.is_none() || port.host_ip.is_none() || other.host_ip == port.host_ip
        });
        if let Some((first, _, first_at)) = clash {
            let path = join(&join("services", name), "ports");
            let proto = if port.protocol == Protocol::Udp { "udp" } else { "tcp" };
            let whose = port.host_ip.map_or("all addresses".to_string(), |ip| ip.to_string());
            let wrong = format!("{}/{proto} of {whose} is published twice", port.published);
            let error = Diagnostic::error(&path, at, wrong, "choose another host port");
            errors.push(error.also(first_at, format!("first by {first}")));
        }
        on_number.push((name, port, at));
    }
}

fn memberships(
    drafts: &BTreeMap<String, Draft>,
    networks: &BTreeMap<String, Network>,
    errors: &mut Vec<Diagnostic>,
) {
    let mut addresses: BTreeMap<(&str, IpAddr), (&str, &Spot)> = BTreeMap::new();
    for (name, draft) in drafts {
        let path = join(&join("services", name), "networks");
        for (i, (membership, at)) in draft.networks.iter().enumerate() {
            let network = &membership.network;
            let Some(config) = networks.get(network) else {
                let hint = match nearest(network, networks.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("add [networks.{network}]"),
                };
                errors.push(Diagnostic::error(&path, at, format!("no such network: {network}"), hint));
                continue;
            };
            if let Some((_, first)) = draft.networks[..i].iter().find(|(other, _)| other.network == *network)
            {
                errors.push(
                    Diagnostic::error(&path, at, format!("{network} is named twice"), "drop one")
                        .also(first, "first here"),
                );
            }
            errors.extend(
                static_address(membership, config)
                    .map(|(wrong, hint)| Diagnostic::error(&path, at, wrong, hint)),
            );
            let v4 = membership.ipv4_address.map(IpAddr::from);
            for address in v4.into_iter().chain(membership.ipv6_address.map(IpAddr::from)) {
                if let Some((other, first)) = addresses.insert((network, address), (name, at)) {
                    let wrong = format!("{address} of network {network} is asked for twice");
                    let error = Diagnostic::error(&path, at, wrong, "choose another");
                    errors.push(error.also(first, format!("first by {other}")));
                }
            }
        }
    }
}

/// What is wrong with an address that a service asks for.
fn static_address(membership: &Membership, network: &Network) -> Option<(String, String)> {
    let (name, address) = (&membership.network, membership.ipv4_address?);
    let Some(subnet) = network.subnet else {
        let wrong = format!("network {name} has any free subnet, so {address} may not be in it");
        return Some((wrong, format!("write networks.{name}.subnet")));
    };
    if !subnet.contains(address) || subnet.ends().contains(&address) {
        return Some((format!("{address} is no address of {subnet}"), "choose one of the network's".into()));
    }
    let first = u32::from(subnet.ends()[0]) + 1;
    (address == network.gateway.unwrap_or(first.into()))
        .then(|| (format!("{address} is the gateway of network {name}"), "choose another".into()))
}

fn subnets(networks: &BTreeMap<String, Network>, nodes: Option<&Table>, errors: &mut Vec<Diagnostic>) {
    let said: Vec<(&String, Subnet, Spot)> = networks
        .iter()
        .filter_map(|(name, network)| {
            let at = nodes?.get(name)?.table()?.get("subnet")?.at.clone();
            Some((name, network.subnet?, at))
        })
        .collect();
    for (i, (name, subnet, at)) in said.iter().enumerate() {
        if let Some((other, _, first)) = said[..i].iter().find(|(_, other, _)| overlap(subnet, other)) {
            let path = join(&join("networks", name), "subnet");
            let error =
                Diagnostic::error(&path, at, format!("overlaps with network {other}"), "choose another");
            errors.push(error.also(first, "here"));
        }
    }
}

fn overlap(a: &Subnet, b: &Subnet) -> bool {
    let (IpAddr::V4(x), IpAddr::V4(y)) = (a.address, b.address) else { return false };
    let prefix = u32::from(a.prefix.min(b.prefix));
    (u32::from(x) ^ u32::from(y)).checked_shr(32 - prefix).unwrap_or(0) == 0
}

fn shared_roots(asked: &Asked<'_>, drafts: &BTreeMap<String, Draft>, warnings: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<&std::path::Path, (&str, &Spot)> = BTreeMap::new();
    for (name, draft) in drafts {
        let Source::Rootfs(root) = &draft.service.source else { continue };
        let path = join(&join("services", name), "rootfs");
        if !asked.is_folder(&root.path, &path) {
            let wrong = format!("no folder {}", root.path.display());
            warnings.push(Diagnostic::warning(
                &path,
                &draft.at,
                wrong,
                "it must be there before the service starts",
            ));
        }
        if root.mode != RootMode::Rw {
            continue;
        }
        if let Some((other, first)) = seen.insert(&root.path, (name, &draft.at)) {
            let wrong = format!("writes to the same rootfs as {other}");
            let warning = Diagnostic::warning(&path, &draft.at, wrong, "give each its own, or mode = \"ro\"");
            warnings.push(warning.also(first, "the other"));
        }
    }
}

/// The host's own root is shown read-only, and what it hides is hidden from those capabilities only that go by the modes.
fn host_roots(
    asked: &Asked<'_>,
    drafts: &BTreeMap<String, Draft>,
    errors: &mut Vec<Diagnostic>,
    warnings: &mut Vec<Diagnostic>,
) {
    for (name, draft) in drafts {
        let Source::Rootfs(root) = &draft.service.source else { continue };
        let path = join("services", name);
        if !asked.is_host_root(&root.path, &join(&path, "rootfs")) {
            continue;
        }
        if root.mode == RootMode::Rw {
            let wrong = "the host's own root is never written to";
            let hint = "use \"ro\", or \"scratch\" for one that may be written to and keeps nothing";
            errors.push(Diagnostic::error(&join(&path, "rootfs"), &draft.at, wrong, hint));
        }
        let void = |cap: &&String| *cap == "ALL" || VOID.contains(&cap.as_str());
        for cap in draft.service.cap_add.iter().filter(void) {
            let wrong = format!("with {cap} the service can read what rootfs = \"host\" hides of the host");
            let hint = "drop it, or give the service a root of its own";
            warnings.push(Diagnostic::warning(&join(&path, "cap_add"), &draft.at, wrong, hint));
        }
    }
}

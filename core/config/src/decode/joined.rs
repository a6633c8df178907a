//! `network_mode`, `pid`, `ipc`, `uts`, `cgroup`, and what follows from `"service:NAME"` in them.

use std::collections::BTreeMap;

use super::{Field, Fields, Value};
use crate::schema::{
    Condition, Dependency, Joined, Membership, NamespaceMode, Namespaces, NetworkMode, Service,
};
use crate::source::Spot;

pub fn network_mode(f: &Field<'_>) -> Option<NetworkMode> {
    const MODES: &[(&str, NetworkMode)] =
        &[("bridge", NetworkMode::Bridge), ("none", NetworkMode::None), ("host", NetworkMode::Host)];
    match joined(f) {
        Some(joined) => joined.map(NetworkMode::Service),
        None => f.word("mode", MODES, &["ns:*"]),
    }
}

pub fn namespaces(t: &Fields<'_>) -> Namespaces {
    let mode = |name| t.or(name, namespace_mode, NamespaceMode::Private);
    Namespaces { pid: mode("pid"), ipc: mode("ipc"), uts: mode("uts"), cgroup: mode("cgroup") }
}

fn namespace_mode(f: &Field<'_>) -> Option<NamespaceMode> {
    const MODES: &[(&str, NamespaceMode)] =
        &[("private", NamespaceMode::Private), ("host", NamespaceMode::Host)];
    match joined(f) {
        Some(joined) => joined.map(NamespaceMode::Service),
        None => f.word("mode", MODES, &[]),
    }
}

/// None: it names no service; inside, none: what it says is wrong.
fn joined(f: &Field<'_>) -> Option<Option<Joined>> {
    let Value::Text(_) = &f.node.value else { return None };
    let Some(text) = f.text() else { return Some(None) };
    let name = text.strip_prefix(Joined::PREFIX)?;
    if name.is_empty() {
        f.wrong("no service is named", "as \"service:db\"");
        return Some(None);
    }
    Some(Some(Joined(name.to_owned())))
}

/// Names and places of `depends_on`.
pub type Needs = (BTreeMap<String, Dependency>, BTreeMap<String, (Spot, Spot)>);

/// A namespace is there as long as its service runs: who is in it starts after that, and stops and starts with it.
pub fn needs(t: &Fields<'_>, service: &Service, (needs, spots): &mut Needs) {
    for (key, on) in service.joins() {
        let Some(f) = t.get(key) else { continue };
        if on == service.name {
            f.wrong("names the service itself", "a namespace of its own is the default");
            continue;
        }
        let with = |condition| Dependency { condition, required: true, restart: true, bind: true };
        let need = needs.entry(on.to_owned()).or_insert_with(|| with(Condition::Started));
        if !need.required {
            let wrong = format!("beside depends_on.{on}.required = false");
            f.wrong(wrong, "without that service there is no namespace to be in: drop one");
        }
        let depends_on = t.get("depends_on").map(|f| f.node);
        let said = Fields::new(t.cx, depends_on, "").get(on).map(|f| f.fields());
        for name in ["restart", "bind"] {
            let own = said.as_ref().and_then(|said| said.get(name));
            if own.is_some_and(|own| matches!(own.node.value, Value::Bool(false))) {
                let hint = "a namespace ends with its service, and so does who is in it: drop one";
                f.wrong(format!("beside depends_on.{on}.{name} = false"), hint);
            }
        }
        *need = with(need.condition);
        spots.entry(on.to_owned()).or_insert((f.node.at.clone(), f.node.at.clone()));
    }
}

/// What the other service says for both.
pub fn beside(t: &Fields<'_>, service: &Service) {
    let wrong = |name: &str, mode: &str, hint: &str| {
        if let Some(f) = t.get(name).filter(|f| !f.node.inherited) {
            f.wrong(format!("beside {mode}"), hint);
        }
    };
    let has_name = service.hostname != service.name;
    if let Some(joined) = service.network_mode.joined() {
        let (resolver, mode) = (&service.resolver, format!("network_mode = \"{joined}\""));
        let hint =
            format!("its network is that of {0}: write it there (services.{0}), or drop one", joined.0);
        for (name, says) in [
            ("ports", !service.ports.is_empty()),
            ("networks", service.networks != [Membership::of("default")]),
            ("dns", !resolver.dns.is_empty()),
            ("dns_search", !resolver.dns_search.is_empty()),
            ("dns_opt", !resolver.dns_opt.is_empty()),
            ("extra_hosts", !resolver.extra_hosts.is_empty()),
            ("hostname", has_name),
        ] {
            if says {
                wrong(name, &mode, &hint);
            }
        }
    }
    let hint = match &service.namespaces.uts {
        NamespaceMode::Private => return,
        NamespaceMode::Host => ("uts = \"host\"".to_owned(), "it would rename the host: drop one".to_owned()),
        NamespaceMode::Service(joined) => {
            (format!("uts = \"{joined}\""), format!("it would rename {}: drop one", joined.0))
        }
    };
    let (mode, hint) = hint;
    for (name, says) in [("hostname", has_name), ("domainname", service.domainname.is_some())] {
        if says {
            wrong(name, &mode, &hint);
        }
    }
}

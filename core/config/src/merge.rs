//! Several files to one tree. Short forms become long ones first, so that `restart = "always"` in one file and
//! `restart.delay` in another meet as keys of one table. Included files form one tree with theirs (a key set twice is
//! an error); a later `--config` and a service over `[defaults]` win per key.

use crate::diagnostic::Diagnostic;
use crate::env_file::is_name;
use crate::tree::{Node, Table, Value};
use crate::variables;

/// Keys that exclude each other: of two layers the upper one's stays.
const EXCLUSIVE: [(&str, &[&str]); 3] = [
    ("", &["rootfs", "bundle", "image"]),
    ("healthcheck", &["test", "http", "tcp", "unix", "notify"]),
    ("reload", &["signal", "command"]),
];

/// Adds an included file's tree: the two are peers.
pub fn unite(tree: &mut Table, other: Table, path: &str, errors: &mut Vec<Diagnostic>) {
    for (name, node) in other {
        let path = join(path, &name);
        let Some(there) = tree.get_mut(&name) else {
            tree.insert(name, node);
            continue;
        };
        match (&mut there.value, node.value) {
            (Value::Table(a), Value::Table(b)) => unite(a, b, &path, errors),
            _ => errors.push(
                Diagnostic::error(
                    &path,
                    &node.key,
                    "set twice",
                    "and here: drop one, or use a second --config",
                )
                .also(&there.key, "first set here"),
            ),
        }
    }
}

/// `upper` wins, key by key. A table made of both stands where the upper one does.
pub fn overlay(lower: &mut Table, upper: Table) {
    for (name, mut node) in upper {
        if let (Some(Value::Table(a)), Value::Table(b)) =
            (lower.get_mut(&name).map(|n| &mut n.value), &mut node.value)
        {
            let (mut below, above) = (std::mem::take(a), std::mem::take(b));
            exclude(&mut below, &above, &name);
            overlay(&mut below, above);
            node.value = Value::Table(below);
        }
        lower.insert(name, node);
    }
}

/// A service (or `[defaults]`) over another layer of it.
pub fn overlay_service(lower: &mut Table, upper: Table) {
    exclude(lower, &upper, "");
    overlay(lower, upper);
}

/// Whole configs: services are overlaid as such.
pub fn overlay_config(lower: &mut Table, mut upper: Table) {
    let pair = |lower: &mut Table, upper: &mut Table, name: &str| {
        if let (Some(Value::Table(a)), Some(Value::Table(b))) =
            (lower.get_mut(name).map(|n| &mut n.value), upper.get_mut(name).map(|n| &mut n.value))
        {
            exclude(a, b, "");
        }
    };
    pair(lower, &mut upper, "defaults");
    if let (Some(Value::Table(a)), Some(Value::Table(b))) =
        (lower.get_mut("services").map(|n| &mut n.value), upper.get_mut("services").map(|n| &mut n.value))
    {
        let names: Vec<String> = b.keys().cloned().collect();
        names.iter().for_each(|name| pair(a, b, name));
    }
    overlay(lower, upper);
}

fn exclude(lower: &mut Table, upper: &Table, group: &str) {
    // `rootfs = { mode = .. }` says how to write to whatever it is.
    let says = |name: &str| {
        upper.get(name).is_some_and(|node| {
            name != "rootfs" || node.table().is_none_or(|rootfs| rootfs.contains_key("path"))
        })
    };
    for (_, names) in EXCLUSIVE.iter().filter(|(g, _)| *g == group) {
        if names.iter().any(|name| says(name)) {
            lower.retain(|name, _| says(name) || !names.contains(&name.as_str()));
        }
    }
}

/// The short forms of a whole config.
pub fn expand(tree: &mut Table, env: &dyn Fn(&str) -> Option<String>, errors: &mut Vec<Diagnostic>) {
    if let Some(Value::Table(defaults)) = tree.get_mut("defaults").map(|n| &mut n.value) {
        expand_service(defaults, "defaults", env, errors);
    }
    if let Some(Value::Table(services)) = tree.get_mut("services").map(|n| &mut n.value) {
        for (name, node) in services {
            if let Value::Table(service) = &mut node.value {
                expand_service(service, &join("services", name), env, errors);
            }
        }
    }
}

/// What is of no known form is left as it is: decoding says what is wrong with it.
fn expand_service(
    service: &mut Table,
    path: &str,
    env: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<Diagnostic>,
) {
    rewrite(service, "restart", |node| wrap(node, "policy"));
    if let Some(Value::Table(restart)) = service.get_mut("restart").map(|n| &mut n.value) {
        attempts(restart, path, errors);
    }
    rewrite(service, "logging", |node| wrap(node, "driver"));
    rewrite(service, "rootfs", |node| match node.text() {
        Some("host") => Some(vec![("path", like(node, Value::Text("/".into())))]),
        _ => wrap(node, "path"),
    });
    read_only(service, path, env, errors);
    if let Some(Value::Table(healthcheck)) = service.get_mut("healthcheck").map(|n| &mut n.value) {
        rewrite(healthcheck, "http", |node| match node.value {
            Value::Integer(_) | Value::Text(_) => Some(vec![("port", like(node, node.value.clone()))]),
            _ => None,
        });
    } else {
        rewrite(service, "healthcheck", |node| match node.text() {
            Some("none") => Some(vec![("test", like(node, Value::Text("none".into())))]),
            _ => None,
        });
    }
    if let Some(node) = service.get_mut("depends_on")
        && let Value::Array(items) = &node.value
        && items.iter().all(|i| i.text().is_some())
    {
        let mut table = Table::new();
        for item in items {
            let name = item.text().unwrap_or_default().to_string();
            let entry = Node::new(Value::Table(Table::new()), &item.at, &item.at);
            if let Some(twice) = table.insert(name.clone(), entry) {
                errors.push(
                    Diagnostic::error(
                        &join(path, "depends_on"),
                        &item.at,
                        format!("{name} is named twice"),
                        "drop one",
                    )
                    .also(&twice.at, "first here"),
                );
            }
        }
        node.value = Value::Table(table);
    }
    environment(service, path, env, errors);
}

/// compose's `read_only` is `rootfs.mode`.
fn read_only(
    service: &mut Table,
    path: &str,
    env: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<Diagnostic>,
) {
    let Some(node) = service.get("read_only") else { return };
    let is_true = match &node.value {
        Value::Bool(is_true) => Some(*is_true),
        Value::Text(text) if variables::has_variable(text) => {
            variables::substitute(text, env).ok().and_then(|text| text.parse().ok())
        }
        _ => None,
    };
    let Some(is_true) = is_true else {
        let wrong = format!("expected a boolean, found {}", node.kind());
        errors.push(Diagnostic::error(&join(path, "read_only"), &node.at, wrong, "write true or false"));
        return;
    };
    let mode = if is_true { "ro" } else { "rw" };
    let Some(node) = service.remove("read_only") else { return };
    let at = node.at.clone();
    let rootfs = service
        .entry("rootfs".into())
        .or_insert_with(|| Node::new(Value::Table(Table::new()), &node.at, &node.key));
    let Value::Table(rootfs) = &mut rootfs.value else { return };
    if let Some(there) = rootfs.get("mode") {
        let wrong = "beside rootfs.mode";
        errors.push(
            Diagnostic::error(&join(path, "read_only"), &node.key, wrong, "the two say the same: drop one")
                .also(&there.at, "here"),
        );
        return;
    }
    rootfs.insert("mode".into(), Node { value: Value::Text(mode.into()), at, ..node });
}

/// `["K=V", "K"]` as a table; a bare `K` is our own value of it, or nothing.
fn environment(
    service: &mut Table,
    path: &str,
    env: &dyn Fn(&str) -> Option<String>,
    errors: &mut Vec<Diagnostic>,
) {
    let Some(node) = service.get_mut("environment") else { return };
    let Value::Array(items) = &node.value else { return };
    if items.iter().any(|i| i.text().is_none()) {
        return;
    }
    let path = join(path, "environment");
    let mut table = Table::new();
    for item in items {
        let text = item.text().unwrap_or_default();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (text, env(text).map(|v| variables::escape(&v))),
        };
        if !is_name(name) {
            errors.push(Diagnostic::error(
                &path,
                &item.at,
                "not a variable",
                "write \"K=V\", or \"K\" for our own value",
            ));
            continue;
        }
        let Some(value) = value else { continue };
        if let Some(twice) = table.insert(name.to_string(), like(item, Value::Text(value))) {
            let wrong = format!("{name} is set twice");
            errors.push(Diagnostic::error(&path, &item.at, wrong, "drop one").also(&twice.at, "first here"));
        }
    }
    node.value = Value::Table(table);
}

/// `policy = "on-failure:3"` is two keys.
fn attempts(restart: &mut Table, path: &str, errors: &mut Vec<Diagnostic>) {
    let Some(node) = restart.get_mut("policy") else { return };
    let Some(("on-failure", n)) = node.text().and_then(|text| text.split_once(':')) else { return };
    let Ok(n) = n.parse::<u32>() else { return };
    node.value = Value::Text("on-failure".into());
    let attempts = like(node, Value::Integer(n.into()));
    if let Some(twice) = restart.insert("max_attempts".into(), attempts.clone()) {
        let path = join(&join(path, "restart"), "max_attempts");
        let error = Diagnostic::error(&path, &twice.at, "is set twice", "drop one");
        errors.push(error.also(&attempts.at, "also here"));
    }
}

fn rewrite(table: &mut Table, name: &str, long: impl Fn(&Node) -> Option<Vec<(&'static str, Node)>>) {
    if let Some(node) = table.get_mut(name)
        && let Some(entries) = long(node)
    {
        node.value = Value::Table(entries.into_iter().map(|(k, v)| (k.to_string(), v)).collect());
    }
}

/// Text is the value of `main`.
fn wrap(node: &Node, main: &'static str) -> Option<Vec<(&'static str, Node)>> {
    node.text().map(|_| vec![(main, like(node, node.value.clone()))])
}

fn like(node: &Node, value: Value) -> Node {
    Node::new(value, &node.at, &node.key)
}

pub fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let name = if plain { name.to_string() } else { format!("\"{}\"", name.escape_default()) };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

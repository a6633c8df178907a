//! Whether a tree has only keys that exist and are built; hints for those that do not.

use crate::diagnostic::Diagnostic;
use crate::elsewhere;
use crate::keys::{self, Found, Key, Stage};
use crate::merge::join;
use crate::tree::{Node, Table, Value};

/// Of one file's tree, short forms expanded.
pub fn check(tree: &Table, errors: &mut Vec<Diagnostic>) {
    for (name, node) in tree {
        let section = match name.as_str() {
            "defaults" => Some(keys::SERVICE),
            "supervisor" => Some(keys::SUPERVISOR),
            _ => None,
        };
        match (keys::find(keys::TOP, &[name]), section) {
            (Found::Unknown, _) => unknown(keys::TOP, &[], name, "", node, errors),
            (Found::Key(Key { stage: Stage::Later, .. }), _) => later(name, node, errors),
            (_, Some(section)) => match node.table() {
                Some(table) => {
                    walk(section, table, &mut Vec::new(), name, errors);
                    for (key, node) in table.iter().filter(|(key, _)| name == "defaults" && is_single(key)) {
                        let wrong = format!("{key} cannot be shared");
                        errors.push(Diagnostic::error(name, &node.key, wrong, "write it in each service"));
                    }
                }
                None => expected_table(name, node, errors),
            },
            _ => named(name, node, errors),
        }
    }
}

/// What no two services have alike.
fn is_single(key: &str) -> bool {
    matches!(key, "depends_on" | "ports")
}

/// `[services.X]`, `[networks.X]`, `[plugins.X]`.
fn named(kind: &str, node: &Node, errors: &mut Vec<Diagnostic>) {
    let section = match kind {
        "services" => keys::SERVICE,
        "networks" => keys::NETWORK,
        "volumes" => keys::VOLUME,
        "secrets" => keys::SECRET,
        "plugins" => keys::PLUGIN,
        _ => return,
    };
    let Some(table) = node.table() else { return expected_table(kind, node, errors) };
    for (name, node) in table {
        let path = join(kind, name);
        if !is_name(name) {
            let hint = "a-z and 0-9 first, then also _ . -, at most 63";
            errors.push(Diagnostic::error(kind, &node.key, format!("`{name}` is not a name"), hint));
        }
        match node.table() {
            Some(table) => walk(section, table, &mut Vec::new(), &path, errors),
            None => expected_table(&path, node, errors),
        }
    }
}

pub fn is_name(name: &str) -> bool {
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(|b| first(b) || matches!(b, b'_' | b'.' | b'-'))
}

fn walk<'t>(
    section: &'static [Key],
    table: &'t Table,
    above: &mut Vec<&'t str>,
    path: &str,
    errors: &mut Vec<Diagnostic>,
) {
    for (name, node) in table {
        above.push(name);
        let here = join(path, name);
        match keys::find(section, above) {
            Found::Key(Key { stage: Stage::Built, .. }) => {}
            Found::Key(_) | Found::Group { built: false } => later(&here, node, errors),
            Found::Group { built: true } => {
                if let Value::Table(table) = &node.value {
                    walk(section, table, above, &here, errors);
                }
            }
            Found::Unknown => {
                above.pop();
                unknown(section, above, name, path, node, errors);
                continue;
            }
        }
        above.pop();
    }
}

fn unknown(
    section: &'static [Key],
    above: &[&str],
    name: &str,
    path: &str,
    node: &Node,
    errors: &mut Vec<Diagnostic>,
) {
    let hint = elsewhere::instead(path, section, above, name, node.at.text());
    errors.push(Diagnostic::error(path, &node.key, format!("unknown key `{name}`"), hint));
}

fn later(path: &str, node: &Node, errors: &mut Vec<Diagnostic>) {
    errors.push(Diagnostic::error(path, &node.key, "known, but not built in this version", "leave it out"));
}

fn expected_table(path: &str, node: &Node, errors: &mut Vec<Diagnostic>) {
    let wrong = format!("expected a table, found {}", node.kind());
    errors.push(Diagnostic::error(path, &node.at, wrong, format!("write [{path}]")));
}

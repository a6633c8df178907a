//! What the keys are called elsewhere. docs/config.md shows it, and an unknown key that is somebody else's name is
//! answered from it.

mod table;

use std::collections::BTreeSet;

use crate::keys::{self, Key, Stage};
use crate::near::nearest;

/// A key of ours, and what they call it.
pub struct Row {
    key: &'static str,
    compose: &'static str,
    quadlet: &'static str,
    systemd: &'static str,
}

const fn row(key: &'static str, compose: &'static str, quadlet: &'static str, systemd: &'static str) -> Row {
    Row { key, compose, quadlet, systemd }
}

/// As [`keys::SECTIONS`]. Not here: `[supervisor]` and `[plugins]`, which nobody else has.
pub const SECTIONS: [(&str, &[Row]); 5] = [
    ("", table::TOP),
    ("services.*", table::SERVICE),
    ("networks.*", table::NETWORK),
    ("volumes.*", table::VOLUME),
    ("secrets.*", table::SECRET),
];

pub use table::NOTHING;

/// Of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub name: &'static str,
    /// How its value is written here; empty: as it is.
    pub written: &'static str,
}

impl Row {
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// Whose name it is, and the names.
    pub fn columns(&self) -> [(&'static str, Vec<Name>); 3] {
        [("compose", names(self.compose)), ("Quadlet", names(self.quadlet)), ("systemd", names(self.systemd))]
    }
}

fn names(cell: &'static str) -> Vec<Name> {
    let parts = cell.split("; ").filter(|part| !part.is_empty());
    parts
        .map(|part| match part.split_once(" (") {
            Some((name, written)) => Name { name, written: written.strip_suffix(')').unwrap_or(written) },
            None => Name { name: part, written: "" },
        })
        .collect()
}

/// Whether what somebody wrote at `path` is this name, or the table above it (`deploy`).
fn is(theirs: &str, path: &str, name: &str) -> bool {
    let below = |of: &str| theirs.strip_prefix(of).is_some_and(|rest| rest.starts_with('.'));
    match theirs.strip_suffix('*') {
        Some(begins) => name.strip_prefix(begins).is_some_and(|rest| rest.starts_with(char::is_uppercase)),
        None => theirs == path || theirs == name || below(path),
    }
}

/// What to write instead of an unknown key of `place` (`services.web.restart`), which is `above` in its section;
/// `value` is the text it was given.
pub fn instead(place: &str, section: &'static [Key], above: &[&str], name: &str, value: &str) -> String {
    // As in a unit: `Environment=`.
    let name = name.trim_end_matches('=');
    let path = above.iter().copied().chain([name]).collect::<Vec<_>>().join(".");
    let shown = if value.contains('\n') || value.len() > 60 { ".." } else { value };
    if name == "PodmanArgs" {
        return podman_args(value);
    }
    let kind = place.split('.').next().unwrap_or_default();
    if let Some(hint) = theirs(kind, &path, name, shown).or_else(|| nothing(&path, name)) {
        return hint;
    }
    if let Some((_, ours)) = table::OTHER.iter().find(|(other, _)| *other == path || *other == name) {
        return ours.replace("{}", shown);
    }
    // What belongs into a service, and stands beside it.
    if kind.is_empty()
        && let Some(hint) = theirs("services", &path, name, shown)
    {
        return format!("{hint}, in [services.NAME]");
    }
    ours(section, above, name)
}

/// Of the section that a key stands in: by the first name of its path.
fn rows(kind: &str) -> &'static [Row] {
    match kind {
        "" => table::TOP,
        "services" | "defaults" => table::SERVICE,
        "networks" => table::NETWORK,
        "volumes" => table::VOLUME,
        "secrets" => table::SECRET,
        _ => &[],
    }
}

fn theirs(kind: &str, path: &str, name: &str, value: &str) -> Option<String> {
    let mut whose = BTreeSet::new();
    let mut found: Vec<(&str, Name)> = Vec::new();
    for row in rows(kind) {
        for (who, names) in row.columns() {
            // What they call as we do is no other name; one that is known here never comes this far.
            for theirs in names.into_iter().filter(|n| n.name != row.key && is(n.name, path, name)) {
                whose.insert(who);
                found.push((row.key, theirs));
            }
        }
    }
    let mut keys: Vec<String> = found.iter().map(|(key, _)| named(key)).collect();
    keys.dedup();
    let here = match (keys.as_slice(), found.first()?) {
        ([key], (_, Name { written: "", .. })) => format!("{key} = {value}"),
        ([key], (_, Name { written, .. })) => format!("{key} ({written})"),
        (keys, _) => keys.join(", "),
    };
    let whose: Vec<String> = whose.into_iter().map(|who| format!("{who}'s")).collect();
    Some(format!("{} name; here: {here}", whose.join(" and ")))
}

/// A key's name as it is told, and that it cannot be used yet if so.
fn named(path: &str) -> String {
    let later =
        keys::SERVICE.iter().chain(keys::NETWORK).any(|key| key.path == path && key.stage == Stage::Later);
    format!("{}{}", path.replace('*', "X"), if later { " (not built yet)" } else { "" })
}

fn nothing(path: &str, name: &str) -> Option<String> {
    let (whose, _, what) = NOTHING.iter().find(|(_, theirs, _)| *theirs == path || *theirs == name)?;
    Some(format!("{whose}'s name; here: {what}"))
}

/// By the options that stand in it.
fn podman_args(value: &str) -> String {
    let words = value.split(|c: char| c.is_whitespace() || matches!(c, '=' | '"' | '\'' | ',' | '[' | ']'));
    let options: BTreeSet<&str> = words.filter(|word| word.starts_with("--")).collect();
    let key = |option: &&str| {
        let has = |row: &&Row| names(row.quadlet).iter().any(|name| name.name == *option);
        Some(format!("{option}: {}", table::SERVICE.iter().find(has)?.key))
    };
    let known: Vec<String> = options.iter().filter_map(key).collect();
    match known.as_slice() {
        [] => "Quadlet's name; here each option has a key: docs/config.md lists them".into(),
        known => format!("Quadlet's name; here each option has a key: {}", known.join(", ")),
    }
}

/// A key of ours that is misspelt, or stands elsewhere.
fn ours(section: &'static [Key], above: &[&str], name: &str) -> String {
    let siblings = || {
        section.iter().filter_map(|key| {
            let parts: Vec<&str> = key.path.split('.').collect();
            let inside =
                parts.len() > above.len() && above.iter().zip(&parts).all(|(a, p)| *p == "*" || a == p);
            inside.then(|| (parts[above.len()], key.stage == Stage::Built))
        })
    };
    let built = siblings().filter(|(_, built)| *built).map(|(name, _)| name);
    if let Some(near) = nearest(name, built).or_else(|| nearest(name, siblings().map(|(name, _)| name))) {
        return format!("did you mean `{near}`?");
    }
    let elsewhere =
        section.iter().find(|key| key.path.rsplit('.').next() == Some(name) && !key.path.contains('*'));
    match elsewhere {
        Some(key) => format!("here: {}", key.path),
        None => "docs/config.md lists all keys".into(),
    }
}

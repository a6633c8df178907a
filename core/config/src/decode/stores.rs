//! `[volumes.X]`, `[secrets.X]`, and a service's `secrets`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Field, Fields, Value};
use crate::diagnostic::Diagnostic;
use crate::merge::join;
use crate::near::nearest;
use crate::schema::{NamedVolume, Secret, SecretSource, SecretUse};
use crate::source::Spot;
use crate::units;

/// What services name: `[volumes]`, `[secrets]`.
pub struct Named<T> {
    /// `volumes`.
    pub section: &'static str,
    pub all: BTreeMap<String, T>,
}

impl<T: Clone> Named<T> {
    /// `or`: what else the writer may have meant.
    pub fn find(&self, f: &Field<'_>, name: &str, or: &str) -> Option<T> {
        if let Some(found) = self.all.get(name) {
            return Some(found.clone());
        }
        let hint = match nearest(name, self.all.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if or.is_empty() => format!("add [{}]", join(self.section, name)),
            None => format!("add [{}]; {or}", join(self.section, name)),
        };
        f.wrong(format!("no such {}: `{name}`", self.section.trim_end_matches('s')), hint);
        None
    }
}

pub fn volume(name: &str, t: &Fields<'_>, state_dir: &Path) -> NamedVolume {
    t.or("driver", |f| f.word("driver", &[("local", ())], &[]), ());
    NamedVolume {
        path: t.or("path", Field::host_path, state_dir.join("volumes").join(name)),
        uid: t.or("uid", |f| f.count().map(Some), None),
        gid: t.or("gid", |f| f.count().map(Some), None),
        mode: t.or("mode", |f| mode(f).map(Some), None),
    }
}

/// Octal, as text: a bare 700 would be another number in TOML.
fn mode(f: &Field<'_>) -> Option<u32> {
    let Value::Text(_) = f.node.value else { return f.expected("a string as \"0755\"") };
    let text = f.nonempty()?;
    let mode = units::parse_mode(&text);
    if mode.is_none() {
        f.wrong(format!("`{text}` is not a mode"), "octal, as \"0755\"");
    }
    mode
}

/// None where it has been said what is wrong.
pub fn secret(t: &Fields<'_>, at: &Spot) -> Option<Secret> {
    let file = t.get("file");
    let environment = t.get("environment");
    let command = t.get("command");
    let said: Vec<&Field<'_>> = [&file, &environment, &command].into_iter().flatten().collect();
    match said.as_slice() {
        [_] => {}
        [] => {
            let hint = "add file = \"PATH\", environment = \"NAME\" or command = [\"PROGRAM\"]";
            t.cx.errors.borrow_mut().push(Diagnostic::error(&t.path, at, "it comes from nowhere", hint));
            return None;
        }
        [first, second, ..] => {
            let error = Diagnostic::error(&t.path, &second.node.key, "two sources of one secret", "drop one");
            t.cx.errors.borrow_mut().push(error.also(&first.node.key, "the other"));
            return None;
        }
    }
    let source = if let Some(f) = file {
        SecretSource::File(f.host_path()?)
    } else if let Some(f) = environment {
        SecretSource::Environment(f.nonempty()?)
    } else {
        let f = command?;
        let argv = super::service::command(&f)?;
        let program = argv.first().map(String::as_str).unwrap_or_default();
        if !program.starts_with('/') {
            f.wrong("the program's path begins with /", "a program of the host, as \"/usr/bin/pass\"");
            return None;
        }
        SecretSource::Command(argv)
    };
    Some(Secret { source })
}

/// Where secrets are unless they say otherwise.
const FOLDER: &str = "/run/secrets";

pub fn uses(f: &Field<'_>, named: &Named<Secret>) -> Option<Vec<SecretUse>> {
    let mut seen: BTreeMap<String, Spot> = BTreeMap::new();
    let mut uses = Vec::new();
    for item in f.items()? {
        let found = match &item.node.value {
            Value::Table(_) => long_use(&item, named),
            _ => short_use(&item, named),
        };
        let Some(found) = found else { continue };
        if let Some(first) = seen.insert(found.target.clone(), item.node.at.clone()) {
            let wrong = format!("two secrets at {}", found.target);
            let error = Diagnostic::error(&item.path, &item.node.at, wrong, "drop one, or give it a target");
            item.cx.errors.borrow_mut().push(error.also(&first, "first here"));
        }
        uses.push(found);
    }
    Some(uses)
}

fn short_use(f: &Field<'_>, named: &Named<Secret>) -> Option<SecretUse> {
    let source = f.nonempty()?;
    let secret = named.find(f, &source, "")?;
    let target = format!("{FOLDER}/{source}");
    Some(SecretUse { source, secret, target, mode: 0o400, uid: None, gid: None })
}

fn long_use(f: &Field<'_>, named: &Named<Secret>) -> Option<SecretUse> {
    let t = f.fields();
    t.only(&["source", "target", "mode", "uid", "gid"], &[]);
    let Some(source) = t.get("source") else {
        t.missing("source", "as { source = \"db_password\", target = \"password\" }");
        return None;
    };
    let name = source.nonempty()?;
    let secret = named.find(&source, &name, "")?;
    let target = t.get("target").map_or(Some(name.clone()), |f| f.nonempty())?;
    let target = if target.starts_with('/') { target } else { format!("{FOLDER}/{target}") };
    Some(SecretUse {
        source: name,
        secret,
        target: f.inside_path_of(&target)?,
        mode: t.or("mode", mode, 0o400),
        uid: t.or("uid", |f| f.count().map(Some), None),
        gid: t.or("gid", |f| f.count().map(Some), None),
    })
}

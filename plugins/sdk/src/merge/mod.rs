//! What becomes of plugins' answers to `create`: each is checked and merged into the spec, by sampand and by the rig alike.
//!
//! A leaf (`env/TZ`, `mounts//data`, `resources/memory.limit`) belongs to the plugin that set it. A second plugin may set it
//! to the same value; another value is a conflict, unless the service's `adjust` says whose counts. Security leaves need a
//! grant. An answer is checked whole before any of it is taken. Hooks and groups are appended, each entry to its author.
mod leaves;
#[cfg(test)]
mod tests;
mod write;

use crate::abi;
use crate::adjust::Adjust;
use leaves::{Leaf, leaves};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use write::{array, object, write};

/// Leaves with which a plugin could take the machine; what may be named in `plugins.X.grants`.
pub const GRANTS: &[&str] = &["seccomp", "capabilities", "devices", "namespaces", "hooks", "sysctl", "user"];
/// Whose answer it is, and what it may do.
#[derive(Clone, Copy, Debug)]
pub struct Author<'a> {
    pub name: &'a str,
    pub grants: &'a [String],
    /// Of its manifest.
    pub claims: &'a [String],
}

/// Why an answer is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Two plugins want different values.
    Conflict {
        leaf: String,
        first: (String, String),
        second: (String, String),
    },
    /// Another plugin has claimed it.
    Claimed {
        claim: String,
        first: String,
        second: String,
    },
    NoGrant {
        leaf: String,
        grant: &'static str,
    },
    /// Its manifest does not say that it may claim this.
    NoClaim {
        claim: String,
    },
    Invalid {
        leaf: String,
        why: String,
    },
    NotJson {
        why: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Conflict { leaf, first: (a, x), second: (b, y) } => write!(
                f,
                "{} set to {x} by plugin {a} and to {y} by plugin {b}; pick one with adjust.\"{leaf}\" = \"{a}\"",
                leaf.replacen('/', " ", 1)
            ),
            Refusal::Claimed { claim, first, second } => {
                write!(f, "plugins {first} and {second} both claim {claim}; disable one of them")
            }
            Refusal::NoGrant { leaf, grant } => write!(
                f,
                "it may not set {leaf}: that needs grants = [\"{grant}\"] in its table of config.toml"
            ),
            Refusal::NoClaim { claim } => write!(f, "it claims {claim}, which its manifest does not say"),
            Refusal::Invalid { leaf, why } => write!(f, "its answer is not valid: {leaf}: {why}"),
            Refusal::NotJson { why } => write!(f, "its answer is not JSON as expected: {why}"),
        }
    }
}

/// What came of an answer that was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// For the user.
    pub message: String,
    pub changed: bool,
    /// The plugin answers the same as long as the service's table is the same.
    pub is_stable: bool,
    /// Events of this life (a bit each) that the plugin does without.
    pub without: u64,
}

/// The bit of an event that a plugin may do without.
fn spared(name: &str) -> Result<u64, Refusal> {
    let event = abi::OF_A_LIFE.into_iter().find(|event| abi::event_name(*event) == name);
    let why = || format!("{name:?} is no event of a container's life after create");
    event.map(|event| 1 << event).ok_or_else(|| Refusal::Invalid { leaf: "without".into(), why: why() })
}

/// The answers that were taken for one container.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    owners: Owners,
    /// Claim -> plugin.
    claims: BTreeMap<String, String>,
}

impl Merge {
    /// `choice` is the service's `adjust` table.
    pub fn new(choice: Option<&Value>) -> Merge {
        Merge { owners: Owners::new(choice), claims: BTreeMap::new() }
    }

    /// Merges one plugin's answer to `create` into `spec`: all of it or nothing.
    pub fn take(&mut self, spec: &mut Value, author: Author<'_>, answer: &[u8]) -> Result<Taken, Refusal> {
        if answer.is_empty() {
            return Ok(Taken::default());
        }
        // An object: serde would take a list for a structure as well.
        let answer: Adjust = serde_json::from_slice(answer)
            .and_then(|map| serde_json::from_value(Value::Object(map)))
            .map_err(|error| Refusal::NotJson { why: error.to_string() })?;
        for claim in &answer.claims {
            self.may_claim(claim, author)?;
        }
        let without = answer.without.iter().try_fold(0, |all, name| Ok(all | spared(name)?))?;
        self.owners.apply(spec, author.name, author.grants, &answer.adjust)?;
        let claims = answer.claims.into_iter().map(|claim| (claim, author.name.to_owned()));
        self.claims.extend(claims);
        let changed = !answer.adjust.is_empty();
        Ok(Taken { message: answer.message, changed, is_stable: answer.stable, without })
    }

    fn may_claim(&self, claim: &str, author: Author<'_>) -> Result<(), Refusal> {
        if !author.claims.iter().any(|own| own == claim) {
            return Err(Refusal::NoClaim { claim: claim.to_owned() });
        }
        match self.claims.get(claim).filter(|first| *first != author.name) {
            Some(first) => Err(Refusal::Claimed {
                claim: claim.to_owned(),
                first: first.clone(),
                second: author.name.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Claim -> plugin.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        &self.claims
    }

    /// Leaf -> plugin.
    pub fn owners(&self) -> BTreeMap<String, String> {
        self.owners.names()
    }
}

/// The owner of each leaf, with the value that it set.
#[derive(Clone, Debug, Default)]
struct Owners {
    leaves: BTreeMap<String, (String, Value)>,
    /// Leaf -> plugin, from the service's `adjust`.
    choice: BTreeMap<String, String>,
}

impl Owners {
    /// `choice` is the service's `adjust` table.
    fn new(choice: Option<&Value>) -> Owners {
        let choice = choice.and_then(Value::as_object).into_iter().flatten();
        let choice = choice.filter_map(|(leaf, plugin)| Some((leaf.clone(), plugin.as_str()?.to_owned())));
        Owners { leaves: BTreeMap::new(), choice: choice.collect() }
    }

    /// Leaf -> plugin.
    fn names(&self) -> BTreeMap<String, String> {
        self.leaves.iter().map(|(leaf, (plugin, _))| (leaf.clone(), plugin.clone())).collect()
    }

    /// Merges one plugin's `adjust` object into `spec`: all of it or nothing.
    fn apply(
        &mut self,
        spec: &mut Value,
        plugin: &str,
        grants: &[String],
        adjust: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let leaves = leaves(adjust)?;
        let mut mine = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let path = leaf.path();
            if let Some(grant) = GRANTS.iter().find(|grant| **grant == leaf.key)
                && !grants.iter().any(|has| has == grant)
            {
                return Err(Refusal::NoGrant { leaf: path, grant });
            }
            if leaf.append {
                mine.push((leaf, path));
                continue;
            }
            match self.leaves.get(&path) {
                Some((owner, value)) if owner != plugin && *value != leaf.value => {
                    match self.choice.get(&path) {
                        Some(chosen) if chosen == plugin => mine.push((leaf, path)),
                        Some(chosen) if chosen == owner => {}
                        _ => {
                            let first = (owner.clone(), shown(value));
                            let second = (plugin.to_owned(), shown(&leaf.value));
                            return Err(Refusal::Conflict { leaf: path, first, second });
                        }
                    }
                }
                Some((owner, _)) if owner != plugin => {}
                _ => mine.push((leaf, path)),
            }
        }
        for (leaf, path) in mine {
            match leaf.append {
                true => self.append(spec, plugin, leaf),
                false => {
                    write(spec, &leaf);
                    self.leaves.insert(path, (plugin.to_owned(), leaf.value));
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, spec: &mut Value, plugin: &str, leaf: Leaf) {
        let list = match leaf.key.as_str() {
            "hooks" => array(object(spec, &["hooks"]), &leaf.name),
            _ => array(object(spec, &["process", "user"]), "additionalGids"),
        };
        if leaf.key == "additionalGids" && list.contains(&leaf.value) {
            return;
        }
        let path = format!("{}/{}", leaf.path(), list.len());
        list.push(leaf.value.clone());
        self.leaves.insert(path, (plugin.to_owned(), leaf.value));
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "nothing".to_owned() } else { value.to_string() }
}

//! Device rules on v1: the kernel keeps a default and exceptions from it. A list that needs more is an error.

use std::collections::BTreeMap;

use super::{ALL, Kind, MKNOD, READ, Rule, Rules, WRITE};
use crate::error::{Doing, Error, Result};

/// A kind of device, its major and its minor number; `None` is any.
type Numbers = (Kind, Option<u32>, Option<u32>);

/// What a v1 devices group can hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct V1 {
    allow_by_default: bool,
    exceptions: BTreeMap<Numbers, u8>,
}

impl V1 {
    pub fn new(rules: &Rules) -> Result<V1> {
        let mut state = V1::default();
        for rule in rules.iter() {
            if (rule.kind, rule.major, rule.minor, rule.access) == (None, None, None, ALL) {
                state = V1 { allow_by_default: rule.allow, exceptions: BTreeMap::new() };
                continue;
            }
            let kinds = rule.kind.map_or([Kind::Block, Kind::Char].to_vec(), |k| vec![k]);
            for kind in kinds {
                state.add(rule, (kind, rule.major, rule.minor))?;
            }
        }
        Ok(state)
    }

    /// From `devices.list`. A group that allows by default does not show its exceptions.
    pub fn read(list: &str) -> V1 {
        let mut state = V1::default();
        for line in list.lines() {
            let mut parts = line.split([' ', ':']);
            let (Some(kind), Some(major), Some(minor), Some(access)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let kind = match kind {
                "a" => return V1 { allow_by_default: true, exceptions: BTreeMap::new() },
                "b" => Kind::Block,
                _ => Kind::Char,
            };
            let bits = [('r', READ), ('w', WRITE), ('m', MKNOD)];
            let access =
                bits.iter().filter(|(letter, _)| access.contains(*letter)).fold(0, |a, (_, bit)| a | bit);
            state.exceptions.insert((kind, major.parse().ok(), minor.parse().ok()), access);
        }
        state
    }

    fn add(&mut self, rule: &Rule, numbers: Numbers) -> Result<()> {
        if rule.allow != self.allow_by_default {
            *self.exceptions.entry(numbers).or_default() |= rule.access;
            return Ok(());
        }
        // The rule takes back earlier exceptions. v1 can drop a whole exception, but has no words for a part of one.
        for (present, access) in &mut self.exceptions {
            if *access & rule.access == 0 || !overlap(present, &numbers) {
                continue;
            }
            if !covers(&numbers, present) {
                let e = Error::new(Doing::Unavailable, "devices.allow").field("linux.resources.devices");
                let (a, b) = if rule.allow { ("allows", "denied") } else { ("denies", "allowed") };
                return Err(e
                    .problem(format!(
                        "the rule \"{rule}\" {a} a part of what an earlier, wider rule {b}; cgroups v1 cannot express that"
                    ))
                    .likely("list the devices one by one, or use a machine with cgroups v2"));
            }
            *access &= !rule.access;
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }

    fn exception(&self, (numbers, access): (&Numbers, &u8)) -> Rule {
        let (kind, major, minor) = *numbers;
        Rule { allow: !self.allow_by_default, kind: Some(kind), major, minor, access: *access }
    }

    /// File and value of each write that brings a group from `now` (`None`: a new group) to this.
    pub fn writes(&self, now: Option<&V1>) -> Vec<(&'static str, String)> {
        let (default, other) = if self.allow_by_default {
            ("devices.allow", "devices.deny")
        } else {
            ("devices.deny", "devices.allow")
        };
        let mut writes = Vec::new();
        let same_default = now.filter(|now| now.allow_by_default == self.allow_by_default);
        if same_default.is_none() || self.allow_by_default {
            // `a` also clears exceptions that devices.list does not show.
            writes.push((default, "a".to_owned()));
        }
        let present = same_default.filter(|_| !self.allow_by_default);
        for (numbers, access) in present.iter().flat_map(|now| &now.exceptions) {
            let surplus = access & !self.exceptions.get(numbers).copied().unwrap_or(0);
            if surplus != 0 {
                writes.push((default, self.exception((numbers, &surplus)).to_string()));
            }
        }
        for (numbers, access) in &self.exceptions {
            let missing = access & !present.and_then(|now| now.exceptions.get(numbers)).copied().unwrap_or(0);
            if missing != 0 {
                writes.push((other, self.exception((numbers, &missing)).to_string()));
            }
        }
        writes
    }
}

fn covers(wide: &Numbers, narrow: &Numbers) -> bool {
    let any_or_same = |w: Option<u32>, n: Option<u32>| w.is_none() || w == n;
    wide.0 == narrow.0 && any_or_same(wide.1, narrow.1) && any_or_same(wide.2, narrow.2)
}

fn overlap(a: &Numbers, b: &Numbers) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    a.0 == b.0 && meet(a.1, b.1) && meet(a.2, b.2)
}

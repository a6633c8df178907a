//! `linux.resources.devices`: an ordered list of rules. Of the rules that cover a request the last one decides, for
//! each of its bits (read, write, mknod) by itself.
//!
//! The devices that every container needs are allowed after all other rules, as runc and crun do.

mod bpf;
mod program;
mod v1;

pub use program::{Program, attached_programs};
pub use v1::V1;

use sampan_plan::spec::DeviceRule;

use crate::error::{Doing, Error, Result};

pub const MKNOD: u8 = 1;
pub const READ: u8 = 2;
pub const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Block,
    Char,
}

/// One rule. `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub allow: bool,
    pub kind: Option<Kind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`] and [`WRITE`].
    pub access: u8,
}

/// A whole list, in order, with the default devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Without any rule all devices but the default ones are denied, as in runc.
    pub fn new(given: &[DeviceRule]) -> Result<Rules> {
        let mut rules = Vec::with_capacity(given.len() + DEFAULTS.len());
        for (i, rule) in given.iter().enumerate() {
            rules.push(parse(rule, i)?);
        }
        rules.extend(DEFAULTS);
        Ok(Rules(rules))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }
}

const fn default(kind: Option<Kind>, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind, major, minor, access }
}

/// mknod of anything (it gives no access by itself), and the devices of config.md "Default Devices".
const DEFAULTS: [Rule; 10] = [
    default(Some(Kind::Char), None, None, MKNOD),
    default(Some(Kind::Block), None, None, MKNOD),
    default(Some(Kind::Char), Some(1), Some(3), ALL), // null
    default(Some(Kind::Char), Some(1), Some(5), ALL), // zero
    default(Some(Kind::Char), Some(1), Some(7), ALL), // full
    default(Some(Kind::Char), Some(1), Some(8), ALL), // random
    default(Some(Kind::Char), Some(1), Some(9), ALL), // urandom
    default(Some(Kind::Char), Some(5), Some(0), ALL), // tty
    default(Some(Kind::Char), Some(5), Some(2), ALL), // ptmx
    default(Some(Kind::Char), Some(136), None, ALL),  // pts/*
];

fn parse(rule: &DeviceRule, index: usize) -> Result<Rule> {
    let refuse = |name: &str, value: String, problem: &str| {
        let field = format!("linux.resources.devices[{index}].{name}");
        Err(Error::new(Doing::Value, "devices").field(field).value(value).problem(problem.to_owned()))
    };
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("c" | "u") => Some(Kind::Char),
        Some("b") => Some(Kind::Block),
        Some(other) => return refuse("type", format!("{other:?}"), "it must be a, b, c or u"),
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(n) => match u32::try_from(n) {
            Ok(n) if n <= i32::MAX as u32 => Ok(Some(n)),
            _ => refuse(name, n.to_string(), "device numbers go from 0 to 2147483647, or -1 for any")
                .map(|_: Rule| None),
        },
    };
    let mut access = 0;
    for letter in rule.access.as_deref().unwrap_or("rwm").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            // For a rule of all devices runc takes any letters, and its own tests write "rwa". In another rule it ignores the "a".
            'a' if kind.is_none() => ALL,
            'a' => 0,
            _ => return refuse("access", format!("{:?}", rule.access), "it must be made of r, w and m"),
        };
    }
    match (access, rule.access.as_deref()) {
        (0, None | Some("")) => access = ALL,
        (0, _) => return refuse("access", format!("{:?}", rule.access), "it must be made of r, w and m"),
        _ => {}
    }
    let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
    Ok(Rule { allow: rule.allow, kind, major, minor, access })
}

impl std::fmt::Display for Rule {
    /// As the v1 files take and show it: `c 1:3 rwm`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            None => "a",
            Some(Kind::Block) => "b",
            Some(Kind::Char) => "c",
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

//! A profile as rules: names looked up, actions as the words that a filter returns, operators and indices checked.

use super::arch;
use super::tables::Row;
use crate::error::Error;
use crate::spec::{Seccomp, SeccompArg, SeccompRule};
use crate::suggest::nearest;

pub const KILL_THREAD: u32 = 0;
pub const ENOSYS: u32 = ERRNO | 38;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 1;

#[derive(Debug)]
pub struct Rules {
    pub default: u32,
    pub rules: Vec<Rule>,
}

#[derive(Debug)]
pub struct Rule {
    /// Of the names that a table knows.
    pub calls: Vec<&'static Row>,
    pub action: u32,
    /// The rule holds where all conditions of any of these hold; none: always.
    pub cases: Vec<Vec<Condition>>,
}

/// `argument op value`; for MaskedEqual `argument & value == other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub index: u8,
    pub op: Op,
    pub value: u64,
    pub other: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    MaskedEqual,
}

impl Rules {
    pub fn read(profile: &Seccomp<'_>) -> Result<Rules, Error> {
        if profile.listener_metadata.is_some() && profile.listener_path.is_none() {
            return Err(Error::new(
                "linux.seccomp.listenerMetadata",
                "there is no listenerPath to send it to",
            ));
        }
        let default = action(&profile.default_action, profile.default_errno_ret, |leaf| match leaf {
            "action" => "linux.seccomp.defaultAction".to_owned(),
            _ => "linux.seccomp.defaultErrnoRet".to_owned(),
        })?;
        let rules = profile.syscalls.iter().enumerate().map(|(index, rule)| read(rule, index));
        Ok(Rules { default, rules: rules.collect::<Result<_, _>>()? })
    }

    /// A call newer than the profile is refused as if the kernel did not have it (runc's patchbpf): EPERM would keep a
    /// library from its fallback. Not where the default lets calls pass, and a tracer has to answer itself.
    pub fn newer_is_enosys(&self) -> bool {
        !matches!(self.default & 0xffff_0000, ALLOW | LOG | TRACE)
    }
}

fn read(rule: &SeccompRule<'_>, index: usize) -> Result<Rule, Error> {
    let field = |leaf: &str| format!("linux.seccomp.syscalls[{index}].{leaf}");
    let action = action(&rule.action, rule.errno_ret, field)?;
    let conditions =
        rule.args.iter().enumerate().map(|(at, arg)| condition(arg, &field(&format!("args[{at}]"))));
    let conditions: Vec<Condition> = conditions.collect::<Result<_, _>>()?;
    // As runc and crun: where one argument is named twice, each condition is a case of its own.
    let twice = |c: &Condition| conditions.iter().filter(|other| other.index == c.index).count() > 1;
    let cases = match () {
        () if conditions.is_empty() => vec![],
        () if conditions.iter().any(twice) => conditions.into_iter().map(|c| vec![c]).collect(),
        () => vec![conditions],
    };
    let mut last = 0;
    let calls = rule.names.iter().filter_map(|name| arch::find(name, &mut last)).collect();
    Ok(Rule { calls, action, cases })
}

fn action(name: &str, errno: Option<u32>, field: impl Fn(&str) -> String) -> Result<u32, Error> {
    let word = match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => ERRNO,
        "SCMP_ACT_TRACE" => TRACE,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_NOTIFY" => return Err(Error::new(field("action"), "SCMP_ACT_NOTIFY is not supported yet")),
        "" => return Err(Error::new(field("action"), "is missing")),
        other => return Err(unknown(field("action"), "action", other, ACTIONS)),
    };
    match (word, errno) {
        (ERRNO | TRACE, None) => Ok(word | EPERM),
        // The kernel cuts an errno to 4095 and a tracer's message to 16 bits.
        (ERRNO, Some(n)) if n <= 4_095 => Ok(word | n),
        (TRACE, Some(n)) if n <= 0xffff => Ok(word | n),
        (ERRNO | TRACE, Some(n)) => Err(Error::new(field("errnoRet"), format!("{n} is no errno"))),
        (_, Some(_)) => Err(Error::new(field("errnoRet"), format!("{name} returns none"))),
        (_, None) => Ok(word),
    }
}

fn condition(arg: &SeccompArg<'_>, field: &str) -> Result<Condition, Error> {
    let op = match arg.op.as_str() {
        "SCMP_CMP_NE" => Op::NotEqual,
        "SCMP_CMP_LT" => Op::Less,
        "SCMP_CMP_LE" => Op::LessOrEqual,
        "SCMP_CMP_EQ" => Op::Equal,
        "SCMP_CMP_GE" => Op::GreaterOrEqual,
        "SCMP_CMP_GT" => Op::Greater,
        "SCMP_CMP_MASKED_EQ" => Op::MaskedEqual,
        "" => return Err(Error::new(format!("{field}.op"), "is missing")),
        other => return Err(unknown(format!("{field}.op"), "operator", other, OPS)),
    };
    let index = u8::try_from(arg.index)
        .ok()
        .filter(|i| *i < 6)
        .ok_or_else(|| Error::new(format!("{field}.index"), format!("{} is not 0 to 5", arg.index)))?;
    Ok(Condition { index, op, value: arg.value, other: arg.value_two })
}

pub fn unknown(field: String, what: &str, name: &str, known: &[&str]) -> Error {
    let hint = nearest(name, known.iter().copied()).map_or(String::new(), |n| format!("; did you mean {n}?"));
    Error::new(field, format!("no {what} is called {name:?}{hint}"))
}

const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

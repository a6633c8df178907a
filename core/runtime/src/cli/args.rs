//! Words of the command line -> what was asked for, by the table.
//!
//! Long flags take their value after a space or `=`, and may have one dash (containerd writes `-no-subreaper`). In verbs
//! that run somebody else's program, flags end at the first positional argument. Deliberately absent: what flags mean.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use lexopt::{Arg, Parser};
use sampan_plan::suggest::nearest;

use super::table::{self, Flag, GLOBAL, Row, Takes, VERBS, Verb};

/// A command line that means nothing, and what would.
#[derive(Debug, PartialEq, Eq)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for Usage {
    fn from(e: lexopt::Error) -> Usage {
        Usage(e.to_string())
    }
}

/// Flags with their values, in the order given.
#[derive(Debug, Default)]
pub struct Given(Vec<(&'static str, Option<OsString>)>);

impl Given {
    pub fn has(&self, long: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == long)
    }

    /// The last value given.
    pub fn get(&self, long: &str) -> Option<&OsStr> {
        self.0.iter().rev().find(|(name, _)| *name == long).and_then(|(_, v)| v.as_deref())
    }

    pub fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a OsStr> {
        self.0.iter().filter(move |(name, _)| *name == long).filter_map(|(_, v)| v.as_deref())
    }

    /// The last value as text.
    pub fn text(&self, long: &str) -> Result<Option<&str>, Usage> {
        let Some(value) = self.get(long) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| Usage(format!("--{long}: {value:?} is not UTF-8")))
    }

    /// The last value as a number.
    pub fn number<T: std::str::FromStr>(&self, long: &str) -> Result<Option<T>, Usage> {
        let Some(text) = self.text(long)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| Usage(format!("--{long}: {text:?} is not a number that fits")))
    }
}

/// A command line, taken apart.
#[derive(Debug)]
pub struct Command {
    pub global: Given,
    pub verb: Option<&'static Row>,
    pub given: Given,
    /// Positional arguments before any `--`.
    pub operands: Vec<OsString>,
    /// What follows `--`; in verbs that stop, the rest of the operands.
    pub program: Option<Vec<OsString>>,
}

impl Command {
    pub fn wants_help(&self) -> bool {
        self.global.has("help")
    }
}

pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Usage> {
    let mut parser = Parser::from_args(args);
    let mut c = Command {
        global: Given::default(),
        verb: None,
        given: Given::default(),
        operands: Vec::new(),
        program: None,
    };
    while let Some(word) = next(&mut parser, c.verb)? {
        match word {
            Word::Flag(flag, value) if is_global(flag, c.verb) => c.global.0.push((flag.long, value)),
            Word::Flag(flag, value) => c.given.0.push((flag.long, value)),
            Word::Rest(rest) if c.verb.is_some_and(|v| v.stops) => c.operands.extend(rest),
            Word::Rest(rest) => c.program = Some(rest),
            Word::Operand(word) => match c.verb {
                None => c.verb = Some(find_verb(&word)?),
                Some(verb) if verb.stops => {
                    c.operands.push(word);
                    c.operands.extend(rest(&mut parser)?);
                    break;
                }
                Some(_) => c.operands.push(word),
            },
        }
    }
    check_count(&c)?;
    Ok(c)
}

/// All that follows the operand at which flags end. A `--` right behind it only separates: `exec ID -- cmd` and
/// `exec ID cmd` are the same.
fn rest(parser: &mut Parser) -> Result<Vec<OsString>, Usage> {
    let mut raw = parser.raw_args()?;
    raw.next_if(|word| word == "--");
    Ok(raw.collect())
}

enum Word {
    Flag(&'static Flag, Option<OsString>),
    Operand(OsString),
    /// Everything after `--`.
    Rest(Vec<OsString>),
}

fn next(parser: &mut Parser, verb: Option<&'static Row>) -> Result<Option<Word>, Usage> {
    if let Some(mut raw) = parser.try_raw_args() {
        if raw.next_if(|w| w == "--").is_some() {
            return Ok(Some(Word::Rest(raw.collect())));
        }
        if let Some((flag, attached)) = raw.peek().and_then(|word| one_dash(word, verb)) {
            raw.next();
            return with_value(flag, attached, || raw.next()).map(Some);
        }
    }
    let Some(arg) = parser.next()? else { return Ok(None) };
    let flag = match arg {
        Arg::Value(word) => return Ok(Some(Word::Operand(word))),
        Arg::Long(name) => {
            find(verb, |f| f.long == name).ok_or_else(|| unknown(&format!("--{name}"), name, verb))?
        }
        Arg::Short(c) => {
            find(verb, |f| f.short == Some(c)).ok_or_else(|| unknown(&format!("-{c}"), "", verb))?
        }
    };
    let attached = match flag.takes {
        Takes::Value(_) => Some(parser.value()?),
        Takes::Nothing | Takes::Maybe(_) => parser.optional_value(),
    };
    with_value(flag, attached, || None).map(Some)
}

/// `-no-subreaper`, `-pid-file=F`: a long flag with one dash, as Go's flag package has it.
fn one_dash(word: &OsStr, verb: Option<&'static Row>) -> Option<(&'static Flag, Option<OsString>)> {
    let word = word.as_bytes().strip_prefix(b"-").filter(|w| w.len() > 1 && w[0] != b'-')?;
    let (name, value) = match word.iter().position(|b| *b == b'=') {
        Some(at) => (&word[..at], Some(OsStr::from_bytes(&word[at + 1..]).to_owned())),
        None => (word, None),
    };
    let flag = find(verb, |f| f.long.len() > 1 && f.long.as_bytes() == name)?;
    Some((flag, value))
}

fn with_value(
    flag: &'static Flag,
    attached: Option<OsString>,
    following: impl FnOnce() -> Option<OsString>,
) -> Result<Word, Usage> {
    match (flag.takes, attached) {
        (Takes::Nothing, None) => Ok(Word::Flag(flag, None)),
        // Go's switches may be given a truth value.
        (Takes::Nothing, Some(v)) if v == "true" || v == "1" => Ok(Word::Flag(flag, None)),
        (Takes::Nothing, Some(v)) if v == "false" || v == "0" => Ok(Word::Flag(&OFF, None)),
        (Takes::Nothing, Some(v)) => Err(Usage(format!("--{} takes no value, but got {v:?}", flag.long))),
        (Takes::Maybe(_), value) => Ok(Word::Flag(flag, value)),
        (Takes::Value(name), value) => match value.or_else(following) {
            Some(value) => Ok(Word::Flag(flag, Some(value))),
            None => Err(Usage(format!("--{} needs a value: {name}", flag.long))),
        },
    }
}

/// What `--flag=false` becomes: a flag that nobody asks for.
static OFF: Flag = Flag { long: "", short: None, takes: Takes::Nothing, help: "" };

/// A verb's own flags hide the global ones of the same name: `enter --root`.
fn find(verb: Option<&'static Row>, is: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
    let own = verb.map_or(&[][..], |v| v.flags);
    own.iter().find(|f| is(f)).or_else(|| GLOBAL.iter().find(|f| is(f)))
}

fn is_global(flag: &'static Flag, verb: Option<&'static Row>) -> bool {
    !verb.is_some_and(|v| v.flags.iter().any(|f| f.long == flag.long))
}

fn find_verb(word: &OsStr) -> Result<&'static Row, Usage> {
    let name = word.to_string_lossy();
    table::row(&name).ok_or_else(|| {
        let meant = meant(nearest(&name, VERBS.iter().map(|v| v.name)), "");
        Usage(format!("unknown command {name:?}{meant} `sampan --help` lists them"))
    })
}

fn unknown(written: &str, name: &str, verb: Option<&'static Row>) -> Usage {
    let own = verb.map_or(&[][..], |v| v.flags);
    let meant = meant(nearest(name, own.iter().chain(GLOBAL).map(|f| f.long)), "--");
    let of = verb.map_or(String::new(), |v| format!(" {}", v.name));
    Usage(format!("unknown flag {written}{meant} `sampan{of} --help` lists them"))
}

/// What stands between a word that is unknown and where to look.
fn meant(near: Option<&str>, dashes: &str) -> String {
    near.map_or(";".to_owned(), |near| format!(", did you mean \"{dashes}{near}\"?"))
}

fn check_count(c: &Command) -> Result<(), Usage> {
    let Some(verb) = c.verb else { return Ok(()) };
    if c.wants_help() {
        return Ok(());
    }
    let n = c.operands.len();
    if n < verb.count.0 {
        return Err(Usage(format!(
            "{}: missing argument; usage: sampan {} {}",
            verb.name, verb.name, verb.operands
        )));
    }
    if n > verb.count.1 {
        let extra = c.operands[verb.count.1].to_string_lossy();
        return Err(Usage(format!(
            "{}: {extra:?} is one argument too many; usage: sampan {} {}",
            verb.name, verb.name, verb.operands
        )));
    }
    if c.program.is_some() && verb.verb != Verb::Run {
        return Err(Usage(format!("{}: takes nothing after --", verb.name)));
    }
    Ok(())
}

//! `sampan update`: changes limits of a container, and only those that are named.

use std::io::Read;
use std::path::Path;

use sampan_plan::spec::Resources;
use serde_json::{Map, Value};

use super::{Error, Result, cgroup, doing, find, read_text, state_error, status};
use crate::log::Log;
use crate::store::dir::{FILE_BYTES_MAX, Lock, Root};
use crate::store::state::Status;

/// Flag, its place in `linux.resources`, and whether it is text there.
const FIELDS: [(&str, &str, &str, bool); 14] = [
    ("memory", "memory", "limit", false),
    ("memory-reservation", "memory", "reservation", false),
    ("memory-swap", "memory", "swap", false),
    ("cpu-period", "cpu", "period", false),
    ("cpu-quota", "cpu", "quota", false),
    ("cpu-burst", "cpu", "burst", false),
    ("cpu-share", "cpu", "shares", false),
    ("cpu-rt-period", "cpu", "realtimePeriod", false),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime", false),
    ("cpu-idle", "cpu", "idle", false),
    ("cpuset-cpus", "cpu", "cpus", true),
    ("cpuset-mems", "cpu", "mems", true),
    ("pids-limit", "pids", "limit", false),
    ("blkio-weight", "blockIO", "weight", false),
];

/// The body of `--resources`: a file, or - for stdin.
pub fn read(file: &Path) -> Result<String> {
    if file != Path::new("-") {
        return read_text("--resources ", file);
    }
    let mut text = String::new();
    let mut stdin = std::io::stdin().lock().take(FILE_BYTES_MAX);
    stdin.read_to_string(&mut text).map_err(doing("cannot read the resources from stdin"))?;
    Ok(text)
}

/// The same from flags.
pub fn from_flags<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Result<String> {
    let mut all = Map::new();
    for (flag, group, field, is_text) in FIELDS {
        let Some(text) = value(flag) else { continue };
        let json = if is_text { Value::from(text) } else { Value::from(number(flag, text)?) };
        if let Value::Object(group) = all.entry(group).or_insert_with(|| Value::Object(Map::new())) {
            group.insert(field.into(), json);
        }
    }
    Ok(Value::Object(all).to_string())
}

fn number(flag: &str, text: &str) -> Result<i64> {
    let found = if IN_BYTES.contains(&flag) { bytes(text) } else { text.parse().ok() };
    found.ok_or_else(|| Error::new(format!("--{flag}: {text:?} is not a number")))
}

/// Flags that take a size with a unit, as in runc.
const IN_BYTES: [&str; 3] = ["memory", "memory-reservation", "memory-swap"];

/// `512`, `512b`, `1.5g`, `64 MiB`, and -1 for no limit: Go's units.RAMInBytes, which runc and docker read sizes with.
pub fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let lower = text.to_ascii_lowercase();
    let size = lower.strip_suffix('b').unwrap_or(&lower);
    let size = size.strip_suffix('i').filter(|s| s.ends_with(UNITS)).unwrap_or(size);
    let (number, factor) = match size.strip_suffix(UNITS) {
        Some(number) => (number, size.chars().last().and_then(|unit| UNITS.iter().position(|u| *u == unit))),
        None => (size, None),
    };
    let factor = factor.map_or(1, |power| 1i64 << (10 * (power + 1)));
    let number = number.strip_suffix(' ').unwrap_or(number);
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return None;
    }
    let whole = whole.parse::<i64>().ok()?.checked_mul(factor)?;
    let part = format!("0.{part}").parse::<f64>().ok()? * factor as f64;
    whole.checked_add(part as i64)
}

/// Each 1024 times the one before.
const UNITS: [char; 5] = ['k', 'm', 'g', 't', 'p'];

pub fn run(root: &Root, id: &str, resources: &str, log: &Log) -> Result<()> {
    let (folder, mut state) = find(root, id)?;
    folder.lock(Lock::Exclusive, Some(std::time::Duration::from_secs(10)))?;
    if status(&folder, &state)? == Status::Stopped {
        return Err(state_error(id, "container not running"));
    }
    let resources = Resources::parse(resources).map_err(|e| Error::new(format!("{id}: resources: {e}")))?;
    for warning in cgroup(&state)?.update(&resources)? {
        log.warning(&warning);
    }
    // The limits are this life's: groups that the supervisor keeps for the next one go with it.
    if let Some(cgroup) = state.cgroup.as_mut().filter(|cgroup| cgroup.kept) {
        cgroup.kept = false;
        state.save(&folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::from_flags;

    fn check(flags: &[(&str, &str)], json: &str) {
        let of = |name: &str| flags.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        assert_eq!(from_flags(of).unwrap_or_else(|e| e.to_string()), json);
    }

    #[test]
    fn flags_become_resources() {
        check(&[], "{}");
        check(&[("memory", "64m"), ("memory-swap", "-1")], r#"{"memory":{"limit":67108864,"swap":-1}}"#);
        check(&[("cpuset-cpus", "0-1"), ("cpu-share", "512")], r#"{"cpu":{"cpus":"0-1","shares":512}}"#);
        check(&[("pids-limit", "x")], r#"--pids-limit: "x" is not a number"#);
        check(&[("pids-limit", "1k")], r#"--pids-limit: "1k" is not a number"#);
    }

    #[test]
    fn sizes_are_read_as_runc_reads_them() {
        for (text, size) in [
            ("512", Some(512)),
            ("512b", Some(512)),
            ("1k", Some(1024)),
            ("1kb", Some(1024)),
            ("1KiB", Some(1024)),
            ("64 MiB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2t", Some(2 << 40)),
            ("1P", Some(1 << 50)),
            ("-1", Some(-1)),
            ("-2", None),
            ("", None),
            ("b", None),
            ("k", None),
            ("1x", None),
            ("1ib", None),
            ("1kk", None),
            ("1..5g", None),
            ("1.g", None),
            (".5g", None),
            ("0x10", None),
            ("9999999999g", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
        ] {
            assert_eq!(super::bytes(text), size, "{text:?}");
        }
    }
}

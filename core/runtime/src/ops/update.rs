//! `sampan update`: changes limits of a container, and only those that are named.

use std::io::Read;
use std::path::Path;

use sampan_plan::spec::Resources;
use serde_json::{Map, Value};

use super::{Error, Result, cgroup, doing, find, read_text, state_error, status};
use crate::cli::log::Log;
use crate::root::{FILE_BYTES_MAX, Lock, Root};
use crate::state::Status;

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

/// Bytes may have a suffix, as in runc: 512m.
fn number(flag: &str, text: &str) -> Result<i64> {
    let bad = || Error::Asked(format!("--{flag}: {text:?} is not a number"));
    let (digits, factor) = match text.trim_end_matches(['b', 'B']).char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<i64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(bad)
}

pub fn run(root: &Root, id: &str, resources: &str, log: &Log) -> Result<()> {
    let (folder, mut state) = find(root, id)?;
    folder.lock(Lock::Exclusive, Some(std::time::Duration::from_secs(10)))?;
    if status(&folder, &state)? == Status::Stopped {
        return Err(state_error(id, "container not running"));
    }
    let resources = Resources::parse(resources).map_err(|e| Error::Asked(format!("{id}: resources: {e}")))?;
    for warning in cgroup(&state)?.update(&resources)? {
        log.warning(&warning);
    }
    // The limits are this life's: groups that the supervisor keeps for the next one go with it.
    if let Some(cgroup) = state.cgroup.as_mut().filter(|cgroup| cgroup.kept) {
        cgroup.kept = false;
        state.save(&folder).map_err(Error::from)?;
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
    }
}

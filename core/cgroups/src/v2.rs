//! What only v2 needs: controllers handed down from each parent to its children, and what cgroup.events says.

use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::group::Group;

/// What a container may be limited or counted by. Others (`misc`, `dmem`, ...) are enabled when a limit asks for them.
const USUAL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Makes the group and what is missing above it; true if the group itself is new. On a pure v2 host the usual
/// controllers are handed down to it, since without them nothing is counted; beside v1 only when a limit needs it.
pub(crate) fn make(group: &Group<'_>, v2_only: bool) -> Result<bool> {
    let failed = |e| {
        let error = Error::new(Doing::Make, group.name()).call("mkdirat", e);
        error.likely_or(crate::explain::make(e))
    };
    if v2_only {
        let wanted: Vec<&str> = USUAL.into_iter().filter(|c| group.hierarchy.has(c)).collect();
        if let Some(parent) = group.parent() {
            if !parent.path.is_empty() && !parent.exists() {
                make(&parent, v2_only)?;
            }
            // A parent that may not hand down is only an error once a limit asks for what it withholds.
            let _ = enable(group, &wanted);
        }
        return group.mkdir().map_err(failed);
    }
    match group.mkdir() {
        Ok(new) => Ok(new),
        Err(Errno::NOENT) => {
            if let Some(parent) = group.parent() {
                make(&parent, v2_only)?;
            }
            group.mkdir().map_err(failed)
        }
        Err(e) => Err(failed(e)),
    }
}

/// Hands `wanted` down from the root to `group`. The error names the first one that a parent could not hand down.
pub(crate) fn enable(group: &Group<'_>, wanted: &[&str]) -> Result<()> {
    let Some(parent) = group.parent() else { return Ok(()) };
    let file = "cgroup.subtree_control";
    let lacking = |held: &str| -> Vec<&str> {
        wanted.iter().copied().filter(|c| !held.split_ascii_whitespace().any(|h| h == *c)).collect()
    };
    let missing = lacking(&parent.read(file)?);
    if missing.is_empty() {
        return Ok(());
    }
    // Whoever lacks it may have a parent that lacks it as well.
    enable(&parent, wanted)?;
    let all = missing.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ");
    if parent.write(file, &all).is_ok() {
        return Ok(());
    }
    let mut first = None;
    for controller in missing {
        let value = format!("+{controller}");
        if let Err((call, e)) = parent.write(file, &value) {
            let error =
                Error::new(Doing::Limit, parent.file(file)).controller(controller).value(value).call(call, e);
            first.get_or_insert(error.likely_or(crate::explain::enable(e)));
        }
    }
    first.map_or(Ok(()), Err)
}

/// One of the words of cgroup.events, e.g. `populated`; `None` if the group is gone or the kernel has no such word.
pub(crate) fn event(group: &Group<'_>, word: &str) -> Result<Option<bool>> {
    Ok(group.try_read("cgroup.events")?.and_then(|text| word_of(&text, word)).map(|n| n != 0))
}

/// The number after `word ` at the start of a line: the form of *.events, cpu.stat and memory.stat.
pub(crate) fn word_of(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

//! `sampan events ID`: resource use as JSON lines in runc's shape, once (`--stats`) or every interval; and `oom` lines.
//!
//! Between two lines we sleep on the container's pidfd, so its end ends us at once. An out-of-memory kill is seen by its
//! counter at the next line, not before.

use std::os::fd::AsFd;
use std::time::Duration;

use sampan_cgroups::Stats;
use serde::Serialize;

use super::{Error, Result, cgroup, doing, find, state_error};
use crate::kernel::pidfd;
use crate::store::dir::Root;

/// One line of output; readers that look for `{"type":"stats"` find it where runc has it.
#[derive(Debug, Serialize)]
pub struct Event<'e> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'e Stats>,
}

/// Shows the first event at once, and with `once` no other.
pub fn run(
    root: &Root,
    id: &str,
    once: bool,
    interval: Duration,
    show: &mut dyn FnMut(&Event<'_>) -> Result<()>,
) -> Result<()> {
    let (_folder, state) = find(root, id)?;
    let init = state.init().map_err(doing(format!("{id}: cannot find its process")))?;
    let init = init.ok_or_else(|| state_error(id, "container not running"))?;
    let cgroup = cgroup(&state)?;
    let mut kills = cgroup.oom_kills()?;
    loop {
        let stats = cgroup.stats()?;
        show(&Event { kind: "stats", id, data: Some(&stats) })?;
        if once {
            return Ok(());
        }
        let over = pidfd::wait(init.as_fd(), Some(interval)).map_err(doing(format!("{id}: cannot wait")))?;
        let now = cgroup.oom_kills().unwrap_or(kills);
        if now > kills {
            show(&Event { kind: "oom", id, data: None })?;
            kills = now;
        }
        if over {
            return Ok(());
        }
    }
}

/// Go's durations, as far as clients write them: `5s`, `500ms`, `1m`.
pub fn interval(text: &str) -> Result<Duration> {
    let bad = || Error::new(format!("--interval {text:?}: must be a time above 0 such as 5s or 500ms"));
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..at].parse().map_err(|_| bad())?;
    let found = match &text[at..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(bad()),
    };
    if found.is_zero() { Err(bad()) } else { Ok(found) }
}

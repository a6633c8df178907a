//! Making a v2 group, enabling controllers for it, and what its cgroup.events says.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, SeekFrom, seek};

use crate::error::{Doing, Errno, Error, Result};
use crate::explain;
use crate::file::{read_fd, value_of};
use crate::group::Group;

/// The controllers that count what a container uses. Others (`misc`, `dmem`, ...) are enabled when a limit asks for them.
const USUAL: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// Makes the group and what is missing above it. True if the group itself is new. Where v2 is the only version, the usual
/// controllers are enabled, since nothing is counted without them; on a hybrid host none is, until a limit needs it.
pub(crate) fn make(group: &Group<'_>, v2_only: bool) -> Result<bool> {
    let failed = |e| {
        let error = Error::new(Doing::Make, group.name()).call("mkdirat", e);
        error.likely_or(explain::make(e))
    };
    if v2_only {
        let wanted: Vec<&str> = USUAL.into_iter().filter(|c| group.hierarchy.has(c)).collect();
        if let Some(parent) = group.parent() {
            if !parent.path.is_empty() && !parent.exists() {
                make(&parent, v2_only)?;
            }
            // If one cannot be enabled, that is an error only once a limit asks for it.
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

/// Enables `wanted` for `group`: in the cgroup.subtree_control of its parent, and before that of every group above. The
/// error names the first controller that could not be enabled.
pub(crate) fn enable(group: &Group<'_>, wanted: &[&str]) -> Result<()> {
    let Some(parent) = group.parent() else { return Ok(()) };
    let file = "cgroup.subtree_control";
    let enabled = parent.read(file)?;
    let is_missing = |controller: &&str| !enabled.split_ascii_whitespace().any(|e| e == *controller);
    let missing: Vec<&str> = wanted.iter().copied().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    enable(&parent, wanted)?;
    let all = missing.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ");
    if parent.write(file, &all).is_ok() {
        return Ok(());
    }
    // The kernel enables all of a write or none. One by one, each that can be enabled is.
    let mut first = None;
    for controller in missing {
        let value = format!("+{controller}");
        if let Err((call, e)) = parent.write(file, &value) {
            let error = Error::new(Doing::Limit, parent.file(file)).value(value).call(call, e);
            first.get_or_insert(error.likely_or(explain::enable(e)));
        }
    }
    first.map_or(Ok(()), Err)
}

/// A value of cgroup.events, e.g. `populated`. `None` if the group is gone, or if the kernel has no such key.
pub(crate) fn event(group: &Group<'_>, key: &str) -> Result<Option<bool>> {
    Ok(group.try_read("cgroup.events")?.and_then(|text| value_of(&text, key)).map(|n| n != 0))
}

/// Waits until a key of cgroup.events has that value. The kernel wakes us at each change (POLLPRI). True at once if the
/// group is gone; false if the time is over.
pub(crate) fn wait_for_event(group: &Group<'_>, key: &str, wanted: bool, within: Duration) -> Result<bool> {
    let failed = |call, errno| Error::new(Doing::Read, group.file("cgroup.events")).call(call, errno);
    let until = Instant::now() + within;
    let file = match group.open("cgroup.events", OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
        Err(e) => return Err(failed("openat", e)),
    };
    loop {
        let text = match seek(&file, SeekFrom::Start(0))
            .map_err(|e| ("lseek", e))
            .and_then(|_| read_fd(file.as_fd()))
        {
            // Removed meanwhile.
            Ok(text) => text,
            Err((_, Errno::NODEV)) => return Ok(true),
            Err((call, e)) => return Err(failed(call, e)),
        };
        if value_of(&text, key).is_none_or(|n| (n != 0) == wanted) {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(failed("poll", e)),
        }
    }
}

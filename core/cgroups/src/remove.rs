//! Removing a control group, in every hierarchy.

use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, list};
use crate::error::{Doing, Errno, Error, Result};
use crate::group::Group;

/// How long [`Cgroup::remove`] waits for the last process to leave the kernel.
pub const REMOVE_WITHIN: Duration = Duration::from_millis(500);

impl Cgroup<'_> {
    /// Removes the groups if no process and no group is in them: rmdir itself is the check. False: one is in use, and nothing
    /// was done to what is in it. The group by which processes are found goes first, so it stays while any of them lives.
    pub fn remove_if_empty(&self) -> bool {
        let Some(first) = self.primary().filter(|g| !g.path.is_empty()) else { return false };
        if !is_gone(first.rmdir()) {
            return false;
        }
        let others =
            self.groups().filter(|g| !g.path.is_empty() && !std::ptr::eq(g.hierarchy, first.hierarchy));
        others.filter(|group| !is_gone(group.rmdir())).count() == 0 // all are tried
    }

    /// Removes the groups and all below them. A process that has just ended may hold its group for a moment (EBUSY).
    pub fn remove(&self) -> Result<()> {
        let mut until = None; // the clock is not read unless it is needed
        let mut pause = Duration::from_micros(500);
        let mut left: Vec<Group<'_>> = self.groups().filter(|g| !g.path.is_empty()).collect();
        loop {
            let mut errors = Vec::new();
            left.retain(|group| match remove_tree(group) {
                Ok(()) => false,
                Err(e) => {
                    errors.push(e);
                    true
                }
            });
            if left.is_empty() {
                return Ok(());
            }
            let busy = errors.iter().all(|e| e.errno == Some(Errno::BUSY));
            let now = Instant::now();
            if !busy || now >= *until.get_or_insert(now + REMOVE_WITHIN) {
                return Err(self.not_removed(&left, errors));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn not_removed(&self, left: &[Group<'_>], errors: Vec<Error>) -> Error {
        let names: Vec<String> = left.iter().map(Group::name).collect();
        let pids = self.members();
        let mut problem = format!("left: {}", names.join(", "));
        if !pids.is_empty() {
            problem.push_str(&format!("; with processes {}", list(&pids)));
        }
        let first = errors.into_iter().next().unwrap_or_else(|| Error::new(Doing::Remove, "cgroup"));
        first.problem(problem).likely("processes are still in it; end them first (kill)")
    }
}

fn is_gone(rmdir: rustix::io::Result<()>) -> bool {
    matches!(rmdir, Ok(()) | Err(Errno::NOENT | Errno::NODEV))
}

/// In the common case one call. Where there are groups below, they go first.
fn remove_tree(group: &Group<'_>) -> Result<()> {
    match remove_one(group) {
        Err(e) if matches!(e.errno, Some(Errno::BUSY | Errno::NOTEMPTY)) => {}
        outcome => return outcome,
    }
    group.remove_below()?;
    remove_one(group)
}

fn remove_one(group: &Group<'_>) -> Result<()> {
    match group.rmdir() {
        Err(e) if !is_gone(Err(e)) => Err(Error::new(Doing::Remove, group.name()).call("rmdir", e)),
        _ => Ok(()),
    }
}

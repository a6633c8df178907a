//! What each step of a launch cost: `run --trace`.
//!
//! The child writes the time after each step into a memfd that we gave it; the differences are the costs. Waiting for
//! us counts as the child's time, so those lines say "wait".

use std::os::fd::OwnedFd;

use sampan_child::step::Step;
use sampan_plan::{Plan, render};

/// What one step cost.
#[derive(Debug)]
pub struct Cost {
    /// As `sampan plan` counts, from 1 on.
    pub number: usize,
    pub nanoseconds: u64,
    pub words: String,
    /// The child waited for another process, or for execve: time that is not its own work.
    pub is_others: bool,
}

/// Of the steps that the child came to.
pub fn costs(plan: &Plan<'_>, trace: &OwnedFd) -> Vec<Cost> {
    let mut bytes = vec![0u8; (plan.steps.len() + 1) * 8];
    let read = rustix::io::pread(trace, &mut bytes[..], 0).unwrap_or(0);
    bytes.truncate(read);
    let times: Vec<u64> =
        bytes.chunks_exact(8).filter_map(|c| Some(u64::from_ne_bytes(c.try_into().ok()?))).collect();
    let Some(reader) = render::reader(plan) else { return Vec::new() };
    let mut last = times.first().copied().unwrap_or(0);
    let mut costs = Vec::new();
    for (index, (step, done)) in plan.steps.iter().zip(times.iter().skip(1)).enumerate() {
        // What the spawner did before, and what was not reached, have no time.
        if *done == 0 {
            continue;
        }
        costs.push(Cost {
            number: index + 1,
            nanoseconds: done.saturating_sub(last),
            words: reader.words(*step),
            is_others: matches!(step, Step::Wait { .. } | Step::Exec { .. }),
        });
        last = *done;
    }
    costs
}

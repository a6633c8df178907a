//! What each step of a launch cost: `run --trace`.
//!
//! The child writes the time after each step into a memfd that we gave it; the differences are the costs. Waiting for
//! us counts as the child's time, so those lines say "wait".

use std::fmt::Write;
use std::os::fd::OwnedFd;

use sampan_child::step::Step;
use sampan_plan::{Plan, render};

/// One line a step, in microseconds, and the sum without the waits.
pub fn text(plan: &Plan<'_>, trace: &OwnedFd) -> String {
    let mut bytes = vec![0u8; (plan.steps.len() + 1) * 8];
    let read = rustix::io::pread(trace, &mut bytes[..], 0).unwrap_or(0);
    bytes.truncate(read);
    let times: Vec<u64> =
        bytes.chunks_exact(8).filter_map(|c| Some(u64::from_ne_bytes(c.try_into().ok()?))).collect();
    let Some(reader) = render::reader(plan) else { return String::new() };
    let mut out = String::new();
    let mut own = 0;
    let mut last = times.first().copied().unwrap_or(0);
    for (index, (step, done)) in plan.steps.iter().zip(times.iter().skip(1)).enumerate() {
        // What the spawner did before, and what was not reached, have no time.
        if *done == 0 {
            continue;
        }
        let cost = done.saturating_sub(last);
        last = *done;
        if !matches!(step, Step::Wait { .. } | Step::Exec { .. }) {
            own += cost;
        }
        let _ = writeln!(out, "{:>3} {:>9.1} us  {}", index + 1, cost as f64 / 1e3, reader.words(*step));
    }
    let _ = writeln!(out, "    {:>9.1} us  all steps, without waiting", own as f64 / 1e3);
    out
}

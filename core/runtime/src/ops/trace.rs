//! `sampan run --trace`: what each step of the plan cost, as the child stamped it, on stderr.
//! The last step is execve: its time is not ours to see, so the line says when it was reached.

use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};

use sampan_plan::{Plan, show};

use super::{Error, Result, doing};

/// The stamps are nanoseconds, one before the first step and one after each.
pub fn print(plan: &Plan<'_>, stamps: &OwnedFd) -> Result<()> {
    let mut bytes = vec![0; (plan.steps.len() + 1) * 8];
    let read = rustix::io::pread(stamps.as_fd(), &mut bytes, 0).map_err(doing("cannot read the trace"))?;
    let stamps: Vec<u64> =
        bytes[..read].chunks_exact(8).map(|c| u64::from_ne_bytes(c.try_into().unwrap_or_default())).collect();
    let text = table(plan, &stamps).ok_or_else(|| Error::Asked("--trace: the plan is damaged".into()))?;
    eprint!("{text}");
    Ok(())
}

fn table(plan: &Plan<'_>, stamps: &[u64]) -> Option<String> {
    let reader = show::reader(plan)?;
    let mut out = String::from("step       us  what\n");
    let mut last = stamps.first().copied().unwrap_or_default();
    for (index, (step, origin)) in plan.steps.iter().zip(&plan.origins).enumerate() {
        let words = reader.words(*step);
        let from = if origin.is_empty() { String::new() } else { format!("  ({origin})") };
        // 0: the child never came there.
        match stamps.get(index + 1).copied().filter(|at| *at > 0) {
            Some(at) => {
                let spent = at.saturating_sub(last) as f64 / 1000.0;
                let _ = writeln!(out, "{:>4} {spent:>8.1}  {words}{from}", index + 1);
                last = at;
            }
            None => _ = writeln!(out, "{:>4} {:>8}  {words}{from}", index + 1, "-"),
        }
    }
    let total = last.saturating_sub(stamps.first().copied().unwrap_or_default()) as f64 / 1000.0;
    let _ = writeln!(out, "{total:>13.1}  from the first step to execve, waiting for the parent included");
    Some(out)
}

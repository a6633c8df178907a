//! `linux.resources.memory`. v1 limits the sum of memory and swap, as config.json does; v2 limits swap by itself.

use sampan_plan::host::Version;
use sampan_plan::spec::Memory;

use super::{IfMissing, Limits, unavailable};
use crate::detect::Layout;
use crate::error::{Doing, Error, Result};

pub(super) fn limit(memory: &Memory, layout: &Layout, limits: &mut Limits) -> Result<()> {
    match layout.version("memory") {
        Some(Version::V1) => v1(memory, limits),
        Some(Version::V2) => v2(memory, limits)?,
        None if *memory == Memory::default() => {}
        None => return Err(unavailable("memory", "memory")),
    }
    limits.check_before_update = memory.check_before_update == Some(true);
    Ok(())
}

/// 0 is the same as a field that is not given, as in runc.
fn given(amount: Option<i64>) -> Option<i64> {
    amount.filter(|n| *n != 0)
}

fn v1(memory: &Memory, limits: &mut Limits) {
    let limit = given(memory.limit);
    // Swap cannot be limited where memory is not, and docker's "-1" means both.
    let swap = if limit == Some(-1) && memory.swap.is_none() { Some(-1) } else { given(memory.swap) };
    let mut files = limits.controller(Version::V1, "memory");
    if let Some(limit) = limit {
        files.set("memory.limit_in_bytes", limit, "memory.limit");
    }
    if let Some(swap) = swap {
        // Without swap accounting there is no file, and no limit either.
        let missing = if swap < 0 { IfMissing::Skip } else { IfMissing::Refuse };
        files.set_or(missing, "memory.memsw.limit_in_bytes", swap, "memory.swap");
    }
    if let Some(soft) = given(memory.reservation) {
        files.set("memory.soft_limit_in_bytes", soft, "memory.reservation");
    }
    if let Some(tcp) = given(memory.kernel_tcp) {
        files.set("memory.kmem.tcp.limit_in_bytes", tcp, "memory.kernelTCP");
    }
    if let Some(swappiness) = memory.swappiness {
        files.set("memory.swappiness", swappiness, "memory.swappiness");
    }
    if let Some(disable) = memory.disable_oom_killer {
        files.set("memory.oom_control", u8::from(disable), "memory.disableOOMKiller");
    }
    if given(memory.kernel).is_some() {
        limits.does_nothing("memory.kernel", "kernels dropped it in 5.16");
    }
}

fn v2(memory: &Memory, limits: &mut Limits) -> Result<()> {
    let amount = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let mut files = limits.controller(Version::V2, "memory");
    // swap.max before max: when max falls below what is used, the new limit of swap must hold already.
    if let Some(swap) = swap_alone(memory)? {
        let missing = if swap <= 0 { IfMissing::Skip } else { IfMissing::Refuse };
        files.set_or(missing, "memory.swap.max", amount(swap), "memory.swap");
    }
    if let Some(limit) = given(memory.limit) {
        files.set("memory.max", amount(limit), "memory.limit");
    }
    if let Some(low) = given(memory.reservation) {
        files.set("memory.low", amount(low), "memory.reservation");
    }
    for (field, given) in [
        ("memory.kernel", given(memory.kernel).is_some()),
        ("memory.kernelTCP", given(memory.kernel_tcp).is_some()),
        ("memory.swappiness", memory.swappiness.is_some()),
        ("memory.disableOOMKiller", memory.disable_oom_killer == Some(true)),
    ] {
        if given {
            limits.does_nothing(field, "cgroups v2 has no such control");
        }
    }
    Ok(())
}

/// The amount of swap in `memory.swap`, which counts memory and swap together. -1 is unlimited.
fn swap_alone(memory: &Memory) -> Result<Option<i64>> {
    let refuse = |swap: i64, problem: &str| {
        let e = Error::new(Doing::Value, "memory.swap.max").field("linux.resources.memory.swap");
        Err(e.value(swap.to_string()).problem(problem))
    };
    match (given(memory.limit), given(memory.swap)) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(swap)) if swap < 0 => Ok(Some(-1)),
        (Some(limit), Some(swap)) if limit > 0 && swap >= limit => Ok(Some(swap - limit)),
        (Some(limit), Some(swap)) if limit > 0 => refuse(
            swap,
            "memory.swap counts memory and swap together, so it cannot be less than memory.limit",
        ),
        (_, Some(swap)) => {
            refuse(swap, "memory.swap counts memory and swap together, so it needs a memory.limit")
        }
    }
}

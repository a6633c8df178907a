//! `linux.resources.cpu`: how much CPU time (controller cpu), and on which CPUs and memory nodes (controller cpuset).

use sampan_plan::host::Version;
use sampan_plan::spec::Cpu;

use super::{Limits, unavailable, version};
use crate::detect::Layout;
use crate::error::{Doing, Error, Result};

pub(super) fn limit(cpu: &Cpu, layout: &Layout, limits: &mut Limits) -> Result<()> {
    if limits_time(cpu) {
        match layout.version("cpu") {
            Some(Version::V1) => v1(cpu, limits),
            Some(Version::V2) => v2(cpu, limits)?,
            None => return Err(unavailable("cpu", "cpu")),
        }
    }
    for (value, file, field) in
        [(&cpu.cpus, "cpuset.cpus", "cpu.cpus"), (&cpu.mems, "cpuset.mems", "cpu.mems")]
    {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            let version = version(layout, "cpuset", field)?;
            limits.controller(version, "cpuset").set(file, value, field);
        }
    }
    Ok(())
}

fn limits_time(cpu: &Cpu) -> bool {
    let Cpu { shares, quota, burst, period, realtime_runtime, realtime_period, cpus: _, mems: _, idle } = cpu;
    shares.is_some()
        || quota.is_some()
        || burst.is_some()
        || period.is_some()
        || realtime_runtime.is_some()
        || realtime_period.is_some()
        || idle.is_some()
}

fn v1(cpu: &Cpu, limits: &mut Limits) {
    let mut files = limits.controller(Version::V1, "cpu");
    if let Some(idle) = cpu.idle {
        files.set("cpu.idle", idle, "cpu.idle");
    }
    // An idle group refuses shares.
    if let Some(shares) = cpu.shares.filter(|s| *s != 0 && cpu.idle != Some(1)) {
        files.set("cpu.shares", shares, "cpu.shares");
    }
    if let Some(period) = cpu.period.filter(|p| *p != 0) {
        files.set("cpu.cfs_period_us", period, "cpu.period");
    }
    if let Some(quota) = cpu.quota.filter(|q| *q != 0) {
        files.set("cpu.cfs_quota_us", quota.max(-1), "cpu.quota");
    }
    if let Some(burst) = cpu.burst {
        files.set("cpu.cfs_burst_us", burst, "cpu.burst");
    }
    if let Some(period) = cpu.realtime_period.filter(|p| *p != 0) {
        files.set("cpu.rt_period_us", period, "cpu.realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|r| *r != 0) {
        files.set("cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime");
    }
}

fn v2(cpu: &Cpu, limits: &mut Limits) -> Result<()> {
    let realtime = [
        ("realtimeRuntime", cpu.realtime_runtime.is_some_and(|n| n != 0)),
        ("realtimePeriod", cpu.realtime_period.is_some_and(|n| n != 0)),
    ];
    if let Some((name, _)) = realtime.into_iter().find(|(_, given)| *given) {
        let e = Error::new(Doing::Unavailable, "cpu").field(format!("linux.resources.cpu.{name}"));
        return Err(e.problem("cgroups v2 has no realtime scheduling groups"));
    }
    let mut files = limits.controller(Version::V2, "cpu");
    if let Some(idle) = cpu.idle {
        files.set("cpu.idle", idle, "cpu.idle");
    }
    if let Some(shares) = cpu.shares.filter(|s| *s != 0 && cpu.idle != Some(1)) {
        files.set("cpu.weight", weight(shares), "cpu.shares");
    }
    let (quota, period) = (cpu.quota.filter(|q| *q != 0), cpu.period.filter(|p| *p != 0));
    if quota.is_some() || period.is_some() {
        let amount = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        files.set("cpu.max", format!("{amount} {}", period.unwrap_or(100_000)), field);
    }
    if let Some(burst) = cpu.burst {
        files.set("cpu.max.burst", burst, "cpu.burst");
    }
    Ok(())
}

/// v1's `cpu.shares` (2 to 262144, default 1024) as v2's `cpu.weight` (1 to 10000, default 100), by the formula that runc
/// and crun use since 2025: quadratic in the logarithm, exact at both ends and at the default. The linear formula that
/// it replaced made 39 of the default.
pub fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

//! `linux.resources` -> the files to write, in the order in which to write them. Pure: it asks a [`Layout`] which
//! controller is on v1 and which on v2, so `sampan plan` prints exactly what a launch writes.
//!
//! Writes to one controller stand together. Where the kernel wants two values to fit each other at any moment (limit
//! and limit + swap, quota and burst) it answers EINVAL to the one that must wait; `apply` then tries the others first.
//! That finds the right order for raising and for lowering without reading what is there.

use std::borrow::Cow;

use crate::detect::{Layout, Version};
use crate::devices::{Program, Rules, V1};
use crate::error::{Doing, Error, Result};
use sampan_plan::spec::{BlockIo, Cpu, Memory, Resources};

/// One value for one file of one controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub version: Version,
    pub controller: Cow<'static, str>,
    pub file: Cow<'static, str>,
    pub value: String,
    /// The field of config.json that asks for it.
    pub field: Cow<'static, str>,
    pub if_missing: IfMissing,
}

/// What to do if the group has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMissing {
    Refuse,
    /// The value asks for what an absent control does anyway.
    Skip,
    /// The same wish under the name another kernel configuration gives it.
    Instead(Cow<'static, str>, String),
}

/// All that a container's resources come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub writes: Vec<Write>,
    /// The v2 device program; on v1 the device rules are among the writes.
    pub devices: Option<Program>,
    /// `memory.checkBeforeUpdate`: refuse a limit below what is used.
    pub check_before_update: bool,
    /// Fields that are accepted and do nothing here.
    pub warnings: Vec<String>,
}

/// The writes for a new container.
pub fn limits(resources: &Resources, layout: &Layout) -> Result<Limits> {
    let mut limits = changes(resources, layout)?;
    let rules = Rules::new(&resources.devices)?;
    match layout.version("devices") {
        Some(Version::V1) => {
            for (file, value) in V1::new(&rules)?.writes(None) {
                limits.push(Version::V1, "devices", file, value, "devices");
            }
        }
        _ if layout.unified => limits.devices = Some(Program::new(&rules)),
        _ => return Err(absent("devices", "devices")),
    }
    Ok(limits)
}

/// The same without device rules, which `update` leaves alone unless they are given: only fields that are given.
pub fn changes(resources: &Resources, layout: &Layout) -> Result<Limits> {
    let mut limits = Limits::default();
    if let Some(memory) = &resources.memory {
        match layout.version("memory") {
            Some(Version::V1) => memory_v1(memory, &mut limits),
            Some(Version::V2) => memory_v2(memory, &mut limits)?,
            None if *memory == Memory::default() => {}
            None => return Err(absent("memory", "memory")),
        }
    }
    if let Some(cpu) = &resources.cpu {
        if has_time(cpu) {
            match layout.version("cpu") {
                Some(Version::V1) => cpu_v1(cpu, &mut limits),
                Some(Version::V2) => cpu_v2(cpu, &mut limits)?,
                None => return Err(absent("cpu", "cpu")),
            }
        }
        cpuset(cpu, layout, &mut limits)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit) {
        let version = layout.version("pids").ok_or_else(|| absent("pids", "pids.limit"))?;
        // 0 is a limit since 1.3 of the specification: no further process. It is written as 1, as in runc, since systemd takes
        // no 0; the first process counts, so it means the same.
        let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
        limits.push(version, "pids", "pids.max", value, "pids.limit");
    }
    if let Some(io) = &resources.block_io {
        block_io(io, layout, &mut limits)?;
    }
    for (i, page) in resources.hugepage_limits.iter().enumerate() {
        let field = format!("hugepageLimits[{i}]");
        let version = layout.version("hugetlb").ok_or_else(|| absent("hugetlb", field.clone()))?;
        let (size, suffix) =
            (&*page.page_size, if version == Version::V1 { "limit_in_bytes" } else { "max" });
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            let e = Error::new(Doing::Value, "hugetlb").field(format!("linux.resources.{field}.pageSize"));
            return Err(e.value(format!("{size:?}")).problem("it must be a size such as 2MB or 1GB"));
        }
        // The reservation limit first (5.7): it makes mmap fail where the other kills by SIGBUS.
        let rsvd = format!("hugetlb.{size}.rsvd.{suffix}");
        limits.push_if(version, "hugetlb", rsvd, page.limit.to_string(), field.clone(), IfMissing::Skip);
        limits.push(version, "hugetlb", format!("hugetlb.{size}.{suffix}"), page.limit.to_string(), field);
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            only_v1(layout, "net_cls", "network.classID")?;
            limits.push(Version::V1, "net_cls", "net_cls.classid", class.to_string(), "network.classID");
        }
        for (i, priority) in network.priorities.iter().enumerate() {
            let field = format!("network.priorities[{i}]");
            only_v1(layout, "net_prio", field.clone())?;
            let value = format!("{} {}", priority.name, priority.priority);
            limits.push(Version::V1, "net_prio", "net_prio.ifpriomap", value, field);
        }
    }
    for (device, rdma) in &resources.rdma {
        let field = format!("rdma.{device}");
        let version = layout.version("rdma").ok_or_else(|| absent("rdma", field.clone()))?;
        let mut value = device.to_string();
        for (name, number) in [("hca_handle", rdma.hca_handles), ("hca_object", rdma.hca_objects)] {
            if let Some(number) = number {
                value.push_str(&format!(" {name}={number}"));
            }
        }
        limits.push(version, "rdma", "rdma.max", value, field);
    }
    for (file, value) in &resources.unified {
        unified(file, value, layout, &mut limits)?;
    }
    Ok(limits)
}

impl Limits {
    fn push(
        &mut self,
        version: Version,
        controller: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        field: impl Into<Cow<'static, str>>,
    ) {
        self.push_if(version, controller, file, value, field, IfMissing::Refuse);
    }

    fn push_if(
        &mut self,
        version: Version,
        controller: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
        field: impl Into<Cow<'static, str>>,
        if_missing: IfMissing,
    ) {
        let (controller, file, value) = (controller.into(), file.into(), value.into());
        let field = format!("linux.resources.{}", field.into()).into();
        self.writes.push(Write { version, controller, file, value, field, if_missing });
    }

    /// The controllers of v2 that must be enabled for these writes.
    pub fn v2_controllers(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.writes.iter().filter(|w| w.version == Version::V2).map(|w| &*w.controller).collect();
        names.retain(|n| *n != "cgroup");
        names.dedup();
        names
    }
}

fn absent(controller: &'static str, field: impl std::fmt::Display) -> Error {
    Error::new(Doing::Unavailable, controller)
        .controller(controller)
        .field(format!("linux.resources.{field}"))
        .problem(format!("the {controller} controller is on no mounted hierarchy"))
        .likely(format!(
            "it is not compiled in, disabled on the kernel's command line, or, in a nested container, not handed down: \
             see /proc/cgroups and cgroup.controllers (wanted: {controller})"
        ))
}

fn only_v1(layout: &Layout, controller: &'static str, field: impl std::fmt::Display) -> Result<()> {
    match layout.version(controller) {
        Some(_) => Ok(()),
        None => Err(absent(controller, field)),
    }
}

// ---- memory -----------------------------------------------------------------------------------------------------

fn memory_v1(memory: &Memory, limits: &mut Limits) {
    let limit = memory.limit.filter(|l| *l != 0);
    // An unlimited group cannot have limited swap, and docker's "-1" means both.
    let swap =
        if limit == Some(-1) && memory.swap.is_none() { Some(-1) } else { memory.swap.filter(|s| *s != 0) };
    if let Some(limit) = limit {
        limits.push(Version::V1, "memory", "memory.limit_in_bytes", limit.to_string(), "memory.limit");
    }
    if let Some(swap) = swap {
        // Without swap accounting the file is absent, and unlimited is what there is.
        let missing = if swap < 0 { IfMissing::Skip } else { IfMissing::Refuse };
        let file = "memory.memsw.limit_in_bytes";
        limits.push_if(Version::V1, "memory", file, swap.to_string(), "memory.swap", missing);
    }
    if let Some(soft) = memory.reservation.filter(|r| *r != 0) {
        limits.push(
            Version::V1,
            "memory",
            "memory.soft_limit_in_bytes",
            soft.to_string(),
            "memory.reservation",
        );
    }
    if let Some(tcp) = memory.kernel_tcp.filter(|k| *k != 0) {
        let file = "memory.kmem.tcp.limit_in_bytes";
        limits.push(Version::V1, "memory", file, tcp.to_string(), "memory.kernelTCP");
    }
    if memory.kernel.is_some_and(|k| k != 0) {
        limits
            .warnings
            .push("linux.resources.memory.kernel does nothing: kernels dropped it in 5.16".to_owned());
    }
    if let Some(swappiness) = memory.swappiness {
        limits.push(Version::V1, "memory", "memory.swappiness", swappiness.to_string(), "memory.swappiness");
    }
    if let Some(disable) = memory.disable_oom_killer {
        let value = if disable { "1" } else { "0" };
        limits.push(Version::V1, "memory", "memory.oom_control", value, "memory.disableOOMKiller");
    }
    limits.check_before_update = memory.check_before_update == Some(true);
}

fn memory_v2(memory: &Memory, limits: &mut Limits) -> Result<()> {
    let amount = |n: i64| if n < 0 { "max".to_owned() } else { n.to_string() };
    let limit = memory.limit.filter(|l| *l != 0);
    // swap.max before max: lowering max below what is used must find the new swap limit in force.
    if let Some(swap) = swap_alone(memory)? {
        let missing = if swap <= 0 { IfMissing::Skip } else { IfMissing::Refuse };
        limits.push_if(Version::V2, "memory", "memory.swap.max", amount(swap), "memory.swap", missing);
    }
    if let Some(limit) = limit {
        limits.push(Version::V2, "memory", "memory.max", amount(limit), "memory.limit");
    }
    if let Some(low) = memory.reservation.filter(|r| *r != 0) {
        limits.push(Version::V2, "memory", "memory.low", amount(low), "memory.reservation");
    }
    let dead = [
        ("kernel", memory.kernel.is_some_and(|n| n != 0)),
        ("kernelTCP", memory.kernel_tcp.is_some_and(|n| n != 0)),
        ("swappiness", memory.swappiness.is_some()),
        ("disableOOMKiller", memory.disable_oom_killer == Some(true)),
    ];
    for (name, given) in dead {
        if given {
            limits
                .warnings
                .push(format!("linux.resources.memory.{name} does nothing: cgroups v2 has no such control"));
        }
    }
    limits.check_before_update = memory.check_before_update == Some(true);
    Ok(())
}

/// v1 counts memory + swap, v2 swap alone. -1 is unlimited.
fn swap_alone(memory: &Memory) -> Result<Option<i64>> {
    let refuse = |swap: i64, problem: &str| {
        let e = Error::new(Doing::Value, "memory.swap.max").field("linux.resources.memory.swap");
        Err(e.value(swap.to_string()).problem(problem.to_owned()))
    };
    match (memory.limit.filter(|l| *l != 0), memory.swap.filter(|s| *s != 0)) {
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

// ---- cpu --------------------------------------------------------------------------------------------------------

fn has_time(cpu: &Cpu) -> bool {
    let Cpu { shares, quota, burst, period, realtime_runtime, realtime_period, cpus: _, mems: _, idle } = cpu;
    shares.is_some()
        || quota.is_some()
        || burst.is_some()
        || period.is_some()
        || realtime_runtime.is_some()
        || realtime_period.is_some()
        || idle.is_some()
}

fn cpu_v1(cpu: &Cpu, limits: &mut Limits) {
    let mut push = |file: &'static str, value: String, field: &'static str| {
        limits.push(Version::V1, "cpu", file, value, field);
    };
    if let Some(idle) = cpu.idle {
        push("cpu.idle", idle.to_string(), "cpu.idle");
    }
    // An idle group refuses shares.
    if let Some(shares) = cpu.shares.filter(|s| *s != 0 && cpu.idle != Some(1)) {
        push("cpu.shares", shares.to_string(), "cpu.shares");
    }
    if let Some(period) = cpu.period.filter(|p| *p != 0) {
        push("cpu.cfs_period_us", period.to_string(), "cpu.period");
    }
    if let Some(quota) = cpu.quota.filter(|q| *q != 0) {
        push("cpu.cfs_quota_us", quota.max(-1).to_string(), "cpu.quota");
    }
    if let Some(burst) = cpu.burst {
        push("cpu.cfs_burst_us", burst.to_string(), "cpu.burst");
    }
    if let Some(period) = cpu.realtime_period.filter(|p| *p != 0) {
        push("cpu.rt_period_us", period.to_string(), "cpu.realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|r| *r != 0) {
        push("cpu.rt_runtime_us", runtime.to_string(), "cpu.realtimeRuntime");
    }
}

fn cpu_v2(cpu: &Cpu, limits: &mut Limits) -> Result<()> {
    let realtime = [
        ("realtimeRuntime", cpu.realtime_runtime.is_some_and(|n| n != 0)),
        ("realtimePeriod", cpu.realtime_period.is_some_and(|n| n != 0)),
    ];
    for (name, given) in realtime {
        if given {
            let e = Error::new(Doing::Unavailable, "cpu")
                .controller("cpu")
                .field(format!("linux.resources.cpu.{name}"));
            return Err(e.problem("cgroups v2 has no realtime scheduling groups"));
        }
    }
    if let Some(idle) = cpu.idle {
        limits.push(Version::V2, "cpu", "cpu.idle", idle.to_string(), "cpu.idle");
    }
    if let Some(shares) = cpu.shares.filter(|s| *s != 0 && cpu.idle != Some(1)) {
        limits.push(Version::V2, "cpu", "cpu.weight", weight(shares).to_string(), "cpu.shares");
    }
    let (quota, period) = (cpu.quota.filter(|q| *q != 0), cpu.period.filter(|p| *p != 0));
    if quota.is_some() || period.is_some() {
        let amount = match quota {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        limits.push(Version::V2, "cpu", "cpu.max", format!("{amount} {}", period.unwrap_or(100_000)), field);
    }
    if let Some(burst) = cpu.burst {
        limits.push(Version::V2, "cpu", "cpu.max.burst", burst.to_string(), "cpu.burst");
    }
    Ok(())
}

/// `cpu.shares` (2..262144, usual 1024) to `cpu.weight` (1..10000, usual 100): the quadratic in log2 that runc and crun
/// use since 2025, which maps both ends and 1024 to 100 exactly. The linear one before gave 1024 a weight of 39.
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

fn cpuset(cpu: &Cpu, layout: &Layout, limits: &mut Limits) -> Result<()> {
    for (value, file, field) in
        [(&cpu.cpus, "cpuset.cpus", "cpu.cpus"), (&cpu.mems, "cpuset.mems", "cpu.mems")]
    {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            let version = layout.version("cpuset").ok_or_else(|| absent("cpuset", field))?;
            limits.push(version, "cpuset", file, value.to_string(), field);
        }
    }
    Ok(())
}

// ---- block I/O --------------------------------------------------------------------------------------------------

fn block_io(io: &BlockIo, layout: &Layout, limits: &mut Limits) -> Result<()> {
    if *io == BlockIo::default() {
        return Ok(());
    }
    let v1 = match (layout.version("blkio"), layout.version("io")) {
        (Some(_), _) => true,
        (None, Some(_)) => false,
        (None, None) => return Err(absent("io", "blockIO")),
    };
    let mut weigh = |device: Option<String>, weight: u16, field: String| -> Result<()> {
        if !(10..=1000).contains(&weight) {
            let e = Error::new(Doing::Value, "io.weight").field(format!("linux.resources.{field}"));
            return Err(e.value(weight.to_string()).problem("block I/O weights go from 10 to 1000"));
        }
        let line = |weight: u64| match &device {
            Some(device) => format!("{device} {weight}"),
            None => weight.to_string(),
        };
        // BFQ takes OCI's weights as they are, io.cost wants them stretched to 1..10000. One of them is compiled in.
        let (file, other, value) = match (v1, &device) {
            (true, None) => ("blkio.bfq.weight", "blkio.weight", line(weight.into())),
            (true, Some(_)) => ("blkio.bfq.weight_device", "blkio.weight_device", line(weight.into())),
            (false, _) => ("io.bfq.weight", "io.weight", line(io_weight(weight))),
        };
        let instead = IfMissing::Instead(other.into(), value);
        let (version, controller) = if v1 { (Version::V1, "blkio") } else { (Version::V2, "io") };
        limits.push_if(version, controller, file, line(weight.into()), field, instead);
        Ok(())
    };
    if let Some(weight) = io.weight.filter(|w| *w != 0) {
        weigh(None, weight, "blockIO.weight".to_owned())?;
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        if let Some(weight) = device.weight.filter(|w| *w != 0) {
            let numbers = format!("{}:{}", device.major, device.minor);
            weigh(Some(numbers), weight, format!("blockIO.weightDevice[{i}].weight"))?;
        }
    }
    if io.leaf_weight.is_some() || io.weight_device.iter().any(|d| d.leaf_weight.is_some()) {
        limits.warnings.push(
            "linux.resources.blockIO.leafWeight does nothing: it went with CFQ in kernel 5.0".to_owned(),
        );
    }
    let throttles = [
        (&io.throttle_read_bps, "read_bps", "rbps", "throttleReadBpsDevice"),
        (&io.throttle_write_bps, "write_bps", "wbps", "throttleWriteBpsDevice"),
        (&io.throttle_read_iops, "read_iops", "riops", "throttleReadIOPSDevice"),
        (&io.throttle_write_iops, "write_iops", "wiops", "throttleWriteIOPSDevice"),
    ];
    for (devices, old_name, new_name, field) in throttles {
        for (i, device) in devices.iter().enumerate() {
            let (numbers, field) =
                (format!("{}:{}", device.major, device.minor), format!("blockIO.{field}[{i}]"));
            if v1 {
                let file = format!("blkio.throttle.{old_name}_device");
                limits.push(Version::V1, "blkio", file, format!("{numbers} {}", device.rate), field);
            } else {
                // v1's "0 = no limit" is v2's max.
                let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
                limits.push(Version::V2, "io", "io.max", format!("{numbers} {new_name}={rate}"), field);
            }
        }
    }
    Ok(())
}

/// 10..1000 -> 1..10000.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9_999 / 990
}

// ---- unified ----------------------------------------------------------------------------------------------------

fn unified(file: &str, value: &str, layout: &Layout, limits: &mut Limits) -> Result<()> {
    let field = format!("linux.resources.unified[{file:?}]");
    let refuse = |doing, problem: String| Err(Error::new(doing, file).field(field.clone()).problem(problem));
    if file.is_empty() || file.contains('/') || file.contains('\0') {
        return refuse(Doing::Value, "the key must be the name of one file of the group".to_owned());
    }
    if matches!(file, "cgroup.procs" | "cgroup.threads" | "cgroup.kill" | "cgroup.freeze") {
        return refuse(
            Doing::Value,
            "that file moves, ends or stops processes; it is no resource".to_owned(),
        );
    }
    if !layout.unified {
        return refuse(Doing::Unavailable, "no cgroup2 hierarchy is mounted".to_owned());
    }
    let controller = file.split('.').next().unwrap_or_default();
    if layout.version(controller) == Some(Version::V1) {
        return refuse(
            Doing::Unavailable,
            format!("on this machine the {controller} controller is on cgroups v1"),
        );
    }
    // A file of no known controller is still written: kernels grow new ones.
    for line in value.lines().filter(|l| !l.is_empty()) {
        limits.writes.push(Write {
            version: Version::V2,
            controller: controller.to_owned().into(),
            file: file.to_owned().into(),
            value: line.to_owned(),
            field: field.clone().into(),
            if_missing: IfMissing::Refuse,
        });
    }
    Ok(())
}

impl std::fmt::Display for Write {
    /// One line of `sampan plan`: `memory.max = 536870912`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.file, self.value)
    }
}

/// The value that puts `write`'s file back to what `now` says.
pub(crate) fn restoring(write: &Write, now: &str) -> Option<String> {
    let keyed = matches!(&*write.file, "io.max" | "rdma.max" | "io.latency" | "net_prio.ifpriomap")
        || write.file.starts_with("blkio.throttle.")
        || write.file.ends_with(".weight_device")
        || write.value.contains(':') && write.file.ends_with(".weight");
    if keyed {
        let key = write.value.split(' ').next().unwrap_or_default();
        let held = now.lines().find(|l| l.split(' ').next() == Some(key));
        return held.map(str::to_owned).or_else(|| unlimited(write));
    }
    match &*write.file {
        // oom_kill_disable 0 / under_oom 0 / ...
        "memory.oom_control" => crate::v2::word_of(now, "oom_kill_disable").map(|n| n.to_string()),
        // A flat file with one line; weights may say `default 100`.
        _ => now.lines().next().map(|l| l.strip_prefix("default ").unwrap_or(l).trim().to_owned()).map(
            |value| {
                // An empty v2 cpuset is written as a line break: zero bytes would be no write at all.
                if value.is_empty() { "\n".to_owned() } else { value }
            },
        ),
    }
}

/// The line that takes back what `write` sets for one device. The kernel shows no line for a device that has nothing set.
fn unlimited(write: &Write) -> Option<String> {
    let key = write.value.split(' ').next().unwrap_or_default();
    match &*write.file {
        "io.max" => Some(format!("{key} rbps=max wbps=max riops=max wiops=max")),
        "rdma.max" => Some(format!("{key} hca_handle=max hca_object=max")),
        file if file.starts_with("blkio.throttle.") => Some(format!("{key} 0")),
        file if file.ends_with("weight") || file.ends_with("weight_device") => Some(format!("{key} default")),
        _ => None,
    }
}

//! What a container uses, from the files of v1 or v2, under the names of `runc events --stats`, which containerd and others
//! parse. Where this machine lacks a file, its numbers are zero.

use std::collections::BTreeMap;

use sampan_plan::host::Version;
use serde::Serialize;

use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::file::value_of;
use crate::group::Group;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: CpuSet,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: Blkio,
    pub hugetlb: BTreeMap<String, Entry>,
    pub intel_rdt: Nothing,
    /// runc has numbers of the network here. They are not a control group's, so ours is null.
    pub network_interfaces: Option<Nothing>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Nothing {}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// Nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled_time: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    pub usage: Entry,
    /// Memory and swap together, as on v1.
    pub swap: Entry,
    pub kernel: Entry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Entry,
    /// All of memory.stat.
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

/// No limit is 2^64-1.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Entry {
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Pids {
    pub current: u64,
    /// 0: no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Psi>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    pub op: String,
    pub value: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Psi {
    pub some: Pressure,
    pub full: Pressure,
}

/// Shares of the last seconds in percent, and microseconds in total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Cgroup<'_> {
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        match self.group_of(Version::V1, "cpuacct") {
            Some(group) => cpu_v1(&group, self.group_of(Version::V1, "cpu").as_ref(), &mut stats.cpu)?,
            None => {
                if let Some(group) = self.v2() {
                    cpu_v2(&group.try_read("cpu.stat")?.unwrap_or_default(), &mut stats.cpu);
                }
            }
        }
        match (self.group_of(Version::V1, "memory"), self.group_of(Version::V2, "memory")) {
            (Some(group), _) => memory_v1(&group, &mut stats.memory)?,
            (None, Some(group)) => memory_v2(&group, &mut stats.memory)?,
            (None, None) => {}
        }
        if let Some(group) = self.either("pids") {
            stats.pids.current = number(&group, "pids.current")?;
            stats.pids.limit = match number(&group, "pids.max")? {
                u64::MAX => 0,
                limit => limit,
            };
        }
        if let Some(group) = self.either("cpuset") {
            stats.cpuset.cpus = ranges(&group.try_read("cpuset.cpus")?.unwrap_or_default());
            stats.cpuset.mems = ranges(&group.try_read("cpuset.mems")?.unwrap_or_default());
        }
        match (self.group_of(Version::V1, "blkio"), self.group_of(Version::V2, "io")) {
            (Some(group), _) => blkio_v1(&group, &mut stats.blkio)?,
            (None, Some(group)) => io_stat(&group.try_read("io.stat")?.unwrap_or_default(), &mut stats.blkio),
            (None, None) => {}
        }
        if let Some(group) = self.either("hugetlb").filter(|g| g.hierarchy.has("hugetlb")) {
            stats.hugetlb = hugetlb(&group)?;
        }
        // v2 has pressure on a hybrid host too, whichever version has the controller.
        if let Some(group) = self.v2() {
            stats.cpu.psi = psi(&group, "cpu.pressure");
            stats.memory.psi = psi(&group, "memory.pressure");
            stats.blkio.psi = psi(&group, "io.pressure");
        }
        Ok(stats)
    }

    fn either(&self, controller: &str) -> Option<Group<'_>> {
        self.group_of(Version::V1, controller).or_else(|| self.group_of(Version::V2, controller))
    }

    /// How many processes of this group, or of one below it, the OOM killer has killed since the group was made. `None` without
    /// a memory controller. Read it before `remove`; in a group that is used again, only the difference counts.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        let (group, file) = match (self.group_of(Version::V1, "memory"), self.group_of(Version::V2, "memory"))
        {
            (Some(group), _) => (group, "memory.oom_control"),
            (None, Some(group)) => (group, "memory.events"),
            (None, None) => return Ok(None),
        };
        Ok(group.try_read(file)?.and_then(|text| value_of(&text, "oom_kill")))
    }
}

fn number(group: &Group<'_>, file: &str) -> Result<u64> {
    Ok(group.try_read(file)?.map_or(0, |text| amount(&text)))
}

/// "max" is 2^64-1, as runc reports it.
fn amount(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        digits => digits.parse().unwrap_or(0),
    }
}

fn cpu_v1(acct: &Group<'_>, cpu: Option<&Group<'_>>, stats: &mut Cpu) -> Result<()> {
    // cpuacct.stat counts USER_HZ ticks, which is 100 on every architecture that Linux has now.
    const TICK_NS: u64 = 10_000_000;
    stats.usage.total = number(acct, "cpuacct.usage")?;
    let text = acct.try_read("cpuacct.stat")?.unwrap_or_default();
    stats.usage.user = value_of(&text, "user").unwrap_or(0) * TICK_NS;
    stats.usage.kernel = value_of(&text, "system").unwrap_or(0) * TICK_NS;
    let each = acct.try_read("cpuacct.usage_percpu")?.unwrap_or_default();
    stats.usage.percpu = each.split_ascii_whitespace().map(amount).collect();
    if let Some(cpu) = cpu {
        let text = cpu.try_read("cpu.stat")?.unwrap_or_default();
        stats.throttling = Throttling {
            periods: value_of(&text, "nr_periods").unwrap_or(0),
            throttled_periods: value_of(&text, "nr_throttled").unwrap_or(0),
            throttled_time: value_of(&text, "throttled_time").unwrap_or(0),
        };
    }
    Ok(())
}

fn cpu_v2(text: &str, stats: &mut Cpu) {
    let word = |name| value_of(text, name).unwrap_or(0);
    stats.usage.total = word("usage_usec") * 1_000;
    stats.usage.user = word("user_usec") * 1_000;
    stats.usage.kernel = word("system_usec") * 1_000;
    stats.throttling = Throttling {
        periods: word("nr_periods"),
        throttled_periods: word("nr_throttled"),
        throttled_time: word("throttled_usec") * 1_000,
    };
}

fn flat(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn memory_v1(group: &Group<'_>, stats: &mut Memory) -> Result<()> {
    let entry = |part: &str| -> Result<Entry> {
        let file = |name: &str| match part {
            "" => format!("memory.{name}"),
            part => format!("memory.{part}.{name}"),
        };
        Ok(Entry {
            limit: number(group, &file("limit_in_bytes"))?,
            usage: number(group, &file("usage_in_bytes"))?,
            max: number(group, &file("max_usage_in_bytes"))?,
            failcnt: number(group, &file("failcnt"))?,
        })
    };
    stats.raw = flat(&group.try_read("memory.stat")?.unwrap_or_default());
    stats.cache = stats.raw.get("cache").copied().unwrap_or(0);
    stats.usage = entry("")?;
    stats.swap = entry("memsw")?;
    stats.kernel = entry("kmem")?;
    stats.kernel_tcp = entry("kmem.tcp")?;
    Ok(())
}

fn memory_v2(group: &Group<'_>, stats: &mut Memory) -> Result<()> {
    stats.raw = flat(&group.try_read("memory.stat")?.unwrap_or_default());
    stats.cache = stats.raw.get("file").copied().unwrap_or(0);
    let events = group.try_read("memory.events")?.unwrap_or_default();
    stats.usage = Entry {
        limit: number(group, "memory.max")?,
        usage: number(group, "memory.current")?,
        max: number(group, "memory.peak")?, // 5.19
        failcnt: value_of(&events, "max").unwrap_or(0),
    };
    let (swap, limit) = (number(group, "memory.swap.current")?, number(group, "memory.swap.max")?);
    stats.swap = Entry {
        limit: stats.usage.limit.saturating_add(limit),
        usage: stats.usage.usage + swap,
        ..Entry::default()
    };
    Ok(())
}

fn blkio_v1(group: &Group<'_>, stats: &mut Blkio) -> Result<()> {
    // BFQ's own numbers where it is the scheduler; those of the throttling layer exist for every scheduler.
    let read = |what: &str| -> Result<Vec<BlkioEntry>> {
        for from in ["bfq", "throttle"] {
            let text = group.try_read(&format!("blkio.{from}.{what}_recursive"))?.unwrap_or_default();
            let entries: Vec<BlkioEntry> = text.lines().filter_map(blkio_line).collect();
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Ok(Vec::new())
    };
    stats.io_service_bytes_recursive = read("io_service_bytes")?;
    stats.io_serviced_recursive = read("io_serviced")?;
    Ok(())
}

/// `8:0 Read 4096`; the last line, `Total N`, names no device.
fn blkio_line(line: &str) -> Option<BlkioEntry> {
    let mut words = line.split(' ');
    let (major, minor) = words.next()?.split_once(':')?;
    let op = words.next()?.to_owned();
    Some(BlkioEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        op,
        value: words.next()?.parse().ok()?,
    })
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn io_stat(text: &str, stats: &mut Blkio) {
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|d| d.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (name, value) in words.filter_map(|w| w.split_once('=')) {
            let (list, op) = match name {
                "rbytes" => (&mut stats.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut stats.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut stats.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut stats.io_serviced_recursive, "Read"),
                "wios" => (&mut stats.io_serviced_recursive, "Write"),
                "dios" => (&mut stats.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value: amount(value) });
        }
    }
}

/// One entry per page size; the files of the group say which there are.
fn hugetlb(group: &Group<'_>) -> Result<BTreeMap<String, Entry>> {
    let usage = match group.hierarchy.version {
        Version::V1 => ".usage_in_bytes",
        Version::V2 => ".current",
    };
    let mut found = BTreeMap::new();
    for file in group.files()? {
        let Some(size) = file.strip_prefix("hugetlb.").and_then(|f| f.strip_suffix(usage)) else { continue };
        if size.contains('.') {
            continue; // hugetlb.2MB.rsvd.current
        }
        let events = group.try_read(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let failed = number(group, &format!("hugetlb.{size}.failcnt"))?;
        let entry = Entry {
            limit: 0,
            usage: number(group, &file)?,
            max: number(group, &format!("hugetlb.{size}.max_usage_in_bytes"))?,
            failcnt: value_of(&events, "max").unwrap_or(failed),
        };
        found.insert(size.to_owned(), entry);
    }
    Ok(found)
}

/// `None` where the kernel has no PSI, or it is switched off (the file then reads as EOPNOTSUPP).
fn psi(group: &Group<'_>, file: &str) -> Option<Psi> {
    let text = group.try_read(file).ok().flatten()?;
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let pressure = match words.next()? {
            "some" => &mut psi.some,
            "full" => &mut psi.full,
            _ => continue,
        };
        for (name, value) in words.filter_map(|w| w.split_once('=')) {
            match name {
                "avg10" => pressure.avg10 = value.parse().ok()?,
                "avg60" => pressure.avg60 = value.parse().ok()?,
                "avg300" => pressure.avg300 = value.parse().ok()?,
                "total" => pressure.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    Some(psi)
}

/// `0-2,5` -> 0 1 2 5.
fn ranges(text: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) {
            numbers.extend(low..=high);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_counts_in_microseconds_and_runc_in_nanoseconds() {
        let mut cpu = Cpu::default();
        cpu_v2(
            "usage_usec 7\nuser_usec 5\nsystem_usec 2\nnr_periods 3\nnr_throttled 1\nthrottled_usec 4\n",
            &mut cpu,
        );
        assert_eq!((cpu.usage.total, cpu.usage.user, cpu.usage.kernel), (7_000, 5_000, 2_000));
        assert_eq!(cpu.throttling, Throttling { periods: 3, throttled_periods: 1, throttled_time: 4_000 });
    }

    #[test]
    fn io_stat_becomes_operations_per_device() {
        let mut blkio = Blkio::default();
        io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n", &mut blkio);
        let bytes: Vec<_> =
            blkio.io_service_bytes_recursive.iter().map(|e| (e.op.as_str(), e.value)).collect();
        assert_eq!(bytes, [("Read", 1), ("Write", 2), ("Discard", 5)]);
        assert_eq!(blkio.io_serviced_recursive.len(), 3);
    }

    #[test]
    fn the_total_line_of_v1_is_no_device() {
        assert_eq!(blkio_line("8:0 Read 4096").map(|e| e.value), Some(4096));
        assert_eq!(blkio_line("Total 4096"), None);
    }

    #[test]
    fn a_cpu_list_is_ranges_and_numbers() {
        assert_eq!(ranges("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(ranges("\n"), [0_u16; 0]);
    }

    #[test]
    fn no_limit_is_the_largest_number() {
        assert_eq!(amount("max\n"), u64::MAX);
        assert_eq!(amount("9223372036854771712\n"), 9_223_372_036_854_771_712);
    }
}

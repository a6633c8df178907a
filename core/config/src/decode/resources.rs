//! `resources`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Field, Fields, Value};
use crate::schema::{Explicit, IoMax, OomPolicy, Resources};

const OOM_POLICIES: &[(&str, OomPolicy)] =
    &[("kill", OomPolicy::Kill), ("stop", OomPolicy::Stop), ("continue", OomPolicy::Continue)];

pub fn resources(t: &Fields<'_>) -> Resources {
    let swap = t.or("memory_swap", |f| f.or_none(Field::size), None);
    let limit = t.or("memory", |f| f.or_none(memory), None);
    if let (Some(_), None, Some(f)) = (swap, limit, t.get("memory_swap")) {
        f.wrong(
            "without resources.memory",
            "limit the memory too: swap alone cannot be limited on cgroup v1",
        );
    }
    Resources {
        // The kernel's shortest quota is 1 ms of a period of 100 ms.
        cpus: t.or("cpus", |f| f.or_none(|f| f.float(0.01..=65536.0)), None),
        cpu_weight: t.or("cpu_weight", |f| f.integer(1..=10_000), 100) as u32,
        memory: limit,
        memory_swap: swap,
        memory_high: t.or("memory_high", |f| f.or_none(memory), None),
        memory_low: t.or("memory_low", Field::size, 0),
        memory_min: t.or("memory_min", Field::size, 0),
        cpuset: t.or("cpuset", |f| f.or_none(cpuset), None),
        io_weight: t.or("io_weight", |f| f.integer(1..=10_000), 100) as u32,
        io_max: io_max(t),
        oom_policy: t.or("oom_policy", |f| f.word("policy", OOM_POLICIES, &[]), OomPolicy::Kill),
        unified: unified(t),
        pids: t.or("pids", |f| f.integer(0..=4 << 20), 4096) as u64,
        explicit: Explicit(t.entries().map(|(name, _)| name.to_owned()).collect()),
    }
}

/// Less than this and not even the first exec fits.
const MEMORY_BYTES_MIN: u64 = 512 << 10;

fn memory(f: &Field<'_>) -> Option<u64> {
    let bytes = f.size()?;
    if bytes < MEMORY_BYTES_MIN {
        f.wrong("too little to start anything", "512K or more; a bare number is bytes");
        return None;
    }
    Some(bytes)
}

/// `0-3,8`.
fn cpuset(f: &Field<'_>) -> Option<String> {
    let text = f.nonempty()?;
    let number = |text: &str| text.parse::<u16>().ok();
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    };
    if !text.split(',').all(range) {
        f.wrong("not a list of CPUs", "as \"0-3,8\"");
        return None;
    }
    Some(text)
}

fn io_max(t: &Fields<'_>) -> BTreeMap<PathBuf, IoMax> {
    let mut all = BTreeMap::new();
    for (device, f) in t.table("io_max", "a table").entries() {
        if !device.starts_with('/') {
            f.wrong("a device's path begins with /", "as io_max = { \"/dev/sda\" = { rbps = \"10M\" } }");
            continue;
        }
        let Value::Table(_) = f.node.value else {
            f.expected::<()>("a table: { rbps, wbps, riops, wiops }");
            continue;
        };
        let t = f.fields();
        t.only(&["rbps", "wbps", "riops", "wiops"], &[]);
        let bytes = |name| t.or(name, |f| f.size_in(1..=i64::MAX as u64, "1 or more").map(Some), None);
        let count = |name| t.or(name, |f| f.integer(1..=i64::MAX).map(|n| Some(n as u64)), None);
        let max =
            IoMax { rbps: bytes("rbps"), wbps: bytes("wbps"), riops: count("riops"), wiops: count("wiops") };
        all.insert(PathBuf::from(device), max);
    }
    all
}

/// Of a file that a key of its own writes, nobody could say which of the two holds.
const WITH_KEY: [(&str, &str); 10] = [
    ("cpu.max", "cpus"),
    ("cpu.weight", "cpu_weight"),
    ("cpuset.cpus", "cpuset"),
    ("io.max", "io_max"),
    ("io.weight", "io_weight"),
    ("memory.high", "memory_high"),
    ("memory.low", "memory_low"),
    ("memory.max", "memory"),
    ("memory.min", "memory_min"),
    ("pids.max", "pids"),
];

fn unified(t: &Fields<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (file, f) in t.table("unified", "a table").entries() {
        if let Some((_, key)) = WITH_KEY.iter().find(|(name, _)| *name == file) {
            f.wrong(format!("{file} has a key of its own"), format!("write resources.{key}"));
            continue;
        }
        // cgroup.procs, cgroup.freeze and the like are sampand's business.
        if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") {
            f.wrong(format!("`{file}` is no limit"), "a file of a controller, as \"memory.swap.high\"");
            continue;
        }
        let value = match &f.node.value {
            Value::Integer(n) => Some(n.to_string()),
            _ => f.nonempty(),
        };
        all.extend(value.map(|value| (file.to_owned(), value)));
    }
    all
}

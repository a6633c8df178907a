//! `resources` as `linux.resources`: what OCI has a word for in its words, the rest as files of cgroup v2 (`unified`).

use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;
use sampan_cgroups::Hierarchies;
use sampan_plan::host::Version;
use serde_json::{Map, Value, json};

use super::leaves::{set, to_json};
use super::{Facts, look};
use sampan_config::schema::{IoMax, OomPolicy, Resources, Service};

/// What the host's hierarchies offer.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The memory controller is one of cgroup v2.
    memory_v2: bool,
    io_v2: bool,
    /// On v1 a matter of the kernel's command line, on v2 of its build. Where it is absent, memory alone is limited.
    swap: bool,
}

impl Kernel {
    /// Where nothing can be told it is cgroup v2 without a controller: a limit is refused by name when it is written.
    pub fn of_host() -> Kernel {
        let layout = Hierarchies::detect().map(Hierarchies::layout).unwrap_or_default();
        let is_v2 = |controller| layout.version(controller) == Some(Version::V2);
        let memsw = Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
        let swap = match layout.version("memory") {
            Some(Version::V1) => memsw.exists(),
            _ => Path::new("/proc/swaps").exists(),
        };
        Kernel { memory_v2: is_v2("memory"), io_v2: is_v2("io"), swap }
    }
}

pub fn add(
    spec: &mut Value,
    service: &Service,
    facts: &Facts,
    kernel: Kernel,
    asked: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let r = &service.resources;
    let resources = limits(r, kernel);
    let mut leaf = |key: &str, pointer: &str| {
        if let (true, Some(value)) = (asked(key), resources.pointer(pointer)) {
            set(spec, &format!("/linux/resources{pointer}"), value.clone());
        }
    };
    for (key, pointer) in [
        ("resources.memory", "/memory/limit"),
        ("resources.memory", "/memory/swap"),
        ("resources.memory_swap", "/memory/swap"),
        ("resources.memory_low", "/memory/reservation"),
        ("resources.cpus", "/cpu/quota"),
        ("resources.cpus", "/cpu/period"),
        ("resources.cpu_weight", "/cpu/shares"),
        ("resources.cpuset", "/cpu/cpus"),
        ("resources.io_weight", "/blockIO/weight"),
        ("resources.pids", "/pids/limit"),
    ] {
        leaf(key, pointer);
    }
    if asked("resources.io_max") {
        io_max(spec, r, facts);
    }
    let mut warnings = Vec::new();
    for file in unified(r, kernel) {
        match file {
            File { key, name, value, there: true } if asked(key) => {
                let mut all = spec
                    .pointer("/linux/resources/unified")
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default();
                all.insert(name.into(), json!(value));
                set(spec, "/linux/resources/unified", all.into());
            }
            // Nobody asked for the default.
            File { key, there: false, .. } if asked(key) && key != OOM => {
                warnings.push(format!("{key}: not on this host: its controller is one of cgroup v1"));
            }
            File { .. } => {}
        }
    }
    warnings
}

/// The service's limits in OCI's words.
fn limits(r: &Resources, kernel: Kernel) -> Value {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut memory = oci::LinuxMemory::default();
    let memory_is_limited = r.memory.is_some() || r.memory_low > 0;
    if let Some(limit) = r.memory {
        // config.toml's swap is swap alone, as much again as memory unless it is said; OCI's is the sum.
        let swap = bytes(limit).saturating_add(bytes(r.memory_swap.unwrap_or(limit)));
        memory.set_limit(Some(bytes(limit))).set_swap(kernel.swap.then_some(swap));
    }
    if r.memory_low > 0 {
        memory.set_reservation(Some(bytes(r.memory_low)));
    }
    let mut cpu = oci::LinuxCpu::default();
    if let Some(cpus) = r.cpus {
        cpu.set_quota(Some((cpus * 100_000.0).round() as i64)).set_period(Some(100_000));
    }
    // 100 is what a group has that nobody wrote to.
    if r.cpu_weight != 100 {
        cpu.set_shares(Some(shares(u64::from(r.cpu_weight))));
    }
    cpu.set_cpus(r.cpuset.clone());
    let mut pids = oci::LinuxPids::default();
    pids.set_limit(if r.pids == 0 { -1 } else { i64::try_from(r.pids).unwrap_or(-1) });
    let mut all = oci::LinuxResources::default();
    all.set_devices(None)
        .set_memory(memory_is_limited.then_some(memory))
        .set_cpu(Some(cpu))
        .set_pids(Some(pids));
    let mut all = to_json(&all);
    // blkio.weight goes from 10 to 1000, and 500 is what everyone has.
    if !kernel.io_v2 && r.io_weight != 100 {
        set(&mut all, "/blockIO/weight", json!((r.io_weight * 5).clamp(10, 1000)));
    }
    all
}

/// A file of cgroup v2 and the key that asks for it.
struct File<'a> {
    key: &'static str,
    name: &'a str,
    value: String,
    /// Its controller is one of v2 here.
    there: bool,
}

const OOM: &str = "resources.oom_policy";

fn unified(r: &Resources, kernel: Kernel) -> Vec<File<'_>> {
    let mut files = Vec::new();
    let mut file = |key, name, value: Option<String>, there| {
        files.extend(value.map(|value| File { key, name, value, there }));
    };
    let all = r.oom_policy != OomPolicy::Continue;
    file(OOM, "memory.oom.group", all.then(|| "1".into()), kernel.memory_v2);
    file("resources.memory_high", "memory.high", r.memory_high.map(|n| n.to_string()), kernel.memory_v2);
    file(
        "resources.memory_min",
        "memory.min",
        (r.memory_min > 0).then(|| r.memory_min.to_string()),
        kernel.memory_v2,
    );
    if kernel.io_v2 {
        file("resources.io_weight", "io.weight", (r.io_weight != 100).then(|| r.io_weight.to_string()), true);
    }
    for (name, value) in &r.unified {
        let there = match name.split_once('.') {
            Some(("memory", _)) => kernel.memory_v2,
            Some(("io", _)) => kernel.io_v2,
            _ => true,
        };
        file("resources.unified", name, Some(value.clone()), there);
    }
    files
}

/// By the numbers of the devices that were found.
fn io_max(spec: &mut Value, r: &Resources, facts: &Facts) {
    type Rate = fn(&IoMax) -> Option<u64>;
    let kinds: [(&str, Rate); 4] = [
        ("throttleReadBpsDevice", |max| max.rbps),
        ("throttleWriteBpsDevice", |max| max.wbps),
        ("throttleReadIOPSDevice", |max| max.riops),
        ("throttleWriteIOPSDevice", |max| max.wiops),
    ];
    for (kind, rate) in kinds {
        let of = |(path, max): (&PathBuf, &IoMax)| {
            let look::Node { major, minor, .. } = facts.devices.get(path)?.first()?;
            Some(json!({ "major": major, "minor": minor, "rate": rate(max)? }))
        };
        let rates: Vec<Value> = r.io_max.iter().filter_map(of).collect();
        if !rates.is_empty() {
            set(spec, &format!("/linux/resources/blockIO/{kind}"), rates.into());
        }
    }
}

/// For a live change of the keys that `changed` says: like `limits`, but what the service does not limit is said to be
/// unlimited, as an earlier config may have limited it. `io_max` and `unified` are not among it: what they took away nobody
/// knows.
pub fn live(r: &Resources, changed: &dyn Fn(&str) -> bool) -> Value {
    let kernel = Kernel::of_host();
    let mut all = limits(r, kernel);
    let mut otherwise = |pointer: &str, value: Value| {
        if all.pointer(pointer).is_none_or(Value::is_null) {
            set(&mut all, pointer, value);
        }
    };
    otherwise("/memory/limit", json!(-1));
    if kernel.swap {
        otherwise("/memory/swap", json!(-1));
    }
    otherwise("/cpu/quota", json!(-1));
    otherwise("/cpu/shares", json!(1024));
    if changed("resources.memory_low") && !kernel.memory_v2 {
        otherwise("/memory/reservation", json!(-1));
    }
    if let (true, Some(cpus)) = (changed("resources.cpuset"), online_cpus()) {
        otherwise("/cpu/cpus", json!(cpus));
    }
    if changed("resources.io_weight") && !kernel.io_v2 {
        otherwise("/blockIO/weight", json!(500));
    }
    let mut files = Map::new();
    let resets = [
        ("resources.memory_high", "memory.high", "max", kernel.memory_v2),
        ("resources.memory_min", "memory.min", "0", kernel.memory_v2),
        ("resources.memory_low", "memory.low", "0", kernel.memory_v2 && r.memory_low == 0),
        ("resources.io_weight", "io.weight", "100", kernel.io_v2),
    ];
    for (_, file, value, _) in resets.into_iter().filter(|(key, _, _, there)| *there && changed(key)) {
        files.insert(file.into(), json!(value));
    }
    for File { name, value, .. } in
        unified(r, kernel).into_iter().filter(|file| file.there && file.key != OOM)
    {
        files.insert(name.into(), json!(value));
    }
    if !files.is_empty() {
        set(&mut all, "/unified", files.into());
    }
    all
}

fn online_cpus() -> Option<String> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    Some(text.trim().to_owned())
}

/// The cpu.shares that the cgroups crate turns into this weight.
fn shares(weight: u64) -> u64 {
    let (mut low, mut high) = (2u64, 262_144u64);
    while low < high {
        let middle = (low + high) / 2;
        if sampan_cgroups::limits::weight(middle) < weight { low = middle + 1 } else { high = middle }
    }
    low
}

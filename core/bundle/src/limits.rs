//! rlimits of a container: nofile as documented, the others as PID 1 has them, never as we happen to. Above our own
//! hard limits only with CAP_SYS_RESOURCE: without it they are clamped, and that is said.

use std::fs::File;
use std::io::Read;

use sampan_config::schema::{Service, Ulimit};
use serde_json::{Value, json};

use super::leaves::set;

const NOFILE: (u64, u64) = (1024, 524_288);
const UNLIMITED: u64 = u64::MAX;

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";
const INIT_LIMITS: &str = "/proc/1/limits";
const OWN_LIMITS: &str = "/proc/self/limits";

/// /proc/PID/limits calls them so.
const NAMES: [(&str, &str); 15] = [
    ("Max cpu time", "RLIMIT_CPU"),
    ("Max file size", "RLIMIT_FSIZE"),
    ("Max data size", "RLIMIT_DATA"),
    ("Max stack size", "RLIMIT_STACK"),
    ("Max core file size", "RLIMIT_CORE"),
    ("Max resident set", "RLIMIT_RSS"),
    ("Max processes", "RLIMIT_NPROC"),
    ("Max locked memory", "RLIMIT_MEMLOCK"),
    ("Max address space", "RLIMIT_AS"),
    ("Max file locks", "RLIMIT_LOCKS"),
    ("Max pending signals", "RLIMIT_SIGPENDING"),
    ("Max msgqueue size", "RLIMIT_MSGQUEUE"),
    ("Max nice priority", "RLIMIT_NICE"),
    ("Max realtime priority", "RLIMIT_RTPRIO"),
    ("Max realtime timeout", "RLIMIT_RTTIME"),
];

/// Over those of a bundle, or over what every service has.
pub fn add(spec: &mut Value, service: &Service, bundle: bool) {
    let mut all = match bundle {
        true => spec.pointer("/process/rlimits").cloned().unwrap_or_default(),
        false => of_host().0,
    };
    let all = all.as_array_mut().map(std::mem::take).unwrap_or_default();
    let kinds: Vec<(String, &Ulimit)> = service
        .ulimits
        .iter()
        .map(|(name, limit)| (format!("RLIMIT_{}", name.to_uppercase()), limit))
        .collect();
    let others = all.into_iter().filter(|entry| !kinds.iter().any(|(kind, _)| entry["type"] == **kind));
    let ours = kinds.iter().map(|(kind, limit)| entry(kind, (limit.soft, limit.hard)));
    set(spec, "/process/rlimits", others.chain(ours).collect());
}

/// What no service gets as documented, because we may not give it: the same for all of them.
pub fn warnings() -> Vec<String> {
    of_host().1
}

pub fn own_oom_score_adj() -> Option<i32> {
    std::fs::read_to_string(OOM_SCORE_ADJ).ok()?.trim().parse().ok()
}

/// What a spec depends on beside its service and the facts, as the kernel says it: another text, perhaps another spec.
pub fn host_text() -> String {
    // All of them are shorter: one read each.
    let mut text = String::with_capacity(8 << 10);
    for path in [OOM_SCORE_ADJ, INIT_LIMITS, OWN_LIMITS] {
        // What cannot be read is none, as it is for the spec.
        let _ = File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    }
    text
}

fn of_host() -> (Value, Vec<String>) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let free = effective_capabilities(&read("/proc/self/status")) & (1 << 24) != 0;
    let mut warnings = Vec::new();
    let value = compute(&read(INIT_LIMITS), &read(OWN_LIMITS), free, &mut warnings);
    (value, warnings)
}

/// `free`: we have CAP_SYS_RESOURCE.
pub fn compute(init: &str, own: &str, free: bool, warnings: &mut Vec<String>) -> Value {
    let mut out = Vec::new();
    let clamp = |(soft, hard): (u64, u64), own: Option<(u64, u64)>| match own {
        Some((_, most)) if !free && hard > most => (soft.min(most), most),
        _ => (soft, hard),
    };
    let nofile = clamp(NOFILE, find(own, "Max open files"));
    if nofile != NOFILE {
        warnings.push(format!(
            "open files: at most {} instead of {}: sampand lacks CAP_SYS_RESOURCE to allow more than its own limit",
            nofile.1, NOFILE.1
        ));
    }
    out.push(entry("RLIMIT_NOFILE", nofile));
    for (name, kind) in NAMES {
        let (Some(init), Some(own)) = (find(init, name), find(own, name)) else { continue };
        let wanted = clamp(init, Some(own));
        // What the container inherits anyway is not worth a system call.
        if wanted != own {
            out.push(entry(kind, wanted));
        }
    }
    out.into()
}

fn entry(kind: &str, (soft, hard): (u64, u64)) -> Value {
    json!({ "type": kind, "soft": soft, "hard": hard })
}

fn find(limits: &str, name: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut numbers = line.split_whitespace().map(|n| match n {
        "unlimited" => Some(UNLIMITED),
        n => n.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "Limit                     Soft Limit           Hard Limit           Units\n\
        Max open files            1024                 4096                 files\n\
        Max core file size        0                    unlimited            bytes\n\
        Max locked memory         65536                65536                bytes\n";
    const INIT: &str = "Max open files            1048576              1048576              files\n\
        Max core file size        unlimited            unlimited            bytes\n\
        Max locked memory         8388608              8388608              bytes\n";

    #[track_caller]
    fn check(free: bool, expected: Value, warned: usize) {
        let mut warnings = Vec::new();
        assert_eq!(compute(INIT, OWN, free, &mut warnings), expected);
        assert_eq!(warnings.len(), warned, "{warnings:?}");
    }

    #[test]
    fn with_the_capability_all_is_as_documented_and_as_pid_1_has_it() {
        let locked = entry("RLIMIT_MEMLOCK", (8_388_608, 8_388_608));
        let core = entry("RLIMIT_CORE", (UNLIMITED, UNLIMITED));
        check(true, json!([entry("RLIMIT_NOFILE", NOFILE), core, locked]), 0);
    }

    #[test]
    fn without_it_our_own_hard_limit_is_the_most_and_that_is_said() {
        let core = entry("RLIMIT_CORE", (UNLIMITED, UNLIMITED));
        check(false, json!([entry("RLIMIT_NOFILE", (1024, 4096)), core]), 1);
    }

    #[test]
    fn where_proc_says_nothing_nofile_alone_is_set() {
        assert_eq!(compute("", "", false, &mut Vec::new()), json!([entry("RLIMIT_NOFILE", NOFILE)]));
    }
}

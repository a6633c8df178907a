//! What a service's control group uses, read on demand. A plugin is told a process, not a path: /proc/PID/cgroup says which
//! groups it is in, v1 and v2 alike. Nothing is read while nobody asks.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The groups of one service: where each kind of figure is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    pub cpu: Option<PathBuf>,
    /// v1 tells throttling apart from time.
    pub cpu_v1: Option<PathBuf>,
    pub memory: Option<PathBuf>,
    pub pids: Option<PathBuf>,
}

/// Only ever what the kernel counts; a figure that this machine does not have is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Without file pages that could be dropped at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<u64>,
    /// Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
}

impl Groups {
    /// `None` if the process is gone, or sits in the root: then its figures would be the whole machine's.
    pub fn of(pid: i32) -> Option<Groups> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        Groups::parse(&text, Path::new("/sys/fs/cgroup"))
    }

    pub fn parse(text: &str, base: &Path) -> Option<Groups> {
        let v2_alone = base.join("cgroup.controllers").exists();
        let mut groups = Groups::default();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (names, path) = (parts.next()?, parts.next()?);
            let path = path.trim_start_matches('/');
            if path.is_empty() || path.split('/').any(|c| c == "..") {
                continue;
            }
            if names.is_empty() && v2_alone {
                let group = Some(base.join(path));
                groups = Groups { cpu: group.clone(), cpu_v1: None, memory: group.clone(), pids: group };
            }
            for name in names.split(',') {
                let group = Some(base.join(names).join(path));
                match name {
                    "cpuacct" => groups.cpu = group,
                    "cpu" => groups.cpu_v1 = group,
                    "memory" => groups.memory = group,
                    "pids" => groups.pids = group,
                    _ => {}
                }
            }
        }
        (groups != Groups::default()).then_some(groups)
    }

    pub fn read(&self) -> Usage {
        let mut usage = Usage::default();
        if let Some(group) = &self.cpu {
            let stat = text(group, "cpu.stat");
            usage.cpu_ns =
                number(group, "cpuacct.usage").or_else(|| Some(word(&stat, "usage_usec")? * 1_000));
            usage.throttled_ns = word(&stat, "throttled_usec").map(|us| us * 1_000);
        }
        if let Some(group) = &self.cpu_v1 {
            usage.throttled_ns = word(&text(group, "cpu.stat"), "throttled_time");
        }
        if let Some(group) = &self.memory {
            usage.memory_bytes =
                number(group, "memory.current").or_else(|| number(group, "memory.usage_in_bytes"));
            usage.memory_peak_bytes =
                number(group, "memory.peak").or_else(|| number(group, "memory.max_usage_in_bytes"));
            let limit = number(group, "memory.max").or_else(|| number(group, "memory.limit_in_bytes"));
            // v1's "no limit" is the largest number of pages.
            usage.memory_limit_bytes = limit.filter(|n| *n < 1 << 62);
            let stat = text(group, "memory.stat");
            let inactive = word(&stat, "total_inactive_file").or_else(|| word(&stat, "inactive_file"));
            usage.working_set_bytes = usage.memory_bytes.map(|n| n.saturating_sub(inactive.unwrap_or(0)));
            let events = text(group, "memory.events") + &text(group, "memory.oom_control");
            usage.oom_kills = word(&events, "oom_kill");
        }
        if let Some(group) = &self.pids {
            usage.pids = number(group, "pids.current");
            usage.pids_limit = number(group, "pids.max");
        }
        usage
    }
}

fn text(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap_or_default()
}

/// `None` for "max", too.
fn number(group: &Path, file: &str) -> Option<u64> {
    text(group, file).trim().parse().ok()
}

fn word(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "/nowhere";

    #[test]
    fn v1_has_a_folder_per_controller() {
        let text =
            "9:name=systemd:/a\n4:memory:/sampan/web.g1\n2:cpu,cpuacct:/sampan/web.g1\n0::/sampan/web.g1\n";
        let groups = Groups::parse(text, Path::new(NONE)).unwrap();
        assert_eq!(groups.memory, Some("/nowhere/memory/sampan/web.g1".into()));
        assert_eq!(groups.cpu, Some("/nowhere/cpu,cpuacct/sampan/web.g1".into()));
        assert_eq!(groups.pids, None);
    }

    #[test]
    fn a_process_in_the_root_is_not_measured() {
        assert_eq!(Groups::parse("4:memory:/\n0::/\n", Path::new(NONE)), None);
        assert_eq!(Groups::parse("4:memory:/../x\n", Path::new(NONE)), None);
    }

    #[test]
    fn our_own_group_can_be_read() {
        // The test may sit in a root group everywhere; then there is nothing to read.
        let pid = i32::try_from(std::process::id()).unwrap();
        match Groups::of(pid) {
            Some(groups) => assert_ne!(groups.read(), Usage::default()),
            None => println!("skipped: this test runs in the root group of every hierarchy"),
        }
    }
}

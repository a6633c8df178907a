//! `plugins.cgroups.config`: limits for services that set none themselves, and limits that config.toml has no key for yet.
//!
//! ```toml
//! [plugins.cgroups.config.defaults]           # where the service says nothing
//! memory = "512M"
//! [plugins.cgroups.config.services."web-*"]   # always; the longest pattern that fits wins, key by key
//! memory_high = "400M"
//! ```
use std::collections::BTreeMap;
use std::fmt;

use sampan_plugin::prelude::*;
use serde::Deserializer;
use serde::de::{Unexpected, Visitor};

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// For services whose own table says nothing about that resource.
    pub defaults: Limits,
    /// By service, or pattern with `*`.
    pub services: BTreeMap<String, Limits>,
    /// Metrics are measured this often, in seconds; 0: when somebody asks. Each time is a wake-up.
    pub metrics_every_s: u32,
    /// Shared limits of several services. Stage 3.
    pub slices: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// CPUs' worth of time, such as 1.5.
    pub cpus: Option<f64>,
    /// 1 to 10000; 100 is usual.
    pub cpu_weight: Option<u32>,
    /// Which CPUs, such as `0-3`.
    pub cpuset: Option<String>,
    #[schemars(with = "Option<String>")]
    pub memory: Option<Size>,
    /// Swap alone; as much as `memory` if absent.
    #[schemars(with = "Option<String>")]
    pub memory_swap: Option<Size>,
    /// Above it the service is slowed down and its memory reclaimed. cgroups v2.
    #[schemars(with = "Option<String>")]
    pub memory_high: Option<Size>,
    /// Spared while others can be reclaimed from.
    #[schemars(with = "Option<String>")]
    pub memory_low: Option<Size>,
    /// 0: no limit.
    pub pids: Option<u64>,
    /// 10 to 1000; 100 is usual.
    pub io_weight: Option<u16>,
    /// Any file of cgroups v2.
    pub unified: BTreeMap<String, String>,
    /// Stage 3.
    pub pressure: Option<Value>,
}

/// Bytes: an integer, or K, M, G, T of 1024, with or without `B` or `iB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    pub fn parse(text: &str) -> Option<Size> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_suffix("ib").or_else(|| text.strip_suffix('b')).unwrap_or(&text);
        let units = [("k", 10), ("m", 20), ("g", 30), ("t", 40)];
        let (digits, shift) = units
            .iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))
            .unwrap_or((text, 0));
        let number: u64 = digits.trim().parse().ok()?;
        number.checked_mul(1 << shift).map(Size)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Size, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"512M\", or bytes")
            }
            fn visit_u64<E: serde::de::Error>(self, n: u64) -> std::result::Result<Size, E> {
                Ok(Size(n))
            }
            fn visit_i64<E: serde::de::Error>(self, n: i64) -> std::result::Result<Size, E> {
                u64::try_from(n).map(Size).map_err(|_| E::invalid_value(Unexpected::Signed(n), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Size, E> {
                Size::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        d.deserialize_any(Text)
    }
}

impl Config {
    /// What serde cannot say: keys that are not built yet, values out of range, controls that this machine lacks.
    pub fn check(&self, machine: &Machine) -> std::result::Result<(), String> {
        if self.slices.is_some() {
            return Err("slices: not supported yet".to_owned());
        }
        let all = [("defaults".to_owned(), &self.defaults)].into_iter();
        let all =
            all.chain(self.services.iter().map(|(name, limits)| (format!("services.{name:?}"), limits)));
        for (place, limits) in all {
            limits.check(machine).map_err(|(key, problem)| format!("{place}.{key}: {problem}"))?;
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self, machine: &Machine) -> std::result::Result<(), (&'static str, String)> {
        let refuse = |key, problem: &str| Err((key, problem.to_owned()));
        if self.pressure.is_some() {
            return refuse("pressure", "not supported yet");
        }
        // The kernel takes no quota below 1 ms in 100.
        if self.cpus.is_some_and(|n| !n.is_finite() || !(0.01..=8_192.0).contains(&n)) {
            return refuse("cpus", "it must be a number of CPUs from 0.01 to 8192");
        }
        if self.cpu_weight.is_some_and(|n| !(1..=10_000).contains(&n)) {
            return refuse("cpu_weight", "it goes from 1 to 10000");
        }
        if self.io_weight.is_some_and(|n| !(10..=1_000).contains(&n)) {
            return refuse("io_weight", "it goes from 10 to 1000");
        }
        if self.cpuset.as_ref().is_some_and(|t| !is_cpu_list(t)) {
            return refuse("cpuset", "it must be a list such as \"0-3,6\"");
        }
        if let (Some(Size(high)), Some(Size(max))) = (self.memory_high, self.memory)
            && high > max
        {
            return refuse("memory_high", "it is above memory, so it would never be reached");
        }
        if self.memory_swap.is_some() && !machine.swap {
            return refuse("memory_swap", "this kernel does not count swap (boot with swapaccount=1)");
        }
        let on_v2 = "it needs cgroups v2, and this machine's memory controller is on v1";
        if self.memory_high.is_some() && !machine.memory_on_v2 {
            return refuse("memory_high", on_v2);
        }
        if let Some(file) = self.unified.keys().find(|k| k.starts_with("memory."))
            && !machine.memory_on_v2
        {
            return Err(("unified", format!("{file:?}: {on_v2}")));
        }
        Ok(())
    }
}

/// What of this machine decides which limits are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    pub memory_on_v2: bool,
    /// Swap is counted: on v1 a matter of the kernel's command line, on v2 of its build.
    pub swap: bool,
}

impl Machine {
    pub fn detect() -> Machine {
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let memory_on_v2 = controllers.split_whitespace().any(|c| c == "memory");
        let file =
            if memory_on_v2 { "/proc/swaps" } else { "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes" };
        Machine { memory_on_v2, swap: std::path::Path::new(file).exists() }
    }
}

fn is_cpu_list(text: &str) -> bool {
    let number = |t: &str| t.parse::<u32>().ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((low, high)) => number(low).is_some() && number(low) <= number(high),
        None => number(part).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Value) -> std::result::Result<Config, String> {
        let config: Config = serde_json::from_value(json).map_err(|e| e.to_string())?;
        config.check(&Machine { memory_on_v2: false, swap: true })?;
        Ok(config)
    }

    #[track_caller]
    fn refused(json: Value, because: &str) {
        let problem = read(json).expect_err("it was accepted");
        assert!(problem.contains(because), "{problem}");
    }

    #[test]
    fn sizes_are_of_1024() {
        for (text, bytes) in [("512M", 512 << 20), ("1g", 1 << 30), ("2KiB", 2048), ("7B", 7), ("9", 9)] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in ["", "M", "-1", "1.5G", "20000000T"] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_empty_config_limits_nothing() {
        assert_eq!(read(json!({})).unwrap().defaults, Limits::default());
    }

    #[test]
    fn what_cannot_be_is_named() {
        refused(json!({"slices": {"a": {}}}), "slices: not supported yet");
        refused(json!({"defaults": {"pressure": {}}}), "defaults.pressure: not supported yet");
        refused(json!({"services": {"web": {"cpus": 0}}}), "services.\"web\".cpus: it must be");
        refused(json!({"defaults": {"cpuset": "3-1"}}), "defaults.cpuset");
        refused(json!({"defaults": {"io_weight": 5}}), "defaults.io_weight");
        refused(json!({"defaults": {"memory": "lots"}}), "a size such as");
        refused(json!({"defaults": {"mem": 1}}), "unknown field");
        refused(json!({"defaults": {"memory_high": "1M"}}), "needs cgroups v2");
        refused(json!({"defaults": {"unified": {"memory.high": "1"}}}), "needs cgroups v2");
    }

    #[test]
    fn memory_high_is_below_memory() {
        let config: Config =
            serde_json::from_value(json!({"defaults": {"memory": "1M", "memory_high": "2M"}})).unwrap();
        assert!(
            config
                .check(&Machine { memory_on_v2: true, swap: true })
                .unwrap_err()
                .contains("never be reached")
        );
    }
}

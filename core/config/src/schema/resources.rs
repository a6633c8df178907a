//! `resources`: the limits of a service's control group.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::text;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resources {
    #[serde(serialize_with = "text::or_none")]
    pub cpus: Option<f64>,
    /// 1-10000; 100 is what everyone has.
    pub cpu_weight: u32,
    #[serde(serialize_with = "text::size_or_none")]
    pub memory: Option<u64>,
    /// Of swap alone; None = as much again as `memory`.
    #[serde(serialize_with = "text::size_or_none")]
    pub memory_swap: Option<u64>,
    #[serde(serialize_with = "text::size_or_none")]
    pub memory_high: Option<u64>,
    #[serde(serialize_with = "text::size")]
    pub memory_low: u64,
    #[serde(serialize_with = "text::size")]
    pub memory_min: u64,
    /// As the kernel's lists: `0-3,8`.
    #[serde(serialize_with = "text::or_none")]
    pub cpuset: Option<String>,
    /// 1-10000; 100 is what everyone has.
    pub io_weight: u32,
    /// By the device's path.
    pub io_max: BTreeMap<PathBuf, IoMax>,
    pub oom_policy: OomPolicy,
    /// Files of cgroup v2 and what is written to them.
    pub unified: BTreeMap<String, String>,
    /// 0 = no limit.
    pub pids: u64,
    #[serde(skip)]
    pub explicit: Explicit,
}

/// Per second; None = no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct IoMax {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text::size_or_none")]
    pub rbps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text::size_or_none")]
    pub wbps: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub riops: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wiops: Option<u64>,
}

/// What else ends when the kernel ends a process of the service for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OomPolicy {
    /// All of the service: nothing is left half dead.
    Kill,
    /// All of the service, and it is failed.
    Stop,
    /// Nothing.
    Continue,
}

/// The keys of a table that were written: a plugin's defaults give way to them, also where they say what is the default.
/// A resolved config that is printed writes every key and means the same, so two configs are not compared by this.
#[derive(Debug, Clone, Default)]
pub struct Explicit(pub(crate) BTreeSet<String>);

impl Resources {
    /// `resources.pids` and the like.
    pub fn written(&self) -> Vec<String> {
        self.explicit.0.iter().map(|key| format!("resources.{key}")).collect()
    }
}

impl PartialEq for Explicit {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

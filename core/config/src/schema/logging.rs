//! `logging` of a service.
use std::time::Duration;

use serde::Serialize;

use super::text;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Logging {
    pub driver: LogDriver,
    #[serde(serialize_with = "text::size")]
    pub max_size: u64,
    pub max_file: u32,
    #[serde(serialize_with = "text::size")]
    pub max_line: u64,
    #[serde(serialize_with = "text::duration_or_none")]
    pub max_age: Option<Duration>,
    /// Bytes a second.
    #[serde(serialize_with = "text::rate_or_none")]
    pub rate_limit: Option<u64>,
    pub compress: bool,
    pub mode: LogMode,
    #[serde(serialize_with = "text::size")]
    pub max_buffer_size: u64,
    pub drop: LogDrop,
    pub on_full: OnFull,
}

/// Whether the service waits for a slow disk or journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogMode {
    Blocking,
    NonBlocking,
}

/// Which lines go when the buffer of one that does not wait is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDrop {
    Oldest,
    Newest,
}

/// What becomes of lines that a full disk has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFull {
    Drop,
    Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    Local,
    JsonFile,
    #[serde(rename = "k8s-file")]
    K8sFile,
    Journald,
    None,
}

//! Commands around a service's life: steps and OCI hooks.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::text;

/// OCI's six kinds, each in the order written.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hook {
    pub path: PathBuf,
    /// With `argv[0]`.
    pub args: Vec<String>,
    pub env: Vec<String>,
    /// Seconds, as in OCI.
    pub timeout: u32,
}

/// Part of a life: each list is worked through in order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lifecycle {
    /// A gate: the container is made when all have ended well.
    pub pre_start: Vec<Step>,
    pub post_start: Vec<Step>,
    pub pre_stop: Vec<Step>,
    pub post_stop: Vec<Step>,
}

/// What follows from something, and holds nothing up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct On {
    pub exit: Vec<Step>,
    pub failure: Vec<Step>,
    pub oom: Vec<Step>,
    pub health: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub command: Vec<String>,
    #[serde(rename = "in")]
    pub place: Place,
    /// None: the service's in the container, sampand's on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Ids>,
    #[serde(serialize_with = "text::duration")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    Container,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

impl Serialize for Ids {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

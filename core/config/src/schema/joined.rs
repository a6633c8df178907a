//! Namespaces of another service: `"service:NAME"`.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{NamespaceMode, NetworkMode, Service};

/// Another service, in whose namespace this one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined(pub String);

impl Joined {
    /// What stands before the name.
    pub const PREFIX: &str = "service:";
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Joined::PREFIX, self.0)
    }
}

impl Serialize for Joined {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl NetworkMode {
    pub fn joined(&self) -> Option<&Joined> {
        match self {
            NetworkMode::Service(joined) => Some(joined),
            NetworkMode::Bridge | NetworkMode::None | NetworkMode::Host => None,
        }
    }
}

impl NamespaceMode {
    pub fn joined(&self) -> Option<&Joined> {
        match self {
            NamespaceMode::Service(joined) => Some(joined),
            NamespaceMode::Private | NamespaceMode::Host => None,
        }
    }
}

impl Service {
    /// The keys that say so, each with the other service.
    pub fn joins(&self) -> Vec<(&'static str, &str)> {
        let all = &self.namespaces;
        let keys = [
            ("network_mode", self.network_mode.joined()),
            ("pid", all.pid.joined()),
            ("ipc", all.ipc.joined()),
            ("uts", all.uts.joined()),
            ("cgroup", all.cgroup.joined()),
        ];
        keys.into_iter().filter_map(|(key, joined)| Some((key, joined?.0.as_str()))).collect()
    }
}

//! What a container may do and see: its user, namespaces, devices, limits of its processes.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use super::{Joined, UserNamespace, text};

/// `"uid[:gid]"` or `"name[:group]"`; names are looked up in the rootfs when the bundle is built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct User {
    pub user: NameOrId,
    pub group: Option<NameOrId>,
}

/// Why a text names no user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoUser {
    pub what: String,
    pub hint: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NameOrId {
    Name(String),
    Id(u32),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Security {
    pub no_new_privileges: bool,
    pub seccomp_profile: SeccompProfile,
    #[serde(serialize_with = "text::or_none")]
    pub apparmor: Option<String>,
    #[serde(serialize_with = "text::or_none")]
    pub selinux: Option<String>,
    pub userns: UserNamespace,
    /// `default` stands for the built-in ones.
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeccompProfile {
    Default,
    Unconfined,
    #[serde(untagged)]
    Path(PathBuf),
}

/// Which of the kernel's views a container has of its own. The network's is `network_mode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Namespaces {
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub uts: NamespaceMode,
    pub cgroup: NamespaceMode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceMode {
    Private,
    Host,
    #[serde(untagged)]
    Service(Joined),
}

/// No limit, as in OCI.
pub const UNLIMITED: u64 = u64::MAX;

/// `"soft:hard"`; in the units of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    pub soft: u64,
    pub hard: u64,
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |n: u64| if n == UNLIMITED { "unlimited".into() } else { n.to_string() };
        write!(f, "{}:{}", show(self.soft), show(self.hard))
    }
}

/// A device of the host, or a folder of devices: `"HOST:DST:rwm"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub source: PathBuf,
    pub target: String,
    /// Of `rwm`.
    pub access: String,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source.display(), self.target, self.access)
    }
}

impl Serialize for Ulimit {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

//! Facts about the machine that decide between two plans, as plain data: whoever runs a plan fills this in
//! (core/runtime/src/kernel/host.rs), a test or `sampan plan` on another machine makes it up.

use crate::spec::IdMapping;

/// Asked of the kernel once, and only what a plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// This container's group in each hierarchy that is mounted, v1 first; none: no cgroups at all.
    pub cgroups: Vec<Cgroup>,
    /// Effective uid 0 with CAP_SYS_ADMIN where the launch happens.
    pub privileged: bool,
    /// In a user namespace that is not the initial one, where root makes no device nodes: podman without root.
    pub in_user_namespace: bool,
    /// What whoever launches has and so can hand on, bit by number (include/uapi/linux/capability.h).
    pub capabilities: u64,
    /// The uid and gid of whoever launches: what an unprivileged user namespace can map.
    pub uid: u32,
    pub gid: u32,
    /// /proc/kcore exists: /dev/core is a link to it.
    pub kcore: bool,
    /// The container's root is the host's own, by whatever name: what of it is shown.
    pub root: Option<HostRoot>,
    /// The user namespace that the config names by its path: what ids it has.
    pub joined_users: Option<JoinedUsers>,
    /// Of a running container: in its user namespace groups can not be set (user_namespaces(7), /proc/PID/setgroups).
    pub groups_denied: bool,
}

/// A user namespace that somebody else has made, as we see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinedUsers {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
    /// Its groups can not be set (user_namespaces(7), /proc/PID/setgroups).
    pub groups_denied: bool,
    /// It owns the network namespace that the config names by a path.
    pub owns_network: bool,
}

/// The host's own root, as a container on it sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRoot {
    /// Links in `/` to what is shown: a name, and what it leads to.
    pub links: Vec<(String, String)>,
    /// Folders, and the mounts in them, at the same path inside: the outer before the inner.
    pub folders: Vec<String>,
    /// /etc/resolv.conf, where it is a link to a place that is not shown.
    pub resolver: Option<Resolver>,
    /// Files at the top of /proc that only root may read. No map makes them nobody's, and a kernel may have some that no list knows.
    pub closed: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Where the link leads, in the container.
    pub link: String,
    /// The file of the host.
    pub file: String,
    /// The one with the servers behind it, where `file` names systemd-resolved's own address alone.
    pub upstream: Option<String>,
}

/// A container's group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    pub version: Version,
    /// Where the hierarchy is mounted: `/sys/fs/cgroup/memory`.
    pub mount: String,
    /// Below there, without a leading slash.
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

impl Cgroup {
    /// The group's folder.
    pub fn folder(&self) -> String {
        format!("{}/{}", self.mount, self.path)
    }
    /// The hierarchy's name as its mount point says it: `cpu,cpuacct`.
    pub fn name(&self) -> &str {
        self.mount.rsplit('/').next().unwrap_or_default()
    }
}

impl Host {
    /// What a container can be given: all of it in a user namespace of its own (user_namespaces(7)), else what we have.
    pub(crate) fn available(&self, own_users: bool) -> u64 {
        if own_users { u64::MAX } else { self.capabilities }
    }

    /// A root on a machine with v1 hierarchies, for tests and for plans shown elsewhere.
    pub fn example() -> Host {
        let group = |name: &str, version| Cgroup {
            version,
            mount: format!("/sys/fs/cgroup/{name}"),
            path: "example".to_owned(),
        };
        let v1 = ["cpu,cpuacct", "devices", "memory", "pids"].map(|name| group(name, Version::V1));
        Host {
            cgroups: v1.into_iter().chain([group("unified", Version::V2)]).collect(),
            privileged: true,
            in_user_namespace: false,
            capabilities: u64::MAX,
            uid: 0,
            gid: 0,
            kcore: true,
            root: None,
            joined_users: None,
            groups_denied: false,
        }
    }
}

//! What the descriptors of a launch are for: the parent opens them before clone3, and the steps name them by their place.

use crate::spec::IdMapping;
use sampan_child::step::Propagation;

/// What a slot holds. The parent opens it before clone3 and passes it in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotSource {
    /// The write end of the reports.
    Report,
    /// The read end of a gate: one byte opens it, its end of file makes the child exit.
    Gate(Gate),
    /// The directory of the container's v2 group, for CLONE_INTO_CGROUP.
    Group,
    /// A namespace to join; whoever opens it checks its type (NS_GET_NSTYPE), and that it is not ours if the field
    /// `set_in` sets something in it.
    Namespace { path: String, kind: u32, field: String, set_in: Option<String> },
    /// The network namespace that the caller of `create` gave.
    GivenNetns,
    /// Our own namespace of that kind, to come back to.
    OwnNamespace { kind: u32 },
    /// A pidfd of the running container that `exec` joins.
    Container,
    /// A detached clone of a tree, made where the parent may look things up, and its ids mapped. It is a peer of the host's
    /// mounts until it is given `propagation`; a shared one stays one.
    Tree {
        path: String,
        recursive: bool,
        follow: bool,
        propagation: Propagation,
        idmap: Option<IdMap>,
        field: String,
    },
    /// An overlay of these folders, the lowest first, detached: a root of layers (core/plan/src/layers.rs).
    Layers {
        lower: Vec<String>,
        /// A folder with `upper` and `work` in it, if it may be written to.
        upper: Option<String>,
        in_user_namespace: bool,
        idmap: Option<IdMap>,
        field: String,
    },
    /// Our end of a socket pair over which the pty's master comes.
    Console,
    /// Standard descriptor 0, 1 or 2 of a process whose stdio the caller gives, or one of those from 3 on that it gives.
    Stdio(u32),
    /// A memfd of (steps + 1) u64.
    Trace,
    /// What one hook in the container prints: its kind's name, its place in the list, and its path.
    HookOutput { kind: &'static str, index: usize, path: String },
}

impl SlotSource {
    /// Does it lead anywhere? Who can look up a path through a directory, a mount or a namespace of the host is out of the
    /// container (CVE-2024-21626); a pipe, a socket or a memfd ends where it is.
    pub fn leads_to_the_host(&self) -> bool {
        match self {
            SlotSource::Group
            | SlotSource::Namespace { .. }
            | SlotSource::GivenNetns
            | SlotSource::OwnNamespace { .. }
            | SlotSource::Container
            | SlotSource::Tree { .. }
            | SlotSource::Layers { .. } => true,
            SlotSource::Report
            | SlotSource::Gate(_)
            | SlotSource::Console
            | SlotSource::Stdio(_)
            | SlotSource::Trace
            | SlotSource::HookOutput { .. } => false,
        }
    }
}

/// A point where the child waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The id maps (and oom_score_adj) are written.
    Maps,
    /// The control groups exist and have their limits.
    Groups,
    /// prestart and createRuntime hooks ran, the network is attached.
    Attached,
    /// `start`: run the program.
    Start,
}

/// The id map of one mount (core/plan/src/idmap.rs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
    /// The mounts below it get the same map.
    pub recursive: bool,
    /// The config field that asks for it: `mounts[3]`.
    pub field: String,
}

impl IdMap {
    /// One user namespace stands for both.
    pub fn is_same_map(&self, other: &IdMap) -> bool {
        self.uids == other.uids && self.gids == other.gids
    }
}

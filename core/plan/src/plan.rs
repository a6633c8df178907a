//! The plan: what the child does, step by step, and what its parent does meanwhile.

use crate::slots::SlotSource;
use crate::spec::{ConsoleSize, Hooks, IdMapping, Resources, Str, to_host};
use sampan_child::step::Step;
use std::collections::BTreeMap;

/// Everything that launching one process will do, decided.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The child's part, as [`sampan_child::image::Image`] reads it.
    pub image: Vec<u8>,
    /// The steps of the image, for whoever shows or explains them.
    pub steps: Vec<Step>,
    /// The config field that each step comes from; empty where it is ours.
    pub origins: Vec<String>,
    /// What each slot of the image must hold.
    pub slots: Vec<SlotSource>,
    pub parent: Parent<'a>,
    /// What was asked for and is ignored, in words.
    pub warnings: Vec<String>,
}

/// What the parent does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parent<'a> {
    /// Whose ids the container has; the maps are those of its user namespace.
    pub users: Users,
    /// The process's user, as the container counts.
    pub uid: u32,
    pub uid_mappings: Vec<IdMapping>,
    pub gid_mappings: Vec<IdMapping>,
    /// setgroups must be denied before an unprivileged gid map.
    pub deny_setgroups: bool,
    pub oom_score_adj: Option<i32>,
    pub cgroups_path: Option<&'a str>,
    /// The host's uid to whom the container's group goes (config-linux.md, Cgroup ownership).
    pub cgroup_owner: Option<u32>,
    pub resources: Option<&'a Resources<'a>>,
    pub hooks: Option<&'a Hooks<'a>>,
    pub annotations: Option<&'a BTreeMap<Str<'a>, Str<'a>>>,
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    /// A pid namespace of its own: killing its init kills all of it.
    pub own_pid_namespace: bool,
    /// A network namespace that is not the host's.
    pub own_network: bool,
    /// `argv[0]`, for messages.
    pub program: Option<&'a str>,
    /// No process in the config: legal at create, an error at start.
    pub no_process: bool,
    /// The root, as a path of the host.
    pub root: String,
    /// The mark at which it is the parent's turn (`Gate::Attached`).
    pub attached_at: u32,
}

/// Whose ids a container has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Users {
    #[default]
    Hosts,
    /// Those of a new user namespace, whose maps are to be written.
    New,
    /// Those of one that is there already.
    Joined,
}

impl Parent<'_> {
    /// The process's user as the host counts; none: the maps have no place for it.
    pub fn host_uid(&self) -> Option<u32> {
        to_host(&self.uid_mappings, self.uid)
    }
}

/// Choices of the caller, not of the config.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub id: String,
    /// Where the bundle is: relative paths of the config start there.
    pub bundle: String,
    /// Descriptors from 3 on that stay open in the container.
    pub preserve_fds: u32,
    /// A session keyring of its own (not with `--no-new-keyring`).
    pub new_keyring: bool,
    /// Stop before the pivot for the parent's work even without prestart and createRuntime hooks.
    pub attach: bool,
    /// The caller gives a network namespace to join in place of a new one.
    pub given_netns: bool,
    /// The caller has nothing else to do, and so may wait until a paused container goes on, and until namespaces are made.
    pub may_wait: bool,
    /// The caller joins the container's terminal to its own, whose business carriage returns are then.
    pub relayed_terminal: bool,
    /// The caller gives descriptors for stdio.
    pub given_stdio: bool,
    /// So many more descriptors the caller gives, for 3 and on.
    pub given_fds: u32,
    /// Time every step.
    pub trace: bool,
}

impl Options {
    /// The first descriptor that is not the caller's to hand on.
    pub(crate) fn first_of_ours(&self) -> u32 {
        self.preserve_fds.saturating_add(self.given_fds).saturating_add(3)
    }
}

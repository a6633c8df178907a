//! Where the parent has its turn before the pivot: hooks on the host's side, and whoever is to see the new namespaces (`attach`).

use crate::plan::{Options, Users};
use crate::spec::Spec;
use crate::sysctl;
use sampan_child::step::mark;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attach {
    Nobody,
    /// While the child mounts: it is in its namespaces and groups.
    Beside,
    /// When all is mounted, for hooks that may look at it; for interfaces that are to begin with what sysctls say; and beside users
    /// of its own, where the network namespace is made after the groups are joined, or the child is that of another one.
    Mounted,
}

impl Attach {
    pub fn of(spec: &Spec<'_>, options: &Options, users: Users) -> Attach {
        let hooks = &spec.hooks;
        let has_hooks = !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty();
        match (has_hooks, options.attach) {
            (false, false) => Attach::Nobody,
            (false, true) if users == Users::Hosts && !interfaces_begin_with(spec) => Attach::Beside,
            _ => Attach::Mounted,
        }
    }

    /// The child's word for it.
    pub fn mark(self) -> u32 {
        if self == Attach::Beside { mark::JOINED } else { mark::MOUNTED }
    }
}

/// net.ipv4.conf.default.. is what an interface has that comes later.
fn interfaces_begin_with(spec: &Spec<'_>) -> bool {
    let is_one = |key: &str| sysctl::path(key).split('/').any(|part| matches!(part, "conf" | "neigh"));
    spec.linux.sysctl.keys().any(|key| is_one(key))
}

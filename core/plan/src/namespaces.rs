//! Which namespaces are made by clone3, which are joined, by whom, and in what order.
//!
//! A pid namespace is entered by being born in it, so the spawner enters it before clone3.  The same goes for
//! those to join beside a new user namespace: from inside it, joining one of the host's is EPERM.  A cgroup
//! namespace is made after the child has joined its group, because its root is where its maker is; a time
//! namespace takes its offsets before anybody is in it.
//!
//! A user namespace of a path is entered by a process that has no way back: the others are joined and made there, and the container's
//! process is its child, by the same step as in `exec`. The parent's part begins with the child.

use crate::build::Build;
use crate::error::Error;
use crate::host::JoinedUsers;
use crate::ids;
use crate::plan::Options;
use crate::slots::SlotSource;
use crate::spec::{Linux, Spec, Str, TimeOffset};
use crate::suggest::nearest;
use crate::sysctl;
use sampan_child::step::{Back, Step};
use sampan_child::sys::uapi::*;

pub const KINDS: [(&str, u32); 8] = [
    ("pid", CLONE_NEWPID),
    ("network", CLONE_NEWNET),
    ("mount", CLONE_NEWNS),
    ("ipc", CLONE_NEWIPC),
    ("uts", CLONE_NEWUTS),
    ("user", CLONE_NEWUSER),
    ("cgroup", CLONE_NEWCGROUP),
    ("time", CLONE_NEWTIME),
];

/// Long past what the kernel needs for namespaces, of which those for networks are the slowest.
const BORN_WITHIN_MS: u32 = 30_000;
/// The same for somebody with other work, who tries again.
const BORN_SOON_MS: u32 = 1_000;

/// The name of a kind in /proc/PID/ns.
pub fn proc_name(kind: u32) -> &'static str {
    match kind {
        CLONE_NEWPID => "pid",
        CLONE_NEWNET => "net",
        CLONE_NEWNS => "mnt",
        CLONE_NEWIPC => "ipc",
        CLONE_NEWUTS => "uts",
        CLONE_NEWUSER => "user",
        CLONE_NEWCGROUP => "cgroup",
        _ => "time",
    }
}

/// What a config's namespaces come down to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Those made new, as CLONE_ bits.
    pub new: u32,
    /// Those joined.
    pub join: Vec<Join>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    pub kind: u32,
    pub source: SlotSource,
    pub field: String,
}

impl Namespaces {
    pub fn makes(&self, kind: u32) -> bool {
        self.new & kind != 0
    }
    /// Not the host's: new or joined.
    pub fn has(&self, kind: u32) -> bool {
        self.makes(kind) || self.join.iter().any(|j| j.kind == kind)
    }

    /// By a path, or given.
    pub fn joins(&self, kind: u32) -> bool {
        self.join.iter().any(|j| j.kind == kind)
    }
    /// The container's ids are not the host's.
    pub fn own_users(&self) -> bool {
        self.has(CLONE_NEWUSER)
    }

    /// The network namespace's owner is not the root of the container's users: there sysfs cannot be mounted.
    pub fn sysfs_is_somebody_elses(&self, joined: Option<&JoinedUsers>) -> bool {
        // Those of a pod, both joined, belong together.
        let is_of_the_pod = self.joins(CLONE_NEWUSER)
            && self.joins(CLONE_NEWNET)
            && joined.is_some_and(|users| users.owns_network);
        self.own_users() && !self.makes(CLONE_NEWNET) && !is_of_the_pod
    }

    /// All that are not the host's.
    pub fn all(&self) -> u32 {
        self.join.iter().fold(self.new, |all, j| all | j.kind)
    }

    pub fn parse(spec: &Spec<'_>, options: &Options) -> Result<Namespaces, Error> {
        let mut found = Namespaces::default();
        for (index, ns) in spec.linux.namespaces.iter().enumerate() {
            found.add(spec, &ns.kind, ns.path.as_deref(), format!("linux.namespaces[{index}]"))?;
        }
        if options.given_netns {
            found.new &= !CLONE_NEWNET;
            found.join.retain(|j| j.kind != CLONE_NEWNET);
            let field = "linux.namespaces".to_owned();
            found.join.push(Join { kind: CLONE_NEWNET, source: SlotSource::GivenNetns, field });
        }
        found.check(&spec.linux)?;
        Ok(found)
    }

    fn add(&mut self, spec: &Spec<'_>, name: &str, path: Option<&str>, field: String) -> Result<(), Error> {
        let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == name) else {
            let names = KINDS.iter().map(|(name, _)| *name);
            let hint = nearest(name, names).map_or(String::new(), |n| format!("; did you mean {n:?}?"));
            return Err(Error::new(
                format!("{field}.type"),
                format!("no namespace is of type {name:?}{hint}"),
            ));
        };
        if self.has(*kind) {
            return Err(Error::new(field, format!("a second namespace of type {name:?}")));
        }
        match path.filter(|path| !path.is_empty()) {
            None => self.new |= kind,
            Some(path) if *kind == CLONE_NEWNS => {
                let problem = format!("joining a {name} namespace ({path}) is not supported yet");
                return Err(Error::new(format!("{field}.path"), problem));
            }
            Some(path) => {
                let field = format!("{field}.path");
                let set_in = set_in(spec, *kind);
                let source = SlotSource::Namespace {
                    path: path.to_owned(),
                    kind: *kind,
                    field: field.clone(),
                    set_in,
                };
                self.join.push(Join { kind: *kind, source, field });
            }
        }
        Ok(())
    }

    /// What does not go together, or without.
    fn check(&self, linux: &Linux<'_>) -> Result<(), Error> {
        if !self.makes(CLONE_NEWNS) {
            return Err(Error::new(
                "linux.namespaces",
                "a container without a mount namespace of its own is not supported yet; add {\"type\": \"mount\"}",
            ));
        }
        if self.makes(CLONE_NEWUSER) && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
            let field = if linux.uid_mappings.is_empty() { "linux.uidMappings" } else { "linux.gidMappings" };
            return Err(Error::new(
                field,
                "must not be empty with a new user namespace: nobody would have an id in it",
            ));
        }
        let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
        if mapped && !self.own_users() {
            return Err(Error::new("linux.uidMappings", "needs a user namespace in linux.namespaces"));
        }
        if !linux.time_offsets.is_empty() && !self.makes(CLONE_NEWTIME) {
            return Err(Error::new("linux.timeOffsets", "needs a new time namespace in linux.namespaces"));
        }
        Ok(())
    }

    /// The clone flags, and what the spawner enters before: the head of the image.
    ///
    /// Into a user namespace that is joined nobody is born: [`Namespaces::with_joined_users`].
    pub fn born_into(&self, b: &mut Build) {
        if self.joins(CLONE_NEWUSER) {
            return;
        }
        b.clone_flags = u64::from(self.new & !(CLONE_NEWCGROUP | CLONE_NEWTIME | self.made_as_root()));
        for join in self.join.iter().filter(|j| self.entered_before_birth(j)) {
            let ns = b.slot(join.source.clone());
            let back = match join.kind {
                CLONE_NEWPID => Back::ByPidfd,
                kind => Back::Slot(b.slot(SlotSource::OwnNamespace { kind })),
            };
            b.step(&join.field, Step::Enter { ns, back, kind: join.kind });
        }
    }

    /// With a user namespace that is there already all others come in a process of its own, because only who is inside makes some
    /// that belong to it, and who enters it has no way back. The container's process is born in them, as that one's child.
    ///
    /// The host's root joins those that are named by a path first: they may belong to somebody else (runc does the same). Who has
    /// no privileges has them in there alone.
    pub fn with_joined_users(&self, b: &mut Build, privileged: bool, groups_denied: bool, may_wait: bool) {
        let (users, others): (Vec<&Join>, Vec<&Join>) =
            self.join.iter().partition(|join| join.kind == CLONE_NEWUSER);
        let (first, then) = if privileged { (others, users) } else { (users, others) };
        if groups_denied {
            ids::leave_own_groups(b, privileged);
        }
        for join in first.into_iter().chain(then) {
            let ns = b.slot(join.source.clone());
            b.step(&join.field, Step::Setns { ns, kinds: join.kind });
        }
        b.step("linux.namespaces", Step::BecomeRoot { setgroups: u32::from(!groups_denied) });
        // That of the groups comes when it is certain which they are, and time's has been made.
        let new = self.new & !(CLONE_NEWCGROUP | CLONE_NEWTIME);
        if new != 0 {
            b.step("linux.namespaces", Step::Unshare { kinds: new });
        }
        let wait_ms = if may_wait { BORN_WITHIN_MS } else { BORN_SOON_MS };
        b.step("linux.namespaces", Step::GoOnInChild { wait_ms });
    }

    /// Beside a new user namespace these are made by its root, once there is one: what the kernel makes with them (the
    /// files of lo in sysfs, the root of mqueue) belongs to whoever makes them, and before the maps that is nobody.
    fn made_as_root(&self) -> u32 {
        if self.makes(CLONE_NEWUSER) { self.new & (CLONE_NEWNET | CLONE_NEWIPC) } else { 0 }
    }

    fn entered_before_birth(&self, join: &Join) -> bool {
        match join.kind {
            CLONE_NEWPID => true,
            // The group is joined first, and the namespace does not change where that is.
            CLONE_NEWCGROUP | CLONE_NEWTIME => false,
            _ => self.makes(CLONE_NEWUSER),
        }
    }

    /// What the child joins and makes itself, before any mount.
    pub fn joined_by_child(&self, b: &mut Build) {
        if self.made_as_root() != 0 {
            b.step("linux.namespaces", Step::Unshare { kinds: self.made_as_root() });
        }
        let own = |j: &&Join| !self.entered_before_birth(j) && j.kind != CLONE_NEWCGROUP;
        for join in self.join.iter().filter(own) {
            let ns = b.slot(join.source.clone());
            b.step(&join.field, Step::Setns { ns, kinds: join.kind });
        }
    }

    /// Before the child changes its ids and hides from ptrace: from then on /proc/self belongs to the host's root alone.
    pub fn time_namespace(&self, b: &mut Build, linux: &Linux<'_>) -> Result<(), Error> {
        if self.makes(CLONE_NEWTIME) {
            b.step("linux.namespaces", Step::Unshare { kinds: CLONE_NEWTIME });
            let mut lines = Vec::new();
            for (clock, TimeOffset { secs, nanosecs }) in &linux.time_offsets {
                if !matches!(clock.as_str(), "monotonic" | "boottime") {
                    let field = format!("linux.timeOffsets.{clock}");
                    return Err(Error::new(field, "only \"monotonic\" and \"boottime\" can be set off"));
                }
                lines.push(format!("{clock} {secs} {nanosecs}\n"));
            }
            let lines = b.table.list(lines.iter().map(String::as_str), "linux.timeOffsets")?;
            b.step("linux.timeOffsets", Step::TimeOffsets { lines });
        }
        Ok(())
    }

    /// After the child is in its group.
    pub fn cgroup_namespace(&self, b: &mut Build) {
        if self.makes(CLONE_NEWCGROUP) {
            b.step("linux.namespaces", Step::Unshare { kinds: CLONE_NEWCGROUP });
        }
        if self.joins(CLONE_NEWUSER) {
            // With the others, before it was too late.
            return;
        }
        for join in self.join.iter().filter(|j| j.kind == CLONE_NEWCGROUP) {
            let ns = b.slot(join.source.clone());
            b.step(&join.field, Step::Setns { ns, kinds: join.kind });
        }
    }
}

/// The first field that sets something in the namespace of that kind. If the namespace is joined by a path, only whoever
/// opens it can say that the path does not lead to the host's own.
fn set_in(spec: &Spec<'_>, kind: u32) -> Option<String> {
    let named = |name: &Option<Str<'_>>| name.as_deref().is_some_and(|name| !name.is_empty());
    if kind == CLONE_NEWUTS && (named(&spec.hostname) || named(&spec.domainname)) {
        return Some(if named(&spec.hostname) { "hostname" } else { "domainname" }.to_owned());
    }
    let mut keys = spec.linux.sysctl.keys();
    let key =
        keys.find(|key| sysctl::namespace_of(&sysctl::path(key), spec).is_some_and(|(of, _)| of == kind))?;
    Some(sysctl::field(key))
}

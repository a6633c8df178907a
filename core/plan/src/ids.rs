//! The user, its groups, and capabilities by their names.

use crate::build::Build;
use crate::error::Error;
use crate::spec::{Capabilities, Str, User};
use crate::suggest::nearest;
use sampan_child::step::{Numbers, Step, user};

/// In the order of their numbers (include/uapi/linux/capability.h).
pub const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

pub const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Five sets of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

impl Sets {
    /// Adds what only we need: execve drops it, since it is neither bounding nor inheritable (capabilities(7)). Until then who may
    /// trace the process has it too (docs/security.md).
    pub fn until_execve(&mut self, capability: u64) {
        self.effective |= capability;
        self.permitted |= capability;
    }
}

/// Absent capabilities are no capabilities, as in runc. `available`: what we can hand on at all; the rest is
/// left out with a warning, since containers must also start where the host's root has less.
pub fn sets(b: &mut Build, capabilities: Option<&Capabilities<'_>>, available: u64) -> Result<Sets, Error> {
    let Some(c) = capabilities else { return Ok(Sets::default()) };
    let mut sets = Sets {
        bounding: bits(b, &c.bounding, "bounding"),
        effective: bits(b, &c.effective, "effective"),
        permitted: bits(b, &c.permitted, "permitted"),
        inheritable: bits(b, &c.inheritable, "inheritable"),
        ambient: bits(b, &c.ambient, "ambient"),
    };
    let all = sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient;
    left_out(b, "process.capabilities", all & !available, "we do not have it ourselves");
    for set in [
        &mut sets.bounding,
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
        &mut sets.ambient,
    ] {
        *set &= available;
    }
    if sets.effective & !sets.permitted != 0 {
        let field = "process.capabilities.effective";
        return Err(Error::new(field, "holds a capability that is not in permitted"));
    }
    // buildah names ambient capabilities without inheritable ones, which the kernel refuses to raise (capabilities(7)).
    let raisable = sets.permitted & sets.inheritable;
    let reason = "an ambient capability must be both permitted and inheritable";
    left_out(b, "process.capabilities.ambient", sets.ambient & !raisable, reason);
    sets.ambient &= raisable;
    Ok(sets)
}

/// Warns of capabilities that the process will not have.
fn left_out(b: &mut Build, field: &str, capabilities: u64, reason: &str) {
    if capabilities == 0 {
        return;
    }
    let numbered = CAPABILITIES.iter().enumerate();
    let names: Vec<&str> =
        numbered.filter(|(number, _)| capabilities >> number & 1 == 1).map(|(_, name)| *name).collect();
    b.warnings.push(format!("{field}: {} left out: {reason}", names.join(", ")));
}

fn bits(b: &mut Build, names: &[Str<'_>], set: &str) -> u64 {
    let mut bits = 0;
    for (index, name) in names.iter().enumerate() {
        let upper = name.to_ascii_uppercase();
        match CAPABILITIES.iter().position(|c| *c == upper || c.strip_prefix("CAP_") == Some(&upper)) {
            Some(number) => bits |= 1 << number,
            None => {
                let hint =
                    nearest(&upper, CAPABILITIES).map_or(String::new(), |n| format!("; did you mean {n}?"));
                b.warnings.push(format!(
                    "process.capabilities.{set}[{index}]: unknown capability {name} is ignored{hint}"
                ));
            }
        }
    }
    bits
}

/// Before a user namespace is joined in which groups can not be set: nobody could let go of them in there. Who has no privileges
/// has no way to do so out here either.
pub fn leave_own_groups(b: &mut Build, privileged: bool) {
    if privileged {
        b.step("process.user", Step::User { uid: 0, gid: 0, groups: Numbers::default(), flags: 0 });
    }
}

pub fn bounding(b: &mut Build, sets: &Sets) {
    b.step("process.capabilities.bounding", Step::BoundingSet { keep: sets.bounding });
}

/// Ids, then capabilities: setuid clears what is not kept, ambient needs the other sets.
pub fn become_user(b: &mut Build, who: &User, sets: &Sets, groups_denied: bool) -> Result<(), Error> {
    if groups_denied && !who.additional_gids.is_empty() {
        let problem = "setgroups is denied in a user namespace made without privileges: leave them out";
        return Err(Error::new("process.user.additionalGids", problem));
    }
    let groups = b.table.numbers(who.additional_gids.iter().copied());
    let flags =
        (if who.uid != 0 { user::KEEP_CAPS } else { 0 }) | if groups_denied { user::NO_SETGROUPS } else { 0 };
    b.step("process.user", Step::User { uid: who.uid, gid: who.gid, groups, flags });
    let Sets { effective, permitted, inheritable, ambient, .. } = *sets;
    b.step("process.capabilities", Step::Caps { effective, permitted, inheritable });
    if ambient != 0 {
        b.step("process.capabilities.ambient", Step::Ambient { raise: ambient });
    }
    Ok(())
}

//! (file, errno) -> what is likely wrong. One table per kind of failure; a row without a sentence says nothing rather
//! than guess.

use crate::error::Errno;
use crate::group::Group;
use crate::limits::Write;

const READ_ONLY: &str =
    "the control groups are mounted read-only here, as in a container that was not given its own";
const RIGHTS: &str = "this needs root, or a group delegated to this user";

pub(crate) fn make(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::ROFS => READ_ONLY,
        Errno::ACCESS | Errno::PERM => RIGHTS,
        Errno::AGAIN => "the parent's cgroup.max.descendants or cgroup.max.depth is reached",
        Errno::INVAL => "a v1 group needs a parent of the same hierarchy, and a name without a line break",
        Errno::NOSPC | Errno::NOMEM => {
            "the kernel has no room for a further group; are dead groups left over?"
        }
        _ => return None,
    })
}

pub(crate) fn enable(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::BUSY => {
            "a group that holds processes cannot hand controllers to its children: move them to a sub-group first"
        }
        Errno::NOENT => "the parent does not have that controller itself: see its cgroup.controllers",
        Errno::OPNOTSUPP => "the parent is a threaded group",
        Errno::ROFS => READ_ONLY,
        Errno::ACCESS | Errno::PERM => RIGHTS,
        _ => return None,
    })
}

/// Looks at the group where the answer depends on what is in it.
pub(crate) fn limit(group: &Group<'_>, write: &Write, errno: Errno) -> Option<String> {
    let read = |file: &str| group.try_read(file).ok().flatten().map(|t| t.trim().to_owned());
    let parents = |file: &str| group.parent()?.try_read(file).ok().flatten().map(|t| t.trim().to_owned());
    let sentence = match (&*write.file, errno) {
        (_, Errno::ROFS) => READ_ONLY.to_owned(),
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Errno::BUSY) => {
            let used = write.file.replace("limit", "usage");
            format!("its processes use {} bytes, and not enough of it can be reclaimed", read(&used)?)
        }
        ("memory.limit_in_bytes", Errno::INVAL) => {
            let memsw = read("memory.memsw.limit_in_bytes")?;
            format!("memory.swap (memory and swap together) is {memsw} there; raise it in the same request")
        }
        ("memory.memsw.limit_in_bytes", Errno::INVAL) => {
            "memory.swap counts memory and swap together, so it cannot be less than memory.limit".to_owned()
        }
        ("memory.memsw.limit_in_bytes" | "memory.swap.max", Errno::NOENT | Errno::OPNOTSUPP) => {
            "this kernel does not account for swap (boot with swapaccount=1)".to_owned()
        }
        ("memory.swappiness", Errno::INVAL) => "swappiness goes from 0 to 100".to_owned(),
        ("cpuset.cpus" | "cpuset.mems", Errno::ACCESS | Errno::INVAL | Errno::RANGE | Errno::NOSPC) => {
            let have = parents(&write.file).filter(|t| !t.is_empty());
            let have = have.or_else(|| parents(&format!("{}.effective", write.file)))?;
            format!("the group above has only {have}")
        }
        ("cpuset.cpus" | "cpuset.mems", Errno::BUSY) => {
            "a sub-group uses more than that, or the group is an exclusive partition".to_owned()
        }
        ("cpu.cfs_quota_us" | "cpu.cfs_period_us" | "cpu.max", Errno::INVAL) => {
            "a period goes from 1000 to 1000000 us, a quota from 1000 up, and on v1 no group may have more than the one \
             above it"
                .to_owned()
        }
        ("cpu.cfs_burst_us" | "cpu.max.burst", Errno::INVAL) => "a burst cannot be larger than the quota".to_owned(),
        ("cpu.shares" | "cpu.weight", Errno::INVAL) => "an idle group (cpu.idle) has no weight of its own".to_owned(),
        ("cpu.rt_runtime_us" | "cpu.rt_period_us", Errno::INVAL | Errno::NOENT) => {
            "the groups above must have realtime time to give, and the kernel CONFIG_RT_GROUP_SCHED".to_owned()
        }
        ("devices.allow", Errno::PERM) => "the group above does not allow that device itself".to_owned(),
        ("devices.allow" | "devices.deny", Errno::INVAL) => {
            "\"everything\" cannot be set in a group that has sub-groups".to_owned()
        }
        (file, Errno::NODEV | Errno::NXIO) if file.starts_with("io.") || file.starts_with("blkio.") => {
            "there is no block device with those numbers".to_owned()
        }
        (file, Errno::OPNOTSUPP) if file.starts_with("io.") || file.starts_with("blkio.") => {
            "that device's I/O scheduler does not support it (weights need bfq or io.cost)".to_owned()
        }
        (_, Errno::NOENT) if write.version == crate::detect::Version::V2 => {
            let given = parents("cgroup.subtree_control").unwrap_or_default();
            if given.split(' ').any(|c| c == write.controller) {
                "this kernel is older than that control, or was built without it".to_owned()
            } else {
                format!("the group above hands down only: {given}")
            }
        }
        (_, Errno::NOENT) => "this kernel is older than that control, or was built without it".to_owned(),
        (_, Errno::ACCESS | Errno::PERM) => RIGHTS.to_owned(),
        _ => return None,
    };
    Some(sentence)
}

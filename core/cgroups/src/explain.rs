//! What is likely wrong, by file and errno. Where nothing is likely, nothing is said.

use sampan_plan::host::Version;

use crate::error::Errno;
use crate::group::Group;
use crate::limits::Write;

const READ_ONLY: &str =
    "the control groups are mounted read-only here, as in a container that was not given its own";
const RIGHTS: &str = "this needs root, or a group delegated to this user";
const NOT_BUILT: &str = "this kernel is older than that control, or was built without it";

/// mkdir of a group.
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

/// A write to the parent's cgroup.subtree_control.
pub(crate) fn enable(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::BUSY => {
            "a group that has processes of its own cannot enable controllers for the groups below it: move them into one \
             of those first"
        }
        Errno::NOENT => "that controller is not enabled for the parent itself: see its cgroup.controllers",
        Errno::OPNOTSUPP => "the parent is a threaded group",
        Errno::ACCESS | Errno::PERM => RIGHTS,
        Errno::ROFS => READ_ONLY,
        _ => return None,
    })
}

/// A write of a limit. Some answers depend on what the group has now, so it is read.
pub(crate) fn limit(group: &Group<'_>, write: &Write, errno: Errno) -> Option<String> {
    let by_controller = match &*write.controller {
        "memory" => memory(group, write, errno),
        "cpuset" => cpuset(group, write, errno),
        "cpu" => cpu(write, errno).map(str::to_owned),
        "devices" => devices(write, errno).map(str::to_owned),
        "io" | "blkio" => block_io(errno).map(str::to_owned),
        _ => None,
    };
    by_controller.or_else(|| any_file(group, write, errno))
}

fn memory(group: &Group<'_>, write: &Write, errno: Errno) -> Option<String> {
    Some(match (&*write.file, errno) {
        ("memory.limit_in_bytes" | "memory.memsw.limit_in_bytes", Errno::BUSY) => {
            let used = read(group, &write.file.replace("limit", "usage"))?;
            format!("its processes use {used} bytes, and not enough of it can be reclaimed")
        }
        ("memory.limit_in_bytes", Errno::INVAL) => {
            let memsw = read(group, "memory.memsw.limit_in_bytes")?;
            format!("memory.swap (memory and swap together) is {memsw} there; raise it in the same request")
        }
        ("memory.memsw.limit_in_bytes", Errno::INVAL) => {
            "memory.swap counts memory and swap together, so it cannot be less than memory.limit".to_owned()
        }
        ("memory.memsw.limit_in_bytes" | "memory.swap.max", Errno::NOENT | Errno::OPNOTSUPP) => {
            "this kernel does not account for swap (boot with swapaccount=1)".to_owned()
        }
        ("memory.swappiness", Errno::INVAL) => "swappiness goes from 0 to 100".to_owned(),
        _ => return None,
    })
}

fn cpuset(group: &Group<'_>, write: &Write, errno: Errno) -> Option<String> {
    match (&*write.file, errno) {
        ("cpuset.cpus" | "cpuset.mems", Errno::ACCESS | Errno::INVAL | Errno::RANGE | Errno::NOSPC) => {
            let parent = group.parent()?;
            let own = read(&parent, &write.file).filter(|list| !list.is_empty());
            let list = own.or_else(|| read(&parent, &format!("{}.effective", write.file)))?;
            Some(format!("the parent group has only {list}"))
        }
        ("cpuset.cpus" | "cpuset.mems", Errno::BUSY) => {
            Some("a group below uses more than that, or the group is an exclusive partition".to_owned())
        }
        _ => None,
    }
}

fn cpu(write: &Write, errno: Errno) -> Option<&'static str> {
    Some(match (&*write.file, errno) {
        ("cpu.cfs_quota_us" | "cpu.cfs_period_us" | "cpu.max", Errno::INVAL) => {
            "a period goes from 1000 to 1000000 us and a quota from 1000 up; on v1 no group may have more than its parent"
        }
        ("cpu.cfs_burst_us" | "cpu.max.burst", Errno::INVAL) => "a burst cannot be larger than the quota",
        ("cpu.shares" | "cpu.weight", Errno::INVAL) => "an idle group (cpu.idle) has no weight of its own",
        ("cpu.rt_runtime_us" | "cpu.rt_period_us", Errno::INVAL | Errno::NOENT) => {
            "the groups above must have realtime time left, and the kernel CONFIG_RT_GROUP_SCHED"
        }
        _ => return None,
    })
}

fn devices(write: &Write, errno: Errno) -> Option<&'static str> {
    match (&*write.file, errno) {
        ("devices.allow", Errno::PERM) => Some("the parent group does not allow that device itself"),
        (_, Errno::INVAL) => Some("a rule for all devices cannot be set in a group that has groups below it"),
        _ => None,
    }
}

fn block_io(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::NODEV | Errno::NXIO => Some("there is no block device with those numbers"),
        Errno::OPNOTSUPP => {
            Some("that device's I/O scheduler does not support it (weights need bfq or io.cost)")
        }
        _ => None,
    }
}

fn any_file(group: &Group<'_>, write: &Write, errno: Errno) -> Option<String> {
    match errno {
        Errno::ROFS => Some(READ_ONLY.to_owned()),
        Errno::ACCESS | Errno::PERM => Some(RIGHTS.to_owned()),
        Errno::NOENT if write.version == Version::V2 => {
            let parent = group.parent();
            let enabled =
                parent.and_then(|parent| read(&parent, "cgroup.subtree_control")).unwrap_or_default();
            if enabled.split(' ').any(|c| c == write.controller) {
                Some(NOT_BUILT.to_owned())
            } else {
                Some(format!("the parent group enables only these controllers: {enabled}"))
            }
        }
        Errno::NOENT => Some(NOT_BUILT.to_owned()),
        _ => None,
    }
}

fn read(group: &Group<'_>, file: &str) -> Option<String> {
    Some(group.try_read(file).ok().flatten()?.trim().to_owned())
}

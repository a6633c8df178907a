//! Who the process is and what it may do: ids, capabilities, limits, the filter.

use super::raw::{Call, Result, cstr, numbers, syscall};
use super::uapi::*;
use core::mem::size_of;

pub fn setresuid(uid: u32) -> Result<()> {
    numbers(Call::setresuid, [uid as usize, uid as usize, uid as usize, 0, 0, 0]).map(drop)
}

pub fn setresgid(gid: u32) -> Result<()> {
    numbers(Call::setresgid, [gid as usize, gid as usize, gid as usize, 0, 0, 0]).map(drop)
}

/// `groups` are words of four bytes, in the machine's order, at any alignment.
pub fn setgroups(groups: &[u8]) -> Result<()> {
    // SAFETY: the kernel copies len / 4 words from `groups`, byte by byte.
    unsafe { syscall(Call::setgroups, [groups.len() / 4, groups.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// A prctl that takes numbers alone; `arguments` are those after the option.
fn prctl(option: u32, [a, b]: [usize; 2]) -> Result<()> {
    numbers(Call::prctl, [option as usize, a, b, 0, 0, 0]).map(drop)
}

/// PR_SET_DUMPABLE; with `false` nobody traces this process or reads its /proc/PID/{fd,mem}, but with CAP_SYS_PTRACE in the
/// user namespace of the program that it was cloned from.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(4, [usize::from(dumpable), 0])
}

/// PR_SET_KEEPCAPS: the permitted capabilities survive the change to a uid that is not 0; execve clears the flag.
pub fn keep_capabilities() -> Result<()> {
    prctl(8, [1, 0])
}

/// PR_SET_CHILD_SUBREAPER: whoever descends from here and loses its parent becomes our child.
pub fn become_subreaper() -> Result<()> {
    prctl(36, [1, 0])
}

/// PR_CAPBSET_DROP; EINVAL: the kernel has no such capability.
pub fn drop_from_bounding_set(capability: u32) -> Result<()> {
    prctl(24, [capability as usize, 0])
}

/// PR_SET_NO_NEW_PRIVS.
pub fn no_new_privileges() -> Result<()> {
    prctl(38, [1, 0])
}

/// PR_CAP_AMBIENT_CLEAR_ALL.
pub fn clear_ambient() -> Result<()> {
    prctl(47, [4, 0])
}

/// PR_CAP_AMBIENT_RAISE; it must be permitted and inheritable.
pub fn raise_ambient(capability: u32) -> Result<()> {
    prctl(47, [2, capability as usize])
}

pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let header = [0x2008_0522u32, 0];
    let (e, p, i) = (effective, permitted, inheritable);
    let data = [e as u32, p as u32, i as u32, (e >> 32) as u32, (p >> 32) as u32, (i >> 32) as u32];
    // SAFETY: version 3 of the header takes two blocks of three words, as `data` has.
    unsafe { syscall(Call::capset, [header.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    // SAFETY: `limit` is struct rlimit64; the old one is not asked for.
    unsafe { syscall(Call::prlimit, [0, resource as usize, limit.as_ptr() as usize, 0, 0, 0]) }.map(drop)
}

const RLIMIT_NPROC: u32 = 6;

/// Sets the limit, or where none is asked for takes the one in force, and lets our user have one process more. What is then
/// to be set when that is over; nothing where there is no limit, and where we may not raise it (no CAP_SYS_RESOURCE).
pub fn lift_process_limit(asked: Option<(u64, u64)>) -> Result<Option<(u64, u64)>> {
    let mut current = [0u64; 2];
    // SAFETY: `current` is struct rlimit64, which the kernel fills; no new one is set.
    unsafe { syscall(Call::prlimit, [0, RLIMIT_NPROC as usize, 0, current.as_mut_ptr() as usize, 0, 0]) }?;
    let (soft, hard) = asked.unwrap_or(current.into());
    let lifted = match soft.checked_add(1) {
        Some(more) => set_rlimit(RLIMIT_NPROC, more, hard.max(more)).is_ok(),
        None => false,
    };
    match asked {
        _ if lifted => Ok(Some((soft, hard))),
        Some(limit) => set_process_limit(limit).map(|()| None),
        None => Ok(None),
    }
}

pub fn set_process_limit((soft, hard): (u64, u64)) -> Result<()> {
    set_rlimit(RLIMIT_NPROC, soft, hard)
}

pub fn keyctl_join(name: &[u8]) -> Result<()> {
    let p = cstr(Call::keyctl, name)?;
    // SAFETY: `name` ends in NUL.
    unsafe { syscall(Call::keyctl, [KEYCTL_JOIN_SESSION_KEYRING as usize, p, 0, 0, 0, 0]) }.map(drop)
}

pub fn personality(domain: u32) -> Result<()> {
    numbers(Call::personality, [domain as usize, 0, 0, 0, 0, 0]).map(drop)
}

pub fn sched_setattr(policy: u32, nice: i32, priority: u32, flags: u64) -> Result<()> {
    #[repr(C)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let size = size_of::<SchedAttr>() as u32;
    let attr = SchedAttr { size, policy, flags, nice, priority, runtime: 0, deadline: 0, period: 0 };
    // SAFETY: `attr` is the kernel's sched_attr of the size it names.
    unsafe { syscall(Call::sched_setattr, [0, &raw const attr as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Of this process (IOPRIO_WHO_PROCESS = 1); its children begin with it.
pub fn ioprio_set(value: u32) -> Result<()> {
    numbers(Call::ioprio_set, [1, 0, value as usize, 0, 0, 0]).map(drop)
}

/// All CPUs: the kernel cuts the mask down to what the cpuset allows.
pub fn all_cpus() -> Result<()> {
    cpus([u32::MAX; CPU_MASK_WORDS].into_iter())
}

/// Room for 8,192 CPUs, the most that a kernel can be built for (CONFIG_NR_CPUS of x86).
const CPU_MASK_WORDS: usize = 256;

/// Words of 32 CPUs, the lowest first. That is the kernel's array of longs on little-endian machines, which all of ours are.
pub type CpuMask = [u32; CPU_MASK_WORDS];

/// The CPUs that this thread may run on.
pub fn own_cpus() -> Result<CpuMask> {
    let mut mask: CpuMask = [0; CPU_MASK_WORDS];
    // SAFETY: the kernel writes at most the bytes of the mask; those beyond its own longest mask stay 0.
    let got = unsafe {
        syscall(Call::sched_getaffinity, [0, size_of_val(&mask), mask.as_mut_ptr() as usize, 0, 0, 0])
    };
    got.map(|_| mask)
}

/// The CPUs of a mask, which may be shorter than [`CpuMask`].
pub fn cpus(words: impl Iterator<Item = u32>) -> Result<()> {
    let mut mask: CpuMask = [0; CPU_MASK_WORDS];
    for (to, from) in mask.iter_mut().zip(words) {
        *to = from;
    }
    // SAFETY: the kernel reads at most the bytes of the mask.
    unsafe { syscall(Call::sched_setaffinity, [0, size_of_val(&mask), mask.as_ptr() as usize, 0, 0, 0]) }
        .map(drop)
}

/// Loads a filter of `program.len() / 8` instructions.
pub fn seccomp_filter(program: &[u8], flags: u32) -> Result<()> {
    #[repr(C)]
    struct Fprog {
        len: u16,
        filter: usize,
    }
    let fprog = Fprog { len: (program.len() / 8) as u16, filter: program.as_ptr() as usize };
    // SAFETY: SECCOMP_SET_MODE_FILTER (1) copies len instructions of eight bytes from `program`.
    unsafe { syscall(Call::seccomp, [1, flags as usize, &raw const fprog as usize, 0, 0, 0]) }.map(drop)
}

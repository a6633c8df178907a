//! From a child's report to an error: which step, of which config field, in words, and what is likely behind it.
//!
//! Likely causes are a table of (call, errno, circumstance) -> sentence.  A row is added when somebody has met it.

use sampan_child::report::Report;
use sampan_child::step::{Filter, Step};
use sampan_child::sys::Call;
use sampan_plan::mount_options::taken_by;
use sampan_plan::render::Reader;
use sampan_plan::seccomp::evaluate::denies_execve;

use super::report::Told;
use crate::error::{Errno, Error};

/// What is known of the circumstances.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    pub new_user_namespace: bool,
    pub privileged: bool,
}

/// The error that a report of failure stands for.
pub(super) fn explain(
    told: &Told,
    plan: &Reader<'_>,
    origins: &[String],
    circumstances: Circumstances,
) -> Error {
    let Report::Failed { step: index, call, errno, detail } = told.report else {
        return Error::new("the container's process reported out of turn");
    };
    // 0 is no errno: the call went well and what it said did not.
    let errno = if errno == 0 { Errno::IO } else { Errno::from_raw_os_error(errno.into()) };
    let field = origins.get(index as usize).cloned().unwrap_or_default();
    let Some(step) = plan.image.step(index) else {
        return Error::new("the container's process failed in an unknown step").call(call.name(), errno);
    };
    let place = (index + 1, plan.image.header().steps);
    let mut error = match step {
        Step::Find { candidates } => {
            let list = plan.list(candidates);
            return missing_program(&list, errno);
        }
        Step::Exec { filter, .. } if call == Call::seccomp => {
            let insns = filter.insns;
            Error::new(format!("cannot load the filter of {insns} instructions"))
                .call(call.name(), errno)
                .field("linux.seccomp")
        }
        Step::Exec { argv, filter, .. } => {
            return denied_by_filter(plan, filter).unwrap_or_else(|| {
                Error::interpreter(plan.list(argv).first().map_or("", String::as_str), errno)
            });
        }
        Step::Hook { .. } => hook(plan.words(step), call, errno, detail),
        // runc's words.
        Step::AppArmor { .. } => {
            Error::new(format!("unable to {}", plan.words(step))).call(call.name(), errno)
        }
        step => Error::new(format!("cannot {}", plan.words(step))).call(call.name(), errno),
    };
    if error.field.is_empty() {
        error.field = field;
    }
    error.step = Some(place);
    if error.likely.is_empty() {
        error.likely = match told.kernel.is_empty() {
            true => likely(step, call, errno, circumstances).unwrap_or_default().to_owned(),
            false => of_the_kernel(step, &told.kernel, plan),
        };
    }
    error
}

/// What the kernel says of a file system (its lines begin with `e`, `w` or `i`), and what may be asked of it.
fn of_the_kernel(step: Step, said: &str, plan: &Reader<'_>) -> String {
    let line = |line: &str| line.split_once(' ').map_or(line, |(_, rest)| rest).trim().to_owned();
    let lines: Vec<String> = said.lines().filter(|line| !line.is_empty()).map(line).collect();
    let mut text = format!("the kernel says: {}", lines.join("; "));
    let Step::Mount { kind, .. } = step else { return text };
    let kind = plan.text(kind);
    match taken_by(&kind) {
        Some([]) => text.push_str(&format!("; {kind} takes no options of its own")),
        Some(options) => text.push_str(&format!("; {kind} takes {}", options.join(", "))),
        None => {}
    }
    text
}

/// The last report ended without a word. That is what execve does; but where the filter denies execve it was the process's
/// end: a filter may deny the write that would have told us, too.
pub fn silence(plan: &Reader<'_>) -> Option<Error> {
    let last = plan.image.header().steps.checked_sub(1)?;
    match plan.image.step(last)? {
        Step::Exec { filter, .. } => denied_by_filter(plan, filter),
        _ => None,
    }
}

fn denied_by_filter(plan: &Reader<'_>, filter: Filter) -> Option<Error> {
    denies_execve(plan.image.instructions(filter)).then(|| {
        Error::new("execve denied by the seccomp profile")
            .field("linux.seccomp")
            .likely("the profile must allow execve, or no program can be started")
    })
}

/// A name without a slash was looked for in PATH: then all candidates end in it.
fn missing_program(candidates: &[String], errno: Errno) -> Error {
    match candidates {
        [only] if only.contains('/') => Error::exec(only, false, errno),
        list => {
            let name = list.first().and_then(|c| c.rsplit('/').next()).unwrap_or_default();
            Error::exec(name, true, errno)
        }
    }
}

fn hook(words: String, call: Call, errno: Errno, detail: u32) -> Error {
    match (call, errno) {
        (Call::waitid, Errno::TIMEDOUT) => {
            Error::new(format!("{words}: still running after {detail} s, killed"))
        }
        (Call::waitid, _) if detail == 127 => Error::new(format!("{words}: cannot be executed"))
            .likely("it does not exist, or is not executable"),
        (Call::waitid, _) if detail > 128 => {
            Error::new(format!("{words}: killed by signal {}", detail - 128))
        }
        (Call::waitid, _) => Error::new(format!("{words}: exit status {detail}")),
        _ => Error::new(format!("cannot {words}")).call(call.name(), errno),
    }
}

/// The table.
///
/// Long because each row is a line of it.
pub fn likely(step: Step, call: Call, errno: Errno, circumstances: Circumstances) -> Option<&'static str> {
    let inside = circumstances.new_user_namespace;
    Some(match (step, call, errno) {
        (Step::GoOnInChild { .. }, Call::clone3, Errno::AGAIN) => {
            "there are as many processes as RLIMIT_NPROC allows the user, or as pids.limit allows the container"
        }
        (Step::Rlimit { .. } | Step::OneMoreProcess { .. }, Call::prlimit, Errno::PERM) => {
            "raising a hard limit above our own needs CAP_SYS_RESOURCE in the host's user namespace; lower \"hard\""
        }
        (Step::Root { .. } | Step::Scratch { .. }, Call::open_tree, Errno::NOENT) => {
            "the bundle has no such folder; see root.path"
        }
        (Step::Root { .. } | Step::Scratch { .. }, Call::move_mount, Errno::ACCESS) => {
            "the container's root may not enter a folder above root.path, where hooks look for it"
        }
        (Step::Root { .. }, Call::move_mount, Errno::INVAL) => "root.path is a file, not a folder",
        (Step::Root { .. } | Step::Bind { .. }, Call::open_tree, Errno::INVAL) if inside => {
            "this user namespace may not split the host's mounts; use \"rbind\""
        }
        (Step::Scratch { .. }, Call::open_tree, Errno::INVAL) if inside => {
            "something is mounted below the root, and this user namespace may not leave it out"
        }
        (Step::Scratch { .. }, Call::fsopen, Errno::NODEV) => {
            "this kernel has no overlayfs, which a root in scratch mode is made of"
        }
        (Step::Scratch { .. } | Step::Overlay { .. }, Call::fsconfig, Errno::INVAL) => {
            "overlayfs does not take it as a lower layer: it is an overlay on an overlay, or of a kind that cannot be one"
        }
        (Step::Bind { .. }, Call::open_tree, Errno::NOENT) => "the source does not exist on the host",
        (Step::Bind { .. }, Call::openat2, Errno::NOENT) => {
            "the source does not exist in the container's root"
        }
        (Step::Bind { .. }, Call::open_tree, Errno::ACCESS) => {
            "the container's root may not enter the source's folders"
        }
        // dockerd reads "not a directory", and would take "is a directory" for a program that cannot be run.
        (Step::Bind { .. }, Call::openat2, Errno::NOTDIR) => {
            "not a directory: a folder can only be mounted on a folder, and the destination is a file or leads through one"
        }
        (Step::Bind { .. }, Call::move_mount, Errno::INVAL) => {
            "not a directory: a file can only be mounted on a file, and the destination is a folder"
        }
        (Step::Mount { .. }, Call::openat2, Errno::NOTDIR) => {
            "not a directory: a file system must be mounted on ordinary directory"
        }
        (Step::Mount { .. } | Step::Bind { .. }, Call::fstatfs, Errno::XDEV) => {
            "the destination leads into procfs, where a mount would lie to whoever reads it (CVE-2019-16884)"
        }
        (Step::Bind { .. } | Step::Attributes { .. }, Call::mount_setattr, Errno::PERM) if inside => {
            "the source is mounted with flags that a user namespace may not clear (nosuid, nodev, noexec, ro)"
        }
        (Step::Mount { .. } | Step::Bind { .. }, Call::openat2, Errno::LOOP) => {
            "it must be mounted on ordinary directory: the destination is reached through a symbolic link, which is refused for proc and sysfs"
        }
        (Step::Mount { .. } | Step::Bind { .. }, Call::mkdirat | Call::openat, Errno::ROFS) => {
            "the destination does not exist and the root is on a read-only file system: create it in the image"
        }
        (Step::Mount { .. }, Call::fsopen, Errno::NODEV) => "this kernel has no file system of that type",
        (Step::Mount { .. }, Call::fsopen | Call::fsconfig | Call::fsmount, Errno::PERM) if inside => {
            "the file system may not be mounted in a user namespace, or its namespace (pid, net, ipc) is the host's"
        }
        (Step::Mount { .. }, Call::fsopen | Call::fsconfig | Call::fsmount, Errno::PERM) => {
            "mounting needs CAP_SYS_ADMIN: run as root, or with a user namespace in the config"
        }
        (Step::Mount { .. }, Call::fsconfig, Errno::INVAL) => {
            "the file system does not know one of the options, or not that value (context= needs SELinux)"
        }
        (Step::Node { .. }, Call::mknodat, Errno::PERM) => {
            "making devices needs CAP_MKNOD in the host's user namespace"
        }
        (Step::Node { .. }, Call::mknodat, Errno::EXIST) => "the image has something else at that name",
        (Step::Setns { .. } | Step::Enter { .. } | Step::Join { .. }, Call::setns, Errno::INVAL) => {
            "the file is no namespace of that type"
        }
        (Step::Setns { .. } | Step::Enter { .. } | Step::Join { .. }, Call::setns, Errno::PERM) => {
            "joining needs CAP_SYS_ADMIN in the user namespace that owns it"
        }
        (Step::JoinCgroup { .. }, Call::write, Errno::NOSPC) => {
            "the cpuset of that group has no CPUs or memory nodes"
        }
        (Step::JoinCgroup { .. }, Call::write, Errno::AGAIN) => "the pids limit of a parent group is reached",
        (Step::Sysctl { .. }, Call::openat2, Errno::NOENT) => "this kernel has no such sysctl",
        (Step::Sysctl { .. }, Call::write, Errno::INVAL) => "the kernel does not take that value",
        (Step::AppArmor { .. }, Call::write, Errno::NOENT) => {
            "no profile of that name is loaded; load it with apparmor_parser -r FILE"
        }
        (Step::AppArmor { .. }, Call::openat2, Errno::NOENT)
        | (Step::AppArmor { .. }, Call::write, Errno::INVAL) => {
            "AppArmor is not on here; leave process.apparmorProfile out"
        }
        (Step::AppArmor { .. }, Call::write, Errno::ACCESS | Errno::PERM) => {
            "we are confined ourselves, by a profile that does not allow this one"
        }
        (Step::Selinux { .. }, Call::write, Errno::INVAL) => {
            "the policy has no such label, or SELinux is disabled or not supported here"
        }
        (Step::Console { .. }, Call::openat2, Errno::NOENT) => {
            "a terminal needs a devpts mount on /dev/pts in the config"
        }
        (Step::User { .. } | Step::BecomeRoot { .. }, _, Errno::INVAL) => {
            "the id is not mapped in the user namespace; see linux.uidMappings and linux.gidMappings"
        }
        (Step::User { .. }, Call::setgroups, Errno::PERM) => "setgroups is denied in this user namespace",
        (Step::Caps { .. } | Step::BoundingSet { .. }, _, Errno::PERM) => {
            "we do not have these capabilities ourselves, so we cannot hand them on"
        }
        (Step::Cwd { .. }, Call::getcwd, _) => {
            "the directory is outside of the container (CVE-2024-21626): /proc/self/fd is no working directory"
        }
        (Step::Exec { .. }, Call::seccomp, Errno::ACCESS) => {
            "without process.noNewPrivileges a filter needs CAP_SYS_ADMIN, which we do not have: set it"
        }
        (Step::Cwd { .. }, Call::openat2, Errno::NOTDIR) => "it is no directory",
        (Step::Cwd { .. }, Call::openat2, Errno::LOOP) => {
            "it leads through a link of /proc (CVE-2024-21626), or through too many symbolic links"
        }
        (Step::Cwd { .. }, Call::mkdirat, Errno::ROFS) => "it does not exist, and the root is read-only",
        (Step::Keyring { .. }, Call::keyctl, Errno::DQUOT) => {
            "the owner's quota of keys is full (/proc/sys/kernel/keys/maxkeys); use --no-new-keyring"
        }
        (Step::Pivot { .. }, Call::pivot_root, Errno::INVAL) => "the host's root is an initramfs (rootfs)",
        (Step::Scheduler { .. }, Call::sched_setattr, Errno::PERM) => "a real-time policy needs CAP_SYS_NICE",
        (_, _, Errno::NOSYS) => {
            "this kernel is older than 5.14, or a seccomp filter around us denies the call"
        }
        (_, _, Errno::PERM) if !circumstances.privileged => {
            "this needs root, or a user namespace in the config"
        }
        _ => return None,
    })
}

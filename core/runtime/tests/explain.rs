//! The table of likely causes, a line each: what failed, how, and what is said about it.

use sampan_child::step::{Base, Filter, List, Numbers, Propagation, Slot, Source, Step, Text};
use sampan_child::sys::Call;
use sampan_runtime::error::Errno;
use sampan_runtime::launch::explain::{Circumstances, likely};

const T: Text = Text(0);
const MOUNT: Step = Step::Mount {
    kind: T,
    target: T,
    data: List { first: T, count: 0 },
    attributes: 0,
    propagation: None,
    flags: 0,
};
const BIND: Step =
    Step::Bind { from: Source::Path(T), target: T, set: 0, clear: 0, propagation: None, flags: 0 };
const USER: Step = Step::User { uid: 1, gid: 1, groups: Numbers { first: T, count: 0 }, flags: 0 };

/// As root, without a user namespace.
const ROOT: Circumstances = Circumstances { new_user_namespace: false, privileged: true };
/// The same, into a user namespace.
const INSIDE: Circumstances = Circumstances { new_user_namespace: true, privileged: true };
const ROOTLESS: Circumstances = Circumstances { new_user_namespace: false, privileged: false };

fn check(step: Step, call: Call, errno: Errno, around: Circumstances, expected: &str) {
    let said = likely(step, call, errno, around).unwrap_or("(nothing)");
    assert!(said.contains(expected), "{step:?} {call:?} {errno:?}: {said}");
    let errors = include_str!("../../../docs/errors.md");
    assert!(
        said == "(nothing)" || errors.contains(said),
        "docs/errors.md does not tell how to check: {said}"
    );
}

#[test]
fn each_row_says_what_it_should() {
    let c = check;
    let rlimit = Step::Rlimit { resource: 7, soft: 1, hard: 1 };
    c(rlimit, Call::prlimit, Errno::PERM, ROOT, "CAP_SYS_RESOURCE");
    let processes = Step::OneMoreProcess { given: 1, soft: 1, hard: 1 };
    c(processes, Call::prlimit, Errno::PERM, ROOT, "CAP_SYS_RESOURCE");
    c(Step::GoOnInChild { wait_ms: 0 }, Call::clone3, Errno::AGAIN, ROOT, "as many processes");
    let host = Propagation::RSlave;
    let root = Step::Root { from: Source::Path(T), at: T, host };
    c(root, Call::open_tree, Errno::NOENT, ROOT, "see root.path");
    c(root, Call::move_mount, Errno::INVAL, ROOT, "is a file");
    c(root, Call::move_mount, Errno::ACCESS, INSIDE, "may not enter a folder above");
    let scratch =
        Step::Scratch { from: Source::Path(T), at: T, host, data: List { first: T, count: 0 }, flags: 0 };
    c(scratch, Call::open_tree, Errno::NOENT, ROOT, "see root.path");
    c(scratch, Call::open_tree, Errno::INVAL, INSIDE, "may not leave it out");
    c(scratch, Call::open_tree, Errno::INVAL, ROOT, "(nothing)");
    c(scratch, Call::fsopen, Errno::NODEV, ROOT, "no overlayfs");
    c(scratch, Call::fsconfig, Errno::INVAL, ROOT, "an overlay on an overlay");
    c(BIND, Call::open_tree, Errno::INVAL, INSIDE, "use \"rbind\"");
    c(BIND, Call::open_tree, Errno::INVAL, ROOT, "(nothing)");
    c(BIND, Call::open_tree, Errno::NOENT, ROOT, "the source does not exist");
    c(BIND, Call::open_tree, Errno::ACCESS, INSIDE, "may not enter");
    c(BIND, Call::openat2, Errno::NOTDIR, ROOT, "not a directory: a folder");
    c(BIND, Call::move_mount, Errno::INVAL, ROOT, "not a directory: a file");
    c(BIND, Call::openat2, Errno::NOENT, ROOT, "does not exist in the container's root");
    c(BIND, Call::fstatfs, Errno::XDEV, ROOT, "leads into procfs");
    c(MOUNT, Call::openat2, Errno::NOTDIR, ROOT, "ordinary directory");
    c(BIND, Call::mount_setattr, Errno::PERM, INSIDE, "may not clear");
    c(MOUNT, Call::openat2, Errno::LOOP, ROOT, "symbolic link");
    c(MOUNT, Call::mkdirat, Errno::ROFS, ROOT, "create it in the image");
    c(MOUNT, Call::fsopen, Errno::NODEV, ROOT, "no file system of that type");
    c(MOUNT, Call::fsmount, Errno::PERM, INSIDE, "may not be mounted in a user namespace");
    c(MOUNT, Call::fsmount, Errno::PERM, ROOTLESS, "CAP_SYS_ADMIN");
    c(MOUNT, Call::fsconfig, Errno::INVAL, ROOT, "one of the options");
    let node = Step::Node { base: Base::Dev, path: T, mode: 0, device: 0, uid: 0, gid: 0 };
    c(node, Call::mknodat, Errno::PERM, ROOT, "CAP_MKNOD");
    c(node, Call::mknodat, Errno::EXIST, ROOT, "something else at that name");
    let setns = Step::Setns { ns: Slot(0), kinds: 0 };
    c(setns, Call::setns, Errno::INVAL, ROOT, "no namespace of that type");
    c(setns, Call::setns, Errno::PERM, ROOT, "user namespace that owns it");
    c(Step::JoinCgroup { tasks: T }, Call::write, Errno::NOSPC, ROOT, "cpuset");
    c(Step::JoinCgroup { tasks: T }, Call::write, Errno::AGAIN, ROOT, "pids limit");
    c(Step::Sysctl { path: T, value: T }, Call::openat2, Errno::NOENT, ROOT, "no such sysctl");
    c(Step::Sysctl { path: T, value: T }, Call::write, Errno::INVAL, ROOT, "does not take that value");
    let console = Step::Console { to: Slot(0), uid: 0, size: 0, flags: 0 };
    c(console, Call::openat2, Errno::NOENT, ROOT, "devpts");
    c(USER, Call::setresuid, Errno::INVAL, INSIDE, "not mapped");
    c(USER, Call::setgroups, Errno::PERM, ROOT, "setgroups is denied");
    let caps = Step::Caps { effective: 1, permitted: 1, inheritable: 0 };
    c(caps, Call::capset, Errno::PERM, ROOT, "hand them on");
    let cwd = Step::Cwd { path: T, flags: 0 };
    c(cwd, Call::getcwd, Errno::XDEV, ROOT, "outside of the container");
    c(cwd, Call::openat2, Errno::NOTDIR, ROOT, "no directory");
    c(cwd, Call::openat2, Errno::LOOP, ROOT, "through a link of /proc");
    let list = List { first: T, count: 0 };
    let exec = Step::Exec { argv: list, env: list, filter: Filter::default() };
    c(exec, Call::seccomp, Errno::ACCESS, ROOT, "without process.noNewPrivileges");
    c(cwd, Call::mkdirat, Errno::ROFS, ROOT, "read-only");
    c(Step::Keyring { name: T }, Call::keyctl, Errno::DQUOT, ROOT, "--no-new-keyring");
    c(Step::Pivot { first: 3, keep: Numbers::default() }, Call::pivot_root, Errno::INVAL, ROOT, "initramfs");
    let scheduler = Step::Scheduler { policy: 1, nice: 0, priority: 1, flags: 0 };
    c(scheduler, Call::sched_setattr, Errno::PERM, ROOT, "CAP_SYS_NICE");
    c(Step::Loopback {}, Call::ioctl, Errno::NOSYS, ROOT, "older than 5.14");
    c(Step::Loopback {}, Call::ioctl, Errno::PERM, ROOTLESS, "needs root");
    c(Step::Loopback {}, Call::ioctl, Errno::PERM, ROOT, "(nothing)");
}

#[test]
fn the_three_lines_of_an_error() {
    let mut error = sampan_runtime::error::Error::new("cannot bind /srv/data on /data")
        .field("mounts[3]")
        .call("move_mount", Errno::PERM)
        .likely("this user namespace may not split that mount; use \"rbind\"")
        .of("web");
    error.step = Some((14, 31));
    assert_eq!(
        error.to_string(),
        "web: mounts[3]: cannot bind /srv/data on /data\n  move_mount: EPERM (step 14 of 31)\n  likely: this user namespace may not split that mount; use \"rbind\""
    );
}

/// What std answers does not say which call it was.
#[test]
fn an_answer_to_an_unknown_call_ends_the_first_line() {
    let denied = std::io::Error::from_raw_os_error(Errno::ACCESS.raw_os_error());
    let error = sampan_runtime::error::Error::io("cannot open /x", &denied).of("web");
    assert_eq!(
        (error.to_string().as_str(), error.errno),
        ("web: cannot open /x: EACCES", Some(Errno::ACCESS))
    );
    let other = sampan_runtime::error::Error::io("cannot open /x", &std::io::Error::other("odd"));
    assert_eq!(other.to_string(), "cannot open /x: odd");
}

//! `sampan enter`: nsenter's options with nsenter's letters, and containers by their id.
//!
//! Everything is opened first (the target's pidfd, namespace files, root and working folder), because afterwards paths
//! mean something else. Then one setns on the pidfd joins all at once; where rights do not reach that far, they are
//! joined one by one, those that need no user namespace first. Last comes the fork, without which a pid namespace has no
//! effect. Deliberately absent: capabilities, seccomp and cgroup of the container; that is `exec`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{DumpableBehavior, Gid, Uid, chroot, fchdir, set_dumpable_behavior};
use rustix::thread::{
    ThreadNameSpaceType as Kinds, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use sampan_child::defence::{self, Defence};
use sampan_child::sys;

use super::foreground::{self, Forward};
use super::ns;
use super::{Error, Result, doing};
use crate::error::Errno;
use crate::kernel::pidfd;
use crate::kernel::signals::Signals;
use crate::store::dir::Root;

/// A namespace, or a folder, of the target's or at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Target,
    File(PathBuf),
}

#[derive(Debug, Default)]
pub struct Options {
    /// A container's id or a pid.
    pub target: Option<String>,
    /// All that differ from ours.
    pub all: bool,
    /// By their names in /proc/PID/ns.
    pub namespaces: Vec<(&'static str, From)>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub preserve_credentials: bool,
    pub root: Option<From>,
    pub wd: Option<From>,
    pub no_fork: bool,
    /// Absent: a shell.
    pub program: Vec<OsString>,
}

/// How it went once we were inside.
#[derive(Debug)]
pub enum Entered {
    /// The program's exit code.
    Ended(i32),
    NotRun {
        program: OsString,
        error: io::Error,
    },
}

/// Runs the program.
pub fn run(root: &Root, o: &Options) -> Result<Entered> {
    let target = match &o.target {
        Some(target) => Some(Target::open(root, target)?),
        None => None,
    };
    let joins = joins(o, target.as_ref())?;
    let new_root = folder(o.root.as_ref(), target.as_ref(), "root")?;
    let wd = folder(o.wd.as_ref(), target.as_ref(), "cwd")?;
    target.as_ref().map_or(Ok(()), Target::check)?;

    // Between joining a pid namespace and exec, a process inside could trace us and take our descriptors (CVE-2016-9962).
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    join(&joins, target.as_ref())?;
    if let Some(fd) = &new_root {
        fchdir(fd).and_then(|()| chroot(".")).map_err(doing("cannot change the root folder (chroot)"))?;
    }
    if let Some(fd) = wd.as_ref().or(new_root.as_ref()) {
        fchdir(fd).map_err(doing("cannot change the working folder (fchdir)"))?;
    }
    become_user(o, joins.iter().any(|j| j.kind == "user"))?;
    // The program is looked up where the container says what is there: through none of our descriptors, nor through one that
    // our caller left open (CVE-2024-21626).
    drop((joins, target, new_root, wd));
    close_all_but_stdio().map_err(doing("cannot close descriptors (close_range)"))?;
    launch(o)
}

fn close_all_but_stdio() -> rustix::io::Result<()> {
    if !defence::on(Defence::CloseBeforeLookup) {
        return Ok(());
    }
    sys::close_between(3, u32::MAX).map_err(|fault| Errno::from_raw_os_error(fault.errno.into()))
}

struct Target {
    name: String,
    pid: i32,
    pidfd: OwnedFd,
}

impl Target {
    fn open(root: &Root, target: &str) -> Result<Target> {
        let (pid, pidfd) = ns::process(root, target)?;
        Ok(Target { name: target.into(), pid, pidfd })
    }

    /// What was opened by the pid's number is the target's, if that still runs.
    fn check(&self) -> Result<()> {
        match pidfd::ended(self.pidfd.as_fd()) {
            Ok(false) => Ok(()),
            _ => Err(super::state_error(&self.name, "container not running")),
        }
    }
}

struct Join {
    kind: &'static str,
    flag: Kinds,
    /// `None`: by the target's pidfd.
    file: Option<(PathBuf, OwnedFd)>,
}

fn flag(kind: &str) -> Kinds {
    match kind {
        "cgroup" => Kinds::CONTROL_GROUP,
        "ipc" => Kinds::INTER_PROCESS_COMMUNICATION,
        "mnt" => Kinds::MOUNT,
        "net" => Kinds::NETWORK,
        "pid" => Kinds::PROCESS_ID,
        "time" => Kinds::TIME,
        "user" => Kinds::USER,
        "uts" => Kinds::HOST_NAME_AND_NIS_DOMAIN_NAME,
        _ => Kinds::empty(),
    }
}

fn joins(o: &Options, target: Option<&Target>) -> Result<Vec<Join>> {
    let mut joins = Vec::new();
    for (kind, from) in &o.namespaces {
        let file = match from {
            From::Target => {
                target.ok_or_else(|| no_target(&format!("--{kind}")))?;
                None
            }
            From::File(path) => {
                let fd = File::open(path)
                    .map_err(doing(format!("cannot open the {kind} namespace {}", path.display())))?;
                Some((path.clone(), fd.into()))
            }
        };
        joins.push(Join { kind, flag: flag(kind), file });
    }
    if o.all {
        let target = target.ok_or_else(|| no_target("--all"))?;
        let look = |pid, whose: &str| {
            ns::inodes(pid).map_err(doing(format!("cannot look at the namespaces of {whose}")))
        };
        let theirs = look(target.pid, &target.name)?;
        let ours = look(std::process::id() as i32, "sampan")?;
        for (kind, inode) in theirs {
            let named = joins.iter().any(|j| j.kind == kind);
            if !named && ours.get(kind) != Some(&inode) {
                joins.push(Join { kind, flag: flag(kind), file: None });
            }
        }
    }
    Ok(joins)
}

fn no_target(flag: &str) -> Error {
    Error::new(format!("{flag}: whose? name a process or container by --target, or a file by {flag}=FILE"))
}

fn folder(from: Option<&From>, target: Option<&Target>, link: &str) -> Result<Option<OwnedFd>> {
    let path = match from {
        None => return Ok(None),
        Some(From::File(path)) => path.clone(),
        Some(From::Target) => {
            let flag = if link == "cwd" { "--wd" } else { "--root" };
            PathBuf::from(format!("/proc/{}/{link}", target.ok_or_else(|| no_target(flag))?.pid))
        }
    };
    let fd = open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(doing(format!("cannot open {}", path.display())))?;
    Ok(Some(fd))
}

fn join(joins: &[Join], target: Option<&Target>) -> Result<()> {
    let at_once = joins.iter().filter(|j| j.file.is_none()).fold(Kinds::empty(), |all, j| all | j.flag);
    let mut todo: Vec<&Join> = joins.iter().collect();
    if let Some(target) = target
        && !at_once.is_empty()
        && move_into_thread_name_spaces(target.pidfd.as_fd(), at_once).is_ok()
    {
        todo.retain(|j| j.file.is_some());
    }
    // A user namespace gives rights over what it owns and takes those over the rest: so first what works without it, then
    // it, then what failed. The mount namespace comes last in each pass.
    todo.sort_by_key(|j| j.kind == "mnt");
    todo.retain(|j| j.kind == "user" || one(j, target).is_err());
    if let Some(user) = todo.iter().position(|j| j.kind == "user") {
        one(todo.remove(user), target)?;
    }
    todo.into_iter().try_for_each(|j| one(j, target))
}

fn one(join: &Join, target: Option<&Target>) -> Result<()> {
    let (fd, whose): (BorrowedFd<'_>, &dyn std::fmt::Display) = match (&join.file, target) {
        (Some((path, fd)), _) => (fd.as_fd(), &path.display()),
        (None, Some(target)) => (target.pidfd.as_fd(), &target.name),
        (None, None) => return Err(no_target("--target")),
    };
    move_into_thread_name_spaces(fd, join.flag).map_err(|e| {
        doing(format!("cannot join the {} namespace of {whose} (setns)", join.kind))(hint(e, join))
    })
}

/// EINVAL of setns has three meanings; two of them can be told from here.
fn hint(e: rustix::io::Errno, join: &Join) -> io::Error {
    let problem = match (e, join.kind) {
        (rustix::io::Errno::INVAL, "user") => "it is our own user namespace already, or not a user namespace",
        (rustix::io::Errno::INVAL, _) => "it is not a namespace of that kind",
        _ => return e.into(),
    };
    io::Error::new(io::Error::from(e).kind(), format!("EINVAL; {problem}"))
}

/// The groups are dropped before the user is; in a user namespace the default is its root.
fn become_user(o: &Options, in_user_namespace: bool) -> Result<()> {
    let root_inside = (in_user_namespace && !o.preserve_credentials).then_some(0);
    if let Some(gid) = o.gid.or(root_inside) {
        // Denied in a user namespace that an unprivileged user made; there are no groups to drop then.
        match set_thread_groups(&[]) {
            Err(rustix::io::Errno::PERM) if in_user_namespace => {}
            result => result.map_err(doing("cannot drop groups (setgroups)"))?,
        }
        let gid = Gid::from_raw(gid);
        set_thread_res_gid(gid, gid, gid).map_err(doing(format!("cannot become group {gid} (setresgid)")))?;
    }
    if let Some(uid) = o.uid.or(root_inside) {
        let uid = Uid::from_raw(uid);
        set_thread_res_uid(uid, uid, uid).map_err(doing(format!("cannot become user {uid} (setresuid)")))?;
    }
    Ok(())
}

fn launch(o: &Options) -> Result<Entered> {
    let shell =
        || std::env::var_os("SHELL").filter(|s| Path::new(s).exists()).unwrap_or_else(|| "/bin/sh".into());
    let mut words = o.program.iter().cloned();
    let program = words.next().unwrap_or_else(shell);
    let mut command = Command::new(&program);
    command.args(words);
    if o.no_fork {
        let error = command.exec();
        return Ok(Entered::NotRun { program, error });
    }
    let signals = Signals::block().map_err(doing("cannot block signals"))?;
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Entered::NotRun { program, error }),
    };
    // Our own pid namespace still counts the child, by a number of ours.
    let pid = child.id() as i32;
    let process = pidfd::open(pid).and_then(|fd| fd.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH)));
    let process = process.map_err(doing("cannot open a pidfd of the program"))?;
    let exit = foreground::wait(pid, process.as_fd(), &signals, Forward::FromProcesses, None);
    Ok(Entered::Ended(exit.map_err(doing("cannot wait for the program"))?.code()))
}

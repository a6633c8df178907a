//! Hooks of the host's side: one short image each, cloned by whoever clones the container.
//!
//! ```text
//!   memfd(state) -> stdin      stdout, stderr -> pipe -> log, tail      pidfd: ended      deadline: end all of it
//! ```
//! stdin is a memfd, so a hook that never reads cannot hold us up. The end is the end of the hook's own process, seen on its
//! pidfd: a child that it leaves behind may keep the pipe open for ever (runc hangs there). What a failed hook leaves is ended,
//! in whatever group or session it is: sampan_child::step::Step::Oversee. How far poststart and poststop hooks got is
//! in the state before a hook's process is reaped: after a crash the next one finds either the process or the note.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::process::{Signal, pidfd_send_signal};
use sampan_child::report::Report;
use sampan_hooks::{Cause, Error as HookError, Hook, Hooks, Kind, OnFailure};
use sampan_plan::host_process::{HostProcess, host};
use sampan_plan::spec;

use super::printed::Pipe;
use super::report::{Told, next_report};
use super::spawn::{Spawn, Spawned};
use crate::error::{Errno, Error};
use crate::kernel::pidfd::Exit;
use crate::launch::slots::{SlotInputs, Slots};
use crate::store::dir::Folder;
use crate::store::state::State;

/// What hooks are run with.
pub struct HookRunner<'h> {
    pub spawn: &'h mut dyn Spawn,
    /// Where what they print goes, line by line.
    pub log: Option<BorrowedFd<'h>>,
}

impl std::fmt::Debug for HookRunner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HookRunner").field("log", &self.log).finish_non_exhaustive()
    }
}

impl<'h> HookRunner<'h> {
    /// For whoever keeps no log.
    pub fn new(spawn: &'h mut dyn Spawn) -> HookRunner<'h> {
        HookRunner { spawn, log: None }
    }
}

/// One hook about to run.
#[derive(Clone, Copy, Debug)]
pub struct Which<'w> {
    pub kind: Kind,
    /// Its place in the list of its kind.
    pub index: usize,
    pub hook: &'w Hook,
}

/// Runs every hook of a kind that has not run yet, in order. A kind whose failure aborts stops at the first one; otherwise the
/// failures come back as warnings and the rest still runs.
pub fn run_all(
    state: &mut State,
    kind: Kind,
    folder: &Folder,
    runner: &mut HookRunner<'_>,
) -> Result<Vec<HookError>, HookError> {
    let mut warnings = Vec::new();
    if state.hooks.of(kind).is_empty() {
        return Ok(warnings);
    }
    let (hooks, about) = (state.hooks.clone(), state.for_hook(kind));
    // As runc and crun, which change to the bundle before anything else.
    let bundle = if state.bundle.is_dir() { state.bundle.clone() } else { PathBuf::from("/") };
    for (index, hook) in hooks.of(kind).iter().enumerate().skip(state.next_hook(kind)) {
        let ended = &mut || {
            if state.hook_ended(kind, index) {
                // Not written: after a crash it runs once more.
                let _ = state.save(folder);
            }
        };
        match run(&Which { kind, index, hook }, &about, &bundle, runner, ended) {
            Ok(()) => {}
            Err(e) => match kind.on_failure() {
                OnFailure::Abort => return Err(e),
                OnFailure::Warn => warnings.push(e),
            },
        }
    }
    Ok(warnings)
}

/// Runs one hook to its end or its deadline; `ended` is called between its end and its reaping.
pub fn run(
    which: &Which<'_>,
    about: &[u8],
    cwd: &Path,
    runner: &mut HookRunner<'_>,
    ended: &mut dyn FnMut(),
) -> Result<(), HookError> {
    match start(which, about, cwd, runner.spawn) {
        Ok((child, report, mut pipe)) => {
            let under_way = UnderWay { child: &child, report: Some(&report), limit: which.hook.limit() };
            see_out(which, &under_way, &mut pipe, runner, ended)
        }
        Err(e) => {
            ended();
            Err(failed(which, Cause::Start(e), String::new()))
        }
    }
}

/// A hook that runs: started by us, or by the worker that was here before us.
#[derive(Debug)]
pub struct UnderWay<'u> {
    pub child: &'u Spawned,
    /// Absent where the process that started the hook has died with it: then a program that cannot be executed is an exit with 127.
    pub report: Option<&'u OwnedFd>,
    /// From now on.
    pub limit: Option<Duration>,
}

/// From anywhere in a hook to its end or its deadline, and what it comes to.
pub fn see_out(
    which: &Which<'_>,
    hook: &UnderWay<'_>,
    pipe: &mut Pipe,
    runner: &mut HookRunner<'_>,
    ended: &mut dyn FnMut(),
) -> Result<(), HookError> {
    let judged = match watch(hook.child, pipe, hook.limit, runner.log) {
        Err(e) => Err(Cause::Watch(e.into())),
        Ok(false) => Err(Cause::Timeout(which.hook.limit().unwrap_or_default())),
        Ok(true) => match hook.report.and_then(not_executed) {
            Some(error) => Err(Cause::Start(error)),
            None => match runner.spawn.peek(hook.child) {
                Ok(exit) => judge(exit),
                Err(e) => Err(Cause::Watch(io::Error::other(e.doing.clone()))),
            },
        },
    };
    if judged.is_err() {
        // A failed hook leaves nothing behind; a successful one may have started a daemon on purpose.
        end(hook.child);
    }
    pipe.finish(runner.log);
    ended();
    let reaped = runner.spawn.reap_hook(hook.child, which);
    judged.map_err(|cause| failed(which, cause, pipe.printed.tail()))?;
    reaped.map_err(|e| failed(which, Cause::Watch(io::Error::other(e.doing.clone())), String::new()))
}

/// Why a process of the host that has ended did not come to execute its program, by its report.
pub fn not_executed(report: &OwnedFd) -> Option<io::Error> {
    match next_report(report) {
        Ok(Some(Told { report: Report::Failed { errno, .. }, .. })) => {
            Some(io::Error::from_raw_os_error(errno.into()))
        }
        Ok(_) | Err(_) => None,
    }
}

fn failed(which: &Which<'_>, cause: Cause, output: String) -> HookError {
    let path = PathBuf::from(&which.hook.path);
    HookError { kind: which.kind, index: which.index, path, cause, output }
}

/// How long what a hook started may take to be dead: only what hangs in the kernel takes longer.
const DEAD_WITHIN: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Ends a hook and all that it has started. What we have cloned is not the hook but its overseer
/// (sampan_child::step::Step::Oversee); it must not be reaped yet.
pub fn end(child: &Spawned) {
    let _ = pidfd_send_signal(&child.pidfd, Signal::TERM);
    let ended = || poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&DEAD_WITHIN));
    let _ = rustix::io::retry_on_intr(ended);
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
}

/// Success or the cause of failure.
pub fn judge(exit: Exit) -> Result<(), Cause> {
    match exit {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(Cause::Exit(code)),
        Exit::Signal(number) => Err(Cause::Signal(number)),
        Exit::Unknown => Err(Cause::Watch(io::Error::other("nobody knows how it ended"))),
    }
}

fn start(
    which: &Which<'_>,
    about: &[u8],
    cwd: &Path,
    spawn: &mut dyn Spawn,
) -> io::Result<(Spawned, OwnedFd, Pipe)> {
    let hook = which.hook;
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    if !hook.path.starts_with('/') {
        return Err(invalid("the path must be absolute".into()));
    }
    // Without an environment of its own it has ours, as under crun and runc.
    let ours: Vec<String> = match hook.env.is_empty() {
        true => std::env::vars_os()
            .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
            .collect(),
        false => Vec::new(),
    };
    let process = HostProcess {
        program: &hook.path,
        argv: hook.argv(),
        env: hook.env.iter().chain(&ours).map(String::as_str).collect(),
        cwd: cwd.to_str().unwrap_or("/"),
        overseen: true,
        ..HostProcess::default()
    };
    let plan = host(&process).map_err(|e| invalid(format!("{}: {}", e.field, e.problem)))?;
    let input = stdin(about)?;
    let (pipe, write) = Pipe::new(which.kind.name(), &hook.path).map_err(of)?;
    let given = SlotInputs {
        plan: &plan,
        fifos: None,
        stdio: Some([input.as_fd(), write.as_fd(), write.as_fd()]),
        given: &[],
        netns: None,
        container: None,
    };
    let mut slots = Slots::open(&given, None).map_err(of)?;
    let output = pipe.fd().ok_or_else(|| io::Error::other("no pipe"))?;
    let child = spawn.spawn_hook(&plan.image, &slots.fds(), which, output).map_err(of)?;
    slots.handed_over();
    let report = slots.report.take().ok_or_else(|| io::Error::other("no report"))?;
    Ok((child, report, pipe))
}

fn of(e: Error) -> io::Error {
    e.errno.map_or_else(|| io::Error::other(e.doing.clone()), io::Error::from)
}

/// A descriptor that reads as `bytes` from its start.
fn stdin(bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create("hook-state", MemfdFlags::CLOEXEC)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = rustix::io::retry_on_intr(|| rustix::io::write(&fd, rest))?;
        rest = rest.get(n..).unwrap_or_default();
    }
    seek(&fd, SeekFrom::Start(0))?;
    Ok(fd)
}

/// Waits for the hook's end, taking what it prints; false: the deadline passed.
fn watch(
    child: &Spawned,
    pipe: &mut Pipe,
    limit: Option<Duration>,
    log: Option<BorrowedFd<'_>>,
) -> Result<bool, Errno> {
    let deadline = limit.map(|l| Instant::now() + l);
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let over = left.is_some_and(|left| left.is_zero());
        let left =
            left.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: i64::from(l.subsec_nanos()) });
        let mut fds = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        fds.extend(pipe.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
        let [ended, printed] =
            [0, 1].map(|n| fds.get(n).is_some_and(|fd: &PollFd<'_>| !fd.revents().is_empty()));
        drop(fds);
        // In this order: one that is found after its time, but has ended, has ended.
        if ended || over {
            return Ok(ended);
        }
        if printed {
            pipe.turn(log);
        }
    }
}

/// The spec's hooks as this crate keeps them.
pub fn hooks_of(hooks: &spec::Hooks<'_>) -> Hooks {
    let list = |hooks: &[spec::Hook<'_>]| -> Vec<Hook> {
        let strings = |list: &[spec::Str<'_>]| list.iter().map(|s| s.to_string()).collect();
        hooks
            .iter()
            .map(|h| Hook {
                path: h.path.to_string(),
                args: strings(&h.args),
                env: strings(&h.env),
                timeout: h.timeout.and_then(|t| u64::try_from(t).ok()),
            })
            .collect()
    };
    Hooks {
        prestart: list(&hooks.prestart),
        create_runtime: list(&hooks.create_runtime),
        create_container: list(&hooks.create_container),
        start_container: list(&hooks.start_container),
        poststart: list(&hooks.poststart),
        poststop: list(&hooks.poststop),
    }
}

//! OCI hooks of services: where their lines go, and what becomes of a hook whose worker died.
//!
//! ```text
//!   keel:  child "hook/service/web/7/createRuntime/0/PID", its pipe under the same name
//!   next worker:   prestart .. createRuntime, poststop -> seen out when the life is cleaned up, which goes on with the next poststop
//!                  poststart of a container that runs  -> seen out, then the remaining ones
//! ```
//! A hook is never ended because its worker died: it has its time, its exit code waits in the keel, and what it prints waits in
//! its pipe. Only then is anything done that follows from it. Absent on purpose: what is to be done (`core/service`).
//!
//! Lines of hooks go through the pipe of the service's own stderr, never waited for: one order, one reader, no second way into a log.
//! A plugin for logs reads it once more at `removed`, because poststop hooks come after `detach`.
use crate::clock;
use rustix::fs::{Mode, OFlags};
use sampan_hooks::{Hook, Kind};
use sampan_keel::{Child, Handle, HookTag, Keel};
use sampan_runtime::kernel::pidfd;
use sampan_runtime::launch::hooks::{self, UnderWay};
use sampan_runtime::launch::printed::Pipe;
use sampan_runtime::launch::{self, HookRunner, Spawned, Which};
use sampan_runtime::store::dir::{Folder, Root};
use sampan_runtime::store::state::{Stage, State};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A hook of a life of which nothing is known any more, its time limit included.
const UNKNOWN_MAX: Duration = Duration::from_secs(30);
/// Of the times in /proc/PID/stat: USER_HZ, which is 100 on every architecture that we are built for.
const TICKS_A_SECOND: u64 = 100;

/// Where the lines of a service's hooks go.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub enum Log {
    /// Into the pipe of its standard error, whose other end a plugin reads, or will.
    Pipe(PathBuf),
    File(PathBuf),
    Nowhere,
}

impl Log {
    /// For writing without ever waiting. None: the lines are only in the errors of hooks that fail.
    pub fn open(&self) -> Option<OwnedFd> {
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match self {
            Log::Nowhere => None,
            Log::Pipe(path) => {
                let flags = flags | OFlags::WRONLY | OFlags::NONBLOCK;
                rustix::fs::open(path, flags, Mode::empty()).ok()
            }
            Log::File(path) => {
                let flags = flags | OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
                let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).ok()?;
                complete(&file);
                Some(file)
            }
        }
    }
}

/// A hook's line is a line of its own, also where the service ended in the middle of one.
fn complete(file: &OwnedFd) {
    let size = rustix::fs::fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    let mut last = [b'\n'];
    let at = size.saturating_sub(1);
    if size > 0 && rustix::io::pread(file, &mut last, at) == Ok(1) && last != [b'\n'] {
        let _ = rustix::io::write(file, b"\n");
    }
}

/// Waits for the hooks of a service that an earlier worker left, each until its deadline, and writes down what ended. What
/// failed comes back.
pub fn see_out(
    keel: &Keel,
    service: &str,
    mut state: Option<&mut State>,
    folder: Option<&Folder>,
    log: &Log,
) -> Vec<sampan_hooks::Error> {
    let mut failed = Vec::new();
    for child in left(keel, service) {
        let Some(tag) = HookTag::parse(&child.tag) else { continue };
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == tag.kind) else { continue };
        let known = state.as_ref().and_then(|state| state.hooks.of(kind).get(tag.index).cloned());
        let limit = known.as_ref().map_or(Some(UNKNOWN_MAX), Hook::limit);
        let hook = known.unwrap_or_default();
        let which = Which { kind, index: tag.index, hook: &hook };
        let read = keel.fetch(&child.tag).ok().flatten();
        let mut pipe = Pipe::found(read, kind.name(), &hook.path);
        let limit = limit.map(|limit| limit.saturating_sub(age(child.pid)));
        // The number of a dead keel's child that has ended may be somebody else's, and so may its group.
        let is_gone =
            matches!(child.handle, Handle::Orphan(_)) && pidfd::ended(child.pidfd.as_fd()).unwrap_or(true);
        let pid = if is_gone { 0 } else { child.pid };
        let mut launcher = keel.launcher_of(&child, tag.of);
        let under_way = UnderWay { child: &Spawned { pid, pidfd: child.pidfd }, report: None, limit };
        tracing::info!(service, "{kind} hook {}, begun before sampand's worker died: seen out", hook.path);
        let log = log.open();
        let mut runner = HookRunner { spawn: &mut launcher, log: log.as_ref().map(AsFd::as_fd) };
        let ended = &mut || {
            if let (Some(state), Some(folder)) = (state.as_mut(), folder)
                && state.hook_ended(kind, tag.index)
                && let Err(error) = state.save(folder)
            {
                tracing::warn!(service, "{kind} hook {}: it may run once more: {error}", hook.path);
            }
        };
        if let Err(error) = hooks::see_out(&which, &under_way, &mut pipe, &mut runner, ended) {
            tracing::warn!(service, "{error}");
            failed.push(error);
        }
        // Under the name that the worker before us gave it.
        let _ = keel.keep(&child.tag, None);
    }
    failed
}

/// Ends the hooks of a service that run now: nobody wants what they are part of any more. They are reaped when it is cleaned up.
pub fn end_all(keel: &Keel, service: &str) {
    for Child { pid, pidfd, .. } in left(keel, service) {
        hooks::end(&Spawned { pid, pidfd });
    }
}

/// The hooks of a service that no worker waits for.
fn left(keel: &Keel, service: &str) -> Vec<Child> {
    let children = keel.list().map(|kept| kept.children).unwrap_or_default();
    let is_lost = |child: &Child| {
        HookTag::parse(&child.tag).is_some_and(|tag| {
            tag.worker != std::process::id() && service_of(tag.of).is_some_and(|name| name == service)
        })
    };
    children.into_iter().filter(is_lost).collect()
}

/// The service of a process's tag, `service/NAME/GENERATION`.
pub fn service_of(tag: &str) -> Option<&str> {
    Some(tag.strip_prefix("service/")?.rsplit_once('/')?.0)
}

fn age(pid: i32) -> Duration {
    let started = pidfd::start_time(pid).map_or(0, |ticks| ticks.saturating_mul(1000) / TICKS_A_SECOND);
    Duration::from_millis(clock::boottime().0.saturating_sub(started))
}

/// Whether a running container's poststart hooks have not all ended: the worker that started it died among them.
pub fn poststart_due(state: &State) -> bool {
    state.stage == Stage::Running && state.next_hook(Kind::Poststart) < state.hooks.of(Kind::Poststart).len()
}

/// Goes on with the poststart hooks of a container that runs. One that fails kills it, as in any start.
pub fn go_on(keel: &Keel, containers: &Path, service: &str, tag: &str, log: &Log) {
    let gone = || {
        let folder = Root::new(Some(containers)).ok()?.open(service).ok()?;
        let state = State::load(&folder).ok()??;
        let init = state.init().ok()??;
        Some((folder, state, init))
    };
    let Some((folder, mut state, init)) = gone() else { return };
    let failed = see_out(keel, service, Some(&mut state), Some(&folder), log);
    if failed.iter().any(|error| error.kind == Kind::Poststart) {
        let _ = pidfd::send(init.as_fd(), libc::SIGKILL);
        return;
    }
    if pidfd::ended(init.as_fd()).unwrap_or(true) {
        return;
    }
    let log = log.open();
    let mut launcher = keel.launcher(tag);
    let mut runner = HookRunner { spawn: &mut launcher, log: log.as_ref().map(AsFd::as_fd) };
    if let Err(error) = launch::poststart(&mut state, &folder, init.as_fd(), &mut runner) {
        tracing::warn!(service, "its container is killed: {error}");
    }
}

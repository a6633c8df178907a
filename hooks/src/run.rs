//! Starts one hook, waits for its end or its deadline, and says how it went.
//!
//! ```text
//!   memfd(state) -> stdin      stdout, stderr -> pipe -> tail      pidfd: ended      deadline: kill the group
//! ```
//! stdin is a memfd, so a hook that never reads cannot hold us up. The end is the end of the hook's own process, seen
//! on its pidfd: a child that it leaves behind may keep the pipe open for ever (runc hangs there). Deliberately absent:
//! threads, signals, and any look at the container.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open, waitid,
};

use crate::error::{Cause, Error};
use crate::hook::{Hook, Hooks, Kind, OnFailure};

/// How much of a hook's output an error carries.
pub const OUTPUT_BYTES_MAX: usize = 4096;

/// Where a hook's stdout and stderr go.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// The last [`OUTPUT_BYTES_MAX`] bytes are kept for the error.
    Tail,
    /// To the caller's descriptor (a service's log), as it is.
    To(BorrowedFd<'a>),
}

/// One hook about to run.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    pub kind: Kind,
    /// Its place in the list of its kind.
    pub index: usize,
    pub hook: &'a Hook,
    /// The container's state as JSON; its `status` should be [`Kind::status`].
    pub state: &'a [u8],
    pub cwd: Option<&'a Path>,
    pub output: Output<'a>,
    pub prepare: Prepare,
}

/// The caller's last word on how the hook's process begins: what only `unsafe` can do (signals, descriptors).
pub type Prepare = fn(&mut Command);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Exit(i32),
    Signal(i32),
    /// Its deadline passed; the group was killed.
    Timeout(Duration),
}

impl Hook {
    /// Runs the hook with `state` on stdin and waits for it. Runtime namespaces only.
    pub fn run_blocking(&self, kind: Kind, index: usize, state: &[u8]) -> Result<(), Error> {
        run(&Run { kind, index, hook: self, state, cwd: None, output: Output::Tail, prepare: |_| {} })
    }
}

/// Runs every hook of a kind in order. A kind whose failure aborts stops at the first one; otherwise the failures come
/// back as warnings and the rest still runs.
pub fn run_all(
    hooks: &Hooks,
    kind: Kind,
    state: &[u8],
    cwd: Option<&Path>,
    output: Output<'_>,
    prepare: Prepare,
) -> Result<Vec<Error>, Error> {
    let mut warnings = Vec::new();
    for (index, hook) in hooks.of(kind).iter().enumerate() {
        match run(&Run { kind, index, hook, state, cwd, output, prepare }) {
            Ok(()) => {}
            Err(e) => match kind.on_failure() {
                OnFailure::Abort => return Err(e),
                OnFailure::Warn => warnings.push(e),
            },
        }
    }
    Ok(warnings)
}

/// Runs one hook to its end or its deadline.
pub fn run(run: &Run<'_>) -> Result<(), Error> {
    let failed = |cause, output: Vec<u8>| Error {
        kind: run.kind,
        index: run.index,
        path: PathBuf::from(&run.hook.path),
        cause,
        output: text(&output),
    };
    let (child, pipe) = start(run).map_err(|e| failed(Cause::Start(e), Vec::new()))?;
    let mut tail = Vec::new();
    match watch(child, pipe, run.hook.limit(), &mut tail) {
        Err(e) => Err(failed(Cause::Watch(e), tail)),
        Ok(ended) => judge(ended).map_err(|cause| failed(cause, tail)),
    }
}

/// Success or the cause of failure, for whoever waited for the hook in another way.
pub fn judge(ended: Ended) -> Result<(), Cause> {
    match ended {
        Ended::Exit(0) => Ok(()),
        Ended::Exit(code) => Err(Cause::Exit(code)),
        Ended::Signal(number) => Err(Cause::Signal(number)),
        Ended::Timeout(limit) => Err(Cause::Timeout(limit)),
    }
}

/// A descriptor that reads as `state` from its start.
pub fn stdin(state: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("hook-state", MemfdFlags::CLOEXEC)?);
    file.write_all(state)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file.into())
}

fn start(run: &Run<'_>) -> io::Result<(Child, Option<OwnedFd>)> {
    let hook = run.hook;
    if !hook.path.starts_with('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path must be absolute"));
    }
    let mut command = Command::new(&hook.path);
    if let Some((first, rest)) = hook.args.split_first() {
        command.arg0(first).args(rest);
    }
    if !hook.env.is_empty() {
        command.env_clear();
    }
    for entry in &hook.env {
        // An entry without "=" cannot be passed on by Command; runc and crun hand it over as it is, which programs ignore.
        if let Some((name, value)) = entry.split_once('=') {
            command.env(name, value);
        }
    }
    if let Some(cwd) = run.cwd {
        command.current_dir(cwd);
    }
    command.process_group(0).stdin(Stdio::from(stdin(run.state)?));
    let pipe = match run.output {
        Output::Tail => {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            fcntl_setfl(&read, OFlags::NONBLOCK)?;
            command.stdout(write.try_clone()?).stderr(write);
            Some(read)
        }
        Output::To(fd) => {
            command.stdout(fd.try_clone_to_owned()?).stderr(fd.try_clone_to_owned()?);
            None
        }
    };
    (run.prepare)(&mut command);
    Ok((command.spawn()?, pipe))
}

/// Waits on the pidfd, the pipe and the deadline. The group is killed, and only then the leader reaped: while the
/// leader is a zombie its number cannot belong to anybody else.
fn watch(
    mut child: Child,
    pipe: Option<OwnedFd>,
    limit: Option<Duration>,
    tail: &mut Vec<u8>,
) -> io::Result<Ended> {
    let pid = Pid::from_child(&child);
    let ended = wait_until_ended(pid, pipe, limit, tail);
    if !matches!(ended, Ok(Ended::Exit(0))) {
        // A failed hook leaves nothing behind; a successful one may have started a daemon on purpose.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    child.wait()?;
    ended
}

fn wait_until_ended(
    pid: Pid,
    pipe: Option<OwnedFd>,
    limit: Option<Duration>,
    tail: &mut Vec<u8>,
) -> io::Result<Ended> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let deadline = limit.map(|l| (Instant::now() + l, l));
    let mut pipe = pipe.map(std::fs::File::from);
    loop {
        let left = match deadline {
            None => None,
            Some((at, limit)) => {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(Ended::Timeout(limit));
                }
                Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
            }
        };
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if let Some(pipe) = &pipe {
            fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let (over, readable) =
            (!fds[0].revents().is_empty(), fds.get(1).is_some_and(|f| !f.revents().is_empty()));
        if (readable || over)
            && let Some(file) = &mut pipe
            && !drain(file, tail)?
        {
            pipe = None;
        }
        if over {
            return peek(pidfd.as_fd());
        }
    }
}

/// Reads what there is; false at the end of the stream.
fn drain(pipe: &mut std::fs::File, tail: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => {
                tail.extend_from_slice(&buffer[..n]);
                if tail.len() > OUTPUT_BYTES_MAX {
                    tail.drain(..tail.len() - OUTPUT_BYTES_MAX);
                }
                if n < buffer.len() {
                    // One buffer per turn: a hook that prints without end must not hide its deadline.
                    return Ok(true);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn peek(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    let status = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let status: WaitIdStatus =
        status.ok_or_else(|| io::Error::other("its pidfd is readable, but it has not ended"))?;
    Ok(match status.exit_status() {
        Some(code) => Ended::Exit(code),
        None => Ended::Signal(status.terminating_signal().unwrap_or_default()),
    })
}

/// Output as one line of text: what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" | ")
}

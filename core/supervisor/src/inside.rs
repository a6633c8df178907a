//! A command inside a service's container: what an exec health check or a step runs. Cloned by the keel like everything that we start,
//! with the container's own user, capabilities, environment and control group.
use crate::fence;
use crate::probe::{Exec, Ran, Target, Turn};
use async_trait::async_trait;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal};
use sampan_config::schema::Ids;
use sampan_keel::Keel;
use sampan_plan::{Options, Plan, Spec};
use sampan_runtime::error::Error;
use sampan_runtime::kernel::host::facts_of_running;
use sampan_runtime::launch::{self, Console, ExecRequest, Spawned};
use sampan_runtime::store::dir::Root;
use sampan_runtime::store::state::{CONFIG, State};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a killed command may take to be gone.
const END_MAX: Duration = Duration::from_secs(2);

/// Runs commands in containers below one runtime root.
#[derive(Debug)]
pub struct Inside {
    pub keel: Keel,
    pub containers: PathBuf,
}

#[async_trait]
impl Exec for Inside {
    async fn run(
        &self,
        target: &Target,
        argv: &[String],
        output_bytes_max: usize,
        turn: Turn,
    ) -> io::Result<Ran> {
        let (keel, containers) = (self.keel.clone(), self.containers.clone());
        let (service, container, argv) = (target.service.clone(), target.pidfd.clone(), argv.to_vec());
        let started = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let tag = format!("probe/{service}");
            begin(keel, containers, &service, &container, argv, None, &tag)
        });
        let mut command = started.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        command.ran(output_bytes_max).await
    }
}

/// A command under way. Dropped, it is killed with what it has started, and reaped.
pub struct Command {
    keel: Keel,
    pid: i32,
    pidfd: Arc<OwnedFd>,
    output: Option<OwnedFd>,
    ends: Ends,
    /// Held until it is gone.
    held: Option<Arc<()>>,
}

/// How what a command has started ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Looked for by us.
    Found,
    /// It is a process of the host, whose overseer ends them.
    Overseen,
}

/// Starts it. `user`: none is the container's own.
pub fn begin(
    keel: Keel,
    containers: PathBuf,
    service: &str,
    container: &OwnedFd,
    argv: Vec<String>,
    user: Option<Ids>,
    tag: &str,
) -> Result<Command, Error> {
    let folder = Root::new(Some(&containers))?.open(service)?;
    let gone = || Error::new("the container is gone").of(service);
    let state = State::load(&folder)?.ok_or_else(gone)?;
    let bytes = folder.read(CONFIG)?.ok_or_else(gone)?;
    let text = String::from_utf8(bytes).map_err(|error| Error::new(format!("its config: {error}")))?;
    let spec = Spec::parse(&text)?;
    let mut process = spec.process.clone().ok_or_else(gone)?;
    process.args = argv.into_iter().map(Into::into).collect();
    process.terminal = false;
    if let Some(Ids { uid, gid }) = user {
        (process.user.uid, process.user.gid) = (uid, gid);
        process.user.additional_gids.clear();
    }
    let cgroup = state.cgroup()?;
    let host = facts_of_running(&spec, cgroup.as_ref(), container.as_fd())?;
    let options = Options { id: service.to_owned(), given_stdio: true, ..Options::default() };
    let plan = Plan::exec(&spec, &process, &host, &options)?;
    let (null, read, write) = stdio()?;
    let request = ExecRequest {
        plan: &plan,
        id: service,
        container: container.as_fd(),
        cgroup: cgroup.as_ref(),
        console: Console::Keep,
        stdio: Some([null.as_fd(), write.as_fd(), write.as_fd()]),
    };
    let executed = launch::exec(&request, &mut keel.launcher(tag))?;
    Ok(Command::new(keel, executed.child, read, Ends::Found))
}

/// A command's standard input, and both ends of the pipe of its output.
pub fn stdio() -> Result<(OwnedFd, OwnedFd, OwnedFd), Error> {
    let errno = |call: &'static str| {
        move |errno: rustix::io::Errno| Error::new("no pipe for its output").call(call, errno)
    };
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(errno("pipe2"))?;
    let null = sampan_runtime::kernel::stdio::null(OFlags::RDONLY).map_err(errno("open"))?;
    rustix::io::ioctl_fionbio(&read, true).map_err(errno("ioctl"))?;
    Ok((null, read, write))
}

impl Command {
    pub fn new(keel: Keel, child: Spawned, output: OwnedFd, ends: Ends) -> Command {
        Command { keel, pid: child.pid, pidfd: Arc::new(child.pidfd), output: Some(output), ends, held: None }
    }

    /// For whoever waits until it is gone.
    #[must_use]
    pub fn held_by(self, held: Arc<()>) -> Command {
        let mut command = self;
        command.held = Some(held);
        command
    }

    /// To its end.
    pub async fn ran(&mut self, output_bytes_max: usize) -> io::Result<Ran> {
        let output = self.output(output_bytes_max).await?;
        let (keel, pid) = (self.keel.clone(), self.pid);
        let peeked = tokio::task::spawn_blocking(move || keel.peek(pid)).await;
        let exit = peeked.map_err(io::Error::other)?.map_err(io::Error::other)?;
        Ok(Ran { code: exit.map_or(255, sampan_keel::Exit::code), output })
    }

    /// stdout and stderr up to the end of the command, cut at `most`; what comes after is read and dropped, so that nothing blocks.
    /// What it leaves behind may hold them open for ever.
    async fn output(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let ended = fence::readable(self.pidfd.clone())?;
        let Some(pipe) = self.output.take() else { return Ok(Vec::new()) };
        let pipe = fence::readable(pipe)?;
        let mut output = Vec::new();
        loop {
            tokio::select! {
                biased;
                ready = pipe.readable() => {
                    let mut ready = ready?;
                    match ready.try_io(|fd| take(fd.get_ref(), &mut output, most)) {
                        Ok(Ok(true)) => break,
                        Ok(Ok(false)) | Err(_) => {}
                        Ok(Err(error)) => return Err(error),
                    }
                }
                over = ended.readable() => {
                    over?.retain_ready();
                    // What it has said before its end is there.
                    while let Ok(false) = take(pipe.get_ref(), &mut output, most) {}
                    return Ok(output);
                }
            }
        }
        ended.readable().await?.retain_ready();
        Ok(output)
    }
}

/// Some of what is in the pipe; true: that was its end.
fn take(pipe: &OwnedFd, output: &mut Vec<u8>, most: usize) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    let count = rustix::io::read(pipe, &mut buffer[..])?;
    let room = most.saturating_sub(output.len()).min(count);
    output.extend_from_slice(buffer.get(..room).unwrap_or_default());
    Ok(count == 0)
}

/// Kills what a process has started, and what those have, before itself. Each is stopped before its children are looked for: it
/// makes no more of them, and reaps none, so that no number comes to mean somebody else.
fn end_descendants(pid: i32) {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        signal(parent, Signal::STOP);
        found.extend(children(parent));
        next += 1;
    }
    for pid in found.into_iter().skip(1).rev() {
        signal(pid, Signal::KILL);
    }
}

/// Has an overseer end all that its process has started.
pub fn ask_overseer(pidfd: &OwnedFd) {
    let _ = sampan_runtime::kernel::pidfd::send(pidfd.as_fd(), libc::SIGTERM);
    let _ = sampan_runtime::kernel::pidfd::wait(pidfd.as_fd(), Some(END_MAX));
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

impl Drop for Command {
    fn drop(&mut self) {
        let (keel, pid, pidfd, ends) = (self.keel.clone(), self.pid, self.pidfd.clone(), self.ends);
        let held = self.held.take();
        let end = move || {
            let _held = held;
            if !sampan_runtime::kernel::pidfd::ended(pidfd.as_fd()).unwrap_or(true) {
                match ends {
                    Ends::Found => end_descendants(pid),
                    Ends::Overseen => ask_overseer(&pidfd),
                }
                let _ = sampan_runtime::kernel::pidfd::send(pidfd.as_fd(), libc::SIGKILL);
                let _ = sampan_runtime::kernel::pidfd::wait(pidfd.as_fd(), Some(END_MAX));
            }
            if let Err(error) = keel.reap(pid) {
                tracing::warn!(pid, "cannot reap a health check or a step: {error}");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => drop(handle.spawn_blocking(end)),
            Err(_) => end(),
        }
    }
}

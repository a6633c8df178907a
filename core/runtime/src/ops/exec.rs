//! `sampan exec`: a further process in a running container. Which process: `--process FILE` as it is, or the container's
//! own with what the flags change. Its config is the copy made at create, not what the bundle holds by now.
//!
//! The shared lock keeps a delete out until the process is cloned, not other execs. No pid file before the program certainly runs:
//! conmon takes its absence for our failure.

use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use sampan_child::defence::{self, Defence};
use sampan_plan::spec::{Capabilities, ConsoleSize, Process, Spec, Str};
use sampan_plan::{Options as PlanOptions, Plan};

use super::foreground::{self, Forward, Relay};
use super::{Error, Result, create, doing, find, in_file, read_text, state_error, status};
use crate::kernel::host;
use crate::kernel::pidfd;
use crate::kernel::signals::Signals;
use crate::launch::spawn::Direct;
use crate::launch::{self, Console, ExecRequest, Executed, Spawn, Spawned};
use crate::log::Log;
use crate::store::dir::{Folder, Lock, Root};
use crate::store::state::{self, State, Status};

#[derive(Debug, Default)]
pub struct Options {
    pub id: String,
    /// The process as JSON; then most other flags have no say.
    pub process: Option<PathBuf>,
    pub args: Vec<String>,
    pub cwd: Option<String>,
    pub env: Vec<String>,
    pub terminal: bool,
    pub user: Option<String>,
    pub additional_gids: Vec<u32>,
    pub detach: bool,
    pub pid_file: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub preserve_fds: u32,
    pub process_label: Option<String>,
    pub apparmor: Option<String>,
    pub no_new_privs: bool,
    pub caps: Vec<String>,
    pub ignore_paused: bool,
}

/// Runs it; the exit code, 0 when detached.
pub fn run(root: &Root, o: &Options, log: &Log) -> Result<i32> {
    let (folder, state) = find(root, &o.id)?;
    folder.lock(Lock::Shared, None)?;
    let init = running(&folder, &state, o)?;
    let texts = Texts::read(&folder, o)?;
    let spec = texts.spec()?;
    let mut process = texts.process(&spec, o)?;
    let cgroup = state.cgroup()?;
    // The groups as they are, not as a path relative to ours would give them now.
    let host = host::facts_of_running(&spec, cgroup.as_ref(), init.as_fd()).map_err(|e| e.of(&o.id))?;
    let options = PlanOptions {
        id: o.id.clone(),
        bundle: state.bundle.to_string_lossy().into_owned(),
        preserve_fds: o.preserve_fds,
        new_keyring: true,
        relayed_terminal: o.console_socket.is_none(),
        may_wait: true,
        ..PlanOptions::default()
    };
    check_terminal(&mut process, o)?;
    create::check_preserved(o.preserve_fds)?;
    let plan = Plan::exec(&spec, &process, &host, &options).map_err(|e| Error::from(e).of(&o.id))?;
    plan.warnings.iter().for_each(|warning| log.warning(&format!("{}: {warning}", o.id)));
    // Blocked before there is a process: what comes until then is sent to it.
    let signals =
        if o.detach { None } else { Some(Signals::block().map_err(doing("cannot block signals"))?) };
    let request = ExecRequest {
        plan: &plan,
        id: &o.id,
        container: init.as_fd(),
        cgroup: cgroup.as_ref(),
        console: o.console_socket.as_deref().map_or(Console::Keep, Console::Socket),
        stdio: None,
    };
    let mut executed = launch::exec(&request, &mut UnlockOnceCloned(&folder))?;
    log.debug(&format!("{}: process {} runs its program", o.id, executed.child.pid));
    attend(o, &mut executed, signals.as_ref()).inspect_err(|_| {
        // Who asked for it believes us that it failed, so it must not run on.
        let _ = pidfd::send(executed.child.pidfd.as_fd(), libc::SIGKILL);
        let _ = Direct.reap(&executed.child);
    })
}

/// The pidfd of the container's init, which lives and may be joined.
fn running(folder: &Folder, state: &State, o: &Options) -> Result<OwnedFd> {
    const STOPPED: &str = "cannot exec in a stopped container";
    let problem = match status(folder, state)? {
        Status::Running | Status::Created => None,
        Status::Paused if o.ignore_paused => None,
        Status::Paused => Some("cannot exec in a paused container (use --ignore-paused to override)"),
        Status::Stopped => Some(STOPPED),
        Status::Creating => Some("cannot exec in a container that is still being created"),
    };
    if let Some(problem) = problem {
        return Err(state_error(&o.id, problem));
    }
    let init = state.init().map_err(doing(format!("{}: cannot find its process", o.id)))?;
    init.ok_or_else(|| state_error(&o.id, STOPPED))
}

/// Its program runs: the pid file, and in the foreground its terminal, its signals and its end.
fn attend(o: &Options, executed: &mut Executed, signals: Option<&Signals>) -> Result<i32> {
    let child = &executed.child;
    if let Some(path) = &o.pid_file {
        create::write_pid_file(path, child.pid)?;
    }
    let Some(signals) = signals else { return Ok(0) };
    let relay =
        executed.console.take().map(Relay::new).transpose().map_err(doing("cannot use our terminal"))?;
    let exit = foreground::wait(child.pid, child.pidfd.as_fd(), signals, Forward::All, relay);
    Ok(exit.map_err(doing("cannot wait for the program"))?.code())
}

/// Once it is cloned, the process holds all that it needs of the container. It may stay in a paused group until somebody
/// resumes the container, which must not wait for it.
struct UnlockOnceCloned<'f>(&'f Folder);

impl Spawn for UnlockOnceCloned<'_> {
    fn spawn(&mut self, image: &[u8], slots: &[BorrowedFd<'_>]) -> crate::error::Result<Spawned> {
        Direct::spawn_then(image, slots, || self.0.unlock())
    }

    fn reap(&mut self, child: &Spawned) -> crate::error::Result<()> {
        Direct.reap(child)
    }
}

/// A terminal needs somebody at its other end: us, or whoever listens on the console socket.
fn check_terminal(process: &mut Process<'_>, o: &Options) -> Result<()> {
    if process.terminal && !o.detach {
        foreground::check_terminal()?;
        // Before the program runs: it may ask for the terminal's size at once.
        process.console_size = foreground::size().map(|(height, width)| ConsoleSize { height, width });
    }
    match (process.terminal && o.detach, &o.console_socket) {
        (true, None) => Err(Error::new("exec: cannot allocate a tty without --console-socket when detached")),
        (false, Some(_)) => Err(Error::new("exec: --console-socket needs a terminal and --detach")),
        _ => Ok(()),
    }
}

/// Both texts that a process may come from, kept alive for it.
#[derive(Debug)]
pub struct Texts {
    config: String,
    process: Option<String>,
}

impl Texts {
    pub fn read(folder: &Folder, o: &Options) -> Result<Texts> {
        let config = folder.read(state::CONFIG)?.and_then(|b| String::from_utf8(b).ok());
        let config =
            config.ok_or_else(|| state_error(&o.id, "its config.json is gone from the state folder"))?;
        Ok(Texts { config, process: o.process.as_ref().map(|p| read_text("--process ", p)).transpose()? })
    }

    pub fn spec(&self) -> Result<Spec<'_>> {
        Spec::parse(&self.config).map_err(in_file(Path::new(state::CONFIG)))
    }

    /// The process to run.
    pub fn process<'a>(&'a self, spec: &Spec<'a>, o: &'a Options) -> Result<Process<'a>> {
        if let Some(text) = &self.process {
            let path = o.process.as_deref().unwrap_or(Path::new(""));
            let mut process = Process::parse(text).map_err(in_file(path))?;
            process.terminal |= o.terminal;
            return Ok(process);
        }
        if o.args.is_empty() {
            return Err(Error::new("exec: which program? sampan exec ID CMD, or --process FILE"));
        }
        let mut process = spec.process.clone().unwrap_or_default();
        change(&mut process, o)?;
        Ok(process)
    }
}

fn change<'a>(process: &mut Process<'a>, o: &'a Options) -> Result<()> {
    let text = |t: &'a str| Str(Cow::Borrowed(t));
    process.args = o.args.iter().map(|a| text(a)).collect();
    process.terminal = o.terminal;
    process.console_size = None;
    if let Some(cwd) = &o.cwd {
        process.cwd = text(cwd);
    }
    process.env.extend(o.env.iter().map(|e| text(e)));
    if let Some(user) = &o.user {
        let (uid, gid) = parse_user(user)?;
        process.user.uid = uid;
        if let Some(gid) = gid {
            process.user.gid = gid;
        }
    }
    process.user.additional_gids.extend(&o.additional_gids);
    process.no_new_privileges |= o.no_new_privs;
    if let Some(label) = &o.process_label {
        process.selinux_label = Some(text(label));
    }
    if let Some(profile) = &o.apparmor {
        process.apparmor_profile = Some(text(profile));
    }
    if !o.caps.is_empty() {
        let c = process.capabilities.get_or_insert_with(Capabilities::default);
        if !defence::on(Defence::ExecCapsNotInherited) {
            c.inheritable.extend(o.caps.iter().map(|cap| text(cap)));
        }
        // Never inheritable: a program that the user did not mean would inherit them (CVE-2022-29162). Ambient ones must be
        // inheritable too, so runc adds them only where the container has inheritable ones.
        let ambient = Some(&mut c.ambient).filter(|_| !c.inheritable.is_empty());
        for set in [&mut c.bounding, &mut c.effective, &mut c.permitted].into_iter().chain(ambient) {
            set.extend(o.caps.iter().map(|cap| text(cap)));
        }
    }
    Ok(())
}

/// `UID[:GID]`, digits alone: an empty or odd part must never become 0 (CVE-2026-30892).
pub fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        if !defence::on(Defence::UserInDigits) {
            return Some(part.parse().unwrap_or(0));
        }
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        // The highest number means "unchanged" to the kernel.
        part.parse().ok().filter(|n| digits && *n != u32::MAX)
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (number(uid), Some(number(gid))),
        None => (number(text), None),
    };
    match (uid, gid) {
        (Some(uid), None) => Ok((uid, None)),
        (Some(uid), Some(Some(gid))) => Ok((uid, Some(gid))),
        _ => Err(Error::new(format!("--user {text:?}: must be UID or UID:GID, in digits"))),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn users_are_digits_and_nothing_else() {
        for (text, user) in [
            ("0", Some((0, None))),
            ("1", Some((1, None))),
            ("1:2", Some((1, Some(2)))),
            ("4294967294", Some((4_294_967_294, None))),
            ("4294967295", None),
            ("", None),
            (":", None),
            ("1:", None),
            (":1", None),
            ("root", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("1:2:3", None),
            ("-1", None),
            ("0x1", None),
        ] {
            assert_eq!(parse_user(text).ok(), user, "{text:?}");
        }
    }
}

//! `sampan create`: a bundle becomes a container whose program waits for `start`. Also the part that `run` shares.
//!
//! ```text
//!   config.json -> Spec -> folder (exclusive, locked) -> Plan -> launch, with state "creating" in it -> "created" -> pid file
//! ```
//! The first state is on disk before anything is made that stays, so that `delete --force` finds all of it whenever we are killed.
//! The pid file comes last: clients take its absence for failure.

use std::borrow::Cow;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sampan_child::defence::{self, Defence};
use sampan_plan::{Options as PlanOptions, Plan, Spec, spec};

use super::{Error, Result, doing, in_file, read_text, state_error};
use crate::destroy;
use crate::error::Errno;
use crate::launch::hooks::{HookRunner, hooks_of};
use crate::launch::spawn::Direct;
use crate::launch::{self, Barrier, Console, Created, Keep, Request, Stages};
use crate::log::Log;
use crate::store::dir::{self, Folder, Root};
use crate::store::state::{self, Cgroup, Manager, State};

/// What create and run have in common.
#[derive(Debug, Default)]
pub struct Options {
    pub id: String,
    pub bundle: PathBuf,
    /// In place of the bundle's config.json.
    pub config: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: u32,
    pub no_new_keyring: bool,
    pub cgroup_manager: Manager,
    pub trace: bool,
    /// Where warnings go.
    pub log: Log,
}

impl Options {
    /// Last of all: clients take its absence for failure. An error of it is one of the launch, which is undone.
    pub fn write_pid_file(&self, pid: i32) -> Result<()> {
        self.pid_file.as_deref().map_or(Ok(()), |path| write_pid_file(path, pid))
    }
}

pub fn run(root: &Root, o: &Options) -> Result<()> {
    let config = Config::read(o)?;
    let spec = config.spec()?;
    check_console(&spec, o.console_socket.is_some(), true)?;
    let folder = root.create(&o.id)?;
    make(&folder, o, &config, &spec, Barrier::Folder, |created, _, _| o.write_pid_file(created.child.pid))
}

/// The bundle and the text of its config, as they were when we looked.
#[derive(Debug)]
pub struct Config {
    pub bundle: PathBuf,
    /// The config's own.
    path: PathBuf,
    text: String,
}

impl Config {
    pub fn read(o: &Options) -> Result<Config> {
        let bundle = fs::canonicalize(&o.bundle)
            .map_err(doing(format!("cannot find the bundle {}", o.bundle.display())))?;
        let path = o.config.clone().unwrap_or_else(|| bundle.join(state::CONFIG));
        let text = read_text("", &path).map_err(|e| if o.config.is_none() { no_bundle(e) } else { e })?;
        Ok(Config { bundle, path, text })
    }

    /// One that is in no file yet.
    pub fn from_text(bundle: PathBuf, text: String) -> Config {
        Config { path: bundle.join(state::CONFIG), bundle, text }
    }

    /// There is a process in it: what `start` would say, for who starts at once (runtime.md, Create).
    pub fn check_process(&self, id: &str, spec: &Spec<'_>) -> Result<()> {
        match spec.process {
            Some(_) => Ok(()),
            None => {
                let path = self.path.display();
                Err(state_error(id, format!("process: {path} has none, so there is nothing to start")))
            }
        }
    }

    pub fn spec(&self) -> Result<Spec<'_>> {
        let mut spec = Spec::parse(&self.text).map_err(in_file(&self.path))?;
        pass_on_sockets(&mut spec);
        Ok(spec)
    }
}

/// Whoever names a folder without a config.json hears how to get one.
fn no_bundle(e: Error) -> Error {
    if e.errno != Some(Errno::NOENT) {
        return e;
    }
    let likely =
        "this folder is no bundle: name another by --bundle, or write a config.json with sampan spec";
    e.call("openat", Errno::NOENT).likely(likely)
}

/// Makes the container up to `created`, lets `then` go on from there, and leaves nothing behind if either fails.
pub fn make<T>(
    folder: &Folder,
    o: &Options,
    config: &Config,
    spec: &Spec<'_>,
    barrier: Barrier,
    then: impl FnOnce(&mut Created, &Plan<'_>, &Folder) -> Result<T>,
) -> Result<T> {
    let mut stage = Failed::Early;
    let made = facts(o, config, spec).and_then(|(host, options)| {
        let plan = Plan::compile(spec, &host, &options).map_err(|e| Error::from(e).of(&o.id))?;
        plan.warnings.iter().for_each(|warning| o.log.warning(&format!("{}: {warning}", o.id)));
        o.log.debug(&format!("{}: {}: {} steps", o.id, config.bundle.display(), plan.steps.len()));
        let request = Request {
            plan: &plan,
            host: &host,
            folder,
            bundle: &config.bundle,
            barrier,
            console: o.console_socket.as_deref().map_or(Console::Keep, Console::Socket),
            stdio: None,
            given: &[],
            netns: None,
            groups: Keep::No,
            hook_log: None,
        };
        let mut created = launch::create(&request, &mut Direct, &mut Beside { folder, o, config, spec })
            .map_err(|e| e.of(&o.id))?;
        stage = Failed::Late;
        o.log.debug(&format!("{}: process {} is ready to start", o.id, created.child.pid));
        then(&mut created, &plan, folder)
    });
    if made.is_err() {
        undo(folder, &stage, &o.log);
    }
    made
}

/// What is to be done in the middle of a launch.
struct Beside<'m> {
    folder: &'m Folder,
    o: &'m Options,
    config: &'m Config,
    spec: &'m Spec<'m>,
}

impl Stages for Beside<'_> {
    fn record(&mut self) -> Result<()> {
        write_down(self.folder, self.o, self.config, self.spec)
    }

    fn warn(&mut self, warning: &str) {
        self.o.log.warning(warning);
    }
}

/// How far it got before it failed.
enum Failed {
    /// Before there was a container; a failed launch takes down what it set up, poststop hooks included.
    Early,
    Late,
}

/// Nothing stays. What goes wrong here is a warning: the error that is worth telling is the first one.
fn undo(folder: &Folder, stage: &Failed, log: &Log) {
    let undone = folder.reopen().and_then(|folder| match stage {
        Failed::Late => {
            let state = State::load(&folder).ok().flatten();
            Ok(destroy::destroy(folder, state, &mut HookRunner::new(&mut Direct))?)
        }
        // The state names groups, but who is in them may be somebody else, for which it failed.
        Failed::Early => Ok(folder.remove().map(|()| Vec::new())?),
    });
    match undone {
        Ok(warnings) => warnings.iter().for_each(|warning| log.warning(warning)),
        Err(e) => log.warning(&e.to_string()),
    }
}

/// Facts about the machine, and the caller's choices.
pub fn facts(o: &Options, config: &Config, spec: &Spec<'_>) -> Result<(sampan_plan::Host, PlanOptions)> {
    if o.cgroup_manager == Manager::Systemd {
        return Err(Error::new("--systemd-cgroup: not supported yet; use --cgroup-manager cgroupfs"));
    }
    let cgroups = manager(o, spec)? != Manager::Disabled;
    let host = launch::host_facts(spec, &config.bundle, &o.id, cgroups).map_err(|e| e.of(&o.id))?;
    let options = PlanOptions {
        id: o.id.clone(),
        bundle: config.bundle.to_string_lossy().into_owned(),
        preserve_fds: o.preserve_fds.saturating_add(listen_fds()),
        new_keyring: !o.no_new_keyring,
        may_wait: true,
        relayed_terminal: o.console_socket.is_none(),
        trace: o.trace,
        ..PlanOptions::default()
    };
    check_preserved(options.preserve_fds)?;
    Ok((host, options))
}

/// Without root, podman asks for no limits and names no groups where it may make none: then there are none, as in runc.
fn manager(o: &Options, spec: &Spec<'_>) -> Result<Manager> {
    let asked = spec.linux.cgroups_path.is_some()
        || spec.linux.resources.as_ref().is_some_and(|resources| *resources != spec::Resources::default());
    if o.cgroup_manager != Manager::Cgroupfs || asked {
        return Ok(o.cgroup_manager);
    }
    let groups = sampan_cgroups::Cgroup::at(
        sampan_cgroups::Hierarchies::detect()?,
        &sampan_cgroups::CgroupsPath::parse(None, &o.id)?,
    )?;
    Ok(if groups.may_be_made() { Manager::Cgroupfs } else { Manager::Disabled })
}

/// The first state on disk: what there will be to remove.
fn write_down(folder: &Folder, o: &Options, config: &Config, spec: &Spec<'_>) -> Result<()> {
    folder.write_first(state::CONFIG, config.text.as_bytes())?;
    let mut state = State::creating(&o.id, config.bundle.clone());
    state.annotations =
        spec.annotations.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
    state.hooks = hooks_of(&spec.hooks);
    let path = spec.linux.cgroups_path.as_ref().map(|p| p.as_str());
    let manager = manager(o, spec)?;
    state.cgroup = Some(Cgroup { manager, location: location(path, manager, &o.id)?, ..Cgroup::default() });
    state.save(folder)
}

fn location(cgroups_path: Option<&str>, manager: Manager, id: &str) -> Result<String> {
    if manager == Manager::Disabled {
        return Ok(String::new());
    }
    let place = sampan_cgroups::CgroupsPath::parse(cgroups_path, id)?;
    Ok(sampan_cgroups::Cgroup::at(sampan_cgroups::Hierarchies::detect()?, &place)?.location())
}

/// A detached terminal needs somebody to take it; somebody to take it needs a detached terminal.
pub fn check_console(spec: &Spec<'_>, socket: bool, detached: bool) -> Result<()> {
    let terminal = spec.process.as_ref().is_some_and(|p| p.terminal);
    match (terminal && detached, socket) {
        (true, false) => {
            Err(Error::new("process.terminal: cannot allocate a tty without --console-socket when detached"))
        }
        (false, true) => Err(Error::new(
            "--console-socket: needs process.terminal and a detached container; remove it or set terminal",
        )),
        _ => Ok(()),
    }
}

/// Decimal, without a line end: go-runc and buildkit read it with Atoi.
pub fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let failed = || format!("cannot write --pid-file {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::new(format!("{}: it has no name", failed())))?;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !defence::on(Defence::PidFileIsNew) {
        return fs::write(path, pid.to_string()).map_err(doing(failed()));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty()).map_err(doing(failed()))?;
    let (pid, mode) = (pid.to_string(), Mode::from_raw_mode(0o644));
    dir::write_whole(dir.as_fd(), Path::new(name), pid.as_bytes(), mode).map_err(doing(failed()))
}

/// Descriptors that systemd passed to us (sd_listen_fds), from 3 on.
fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

/// The container's process is PID 1 to itself, and finds them as we did.
fn pass_on_sockets(spec: &mut Spec<'_>) {
    let n = listen_fds();
    if let Some(process) = spec.process.as_mut().filter(|_| n > 0) {
        process.env.push(spec::Str(Cow::Owned(format!("LISTEN_FDS={n}"))));
        process.env.push("LISTEN_PID=1".into());
    }
}

/// The first one that is not open ends it, so a number that nobody can mean costs nothing.
pub fn check_preserved(n: u32) -> Result<()> {
    for fd in 3..3 + u64::from(n) {
        if fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_err() {
            return Err(Error::new(format!("--preserve-fds {n}: descriptor {fd} is not open")));
        }
    }
    Ok(())
}

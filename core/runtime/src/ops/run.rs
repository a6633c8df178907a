//! `sampan run`: create, start, wait, delete. With `--rootfs host -- CMD` it needs no bundle: the config is the default
//! one with this machine's root, read-only or (`--scratch`) with a tmpfs on top, and its secrets hidden.
//!
//! In the foreground we are the container's subreaper: orphans come to us and are reaped, and the code is the
//! container's. Deliberately absent: a second way to launch; this is create and start in one process.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use sampan_plan::seccomp::{Arch, docker};
use sampan_plan::spec::{Rlimit, Root as SpecRoot, Spec, Str};
use sampan_plan::{Plan, default, layers};

use super::asked::Asked;
use super::create::{self, Config, Options};
use super::foreground::{self, Forward, Relay};
use super::image::Image;
use super::{Error, Result, doing};
use crate::destroy;
use crate::error::Kind;
use crate::kernel::host_root::is_host_root;
use crate::kernel::procfs;
use crate::kernel::signals::Signals;
use crate::launch::spawn::Direct;
use crate::launch::trace::{self, Cost};
use crate::launch::{self, Barrier, Created, HookRunner};
use crate::store::dir::Root;
use crate::store::state::State;

#[derive(Debug, Default)]
pub struct Run {
    pub create: Options,
    pub detach: bool,
    pub keep: bool,
    pub no_subreaper: bool,
    /// A container without a bundle.
    pub rootfs: Option<Rootfs>,
}

/// What a container without a bundle has as its root.
#[derive(Debug)]
pub enum RootFrom {
    /// `host`, or a folder.
    Root(String),
    Image(Image),
}

#[derive(Debug)]
pub struct Rootfs {
    pub from: RootFrom,
    /// Writable, and gone at the end.
    pub scratch: bool,
    pub program: Vec<OsString>,
    pub terminal: bool,
    pub asked: Asked,
}

/// Told what the steps of the launch cost, where that was asked for.
pub type ShowCosts<'s> = &'s mut dyn FnMut(&[Cost]);

/// Runs it; the exit code.
pub fn run(root: &Root, run: &Run, show: ShowCosts<'_>) -> Result<i32> {
    let o = &run.create;
    // What is wrong with the request fails here, before there is a folder that somebody would have to remove.
    let config = match &run.rootfs {
        None => Config::read(o)?,
        Some(rootfs) => Config::from_text(root.path().join(&o.id), config(&o.id, rootfs)?),
    };
    let spec = config.spec()?;
    create::check_console(&spec, o.console_socket.is_some(), run.detach)?;
    if !run.detach && spec.process.as_ref().is_some_and(|process| process.terminal) {
        foreground::check_terminal()?;
    }
    config.check_process(&o.id, &spec)?;
    let folder = root.create(&o.id)?;
    if let Err(error) = run.rootfs.iter().try_for_each(|rootfs| rootfs.asked.write(&folder)) {
        let _ = folder.remove();
        return Err(error);
    }
    if run.detach {
        create::make(&folder, o, &config, &spec, barrier(&spec), |created, plan, folder| {
            launch::start(created, plan, folder, &mut HookRunner::new(&mut Direct))
                .map_err(|e| e.of(&o.id))?;
            show_costs(plan, created, show);
            o.write_pid_file(created.child.pid)
        })?;
        return Ok(0);
    }
    foreground(run, &folder, &config, &spec, show)
}

fn foreground(
    run: &Run,
    folder: &crate::store::dir::Folder,
    config: &Config,
    spec: &Spec<'_>,
    show: ShowCosts<'_>,
) -> Result<i32> {
    let o = &run.create;
    if !run.no_subreaper {
        let me = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(me)).map_err(doing("cannot become a subreaper"))?;
    }
    // From here on none of our own is lost: what comes before the program runs is sent to it once it does. What `kill` sends it
    // before, or before it asks for that signal, the kernel drops: it is the first process of its namespace (pid_namespaces(7)).
    let signals = Signals::block().map_err(doing("cannot block signals"))?;
    let exit = create::make(folder, o, config, spec, barrier(spec), |created, plan, folder| {
        // Before the program runs: it may ask for the terminal's size at once.
        let relay =
            created.console.take().map(Relay::new).transpose().map_err(doing("cannot use our terminal"))?;
        launch::start(created, plan, folder, &mut HookRunner::new(&mut Direct)).map_err(|e| e.of(&o.id))?;
        show_costs(plan, created, show);
        // Later verbs must not wait for us while the program runs.
        folder.unlock();
        o.write_pid_file(created.child.pid)?;
        let wait =
            foreground::wait(created.child.pid, created.child.pidfd.as_fd(), &signals, Forward::All, relay);
        wait.map_err(doing("cannot wait for the container"))
    })?;
    if !run.keep {
        or_gone(folder.lock(crate::store::dir::Lock::Exclusive, None))?;
        // Somebody may have deleted it meanwhile, which is what we wanted.
        if let Ok(folder) = folder.reopen()
            && let Some(state) = State::load(&folder)?
        {
            let warnings = destroy::destroy(folder, Some(state), &mut HookRunner::new(&mut Direct))?;
            warnings.iter().for_each(|warning| o.log.warning(warning));
        }
    }
    Ok(exit.code())
}

/// Hooks see a container that is created and does not run yet; and a terminal is relayed before the program can write to it.
fn barrier(spec: &Spec<'_>) -> Barrier {
    let has_terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    if spec.hooks.are_none() && !has_terminal { Barrier::Open } else { Barrier::Pipe }
}

fn show_costs(plan: &Plan<'_>, created: &Created, show: ShowCosts<'_>) {
    if let Some(times) = &created.trace {
        show(&trace::costs(plan, times));
    }
}

/// Somebody else has removed it already.
fn or_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind == Kind::Missing => Ok(()),
        result => result,
    }
}

/// The default config with another root and program, as text: the same road as any bundle's.
fn config(id: &str, rootfs: &Rootfs) -> Result<String> {
    let mut spec = default::spec();
    let owned = |text: String| Str(Cow::Owned(text));
    match &rootfs.from {
        RootFrom::Image(image) => of_image(&mut spec, image)?,
        RootFrom::Root(root) if root == "host" || is_host_root(Path::new(root)) => {
            default::host_rootfs(&mut spec)
        }
        RootFrom::Root(root) => {
            let path = std::fs::canonicalize(root).map_err(doing(format!("--rootfs {root}")))?;
            if !path.is_dir() {
                let error = std::io::Error::from(std::io::ErrorKind::NotADirectory);
                return Err(doing(format!("--rootfs {root}"))(error));
            }
            spec.root = Some(SpecRoot { path: owned(text(path)?), readonly: false });
        }
    }
    spec.linux.masked_paths = default::masked_paths(&procfs::root_only()?).into_iter().map(owned).collect();
    if rootfs.scratch {
        default::scratch_rootfs(&mut spec);
    }
    spec.hostname = Some(owned(id.chars().take(64).collect()));
    rootfs.asked.apply(&mut spec)?;
    let folder = PathBuf::from(spec.root.as_ref().map_or("/", |r| r.path.as_str()));
    default::temporary(&mut spec, |path| folder.join(path.trim_start_matches('/')).is_dir());
    rootfs.asked.mount(&mut spec)?;
    // docker's filter, as for sampand's services; where no table of system calls is known there is none.
    let bounding =
        spec.process.iter().flat_map(|process| &process.capabilities).flat_map(|caps| &caps.bounding);
    let bounding: Vec<Str<'_>> = bounding.cloned().collect();
    if let Some(native) = Arch::native() {
        let facts = docker::Facts { bounding: &bounding, kernel: crate::kernel::host::kernel(), native };
        let profile = docker::default_profile(&facts)
            .map_err(|e| Error::new(format!("the default seccomp profile: {e}")))?;
        spec.linux.seccomp = Some(profile);
    }
    if let Some(process) = &mut spec.process {
        process.terminal = rootfs.terminal;
        clamp(&mut process.rlimits);
        let words = rootfs.program.iter().map(|w| w.clone().into_string().map(|w| Str(Cow::Owned(w))));
        let words = rootfs.asked.first().map(Ok).into_iter().chain(words);
        process.args = words
            .collect::<std::result::Result<_, _>>()
            .map_err(|w| Error::new(format!("{w:?} is not UTF-8")))?;
        if rootfs.terminal && !process.env.iter().any(|variable| variable.as_str().starts_with("TERM=")) {
            process
                .env
                .push(owned(format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "xterm".into()))));
        }
    }
    serde_json::to_string(&spec).map_err(|e| Error::new(format!("cannot write the config: {e}")))
}

/// The image's layers, environment, user and working folder.
fn of_image(spec: &mut Spec<'_>, image: &Image) -> Result<()> {
    let owned = |text: &str| Str(Cow::Owned(text.to_owned()));
    let layers = serde_json::to_string(&image.layers)
        .map_err(|e| Error::new(format!("cannot write the config: {e}")))?;
    // The root is mounted there until the pivot, where nobody else sees it.
    let place = image.layers.last().map(String::as_str).unwrap_or_default();
    spec.root = Some(SpecRoot { path: owned(place), readonly: false });
    spec.annotations.insert(layers::ANNOTATION.into(), Str(Cow::Owned(layers)));
    if let Some(process) = &mut spec.process {
        let name = |variable: &str| variable.split('=').next().map(str::to_owned);
        let names: Vec<_> = image.config.env.iter().map(|v| name(v)).collect();
        process.env.retain(|v| !names.contains(&name(v.as_str())));
        process.env.extend(image.config.env.iter().map(|v| owned(v)));
        if !image.config.working_dir.is_empty() {
            process.cwd = owned(&image.config.working_dir);
        }
        process.user.uid = image.user.uid;
        process.user.gid = image.user.gid;
        process.user.additional_gids = image.user.groups.clone();
    }
    Ok(())
}

/// The default asks for more descriptors than a user without CAP_SYS_RESOURCE may have; here nobody asked.
pub fn clamp(rlimits: &mut [Rlimit<'_>]) {
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    for limit in rlimits.iter_mut().filter(|l| l.kind.as_str() == "RLIMIT_NOFILE") {
        limit.hard = limit.hard.min(ours);
        limit.soft = limit.soft.min(ours);
    }
}

fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|p| Error::new(format!("{p:?} is not UTF-8")))
}

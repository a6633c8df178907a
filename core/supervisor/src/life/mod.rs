//! One life of one service, as jobs: create, start, clean up. What blocks runs on a pool thread; plugins are asked on the
//! loop; what fails says whose fault it is.
//!
//! ```text
//!   loop:   bundle ─► plugins' create ─┐            ┌─ plugins' attach ─┐           ┌─ plugins' start
//!   thread:                            └─► compile ─┤ clone, hooks      └─► created ─┤ (waits) ─► exec, poststart
//! ```
//! The launching thread (`job`) holds the barrier: if it goes, for whatever reason, the child reads the end of a pipe and exits.
//! Absent on purpose: any decision about what comes next (`core/service`).
//!
//! A launch is one blocking function on a pool thread, from the clone to the start: the loop never blocks, and the code reads from
//! top to bottom as in `sampan create`.
//!
//! Control groups and bundle stay over a restart: it makes, limits and removes nothing there, and `sampan ps`, `exec` and `plan`
//! find them under the service's name. They go when the service stops, fails for good or gets another config. They are made anew
//! if the limits differ, if the container enabled controllers for groups below its own, if `sampan update` changed them, and after
//! a kill of the whole group: a clone into a group that ever saw `cgroup.kill` is killed at once (Linux 6.18). CPU time, peak and
//! OOM counters run on; whether a run was killed for memory is judged by the difference. What is kept ([`Kept`]) is behind one lock
//! for each service, so that a delayed release cannot touch the next run; after a crash a new worker makes all anew.
//!
//! Each run has a network namespace of its own, made by the clone: what a privileged container changed in it (sysctls, rules,
//! routes) must not outlive it. To keep it, as pods do, would save about a millisecond.
mod groups;
mod job;
mod process;
mod remains;
mod stdio;

use crate::executor::Ground;
use crate::hooks;
use rustix::io::Errno;
use sampan_bundle as bundle;
use sampan_config::schema::{self, LogDriver, NetworkMode};
use sampan_keel::Handle;
use sampan_plugin_host::digest::{Digest, digest};
use sampan_plugin_host::{Ctx, Failure, FailureKind, Role};
use sampan_runtime::launch::Keep;
use sampan_service::Problem;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot};

pub use groups::{kill_all, last_look, remove_cgroup_parent, thaw, update};
use job::{Ask, Job};
pub use process::{end, foreign_status, netns_of, reaped, signal};
pub use remains::{Remains, cleanup, discard, let_go};
use stdio::Output;
pub use stdio::{drop_stdio, reads, write_line};

/// What a new life is made from.
#[derive(Debug)]
pub struct Order {
    pub config: Arc<schema::Service>,
    pub generation: u64,
    pub ctx: Ctx,
}

/// A main process, wherever it came from.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub handle: Option<Handle>,
    pub oom_before: u64,
    pub started_at: Option<SystemTime>,
}

/// A container in the OCI state `created`.
#[derive(Debug)]
pub struct Born {
    pub process: Process,
    pub netns: Option<OwnedFd>,
    pub owners: BTreeMap<String, String>,
    /// Its start. Dropped, the container's process exits.
    pub gate: StartGate,
}

/// The way to the thread that holds the barrier of a created container.
#[derive(Debug)]
pub struct StartGate(blocking::SyncSender<oneshot::Sender<Result<(), Problem>>>);

/// What a service keeps from one life to the next.
pub type Shelf = Rc<tokio::sync::Mutex<Kept>>;

#[derive(Debug, Default)]
pub struct Kept {
    /// Of `linux.resources` of the groups that the life before has left; none: whatever is there is not to be used.
    groups: Option<Digest>,
    /// Of what stands in the bundle's config.json.
    spec: Option<Digest>,
}

/// Plugins' `create`, bundle, launch up to OCI state created with `attach` on the way.
pub async fn create(ground: &Rc<Ground>, order: Order) -> Result<Box<Born>, Problem> {
    let Order { config, generation, ctx } = order;
    let shelf = ground.shelf(&config.name);
    let mut kept = shelf.lock().await;
    let settings = ground.config();
    let (service, parent) = (config.clone(), ground.cgroup_parent.clone());
    let built = on_pool(move || {
        let request = bundle::Request { service: &service, cgroup_parent: &parent };
        bundle::build(&request).map_err(|error| Problem::Config(error.to_string()))
    })
    .await?;
    for warning in &built.warnings {
        ground.warn(&config.name, warning);
    }
    let mut spec = built.spec;
    let table = service_table(&config, &settings);
    let made = ground.plugins.create(&ctx, &table, needs(&config), &mut spec).await.map_err(of_plugin)?;
    for (plugin, message) in &made.messages {
        ground.warn(&config.name, &format!("plugin {plugin}: {message}"));
    }
    let stdio = if config.logging.driver == LogDriver::None {
        Output::Nowhere
    } else if made.claims.contains_key("stdio") {
        Output::Plugin
    } else {
        Output::Files
    };

    let has_hooks = spec.get("hooks").is_some();
    let resources = spec.pointer("/linux/resources").map(|resources| digest(&resources.to_string()));
    let killed = ground.was_killed_in(&config.name);
    let groups = match kept.groups.take() {
        Some(left) if !killed && Some(left) == resources => Keep::Ready,
        _ => Keep::Fresh,
    };

    let (ask, mut asked) = mpsc::channel::<Ask>(1);
    let (start, started) = blocking::sync_channel(1);
    let (born, answer) = oneshot::channel();
    let job = Job {
        keel: ground.keel.clone(),
        run: ground.dirs.run.clone(),
        containers: ground.dirs.containers(),
        io: ground.dirs.io(&config.name),
        logs: ground.dirs.logs(&config.name),
        service: config.clone(),
        generation,
        text: ground.plugins.spec(ctx.handle).unwrap_or_else(|| spec.to_string().into()),
        spec,
        bundled: kept.spec.take(),
        stdio,
        hook_log: match stdio {
            Output::Nowhere => hooks::Log::Nowhere,
            Output::Plugin => hooks::Log::Pipe(ground.dirs.io(&config.name).join("stderr")),
            Output::Files => hooks::Log::File(ground.dirs.logs(&config.name).join("stderr.log")),
        },
        groups,
        hierarchies: ground.hierarchies,
        ask,
        started,
    };
    tokio::task::spawn_blocking(move || job.run(born));
    let (mut answer, mut attached) = (answer, false);
    let launched = loop {
        tokio::select! {
            Some(ask) = asked.recv() => {
                attached = true;
                attach(ground, &ctx, ask).await;
            }
            launched = &mut answer => break launched,
        }
    };
    let failed = !matches!(launched, Ok(Ok(_)));
    if let Some(claimant) = made.claims.get("stdio").filter(|_| failed && !attached && has_hooks) {
        // What they printed is in the pipe, and nobody would come for it.
        let (reads, _) = reads(&ground.keel, &ground.dirs.io(&config.name), &config.name);
        if let Err(failure) = ground.plugins.attach_output(&ctx, claimant, reads).await {
            ground.warn(&config.name, &failure.to_string());
        }
    }
    let (process, netns, warnings, bundled) =
        launched.unwrap_or_else(|_| Err(Problem::Io("the launching thread failed".into())))?;
    *kept = Kept { groups: resources, spec: Some(bundled) };
    for warning in &warnings {
        ground.warn(&config.name, warning);
    }
    Ok(Box::new(Born { process, netns, owners: made.owners, gate: StartGate(start) }))
}

async fn attach(ground: &Rc<Ground>, ctx: &Ctx, ask: Ask) {
    let ctx = Ctx { pid: ask.pid, ..ctx.clone() };
    let fds: Vec<(Role, BorrowedFd<'_>)> = ask.fds.iter().map(|(role, fd)| (*role, fd.as_fd())).collect();
    let result = ground.plugins.attach(&ctx, &fds).await;
    let _ = ask.answer.send(result);
}

/// Plugins' `start`, release of the barrier, poststart hooks, plugins' `started`.
pub async fn start(ground: &Rc<Ground>, ctx: &Ctx, gate: Option<StartGate>) -> Result<(), Problem> {
    ground.plugins.start(ctx).await.map_err(of_plugin)?;
    let gone = || Problem::Io("the process ended before it was started".into());
    let gate = gate.ok_or_else(gone)?;
    let (answer, answered) = oneshot::channel();
    gate.0.send(answer).map_err(|_| gone())?;
    answered.await.unwrap_or_else(|_| Err(gone()))?;
    ground.plugins.started(ctx).await.map_err(of_plugin)
}

/// What a service cannot do without, if a plugin is installed that claims it. Output has a way of its own: into files.
pub fn needs(service: &schema::Service) -> &'static [&'static str] {
    if service.network_mode == NetworkMode::Bridge { &["network"] } else { &[] }
}

/// What plugins see of a service: its table of config.toml, resolved, and the networks it may name.
pub fn service_table(service: &schema::Service, config: &sampan_config::Config) -> serde_json::Value {
    let mut table = serde_json::to_value(service).unwrap_or_default();
    if let Some(table) = table.as_object_mut() {
        table.insert("name".into(), service.name.as_str().into());
        let networks = serde_json::to_value(&config.networks).unwrap_or_default();
        table.insert("network_definitions".into(), networks);
        table.insert("explicit".into(), service.resources.written().into());
    }
    table
}

/// What the main process of a life is known by at the keel.
pub fn tag(name: &str, generation: u64) -> String {
    format!("service/{name}/{generation}")
}

async fn on_pool<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Problem::Io(format!("a thread of the pool failed: {error}"))))
}

fn of_io(error: impl std::fmt::Display) -> Problem {
    Problem::Io(error.to_string())
}

fn of_config(error: impl std::fmt::Display) -> Problem {
    Problem::Config(error.to_string())
}

fn of_plugin(failure: Failure) -> Problem {
    match failure.kind {
        FailureKind::Veto => Problem::Veto { plugin: failure.plugin, text: failure.reason },
        FailureKind::Conflict | FailureKind::Denied => Problem::Config(failure.to_string()),
        FailureKind::Open
        | FailureKind::Failed
        | FailureKind::Timeout
        | FailureKind::Waiting
        | FailureKind::Host => Problem::Io(failure.to_string()),
    }
}

fn of_launch(error: sampan_runtime::error::Error) -> Problem {
    if let Some(kind) = error.field.strip_prefix("hooks.") {
        let kind = kind.split(['[', '.']).next().unwrap_or(kind).to_owned();
        return Problem::Hook { kind, text: error.to_string() };
    }
    if error.field.starts_with("process.args") {
        return Problem::Exec(error.to_string());
    }
    // What is in the way in the root does not go away by itself.
    let stays = matches!(error.errno, Some(Errno::ROFS | Errno::NOTDIR | Errno::LOOP));
    if stays && (error.field.starts_with("mounts") || error.field == "process.cwd") {
        return Problem::Config(error.to_string());
    }
    Problem::Io(error.to_string())
}

//! One life of one service, as jobs: create, start, clean up. What fails says whose fault it is.
//!
//! ```text
//!   loop:              ┌─► spec ─► plugins' create ─┐            ┌─ plugins' attach ─┐           ┌─ plugins' start
//!   launching process: └─ look at the root          └─► compile ─┤ clone, hooks      └─► created ─┤ (waits) ─► exec, poststart
//! ```
//! What opens users' paths is a launching process (`job`; `launcher` has them, `talk` is what is said): it can be killed, the
//! worker cannot be held up. It holds the barrier: if it goes, for whatever reason, the child reads the end of a pipe and exits.
//! Absent on purpose: any decision about what comes next (`core/service`).
//!
//! A launch is one blocking function, from the clone to the start: it reads from top to bottom as in `sampan create`. Not on a
//! thread: whoever opens a user's path may wait in the kernel for ever, and then its whole process cannot end. One launch at a time
//! each: so one that is late is killed by itself, and can do nothing any more when its mount comes back. A launching process clones
//! through a connection of its own that the keel closes with the worker. One that is done waits two seconds for the next launch, and
//! while a life is cleaned up that is followed by another one is made ready. At rest there is none.
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
pub mod sockets;
mod relayed;
mod stdio;
mod given;
pub mod talk;
mod launcher;
mod pulls;
mod compiled;
pub mod reading;
pub mod fd_store;
pub mod job;
mod process;
mod basis;
mod cleanup;
mod context;

use crate::hooks;
use crate::one_off::client::Streams;
use basis::{Basis, Earlier, Maker};
use rustix::io::Errno;
use sampan_bundle::image::Used;
use sampan_config::Config;
use sampan_config::schema::{self, LogDriver, NetworkMode};
use sampan_keel::Handle;
use sampan_plugin_host::digest::Digest;
use sampan_plugin_host::{self as plugins, Ctx, Failure, FailureKind, Lent, Printed, Role};
use sampan_service::Problem;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

pub use cleanup::{Cleanup, cleanup, discard, let_go};
pub use context::{Context, Dirs, Gone};
pub use groups::{
    identity, is_frozen, kill_all, last_look, members, remove_cgroup_parent, set_frozen, thaw, update,
};
use launcher::Launcher;
pub use launcher::{Launchers, UnderWay, own_tag};
pub use process::{end, exit_status, netns_of, reaped, signal, was_abandoned};
pub use pulls::Pulls;
use relayed::Relayed;
use stdio::Output;
pub use stdio::{Reads, drop_stdio, hold, lent, reads};
use talk::{Launch, Order, Said};

/// What a new life is made from.
#[derive(Debug)]
pub struct Wanted {
    pub config: Arc<schema::Service>,
    pub generation: u64,
    pub ctx: Ctx,
    /// All of config.toml: a service may name its networks.
    pub all: Rc<Config>,
    pub under_way: Rc<UnderWay>,
    /// Why its image could not be got.
    pub no_image: Option<String>,
    /// In whose namespaces it is to be; or who of them does not run.
    pub joined: Result<Vec<Joined>, String>,
    /// Its standard streams; none: those of a service. Or why they cannot be had.
    pub stdio: Result<Option<OfClient>, String>,
}

/// Standard streams that a client has for it.
#[derive(Debug)]
pub struct OfClient {
    pub streams: Streams,
    pub pidfd: Arc<OwnedFd>,
}

/// Another service in whose namespace this one is to be.
#[derive(Debug)]
pub struct Joined {
    /// Of config.toml: `network_mode`, `pid`..
    pub key: &'static str,
    pub service: String,
    pub pid: i32,
    pub pidfd: Arc<OwnedFd>,
}

/// A main process, wherever it came from.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub pidfd: Arc<OwnedFd>,
    pub handle: Option<Handle>,
    pub oom_before: u64,
    pub started_at: Option<SystemTime>,
}

/// A container in the OCI state `created`.
#[derive(Debug)]
pub struct Created {
    pub process: Process,
    pub netns: Option<Arc<OwnedFd>>,
    pub owners: BTreeMap<String, String>,
    /// What its root is made of, where that is an image; and the service as this life is led.
    pub image: Option<(Used, Arc<schema::Service>)>,
    /// Its start. Dropped, the container's process exits.
    pub gate: StartGate,
}

/// The process that holds the barrier of a created container.
#[derive(Debug)]
pub struct StartGate(Launcher);

/// What a service keeps from one life to the next.
pub type RestartCache = Rc<tokio::sync::Mutex<Kept>>;

#[derive(Debug, Default)]
pub struct Kept {
    /// Of `linux.resources` of the groups that the life before has left; none: whatever is there is not to be used.
    groups: Option<Digest>,
    /// What the life before was made from.
    earlier: Option<Earlier>,
    /// The folder of the life before is put aside.
    is_aside: bool,
    /// Plugins' `detach` of the life before goes on: they do not see the next one before it is over.
    detach: Option<tokio::task::JoinHandle<()>>,
}

impl Kept {
    async fn detached(&mut self) {
        if let Some(detach) = &mut self.detach {
            // What went wrong was said there.
            let _ = detach.await;
        }
        self.detach = None;
    }
}

/// Plugins' `create`, bundle, launch up to OCI state created with `attach` on the way.
pub async fn create(context: &Rc<Context>, wanted: Wanted) -> Result<Box<Created>, Problem> {
    if let Some(why) = wanted.no_image {
        return Err(Problem::Io(why));
    }
    let cache = context.restart_cache(&wanted.config.name);
    let mut kept = cache.lock().await;
    let under_way = wanted.under_way.clone();
    let created = async {
        pre_start(context, &wanted).await?;
        create_with(context, wanted, &mut kept).await
    };
    under_way.unless_ended(&context.launchers, created).await
}

/// What must go well before anything is made.
async fn pre_start(context: &Context, wanted: &Wanted) -> Result<(), Problem> {
    let (service, steps) = (&wanted.config.name, &wanted.config.lifecycle.pre_start);
    if !steps.is_empty() {
        wanted.under_way.now("lifecycle.pre_start");
    }
    let gate = context.steps.all_or_none(service, "pre_start", steps).await;
    gate.map_err(|text| Problem::Hook { kind: "pre_start".into(), text })
}

async fn create_with(
    context: &Rc<Context>,
    mut wanted: Wanted,
    kept: &mut Kept,
) -> Result<Box<Created>, Problem> {
    let joined = std::mem::replace(&mut wanted.joined, Ok(Vec::new())).map_err(Problem::Io)?;
    let stdio = std::mem::replace(&mut wanted.stdio, Ok(None)).map_err(Problem::Io)?;
    let Wanted { config, under_way, ctx, .. } = &wanted;
    let launcher = context.launchers.take(under_way).await?;
    let stored = fd_store::ready(context, config).await?;
    let maker = Maker { context, wanted: &wanted, joined: &joined, stdio, stored, launcher: &launcher };
    // Taken: after a life that does not begin all is made anew.
    let (groups, earlier) = (kept.groups.take(), kept.earlier.take());
    let before = Before {
        bundled: earlier.as_ref().map(|earlier| earlier.bundled),
        groups: groups.filter(|_| !context.was_killed_in(&config.name)),
    };
    let mut basis = maker.basis(earlier, kept).await?;
    maker.pass_on_messages(&basis);
    let mut attached = None;
    let launched = launched(&maker, &before, &mut basis, &mut attached, kept).await;
    if let Some(claimant) = basis
        .created
        .claims
        .get("stdio")
        .filter(|_| launched.is_err() && attached.is_none() && basis.has_hooks)
    {
        attach_output_of_hooks(context, ctx, claimant).await;
    }
    let warnings = under_way.take_warnings();
    let Launched { process, netns, bundled } = match launched {
        Ok(launched) => launched,
        Err(Failed { problem, goes_on }) => {
            warnings.iter().for_each(|warning| tracing::warn!(service = config.name, "{warning}"));
            if goes_on {
                context.launchers.put(launcher);
            }
            return Err(problem);
        }
    };
    if basis.relayed != Relayed::Nothing {
        context.relay(config);
    }
    warnings.iter().for_each(|warning| context.warn(&config.name, warning));
    let (owners, image) = (basis.created.owners.clone(), basis.image.clone());
    *kept = Kept { groups: basis.resources, earlier: Some(basis.kept(bundled)), ..Kept::default() };
    Ok(Box::new(Created { process, netns, owners, image, gate: StartGate(launcher) }))
}

/// What is there of the life before.
struct Before {
    /// What its bundle says.
    bundled: Option<Digest>,
    /// Limits of its groups; none: others are made.
    groups: Option<Digest>,
}

/// With nothing kept of the life before.
fn order(context: &Context, wanted: &Wanted, basis: &Basis) -> Launch {
    let config = &wanted.config;
    let stdio = output(config, &basis.created);
    Launch {
        service: config.name.clone(),
        generation: wanted.generation,
        run: context.dirs.run.clone(),
        containers: context.dirs.containers(),
        io: context.dirs.io(&config.name),
        logs: context.dirs.logs(&config.name),
        sockets: config.sockets.iter().map(|socket| socket.listen.clone()).collect(),
        stored: Vec::new(),
        look: basis.assumed.clone().map(|(look, facts)| (Box::new(look), facts)),
        is_aside: false,
        bundled: None,
        stdio,
        relayed: basis.relayed,
        given: None,
        hook_log: hook_log(context, config, stdio, basis.has_hooks),
        groups_are_ready: false,
        says_on: config.says_on(),
    }
}

/// What the hooks of a launch that failed have printed is in the pipe, and nobody would come for it.
async fn attach_output_of_hooks(context: &Context, ctx: &Ctx, claimant: &str) {
    let Reads { ends, printed } = reads(&context.loop_keel, &context.dirs.io(&ctx.service), &ctx.service);
    match context.plugins.attach_output(ctx, claimant, ends.clone(), printed).await {
        Ok(()) if printed == Printed::Lost => hold(&context.loop_keel, &ctx.service, &ends),
        Ok(()) => {}
        Err(failure) => context.warn(&ctx.service, &failure.to_string()),
    }
}

/// Where a service's output goes.
fn output(config: &schema::Service, made: &plugins::Created) -> Output {
    if config.logging.driver == LogDriver::None {
        Output::Nowhere
    } else if made.claims.contains_key("stdio") {
        Output::Plugin
    } else {
        Output::Files
    }
}

/// Where the hooks of a launch write.
fn hook_log(context: &Context, config: &schema::Service, stdio: Output, has_hooks: bool) -> hooks::Log {
    match stdio {
        Output::Plugin if has_hooks => hooks::Log::Pipe(context.dirs.io(&config.name).join("stderr")),
        Output::Files if has_hooks => hooks::Log::File(context.dirs.logs(&config.name).join("stderr.log")),
        Output::Nowhere | Output::Plugin | Output::Files => hooks::Log::Nowhere,
    }
}

/// What a launching process does that was asked for a container.
const MAKING: &str = "the making of its container: its root, its volumes, its mounts";

/// What comes of a launch.
struct Launched {
    process: Process,
    netns: Option<Arc<OwnedFd>>,
    bundled: Digest,
}

struct Failed {
    problem: Problem,
    /// The launching process has told it, and can do the next launch.
    goes_on: bool,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Failed {
        Failed { problem, goes_on: false }
    }
}

async fn launched(
    maker: &Maker<'_>,
    before: &Before,
    basis: &mut Basis,
    attached: &mut Option<Vec<Lent>>,
    kept: &mut Kept,
) -> Result<Launched, Failed> {
    let Maker { context, wanted, launcher, .. } = maker;
    let under_way = &wanted.under_way;
    maker.order(before, basis, kept)?;
    loop {
        match launcher.next(under_way).await? {
            (Said::Looked(looked), found, _) if basis.assumed.is_some() => {
                let facts = looked.map_err(Problem::Config)?;
                *basis = maker.basis_of(basis, facts, &found, kept).await?;
                maker.pass_on_messages(basis);
                maker.order(before, basis, kept)?;
            }
            (Said::Unbundled, ..) if basis.spec.is_none() => {
                basis.spec = Some(maker.spec_again(basis).await?);
                maker.order(&Before { bundled: None, ..*before }, basis, kept)?;
            }
            (Said::Attach { pid, roles }, _, fds) => {
                let lent = attached.insert(lend(&wanted.ctx.service, &roles, fds));
                kept.detached().await;
                under_way.now("the plugins' attach");
                let ctx = Ctx { pid, ..wanted.ctx.clone() };
                let answer = context.plugins.attach(&ctx, lent).await.map_err(|failure| failure.to_string());
                under_way.now("the making of its container, after attach");
                launcher.send(&Order::Attached(answer), "")?;
            }
            (Said::Created { pid, oom_before, bundled }, ..) => {
                // One descriptor of each for us and all plugins.
                let of = |role| attached.iter().flatten().find_map(|lent| lent.fd_of(role));
                let pidfd =
                    of(Role::Pidfd).ok_or_else(|| Problem::Io("a container without a pidfd".into()))?;
                let (handle, started_at) = (Some(Handle::Own(pid)), Some(SystemTime::now()));
                let process = Process { pid, pidfd, handle, oom_before, started_at };
                return Ok(Launched { process, netns: of(Role::Netns), bundled });
            }
            (Said::Failed(text), ..) => {
                let problem = Problem::parse(&text).unwrap_or(Problem::Io(text));
                return Err(Failed { problem, goes_on: true });
            }
            (said, ..) => return Err(confused(&said).into()),
        }
    }
}

impl Maker<'_> {
    /// What plugins have said at `create`.
    fn pass_on_messages(&self, basis: &Basis) {
        for (plugin, message) in &basis.created.messages {
            self.context.warn(&self.wanted.config.name, &format!("plugin {plugin}: {message}"));
        }
    }

    fn order(&self, before: &Before, basis: &Basis, kept: &Kept) -> Result<(), Problem> {
        let groups_are_ready = before.groups.is_some() && before.groups == basis.resources;
        let given = self.stdio.as_ref().map(|client| client.streams.clone());
        let (bundled, is_aside) = (before.bundled, kept.is_aside);
        let made = order(self.context, self.wanted, basis);
        self.wanted.under_way.now(match &basis.assumed {
            Some((look, _)) => format!("a look at {}, then {MAKING}", look.at().display()),
            None => MAKING.to_owned(),
        });
        let stored = self.stored.iter().map(|stored| stored.number).collect();
        let order = Launch { bundled, groups_are_ready, given, is_aside, stored, ..made };
        self.send(order, basis.spec.as_ref())
    }

    /// Without a spec it is the bundle's.
    fn send(&self, order: Launch, spec: Option<&serde_json::Value>) -> Result<(), Problem> {
        let others = self.joined.iter().map(|joined| joined.pidfd.as_fd());
        let client = self.stdio.iter().map(|client| client.pidfd.as_fd());
        let given: Vec<BorrowedFd<'_>> = others.chain(client).collect();
        let text = spec.map(|spec| {
            // Plugins have seen it, so it stands there already.
            let shown = self.context.plugins.spec(self.wanted.ctx.handle);
            shown.unwrap_or_else(|| spec.to_string().into())
        });
        let order = Order::Launch(Box::new(order));
        self.launcher.send_with(&order, text.as_deref().unwrap_or_default(), &given)
    }
}

fn lend(service: &str, roles: &[u32], fds: Vec<OwnedFd>) -> Vec<Lent> {
    let known = [Role::Pidfd, Role::Netns, Role::Stdout, Role::Stderr];
    let role = |number: &u32| known.into_iter().find(|role| role.number() == *number);
    roles.iter().zip(fds).filter_map(|(number, fd)| Some(lent(service, role(number)?, fd))).collect()
}

fn confused(said: &Said) -> Problem {
    Problem::Io(format!("the launching process said what nobody asked: {said:?}"))
}

/// Plugins' `start`, release of the barrier, poststart hooks, plugins' `started`.
pub async fn start(
    context: &Rc<Context>,
    ctx: &Ctx,
    gate: Option<StartGate>,
    under_way: &UnderWay,
) -> Result<(), Problem> {
    under_way.unless_ended(&context.launchers, start_with(context, ctx, gate, under_way)).await
}

async fn start_with(
    context: &Rc<Context>,
    ctx: &Ctx,
    gate: Option<StartGate>,
    under_way: &UnderWay,
) -> Result<(), Problem> {
    let StartGate(launcher) =
        gate.ok_or_else(|| Problem::Io("the process ended before it was started".into()))?;
    under_way.is_done_by(&launcher);
    under_way.now("the plugins' start");
    context.plugins.start(ctx).await.map_err(of_plugin)?;
    under_way.now("the execution of its program");
    launcher.send(&Order::Start, "")?;
    match launcher.next(under_way).await? {
        (Said::Started(started), ..) => {
            context.launchers.put(launcher);
            started.map_err(|text| Problem::parse(&text).unwrap_or(Problem::Io(text)))?;
        }
        (said, ..) => return Err(confused(&said)),
    }
    under_way.now("the plugins' started");
    context.plugins.started(ctx).await.map_err(of_plugin)
}

/// What a service cannot do without, if a plugin is installed that claims it. Output has a way of its own: into files.
pub fn needs(service: &schema::Service) -> &'static [&'static str] {
    if service.network_mode == NetworkMode::Bridge { &["network"] } else { &[] }
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
        FailureKind::Open | FailureKind::Failed | FailureKind::Timeout | FailureKind::Waiting => {
            Problem::Io(failure.to_string())
        }
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

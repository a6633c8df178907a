//! From process start to the loop and back: folders, journal, plugins, adoption, then the loop, then the end.
use crate::life::{Context, Dirs};
use crate::one_off;
use crate::source::Source;
use crate::task::Task;
use crate::view::{Output, View};
use crate::worker::opening::{self, Configs, Opening};
use crate::worker::record;
use crate::worker::shutdown::LAST_MAX;
use crate::worker::{Begin, Outcome, Worker};
use crate::{cgroup_parent, follow, listen, log, open_files, serve, service_manager};
use rustix::fs::Mode;
use sampan_cgroups::Hierarchies;
use sampan_config::Config;
use sampan_config::schema::{LogDriver, Supervisor};
use sampan_journal::{Desired, Journal, Replay};
use sampan_keel::{Fate, Keel, LoopKeel, rundir};
use sampan_plugin_host::{self as plugins, HostEnv, Opened, Plugins};
use sampan_runtime::kernel::trust;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The worker's exit codes (docs/config.md): 0 as asked, 1 failed, 2 config or usage. The keel ends with the same.
const STOPPED: u8 = 0;
const FAILED: u8 = 1;
const CONFIG: u8 = 2;

/// How long the last lines may take to reach the terminal.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The worker, from its first breath to its exit code.
pub fn run(keel: Keel, source: Source, output: Output) -> u8 {
    crate::fence::small_heap();
    // What we and our plugins make is for nobody else, unless whoever makes it says so (fchmod). The keel keeps the umask
    // it was started with: hooks have it.
    rustix::process::umask(Mode::all() & !trust::closed(0o700));
    if let Err(error) = crate::sources::ignore_signals() {
        return fail(&format!("cannot take over signals: {error}"));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(64)
        .thread_stack_size(512 * 1024)
        .thread_keep_alive(Duration::from_secs(2))
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot make the event loop: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    // The keel takes the end of our socket for our death: it stays open until the process ends.
    std::mem::forget(keel.clone());
    let loop_keel = match keel.of_the_loop() {
        Ok(loop_keel) => loop_keel,
        Err(error) => return fail(&error.to_string()),
    };
    let mut opening = match local.block_on(&runtime, Opening::find(&loop_keel, &keel, &source)) {
        Ok(opening) => opening,
        Err(text) => {
            let _ = std::io::stderr().write_all(text.as_bytes());
            runtime.shutdown_background();
            return CONFIG;
        }
    };
    let view = match View::start(output) {
        Ok(view) => view,
        Err(error) => return fail(&format!("cannot start the output thread: {error}")),
    };
    log::install(view.clone(), opening.supervisor());
    opening.tell();
    let code = match local.block_on(&runtime, start(loop_keel, keel, source, opening, view.clone())) {
        Ok(code) => code,
        Err(text) => {
            tracing::error!("{text}");
            FAILED
        }
    };
    view.flush(FLUSH_MAX);
    // Threads of the pool may hang in a system call of a dead file system: nothing waits for them.
    runtime.shutdown_background();
    code
}

fn fail(text: &str) -> u8 {
    let _ = writeln!(std::io::stderr(), "sampand: {text}");
    FAILED
}

async fn start(
    keel: LoopKeel,
    pool_keel: Keel,
    source: Source,
    opening: Opening,
    view: View,
) -> Result<u8, String> {
    let supervisor = opening.supervisor().clone();
    let Claimed { claim, hierarchies, cgroup_parent, journal, replay, desired } = claim(&supervisor, &keel)?;
    let lives = tell_of_predecessor(&keel)?;
    let (send, messages) = mpsc::unbounded_channel();
    let reason = if lives == 0 && !claim.taken_over { "start" } else { "crash" };
    let configs = opening.configs(&source, &replay);
    if lives == 0 {
        open_files::tell(configs.lasting().services.len());
    }
    let opened = open_plugins(configs.lasting(), &pool_keel, &claim.boot_id, reason).await?;
    crate::asks::forward(opened.asks, opened.back, send.clone());
    let plugins = Arc::new(opened.plugins);
    let Configs { first: config, then } = configs;
    let one_offs = one_off::kept::load(&config.supervisor.run_dir, &claim.boot_id);
    let marked = one_off::kept::marked(&config.supervisor.state_dir);
    view.names(config.services.keys().map(String::as_str));
    let follow = follow::wanted(&config, &view);
    let logged = config.services.values().any(|service| service.logging.driver != LogDriver::None);
    let dirs = Dirs { run: config.supervisor.run_dir.clone(), state: config.supervisor.state_dir.clone() };
    let context = Rc::new(Context::new(keel.clone(), pool_keel, plugins, hierarchies, cgroup_parent, dirs)?);
    let mut worker = Worker::new(Begin {
        context: context.clone(),
        config,
        one_offs,
        source,
        send: send.clone(),
        journal,
        desired,
        lives: lives + 1,
        run: record::run().map_err(|error| format!("cannot read when the keel started: {error}"))?,
    });
    worker.adopt(&replay);
    worker.sweep_one_offs(&replay, marked);
    worker.synchronize().await;
    let (ending, orders) = keel.orders().map_err(|e| e.to_string())?;
    // First, so that nothing is started in a shutdown that goes on.
    worker.go_on(ending);
    worker.begin(then)?;
    worker.lets_in(serve::start(&supervisor, &keel, send.clone()).map_err(|e| e.to_string())?);
    worker.serve_metrics();
    crate::sources::orders(orders, &send).map_err(|e| format!("cannot hear the keel's orders: {e}"))?;
    let following = (follow && logged).then(|| follow::start(&context, &view));
    keel.ready().map_err(|e| e.to_string())?;
    service_manager::is_ready();

    let (outcome, mut worker) = worker.run(messages).await;
    worker.save_desired();
    worker.end_fetches();
    context.launchers.close().await;
    context.steps.close().await;
    let code = end(outcome, &mut worker, &supervisor, &keel, following).await;
    Ok(code)
}

/// What must be ours before anything is begun, and what an earlier worker left on disk.
struct Claimed {
    claim: rundir::Claim,
    hierarchies: &'static Hierarchies,
    cgroup_parent: String,
    journal: Journal,
    replay: Replay,
    desired: Desired,
}

fn claim(supervisor: &Supervisor, keel: &Keel) -> Result<Claimed, String> {
    let claim = rundir::claim(&supervisor.run_dir, &supervisor.state_dir, keel).map_err(|e| e.to_string())?;
    let hierarchies = Hierarchies::detect().map_err(|e| e.to_string())?;
    let cgroup_parent = cgroup_parent::find(supervisor, hierarchies, claim.holder);
    rundir::claim_groups(&cgroup_parent, keel).map_err(|e| e.to_string())?;
    let (journal, replay) = Journal::open(&supervisor.run_dir, &claim.boot_id)
        .map_err(|(path, error)| format!("cannot open {}: {error}", path.display()))?;
    let (desired, warning) = Desired::load(&supervisor.state_dir);
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    for note in &replay.notes {
        tracing::warn!("{note}");
    }
    Ok(Claimed { claim, hierarchies, cgroup_parent, journal, replay, desired })
}

/// How many workers came before this one.
fn tell_of_predecessor(keel: &LoopKeel) -> Result<u32, String> {
    let (lives, fate) = keel.predecessor();
    match fate {
        Fate::First => {
            opening::let_go(keel)?;
            sampan_bundle::host_warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Fate::Ended(exit) => {
            tracing::warn!(code = exit.code(), "the worker before this one died; containers ran on")
        }
        Fate::Hung => tracing::warn!("the worker before this one hung and was ended; containers ran on"),
    }
    Ok(lives)
}

/// The way out: what is stopped is taken down, what is kept stays for the next sampand.
async fn end(
    outcome: Outcome,
    worker: &mut Worker,
    supervisor: &Supervisor,
    keel: &LoopKeel,
    following: Option<Task>,
) -> u8 {
    let context = worker.context();
    if outcome == Outcome::Stopped {
        worker.forget_one_offs();
        context.all_is_done(LAST_MAX).await;
        for failure in context.plugins.shutdown().await {
            tracing::warn!("{failure}");
        }
    }
    drop(following);
    worker.flush_desired().await;
    worker.close_metrics().await;
    match outcome {
        Outcome::Stopped => {
            tracing::info!("everything is stopped");
            // The answers must reach their clients before the socket goes.
            worker.say_farewell().await;
            leave(&context, supervisor);
            STOPPED
        }
        Outcome::Left => {
            let left = worker.left().join(", ");
            tracing::error!("not all is stopped; the next sampand goes on with what is left of {left}");
            worker.say_farewell().await;
            listen::close(&supervisor.socket, keel);
            FAILED
        }
        Outcome::Kept => {
            listen::close(&supervisor.socket, keel);
            STOPPED
        }
    }
}

/// Removes what is ours on this host.
fn leave(context: &Context, supervisor: &Supervisor) {
    let released = context.loop_keel.release();
    // The holder was in it, where systemd is init.
    crate::life::remove_cgroup_parent(context.hierarchies, &context.cgroup_parent);
    let left = std::fs::remove_file(&supervisor.socket)
        .and_then(|()| rundir::leave(&supervisor.run_dir, &context.cgroup_parent, &context.loop_keel));
    if let Err(error) = left {
        tracing::warn!("cannot clear {}: {error}", supervisor.run_dir.display());
    }
    if let Err(error) = released {
        tracing::warn!("{error}");
    }
}

async fn open_plugins(
    config: &Config,
    keel: &Keel,
    boot_id: &str,
    reason: &'static str,
) -> Result<Opened, String> {
    let mut configs = plugins::discover(&config.supervisor.plugin_dir, &config.plugins);
    // The networks of config.toml are the network plugin's to make.
    let networks = serde_json::to_value(&config.networks).unwrap_or_default();
    for plugin in configs.iter_mut().filter(|plugin| plugin.name == "network") {
        if let Some(table) = plugin.config.as_object_mut() {
            table.insert("networks".into(), networks.clone());
        }
    }
    let env = HostEnv {
        run_dir: config.supervisor.run_dir.clone(),
        state_dir: config.supervisor.state_dir.clone(),
        boot_id: boot_id.to_owned(),
        reason,
        keep: Arc::new(keel.clone()),
    };
    let opened =
        Plugins::open(&configs, env).await.map_err(|error| format!("cannot open plugins: {error}"))?;
    for failure in &opened.failures {
        tracing::error!("{failure}");
    }
    Ok(opened)
}

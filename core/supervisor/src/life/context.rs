//! What jobs work with: the keel, the plugins, the folders. Shared by reference count on the loop's one thread; only the
//! keel's client and plain data go to the pool of blocking threads.
//!
//! Absent on purpose: the config and a way to the loop. A job has what it needs from whoever started it, and returns a value.
use super::{Launchers, Pulls, RestartCache, fd_store, relayed, sockets};
use crate::hooks;
use crate::inside::{self, Inside};
use crate::one_off;
use crate::probe::Exec;
use crate::relay::Relays;
use crate::request::failure;
use crate::scope;
use crate::sd_notify;
use crate::steps::{self, Steps};
use sampan_api as api;
use sampan_cgroups::Hierarchies;
use sampan_config::schema::Service;
use sampan_keel::{Child, Keel, LoopKeel, rundir};
use sampan_plugin_host::{Ctx, Failure, Plugins};
use sampan_runtime::store::dir::Root;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Where things are (docs/config.md, folders).
#[derive(Debug, Clone)]
pub struct Dirs {
    pub run: PathBuf,
    pub state: PathBuf,
}

impl Dirs {
    /// The runtime's root: `sampan --root` on it sees our containers.
    pub fn containers(&self) -> PathBuf {
        rundir::containers(&self.run)
    }

    pub fn bundle(&self, service: &str) -> PathBuf {
        sampan_bundle::folder(&self.run, service)
    }

    pub fn io(&self, service: &str) -> PathBuf {
        self.run.join("io").join(service)
    }

    pub fn logs(&self, service: &str) -> PathBuf {
        self.state.join("logs").join(service)
    }
}

pub struct Context {
    /// The loop's own connection.
    pub loop_keel: LoopKeel,
    /// What threads of the pool share.
    pool_keel: Keel,
    pub plugins: Arc<Plugins>,
    pub hierarchies: &'static Hierarchies,
    pub dirs: Dirs,
    /// Where the containers' state folders are.
    pub containers: Root,
    /// Runs health checks' commands.
    pub exec: Arc<dyn Exec>,
    pub steps: Steps,
    /// Absolute path below which our cgroups are, in every hierarchy.
    pub cgroup_parent: String,
    /// Warnings that were given: each is given once.
    warned: RefCell<BTreeSet<String>>,
    pub launchers: Rc<Launchers>,
    /// Turns to kill all of a service's groups.
    pub kills: Semaphore,
    pub pulls: Rc<Pulls>,
    pub relays: Relays,
    kept: RefCell<BTreeMap<String, RestartCache>>,
    /// Services whose groups saw a kill of all: the next life does not take them over (`Cgroup::kill_if_any` says why).
    killed_in: RefCell<BTreeSet<String>>,
    /// What is done for services that are at rest or gone. Nobody waits for it but the end of sampand.
    aside: TaskTracker,
}

/// A service, or a one-off, that is to be forgotten.
#[derive(Debug)]
pub struct Gone {
    pub name: String,
    /// Whose ids go with it.
    pub ids: Option<String>,
    /// Where its log is. A service's stays.
    pub log: PathBuf,
}

impl Gone {
    fn remove(self, keel: &Keel, io: &Path, Dirs { run, state }: &Dirs) {
        let Gone { name, ids, log } = self;
        super::drop_stdio(keel, io, &name);
        sockets::let_go_of_all_but(keel, &name, &[]);
        sd_notify::socket::forget(keel, run, &name);
        if let Err(error) = fd_store::let_go(keel, run, &name) {
            tracing::error!(service = name, "what was kept for it (fd_store_max) stays open: {error}");
        }
        let image = sampan_bundle::image::forget(state, &name);
        let ids = ids.map_or(Ok(()), |owner| sampan_bundle::userns::forget(state, &owner));
        for why in [image, ids].into_iter().filter_map(Result::err) {
            tracing::warn!(service = name, "{why}");
        }
        if one_off::kept::is_marked(state, &name) {
            let log = match std::fs::remove_dir_all(&log) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
            if let Err(error) = log.and_then(|()| one_off::kept::unmark(state, &name)) {
                tracing::warn!(service = name, "cannot remove what is left of it: {error}");
            }
        }
    }
}

impl Context {
    pub fn new(
        loop_keel: LoopKeel,
        pool_keel: Keel,
        plugins: Arc<Plugins>,
        hierarchies: &'static Hierarchies,
        cgroup_parent: String,
        dirs: Dirs,
    ) -> Result<Context, String> {
        let containers = Root::new(Some(&dirs.containers())).map_err(|error| error.to_string())?.held();
        let launchers = Rc::new(Launchers::new(loop_keel.clone(), pool_keel.clone()));
        Ok(Context {
            pulls: Rc::new(Pulls::new(launchers.clone(), dirs.state.clone())),
            cgroup_parent,
            exec: Arc::new(Inside { keel: pool_keel.clone(), containers: dirs.containers() }),
            steps: Steps::new(pool_keel.clone(), dirs.containers()),
            launchers,
            loop_keel,
            pool_keel,
            kills: Semaphore::new(crate::open_files::kills_at_once()),
            plugins,
            hierarchies,
            dirs,
            relays: Relays::default(),
            containers,
            warned: RefCell::default(),
            kept: RefCell::default(),
            killed_in: RefCell::default(),
            aside: TaskTracker::new(),
        })
    }

    /// For a thread of the pool to take with it. The loop would wait on it for whoever launches.
    pub fn keel_for_the_pool(&self) -> Keel {
        self.pool_keel.clone()
    }

    /// Says it once, however often the service starts.
    pub fn warn(&self, service: &str, warning: &str) {
        if self.warned.borrow_mut().insert(format!("{service}: {warning}")) {
            tracing::warn!(service, "{warning}");
        }
    }

    /// The service's cgroup, relative to each hierarchy's mount.
    pub fn cgroup(&self, service: &str) -> String {
        sampan_bundle::cgroups_path(&self.cgroup_parent, service)
    }

    /// What the cgroup says before it is removed: OOM kills so far, and whether anybody is left.
    pub fn last_look(&self, name: &str) -> (u64, bool) {
        super::last_look(self.hierarchies, &self.cgroup(name))
    }

    /// Begins to pass on the output of a service that clients may be attached to; of any other, nothing is done.
    pub fn relay(&self, config: &Service) {
        let (name, has_log) = (&config.name, config.logging.driver != sampan_config::schema::LogDriver::None);
        let begun = match relayed::take(&self.loop_keel, &self.dirs, name, config.stdin_open, has_log) {
            Ok(Some(parts)) => self.relays.begin(name, parts).map_err(|error| error.to_string()),
            Ok(None) => Ok(()),
            Err(problem) => Err(problem.to_string()),
        };
        if let Err(error) = begun {
            tracing::error!(
                service = name,
                "its output is not passed on, and nobody can be attached: {error}"
            );
        }
    }

    /// Says what went wrong beside the way.
    pub fn report(&self, service: &str, failures: &[Failure]) {
        for failure in failures {
            tracing::warn!(service, "{failure}");
        }
    }

    pub async fn read_logs(
        &self,
        services: Vec<String>,
        follow: bool,
        tail: Option<u64>,
    ) -> Result<OwnedFd, api::Failure> {
        let Some(plugin) = self.plugins.claimant("stdio") else {
            return Err(failure(
                "refused",
                format!("no plugin keeps logs; the output is in {}", self.dirs.state.join("logs").display()),
            ));
        };
        let services = if services.is_empty() { serde_json::Value::Null } else { services.into() };
        let body =
            serde_json::json!({ "verb": "read", "services": services, "follow": follow, "tail": tail });
        match self.plugins.control(&plugin, &body).await {
            Ok((_, fds)) => fds
                .into_iter()
                .next()
                .ok_or_else(|| failure("internal", format!("plugin {plugin} returned no log stream"))),
            Err(error) => Err(failure("refused", error.to_string())),
        }
    }

    /// The config.json of a life; null where there is none any more.
    pub fn spec_of(&self, service: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.dirs.bundle(service).join("config.json"));
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Writes changed limits into what runs, and tells the plugins.
    pub fn update_resources(&self, ctx: Ctx, service: &Service, changed: &dyn Fn(&str) -> bool) {
        let resources = sampan_bundle::live_resources(&service.resources, changed);
        let (hierarchies, cgroup, name) = (self.hierarchies, self.cgroup(&service.name), ctx.service.clone());
        let plugins = self.plugins.clone();
        tokio::task::spawn_blocking(move || {
            match super::update(hierarchies, &cgroup, &resources.to_string()) {
                Ok(warnings) => {
                    warnings.iter().for_each(|warning| tracing::warn!(service = name, "{warning}"));
                    plugins.notify_updated(&ctx, &serde_json::json!(resources));
                }
                Err(error) => tracing::error!(service = name, "limits not changed: {error}"),
            }
        });
    }

    /// The keel has another holder, which is not where it is to live.
    pub fn place_holder(&self) {
        let (keel, run_dir, hierarchies) =
            (self.keel_for_the_pool(), self.dirs.run.clone(), self.hierarchies);
        tokio::task::spawn_blocking(move || scope::place_another(&keel, &run_dir, hierarchies));
    }

    /// What the service keeps from one life to the next. Whoever works on that holds the lock: a life is made, cleaned up or
    /// what it kept is let go of, one after the other.
    pub fn restart_cache(&self, name: &str) -> RestartCache {
        self.kept.borrow_mut().entry(name.to_owned()).or_default().clone()
    }

    pub fn note_kill(&self, name: &str) {
        self.killed_in.borrow_mut().insert(name.to_owned());
    }

    /// Whether its groups saw a kill of all since this was asked last.
    pub fn was_killed_in(&self, name: &str) -> bool {
        self.killed_in.borrow_mut().remove(name)
    }

    /// Does something for a service that is at rest or gone.
    pub fn aside(&self, work: impl Future<Output = ()> + 'static) {
        drop(self.aside.spawn_local(work));
    }

    /// Returns when all of that is done, or after `limit`.
    pub async fn all_is_done(&self, limit: Duration) {
        self.aside.close();
        if tokio::time::timeout(limit, self.aside.wait()).await.is_err() {
            let left = self.aside.len();
            tracing::warn!(
                "what services had kept is not all removed: {left} of them are not through with it"
            );
        }
    }

    /// A service has left for good: what the run folder has of it goes, and what a one-off has anywhere. The next life of that name
    /// waits for it.
    pub fn forget(self: &Rc<Self>, gone: Gone) {
        let prefix = format!("{}: ", gone.name);
        self.warned.borrow_mut().retain(|warning| !warning.starts_with(&prefix));
        self.killed_in.borrow_mut().remove(&gone.name);
        let (context, cache) = (self.clone(), self.restart_cache(&gone.name));
        self.aside(async move {
            let turn = cache.lock().await;
            context.plugins.forget(&gone.name).await;
            let (io, keel) = (context.dirs.io(&gone.name), context.keel_for_the_pool());
            let (dirs, name) = (context.dirs.clone(), gone.name.clone());
            let removed = tokio::task::spawn_blocking(move || gone.remove(&keel, &io, &dirs)).await;
            if let Err(error) = removed {
                tracing::error!(service = name, "cannot remove what is left of it: {error}");
            }
            drop(turn);
            // Unless a next life has it already.
            if Rc::strong_count(&cache) == 2 {
                context.kept.borrow_mut().remove(&name);
            }
        });
    }

    /// Notes for a sampand after a reboot that there may be something of a one-off, before there is.
    pub fn mark_one_off(&self, name: &str) {
        self.note_one_off(name, one_off::kept::mark);
    }

    /// What there is under that name is a service's by now.
    pub fn unmark_one_off(&self, name: &str) {
        self.note_one_off(name, one_off::kept::unmark);
    }

    fn note_one_off(&self, name: &str, note: fn(&Path, &str) -> std::io::Result<()>) {
        let (cache, state, name) = (self.restart_cache(name), self.dirs.state.clone(), name.to_owned());
        self.aside(async move {
            let _turn = cache.lock().await;
            let noted = tokio::task::spawn_blocking(move || note(&state, &name));
            if let Ok(Err(error)) = noted.await {
                tracing::warn!(
                    "what a one-off leaves over a reboot may stay, or a service's be taken for it: {error}"
                );
            }
        });
    }

    /// Another config holds: what it does not name any more is closed here, and in the service at its next start.
    pub fn let_go_of_sockets(&self, old: &Service, new: &Service) {
        if old.sockets.iter().all(|socket| new.sockets.iter().any(|other| other.listen == socket.listen)) {
            return;
        }
        let (keel, name, wanted) = (self.keel_for_the_pool(), new.name.clone(), new.sockets.clone());
        tokio::task::spawn_blocking(move || sockets::let_go_of_all_but(&keel, &name, &wanted));
    }

    /// Where hooks of a service write now, after a life or without one.
    pub fn hook_log(&self, service: &Service) -> hooks::Log {
        if service.logging.driver == sampan_config::schema::LogDriver::None {
            hooks::Log::Nowhere
        } else if self.plugins.claimant("stdio").is_some() {
            hooks::Log::Pipe(self.dirs.io(&service.name).join("stderr"))
        } else {
            hooks::Log::File(self.dirs.logs(&service.name).join("stderr.log"))
        }
    }

    /// Goes on with the poststart hooks of a container that an earlier worker started.
    pub fn finish_poststart(&self, service: &Service, generation: u64) {
        let (keel, containers, log) =
            (self.keel_for_the_pool(), self.dirs.containers(), self.hook_log(service));
        let name = service.name.clone();
        tokio::task::spawn_blocking(move || {
            hooks::go_on(&keel, &containers, &name, &super::tag(&name, generation), &log)
        });
    }

    /// A child of the keel that nobody waits for: killed and reaped.
    pub fn end_stray(&self, child: Child) {
        let keel = self.keel_for_the_pool();
        tokio::task::spawn_blocking(move || {
            if steps::is_step(&child) {
                inside::ask_overseer(&child.pidfd);
            }
            super::end(&keel, &child);
        });
    }

    /// A worker before us was interrupted when it let go of what a service had kept.
    pub fn let_go(self: &Rc<Self>, name: &str) {
        let (context, name) = (self.clone(), name.to_owned());
        self.aside(async move {
            if let Err(problem) = super::let_go(&context, &name, None).await {
                tracing::warn!(service = name, "cannot remove what it kept: {problem}");
            }
        });
    }
}

//! What a life leaves and how it goes: plugins' `detach`, processes, hooks, state, groups, bundle.
use super::Context;
use super::basis::Earlier;
use super::groups::{KILL_MAX, group, identity, kill_all};
use super::process::end;
use super::relayed::{self, Relayed};
use super::{Kept, fd_store, of_io, on_pool, tag};
use crate::hooks;
use sampan_bundle as bundle;
use sampan_cgroups::Hierarchies;
use sampan_config::schema;
use sampan_keel::{Child, Keel};
use sampan_plugin_host::Ctx;
use sampan_runtime::error::Kind;
use sampan_runtime::launch::HookRunner;
use sampan_runtime::store::dir::{Lock, Root};
use sampan_runtime::store::state::State;
use sampan_service::Problem;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What is left of a life.
#[derive(Debug)]
pub struct Cleanup {
    pub ctx: Ctx,
    pub config: Arc<schema::Service>,
    pub generation: u64,
    /// A next life is due: groups and bundle stay for it.
    pub keep: bool,
}

/// `detach`, the container's order, poststop hooks, `removed`. Does no harm where there is nothing.
pub async fn cleanup(context: &Rc<Context>, order: Cleanup) -> Result<(), Problem> {
    let Cleanup { ctx, config, generation, keep } = order;
    let cache = context.restart_cache(&config.name);
    let mut kept = cache.lock().await;
    context.launchers.hangs(&config.name)?;
    kept.detached().await;
    if keep {
        context.launchers.expect();
    }
    // Hooks, steps and whoever is attached come after plugins.
    let is_plain = |earlier: &Earlier| !earlier.has_hooks && earlier.relayed == Relayed::Nothing;
    let is_beside =
        keep && kept.earlier.as_ref().is_some_and(is_plain) && config.lifecycle.post_stop.is_empty();
    // Its groups are empty, and with its init its namespace of processes has ended: no more is left than its folder.
    let is_bare = is_beside && kept.earlier.as_ref().is_some_and(|earlier| earlier.own_pids);
    let (end, ended) = oneshot::channel();
    if is_beside {
        kept.detach = Some(tokio::task::spawn_local(detach_beside(context.clone(), ctx.clone(), ended)));
    } else {
        context.relays.finish(&config.name).await;
        context.report(&config.name, &context.plugins.detach(&ctx, !keep).await);
        context.relays.close(&config.name);
    }
    if !keep {
        *kept = Kept::default();
    }
    if is_bare && context.containers.put_aside(&config.name).map_err(of_io)? {
        kept.is_aside = true;
        let _ = end.send(());
        return Ok(());
    }
    let scene = Scene::of(context, &config.name, generation, context.hook_log(&config));
    on_pool(move || {
        scene.end_container()?;
        if relayed::are_left(&scene.io) {
            relayed::let_go(&scene.keel, &scene.io, &scene.name);
        }
        if keep { Ok(()) } else { scene.remove() }
    })
    .await?;
    context.steps.each(&config.name, "post_stop", &config.lifecycle.post_stop, None).await;
    if !is_beside || end.send(()).is_err() {
        context.plugins.notify_removed(&ctx);
    }
    Ok(())
}

/// Plugins let go of a life while it is removed and the next one is prepared: no more than that, `create` waits for it. `ended`: it
/// is removed.
async fn detach_beside(context: Rc<Context>, ctx: Ctx, ended: oneshot::Receiver<()>) {
    context.report(&ctx.service, &context.plugins.detach(&ctx, false).await);
    if ended.await.is_ok() {
        context.plugins.notify_removed(&ctx);
    }
}

/// No next life comes after a cleanup that kept something for it.
pub async fn let_go(context: &Rc<Context>, name: &str, ctx: Option<&Ctx>) -> Result<(), Problem> {
    let cache = context.restart_cache(name);
    let mut kept = cache.lock().await;
    kept.detached().await;
    match ctx {
        Some(ctx) => context.report(name, &context.plugins.release(ctx).await),
        None => context.plugins.forget(name).await,
    }
    *kept = Kept::default();
    let scene = Scene::of(context, name, 0, hooks::Log::Nowhere);
    on_pool(move || scene.remove()).await
}

/// Ends and removes what is left of a service that has no entry any more.
pub async fn discard(
    context: &Rc<Context>,
    name: &str,
    generation: u64,
    child: Option<Child>,
) -> Result<(), Problem> {
    let scene = Scene::of(context, name, generation, hooks::Log::Nowhere);
    // The config may name it again at any time: its next life waits.
    let cache = context.restart_cache(name);
    let mut kept = cache.lock().await;
    kept.detached().await;
    on_pool(move || {
        let groups = identity(scene.hierarchies, &scene.cgroup);
        kill_all(scene.hierarchies, &scene.cgroup, groups, None).map_err(of_io)?;
        if let Some(child) = child {
            end(&scene.keel, &child);
        }
        scene.end_container()?;
        scene.remove()
    })
    .await
}

/// Where a life is to be removed.
struct Scene {
    keel: Keel,
    hierarchies: &'static Hierarchies,
    containers: Root,
    run: PathBuf,
    io: PathBuf,
    cgroup: String,
    name: String,
    generation: u64,
    log: hooks::Log,
}

impl Scene {
    fn of(context: &Context, name: &str, generation: u64, log: hooks::Log) -> Scene {
        Scene {
            keel: context.keel_for_the_pool(),
            hierarchies: context.hierarchies,
            containers: context.containers.clone(),
            run: context.dirs.run.clone(),
            io: context.dirs.io(name),
            cgroup: context.cgroup(name),
            name: name.to_owned(),
            generation,
            log,
        }
    }

    /// The container's processes, hooks and state, and what is aside of the one before. Its groups are empty after this.
    fn end_container(&self) -> Result<(), Problem> {
        let name = self.name.as_str();
        self.containers.remove_aside(name).map_err(of_io)?;
        match self.containers.open(name) {
            Ok(folder) => {
                folder.lock(Lock::Exclusive, Some(KILL_MAX)).map_err(of_io)?;
                // A state that cannot be read is no reason to keep the container.
                let mut state = State::load(&folder).unwrap_or_default();
                // Hooks are in the state before the first of them runs.
                let without_hooks = state.as_ref().is_some_and(|state| state.hooks.is_empty());
                if !without_hooks {
                    hooks::see_out(&self.keel, name, state.as_mut(), Some(&folder), &self.log);
                }
                let log =
                    state.as_ref().filter(|state| !state.hooks.is_empty()).and_then(|_| self.log.open());
                let mut launcher = self.keel.launcher(&tag(name, self.generation));
                let mut runner = HookRunner { spawn: &mut launcher, log: log.as_ref().map(AsFd::as_fd) };
                let claim = state.as_ref().and_then(|state| state.cgroup.as_ref()?.claim);
                let killed = claim.is_some();
                let destroyed = sampan_runtime::destroy::destroy(folder, state, &mut runner);
                for warning in destroyed.map_err(of_io)? {
                    tracing::warn!(service = name, "{warning}");
                }
                if killed {
                    return Ok(());
                }
            }
            Err(error) if error.kind == Kind::Missing => {
                hooks::see_out(&self.keel, name, None, None, &self.log);
            }
            Err(error) => return Err(of_io(error)),
        }
        // A launch that did not get as far as a state may have somebody in its groups.
        match group(self.hierarchies, &self.cgroup) {
            Ok(group) if group.exists() => match group.kill_if_any(KILL_MAX).map_err(of_io)? {
                true => group.remove().map_err(of_io),
                false => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// What is kept between two lives.
    fn remove(&self) -> Result<(), Problem> {
        self.containers.remove_aside(&self.name).map_err(of_io)?;
        fd_store::let_go(&self.keel, &self.run, &self.name).map_err(of_io)?;
        if let Ok(group) = group(self.hierarchies, &self.cgroup) {
            group.remove().map_err(of_io)?;
        }
        bundle::remove(&self.run, &self.name).map_err(of_io)
    }
}

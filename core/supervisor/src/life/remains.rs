//! What a life leaves and how it goes: plugins' `detach`, processes, hooks, state, groups, bundle.
use super::groups::{KILL_MAX, group, kill_all};
use super::process::end;
use super::{of_io, on_pool, tag};
use crate::bundle;
use crate::config::schema;
use crate::executor::Ground;
use crate::hooks;
use crate::keel::Keel;
use crate::plugins::Ctx;
use sampan_cgroups::Hierarchies;
use sampan_runtime::launch::Hands;
use sampan_runtime::root::{self, Lock, Root};
use sampan_runtime::state::State;
use sampan_service::Problem;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// What is left of a life.
#[derive(Debug)]
pub struct Remains {
    pub ctx: Ctx,
    pub config: Arc<schema::Service>,
    pub generation: u64,
    pub keep: bool,
}

/// `detach`, the container's remains, poststop hooks, `removed`. Does no harm where there is nothing.
pub async fn cleanup(ground: &Rc<Ground>, remains: Remains) -> Result<(), Problem> {
    let Remains { ctx, config, generation, keep } = remains;
    ground.report(&config.name, &ground.plugins.detach(&ctx, !keep).await);
    let place = Scene::of(ground, &config.name, generation, ground.hook_log(&config));
    on_pool(move || place.remove()).await?;
    ground.plugins.notify_removed(&ctx);
    Ok(())
}

/// Ends and removes what is left of a service that has no entry any more.
pub async fn discard(
    ground: &Rc<Ground>,
    name: &str,
    generation: u64,
    pid: Option<i32>,
) -> Result<(), Problem> {
    let scene = Scene::of(ground, name, generation, hooks::Log::Nowhere);
    on_pool(move || {
        kill_all(scene.hierarchies, &scene.cgroup, None).map_err(of_io)?;
        if let Some(pid) = pid {
            end(&scene.keel, pid);
        }
        scene.remove()
    })
    .await
}

/// Where a life is to be removed.
struct Scene {
    keel: Keel,
    hierarchies: &'static Hierarchies,
    containers: PathBuf,
    run: PathBuf,
    cgroup: String,
    name: String,
    generation: u64,
    log: hooks::Log,
}

impl Scene {
    fn of(ground: &Ground, name: &str, generation: u64, log: hooks::Log) -> Scene {
        Scene {
            keel: ground.keel.clone(),
            hierarchies: ground.hierarchies,
            containers: ground.dirs.containers(),
            run: ground.dirs.run.clone(),
            cgroup: ground.cgroup(name),
            name: name.to_owned(),
            generation,
            log,
        }
    }

    /// The container's state and hooks, its groups, its bundle.
    fn remove(&self) -> Result<(), Problem> {
        let name = self.name.as_str();
        let root = Root::new(Some(&self.containers)).map_err(of_io)?;
        match root.open(name) {
            Ok(folder) => {
                folder.lock(Lock::Exclusive, Some(KILL_MAX)).map_err(of_io)?;
                // A state that cannot be read is no reason to keep the container.
                let mut state = State::load(&folder).unwrap_or_default();
                hooks::see_out(&self.keel, name, state.as_mut(), Some(&folder), &self.log);
                let log =
                    state.as_ref().filter(|state| !state.hooks.is_empty()).and_then(|_| self.log.open());
                let mut launcher = self.keel.launcher(&tag(name, self.generation));
                let mut hands = Hands { spawn: &mut launcher, log: log.as_ref().map(AsFd::as_fd) };
                let destroyed = sampan_runtime::destroy::destroy(folder, state, &mut hands);
                for warning in destroyed.map_err(of_io)? {
                    tracing::warn!(service = name, "{warning}");
                }
            }
            Err(root::Error::Missing { .. }) => {
                hooks::see_out(&self.keel, name, None, None, &self.log);
            }
            Err(error) => return Err(of_io(error)),
        }
        // A launch that did not get as far as a state may have made its groups.
        if let Ok(group) = group(self.hierarchies, &self.cgroup) {
            group.kill(KILL_MAX).and_then(|()| group.remove()).map_err(of_io)?;
        }
        bundle::remove(&self.run, name, self.generation).map_err(of_io)
    }
}

//! What a life leaves and how it goes: plugins' `detach`, processes, hooks, state, groups, bundle.
use super::groups::{KILL_MAX, group, kill_all};
use super::process::end;
use super::{of_io, on_pool};
use crate::bundle;
use crate::config::schema;
use crate::executor::Ground;
use crate::plugins::Ctx;
use sampan_cgroups::Hierarchies;
use sampan_runtime::root::{self, Lock, Root};
use sampan_runtime::state::State;
use sampan_service::Problem;
use std::path::Path;
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
    let (containers, run) = (ground.dirs.containers(), ground.dirs.run.clone());
    let (hierarchies, cgroup) = (ground.hierarchies, ground.cgroup(&config.name));
    let name = config.name.clone();
    on_pool(move || remove(hierarchies, &containers, &run, &cgroup, &name, generation)).await?;
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
    let (keel, hierarchies) = (ground.keel.clone(), ground.hierarchies);
    let (containers, run) = (ground.dirs.containers(), ground.dirs.run.clone());
    let (cgroup, name) = (ground.cgroup(name), name.to_owned());
    on_pool(move || {
        kill_all(hierarchies, &cgroup, None).map_err(of_io)?;
        if let Some(pid) = pid {
            end(&keel, pid);
        }
        remove(hierarchies, &containers, &run, &cgroup, &name, generation)
    })
    .await
}

/// The container's state and hooks, its groups, its bundle.
fn remove(
    hierarchies: &Hierarchies,
    containers: &Path,
    run: &Path,
    cgroup: &str,
    name: &str,
    generation: u64,
) -> Result<(), Problem> {
    let root = Root::new(Some(containers)).map_err(of_io)?;
    match root.open(name) {
        Ok(folder) => {
            folder.lock(Lock::Exclusive, Some(KILL_MAX)).map_err(of_io)?;
            // A state that cannot be read is no reason to keep the container.
            let state = State::load(&folder).unwrap_or_default();
            for warning in sampan_runtime::destroy::destroy(folder, state.as_ref()).map_err(of_io)? {
                tracing::warn!(service = name, "{warning}");
            }
        }
        Err(root::Error::Missing { .. }) => {}
        Err(error) => return Err(of_io(error)),
    }
    // A launch that did not get as far as a state may have made its groups.
    if let Ok(group) = group(hierarchies, cgroup) {
        group.kill(KILL_MAX).and_then(|()| group.remove()).map_err(of_io)?;
    }
    bundle::remove(run, name, generation).map_err(of_io)
}

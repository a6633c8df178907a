//! The config as it was applied, in the run folder: what sampand goes on with, whoever of it dies and whatever config.toml
//! says meanwhile. Only a start of sampand, `apply`, `up` and SIGHUP read config.toml.
//!
//! What is kept are the loader's inputs (`sampan_config::Inputs`), not its result: the same loader makes the same config
//! of them, with the same origins. They may hold passwords of an env_file, so the file is closed to others, and goes with
//! the run folder. It is written before a config is applied, and renamed when the transitions that follow are on record.
use sampan_config::schema::{Lasting, Service};
use sampan_config::{Inputs, Loaded, again, diagnostic};
use sampan_journal::atomic::Prepared;
use sampan_journal::{Record, Replay};
use sampan_keel::rundir;
use sampan_runtime::kernel::trust::{self, Group};
use sampan_service::Facts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub const NAME: &str = rundir::APPLIED;
const VERSION: u32 = 2;
/// Thousands of services have a few MB, once for each config that a life still goes by.
const BYTES_MAX: u64 = 256 << 20;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Applied {
    version: u32,
    /// The boot that it is of.
    boot: String,
    inputs: Inputs,
    /// Of sampand's start, as it came into force: it may differ from what config.toml said (`opening::stay`).
    lasting: Lasting,
    /// Earlier configs that lives still go by, which have been asked to end.
    former: Vec<Former>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Former {
    /// The generation of each service that began with it.
    lives: BTreeMap<String, u64>,
    inputs: Inputs,
}

/// The lives that there are when a config is applied: name and generation.
pub type Lives = BTreeMap<String, u64>;

impl Applied {
    /// Of the first config since sampand runs here.
    pub fn first(boot: &str, inputs: Inputs, lasting: Lasting) -> Applied {
        Applied { version: VERSION, boot: boot.to_owned(), inputs, lasting, former: Vec::new() }
    }

    /// None: there is none, or it is of an earlier boot. The text says why it cannot be used.
    pub fn read(run_dir: &Path, boot: &str) -> Result<Option<Applied>, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let path = run_dir.join(NAME);
        if !path.exists() {
            return Ok(None);
        }
        let wrong = |why: String| format!("{}: {why}", path.display());
        let (bytes, _) =
            trust::read(&path, Group::MayNotWrite, BYTES_MAX).map_err(|error| wrong(error.about(&path)))?;
        let damaged = |error: serde_json::Error| wrong(format!("is damaged: {error}"));
        let Version { version } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if version != VERSION {
            return Err(wrong(format!("is of version {version}, this sampand reads {VERSION}")));
        }
        let applied: Applied = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok((applied.boot == boot).then_some(applied))
    }

    /// Writes it beside the one that holds.
    pub fn prepare(&self, run_dir: &Path) -> Result<Prepared, String> {
        let failed = |why: String| format!("cannot write {}: {why}", run_dir.join(NAME).display());
        let text = serde_json::to_vec(self).map_err(|error| failed(error.to_string()))?;
        Prepared::write(run_dir, NAME, &text).map_err(|errno| failed(errno.to_string()))
    }

    /// What it is once `next` holds in its place. `changed` are the lives that go on by the former config.
    #[must_use]
    pub fn followed_by(mut self, next: Applied, lives: &Lives, changed: &[String]) -> Applied {
        for former in &mut self.former {
            former.lives.retain(|name, generation| lives.get(name) == Some(generation));
        }
        let is_older = |name: &String| self.former.iter().any(|former| former.lives.contains_key(name));
        let ours: Lives = changed
            .iter()
            .filter(|name| !is_older(name))
            .filter_map(|name| Some((name.clone(), *lives.get(name)?)))
            .collect();
        self.former.push(Former { lives: ours, inputs: self.inputs });
        self.former.retain(|former| !former.lives.is_empty());
        Applied { former: self.former, ..next }
    }

    pub fn load(&self) -> Result<Kept, String> {
        let load = |inputs| again(inputs).map_err(|errors| diagnostic::render(&errors, false));
        let mut loaded = load(&self.inputs)?;
        loaded.config.go_on_as(self.lasting.clone());
        let mut former = Vec::new();
        for earlier in &self.former {
            let services = load(&earlier.inputs)?.config.services;
            former.extend(earlier.lives.iter().filter_map(|(name, generation)| {
                Some((name.clone(), *generation, services.get(name)?.clone()))
            }));
        }
        Ok(Kept { loaded, former })
    }
}

/// What was applied last, loaded.
#[derive(Debug)]
pub struct Kept {
    pub loaded: Loaded,
    /// Lives that go by an earlier config: name, generation and what they go by.
    former: Vec<(String, u64, Arc<Service>)>,
}

impl Kept {
    /// The services, each with the config that its life goes by.
    pub fn as_they_live(&self, replay: &Replay) -> BTreeMap<String, Arc<Service>> {
        let mut services = self.loaded.config.services.clone();
        for (name, generation, service) in &self.former {
            if replay.last.get(name).is_some_and(|record| is_life_of(record, *generation)) {
                services.insert(name.clone(), service.clone());
            }
        }
        services
    }
}

fn is_life_of(record: &Record, generation: u64) -> bool {
    let get = |key: &str| record.data.get(key).and_then(serde_json::Value::as_str);
    Facts::from_record(get).is_ok_and(|facts| facts.generation == generation && has_life(&facts))
}

/// Its container is there, or what is left of it.
pub fn has_life(facts: &Facts) -> bool {
    facts.state.has_life() || facts.job.is_some()
}

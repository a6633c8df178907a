//! A config comes into force: it is written down beside the one that holds, then what differs is applied, then it is the one
//! that holds. If a worker dies in between, the former one stays in force, and whoever asked has had no answer.
use super::Worker;
use super::desired;
use super::opening::{self, Then};
use crate::applied::{Applied, Lives, has_life};
use sampan_api as api;
use sampan_config::diff::{Change, service_change};
use sampan_config::schema::Config;
use sampan_config::{Inputs, Loaded};
use sampan_journal::atomic::Prepared;
use sampan_keel::rundir;

impl Worker {
    /// Somebody asked for it. What differs decides what happens to each service; nothing changes if the config cannot be
    /// kept for the worker after us.
    pub(crate) fn replace_config(&mut self, loaded: Loaded) -> Result<api::Applied, String> {
        let Loaded { config, origins, inputs, .. } = loaded;
        let next = self.next(inputs, &config)?;
        let applied = self.put_into_force(&next, config)?;
        self.source.holds(origins);
        Ok(applied)
    }

    /// A worker's first turn, when the services that live have heard what became of them.
    pub(crate) fn begin_with(&mut self, then: Then) -> Result<(), String> {
        match then {
            Then::Write(inputs) => {
                keep(Applied::first(&boot_id()?, inputs).prepare(&self.context.dirs.run)?)?
            }
            Then::GoOn => {}
            Then::GoOnWith(config) => drop(desired::replace(self, config)),
            Then::Apply(loaded) => {
                let Loaded { config, origins, inputs, .. } = *loaded;
                let next = self.next(inputs.clone(), &config)?.started_with(inputs);
                match self.put_into_force(&next, config) {
                    Ok(_) => self.source.holds(origins),
                    // Services run: better with the config they have than without sampand.
                    Err(why) => tracing::error!("{why}; the config that was applied last holds"),
                }
            }
        }
        opening::hold(&self.keel, &self.context.dirs.run)
    }

    fn put_into_force(&mut self, next: &Applied, config: Config) -> Result<api::Applied, String> {
        let prepared = next.prepare(&self.context.dirs.run)?;
        let applied = desired::replace(self, config);
        if let Err(why) = keep(prepared) {
            tracing::error!("{why}; if this worker dies, the config before this one holds");
        }
        self.save_desired();
        Ok(applied)
    }

    fn next(&self, inputs: Inputs, config: &Config) -> Result<Applied, String> {
        let boot = boot_id()?;
        Ok(match Applied::read(&self.context.dirs.run, &boot) {
            Ok(Some(kept)) => {
                let (lives, parting) = self.lives(config);
                kept.followed_by(inputs, &lives, &parting)
            }
            // What cannot be used is replaced.
            Ok(None) | Err(_) => Applied::first(&boot, inputs),
        })
    }

    /// All that live, and of these the ones that are to end because of `config`.
    fn lives(&self, config: &Config) -> (Lives, Vec<String>) {
        let (mut lives, mut parting) = (Lives::new(), Vec::new());
        for entry in self.fleet.entries.values().filter(|entry| has_life(&entry.machine)) {
            let name = entry.name.to_string();
            let new = config.services.get(&name);
            if new.is_none_or(|new| matches!(service_change(entry.config(), new), Change::Restart(_))) {
                parting.push(name.clone());
            }
            lives.insert(name, entry.machine.generation);
        }
        (lives, parting)
    }
}

fn keep(prepared: Prepared) -> Result<(), String> {
    prepared.commit().map(drop).map_err(|errno| format!("cannot keep the config: {errno}"))
}

fn boot_id() -> Result<String, String> {
    rundir::boot_id().map_err(|error| format!("cannot read the boot id: {error}"))
}

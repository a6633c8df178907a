//! A config comes into force: it is written down beside the one that holds, then what differs is applied, then it is the one
//! that holds. If a worker dies in between, the former one stays in force, and whoever asked has had no answer.
use super::Worker;
use super::desired;
use super::opening::{self, Then};
use crate::applied::{Applied, Lives, has_life};
use crate::life::reading;
use crate::message::{Asker, Message};
use crate::request::{failure, stopping};
use sampan_api as api;
use sampan_config::diff::{Change, service_change};
use sampan_config::schema::Config;
use sampan_config::{Inputs, Loaded};
use sampan_journal::atomic::Prepared;
use sampan_keel::rundir;

impl Worker {
    /// Beside the loop: whatever config.toml names may be on a dead mount. The answer is `Message::Config`.
    pub(crate) fn read_config(&self, asker: Asker) {
        let (reading, context, source) = (self.reading.clone(), self.context.clone(), self.source.clone());
        let send = self.send.clone();
        tokio::task::spawn_local(async move {
            let _turn = reading.lock().await;
            let mut warnings = Vec::new();
            let result = reading::load(&context.launchers, source.files(), &mut warnings).await;
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            let _ = send.send(Message::Config { asker, result: result.map(Box::new) });
        });
    }

    pub(crate) fn config_read(&mut self, asker: Asker, result: Result<Box<Loaded>, String>) {
        match asker {
            Asker::Signal if self.is_ending() => {
                tracing::warn!("SIGHUP: sampand is stopping, nothing changed");
            }
            Asker::Signal => match result.map(|loaded| self.replace_config(*loaded)) {
                Ok(Ok(_)) => {}
                Ok(Err(why)) => tracing::error!("{why}; nothing changed"),
                Err(text) => tracing::error!("the config has errors, nothing changed\n{text}"),
            },
            Asker::Apply(answer) => drop(answer.send(self.apply_for_client(result))),
            Asker::DryRun(answer) => {
                let would = read_well(result).map(|loaded| desired::would(&self.config, &loaded.config));
                drop(answer.send(would));
            }
            Asker::Up(up, answer) => match self.apply_for_client(result) {
                Ok(_) => self.up(&up, answer),
                Err(failure) => drop(answer.send(Err(failure))),
            },
        }
    }

    fn apply_for_client(
        &mut self,
        result: Result<Box<Loaded>, String>,
    ) -> Result<api::Applied, api::Failure> {
        // A config that is applied now would start something.
        if self.is_ending() {
            return Err(stopping());
        }
        let loaded = read_well(result)?;
        self.replace_config(*loaded).map_err(|why| failure("internal", format!("{why}; nothing changed")))
    }

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
            Then::Write(inputs) => keep(self.first(inputs)?.prepare(&self.context.dirs.run)?)?,
            Then::GoOn => {}
            Then::GoOnWith(config) => drop(desired::replace(self, config)),
            Then::Apply(loaded) => {
                let Loaded { config, origins, inputs, .. } = *loaded;
                let next = self.next(inputs, &config)?;
                match self.put_into_force(&next, config) {
                    Ok(_) => self.source.holds(origins),
                    // Services run: better with the config they have than without sampand.
                    Err(why) => tracing::error!("{why}; the config that was applied last holds"),
                }
            }
        }
        opening::hold(&self.context.loop_keel, &self.context.dirs.run)
    }

    fn put_into_force(&mut self, next: &Applied, config: Config) -> Result<api::Applied, String> {
        let prepared = next.prepare(&self.context.dirs.run)?;
        let applied = desired::replace(self, config);
        if let Err(why) = keep(prepared) {
            tracing::error!("{why}; if this worker dies, the config before this one holds");
        }
        self.save_soon();
        Ok(applied)
    }

    /// What lasts is as it came into force, whatever `inputs` say of it.
    fn first(&self, inputs: Inputs) -> Result<Applied, String> {
        Ok(Applied::first(&boot_id()?, inputs, self.config.lasting()))
    }

    fn next(&self, inputs: Inputs, config: &Config) -> Result<Applied, String> {
        let next = self.first(inputs)?;
        Ok(match Applied::read(&self.context.dirs.run, &boot_id()?) {
            Ok(Some(kept)) => {
                let (lives, parting) = self.lives(config);
                kept.followed_by(next, &lives, &parting)
            }
            // What cannot be used is replaced.
            Ok(None) | Err(_) => next,
        })
    }

    /// All that live, and of these the ones that are to end because of `config`.
    fn lives(&self, config: &Config) -> (Lives, Vec<String>) {
        let (mut lives, mut parting) = (Lives::new(), Vec::new());
        for entry in self.fleet.entries.values().filter(|entry| has_life(&entry.machine)) {
            // It has the config that it goes by noted beside it.
            if self.one_offs.has(&entry.name) {
                continue;
            }
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

fn read_well(result: Result<Box<Loaded>, String>) -> Result<Box<Loaded>, api::Failure> {
    result.map_err(|text| api::Failure {
        error: "the config has errors, nothing changed".into(),
        code: "config".into(),
        detail: Some(text),
    })
}

fn keep(prepared: Prepared) -> Result<(), String> {
    prepared.commit().map(drop).map_err(|errno| format!("cannot keep the config: {errno}"))
}

fn boot_id() -> Result<String, String> {
    rundir::boot_id().map_err(|error| format!("cannot read the boot id: {error}"))
}

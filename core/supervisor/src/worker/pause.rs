//! `pause` and `unpause`: a service that runs is frozen, and no more checked until it is thawed. The machine knows nothing of it: the
//! service runs. A stop thaws first, whoever has frozen it.
use super::Worker;
use crate::clock;
use crate::life;
use crate::message::{Froze, Message};
use crate::request::{Answer, failure};
use sampan_api as api;
use sampan_service::State;

impl Worker {
    pub(super) fn pause(&mut self, name: &str, frozen: bool, answer: Answer<api::Done>) {
        let (verb, hint) = match frozen {
            true => ("pause", format!("`sampanctl start {name}` starts it")),
            false => ("unpause", format!("`sampanctl ps` shows how {name} is")),
        };
        let Some(entry) = self.fleet.get(name) else { return };
        let runs = matches!(entry.machine.state, State::Running { .. });
        let Some(live) = entry.live.as_ref().filter(|_| runs) else {
            let is = entry.machine.state.show(clock::boottime());
            let _ = answer.send(Err(failure("refused", format!("cannot {verb} {name}: it is {is}; {hint}"))));
            return;
        };
        // Those of this life: by the time that a thread is free others may have their name.
        let (hierarchies, cgroup) = (self.context.hierarchies, self.context.cgroup(name));
        let groups = life::identity(hierarchies, &cgroup);
        let (send, name, generation) = (self.send.clone(), entry.name.clone(), live.generation);
        tokio::task::spawn_blocking(move || {
            let result =
                life::set_frozen(hierarchies, &cgroup, groups, frozen).map_err(|error| error.to_string());
            let _ = send.send(Message::Froze(Box::new(Froze { name, generation, frozen, result, answer })));
        });
    }

    /// Of a life that an earlier worker began, and may have paused.
    pub(super) fn notice_pause(&mut self, name: &str) {
        let paused = life::is_frozen(self.context.hierarchies, &self.context.cgroup(name));
        if let Some(live) = self.fleet.get_mut(name).and_then(|entry| entry.live.as_mut()) {
            live.paused_since = paused.then(clock::boottime);
        }
    }

    pub(super) fn froze(&mut self, froze: Froze) {
        let Froze { name, generation, frozen, result, answer } = froze;
        let now = clock::boottime();
        let Some(entry) = self.fleet.get_mut(&name) else { return };
        let runs = matches!(entry.machine.state, State::Running { .. });
        let result = match (result, entry.live.as_mut().filter(|live| live.generation == generation)) {
            (Err(error), _) => Err(failure("internal", format!("{name}: {error}"))),
            (Ok(()), Some(live)) if runs => {
                live.paused_since = frozen.then(|| live.paused_since.unwrap_or(now));
                Ok(())
            }
            // A stop came in between, and has thawed what was not frozen yet.
            (Ok(()), _) => {
                if frozen {
                    self.thaw(&name);
                }
                Err(failure("refused", format!("{name} does not run any more")))
            }
        };
        if result.is_ok() {
            let is_probed = self.fleet.get(&name).is_some_and(|entry| entry.machine.state.is_probed());
            match frozen {
                true => self.probes.end(&name),
                false if is_probed => self.begin_checks(&name),
                false => {}
            }
            self.watchdog_begins_anew(&name, generation);
        }
        let Some(entry) = self.fleet.get(&name) else { return };
        let services = vec![self.fleet.status(entry, now)];
        let _ = answer.send(result.map(|()| api::Done { services, complete: true }));
    }
}

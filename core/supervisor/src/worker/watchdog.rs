//! Services that must say again and again that they are well (WATCHDOG=1): one that does not is as one that a health check finds
//! unhealthy.
use super::{Worker, notify};
use crate::fleet::Entry;
use crate::life;
use crate::message::{Message, Sender};
use crate::sd_notify::Phase;
use crate::sd_notify::watchdog::{Look, Watchdog};
use crate::settings::Event;
use crate::task::Task;
use sampan_config::{schema::Probe, units};
use sampan_service::{Health, Life, State, Verdict};
use std::sync::Arc;
use std::time::Duration;

/// WATCHDOG_USEC= cannot have less: a timer for each service that is due all the time.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// Where what it said may still stand in the queue.
const AGAIN: Duration = Duration::from_millis(100);

/// For one that is ready: before that `start_timeout` holds.
pub(super) fn begin(send: &Sender, entry: &mut Entry) {
    let configured = entry.config().watchdog;
    if configured.is_zero() || !matches!(entry.machine.state, State::Running { .. }) {
        return;
    }
    // What is not healthy yet has its start period.
    let first = match &entry.config().healthcheck {
        Some(check) if is_by_watchdog(entry) && entry.machine.state.health() == Health::Starting => {
            check.start_period
        }
        Some(_) | None => Duration::ZERO,
    };
    let name = entry.name.clone();
    let Some(live) = entry.live.as_mut() else { return };
    let generation = live.generation;
    let Some(says) = live.says.as_mut().filter(|says| says.watchdog.is_none()) else { return };
    if says.last() != Some(Phase::Stopping) {
        let every = says.silent_max.unwrap_or(configured);
        let timer = timer(send, &name, generation, every.saturating_add(first));
        says.watchdog = Some(Watchdog::new(every, first, timer));
    }
}

fn timer(send: &Sender, name: &Arc<str>, generation: u64, after: Duration) -> Task {
    let (send, name) = (send.clone(), name.clone());
    Task::from(tokio::task::spawn_local(async move {
        tokio::time::sleep(after).await;
        let _ = send.send(Message::Watchdog { name, generation });
    }))
}

fn is_by_watchdog(entry: &Entry) -> bool {
    entry.config().healthcheck.as_ref().is_some_and(|check| matches!(check.probe, Probe::Notify(_)))
}

impl Worker {
    /// What it has said before this counts, though nobody has heard it yet: a worker may have been held up.
    pub(super) fn look_at_watchdog(&mut self, name: &str, generation: u64) {
        let more = self.hear_some(name, generation);
        let frozen = life::is_frozen(self.context.hierarchies, &self.context.cgroup(name));
        let send = self.send.clone();
        let Some(entry) = self.fleet.get(name) else { return };
        let name = entry.name.clone();
        let Some(says) = self.says(&name, generation) else { return };
        let Some(watchdog) = says.watchdog.as_mut() else { return };
        if frozen {
            watchdog.begins_anew();
        }
        let (next, missed) = match watchdog.look() {
            Look::Later(left) => (left, None),
            Look::Missed(_) if more => {
                watchdog.begins_anew();
                (AGAIN, None)
            }
            Look::Missed(every) => (every, Some(every)),
        };
        watchdog.timer = timer(&send, &name, generation, next);
        if let Some(every) = missed {
            self.is_silent(&name, generation, format!("no WATCHDOG=1 in {}", units::show_duration(every)));
        }
    }

    pub(super) fn is_silent(&mut self, name: &str, generation: u64, text: String) {
        let Some(entry) = self.fleet.get(name).filter(|entry| entry.machine.generation == generation) else {
            return;
        };
        if matches!(entry.machine.state, State::Starting { .. } | State::Running { .. }) {
            notify::health(&self.context, entry, &Verdict::Unhealthy(text.clone()));
        }
        self.apply(name, &Event::life(generation, Life::Silent(text)));
    }

    /// Its word is its health where no check of ours is.
    pub(super) fn is_alive(&mut self, name: &str, generation: u64) {
        let send = self.send.clone();
        let Some(entry) = self.fleet.get(name) else { return };
        let name = entry.name.clone();
        let watchdog = self.says(&name, generation).and_then(|says| says.watchdog.as_mut());
        let was_missed = watchdog.is_some_and(|watchdog| {
            if watchdog.has_longer() {
                watchdog.timer = timer(&send, &name, generation, watchdog.every());
            }
            watchdog.hears()
        });
        let Some(entry) = self.fleet.get(&name) else { return };
        let health = entry.machine.state.health();
        let is_news = was_missed || is_by_watchdog(entry);
        if is_news && matches!(health, Health::Starting | Health::Unhealthy) {
            notify::health(&self.context, entry, &Verdict::Healthy);
            self.apply(&name, &Event::life(generation, Life::Health(Verdict::Healthy)));
        }
    }

    /// WATCHDOG_USEC=: in the place of the config's, where that has one; also of one that is not ready yet.
    pub(super) fn has_watchdog(&mut self, name: &str, generation: u64, every: Duration) {
        let every = every.max(EVERY_MIN);
        let send = self.send.clone();
        let Some(entry) = self.fleet.get(name) else { return };
        let name = entry.name.clone();
        let Some(says) = self.says(&name, generation) else { return };
        says.silent_max = Some(every);
        if says.watchdog.is_some() {
            says.watchdog =
                Some(Watchdog::new(every, Duration::ZERO, timer(&send, &name, generation, every)));
        }
    }

    /// It could say nothing for a while.
    pub(super) fn watchdog_begins_anew(&mut self, name: &str, generation: u64) {
        if let Some(watchdog) = self.says(name, generation).and_then(|says| says.watchdog.as_mut()) {
            watchdog.begins_anew();
        }
    }
}

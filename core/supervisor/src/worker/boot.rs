//! What is to run: at the start of a worker, with what it needs, and what of it survives a reboot.
use super::Worker;
use crate::clock;
use crate::settings::{Event, Settings};
use sampan_service::desired::Desired;
use sampan_service::{Down, State, Up, Wanted};
use std::collections::{BTreeMap, BTreeSet};

impl Worker {
    /// What must survive a reboot has changed: it is saved once, at the end of the turn.
    pub(super) fn save_soon(&mut self) {
        self.save_due = true;
    }

    pub(super) fn save_if_due(&mut self) {
        if std::mem::take(&mut self.save_due) {
            self.save_desired();
        }
    }

    /// Saves what must survive a reboot, off the loop.
    pub fn save_desired(&mut self) {
        self.note_desired();
        self.wishes.save(self.desired.clone());
    }

    /// Waits until what was saved last is on the disk, or for as long as the end may wait for one that does not answer.
    pub async fn flush_desired(&self) {
        self.wishes.flush().await;
    }

    fn note_desired(&mut self) {
        let services = self.fleet.entries.iter().filter(|(name, _)| !self.one_offs.has(name));
        for (name, entry) in services {
            let wish = self.desired.services.entry(name.to_string()).or_default();
            match entry.machine.wanted {
                Wanted::Up => wish.stopped = false,
                Wanted::Down(Down::Hand) => wish.stopped = true,
                Wanted::Down(Down::Idle | Down::Removed | Down::Client) => {}
            }
            let totals = entry.machine.totals();
            wish.restarts = totals.restarts;
            wish.last_exit = totals.last_exit.map(|exit| exit.to_string());
            wish.attempt = entry.machine.attempts;
            wish.delay_left_ms = match entry.machine.state {
                State::Backoff { until, .. } => {
                    Some(u64::try_from(until.since(clock::boottime()).as_millis()).unwrap_or(u64::MAX))
                }
                _ => None,
            };
        }
    }

    /// Everything that is to run at boot is asked for, and what it needs with it.
    pub fn boot(&mut self) {
        // The journal may know of a stop by hand that desired.json did not get to see. `always` starts what a hand has
        // stopped when sampand starts, not when a worker follows another.
        self.note_desired();
        let stays = |wanted| wanted == Wanted::Up || (self.lives > 1 && wanted == Wanted::Down(Down::Hand));
        let configs: Vec<(String, Settings)> = self
            .fleet
            .entries
            .values()
            .filter(|entry| !stays(entry.machine.wanted))
            .map(|entry| (entry.name.to_string(), entry.machine.applied().clone()))
            .collect();
        let services = configs
            .iter()
            .map(|(name, config)| {
                (name.clone(), Desired { config, autostart: self.config.starts_by_itself(config) })
            })
            .collect();
        let order: Vec<String> = self.graph.start_order().map(str::to_owned).collect();
        let events = sampan_service::desired::boot(&services, &self.held(), order.iter().map(String::as_str));
        // A job by time needs nobody before its time.
        let at_once = events.iter().map(|(name, _)| name.as_str()).filter(|name| !self.begins_by_time(name));
        let all = self.with_needs(at_once);
        let mut events: BTreeMap<String, Event> = events.into_iter().collect();
        for (name, root) in all {
            let wanted = self.fleet.get(&name).map(|entry| entry.machine.wanted);
            // What a hand has stopped stays so, and what failed is left so.
            let stays = matches!(wanted, Some(Wanted::Up | Wanted::Down(Down::Hand)));
            let needed = root.filter(|_| !stays).map(|root| Event::Up(Up::Dependant(root)));
            if let Some(event) = needed.or_else(|| events.remove(&name)) {
                self.apply(&name, &event);
            }
        }
        for (name, event) in events {
            self.apply(&name, &event);
        }
    }

    /// By hand: what they depend on comes up with them, whatever it is.
    pub(super) fn start(&mut self, names: &[&str]) {
        for (name, root) in self.with_needs(names.iter().copied()) {
            self.apply(&name, &Event::Up(root.map_or(Up::Hand, Up::Dependant)));
        }
        self.save_soon();
    }

    /// Those that are named and what they need, in start order; of what is not named, for whom it is there.
    pub(super) fn with_needs<'n>(
        &'n self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Vec<(String, Option<String>)> {
        let all = self.graph.with_needs(names).into_iter();
        all.map(|(name, root)| (name.to_owned(), (root != name).then(|| root.to_owned()))).collect()
    }

    /// Stopped by hand, by desired.json.
    pub fn held(&self) -> BTreeSet<String> {
        self.desired.services.iter().filter(|(_, wish)| wish.stopped).map(|(name, _)| name.clone()).collect()
    }
}

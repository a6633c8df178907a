//! What is to run: at the start of a worker, with what it needs, and what of it survives a reboot.
use super::Worker;
use crate::clock;
use crate::settings::{Event, Settings};
use sampan_service::desired::Desired;
use sampan_service::{Down, State, Up, Wanted};
use std::collections::BTreeSet;

impl Worker {
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
        for (name, entry) in &self.fleet.entries {
            let wish = self.desired.services.entry(name.to_string()).or_default();
            match entry.machine.wanted {
                Wanted::Up => wish.stopped = false,
                Wanted::Down(Down::Hand) => wish.stopped = true,
                Wanted::Down(Down::Idle | Down::Removed) => {}
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
            .map(|(name, config)| (name.clone(), Desired { config, autostart: config.autostart }))
            .collect();
        let order: Vec<String> = self.graph.start_order().map(str::to_owned).collect();
        let events = sampan_service::desired::boot(&services, &self.held(), order.iter().map(String::as_str));
        for (name, event) in events {
            self.with_needs(&name, false);
            self.apply(&name, &event);
        }
    }

    /// Asks for what `name` depends on. A dependency that a hand has stopped stays stopped, and one that failed is left so,
    /// unless a hand asks for `name`.
    pub fn with_needs(&mut self, name: &str, by_hand: bool) {
        let needs: Vec<String> = self.graph.with_needs(name).into_iter().map(str::to_owned).collect();
        for need in needs.iter().filter(|need| *need != name) {
            let Some(entry) = self.fleet.get(need) else { continue };
            if by_hand
                || entry.machine.wanted != Wanted::Up && entry.machine.wanted != Wanted::Down(Down::Hand)
            {
                self.apply(need, &Event::Up(Up::Dependant(name.to_owned())));
            }
        }
    }

    /// Stopped by hand, by desired.json.
    pub fn held(&self) -> BTreeSet<String> {
        self.desired.services.iter().filter(|(_, wish)| wish.stopped).map(|(name, _)| name.clone()).collect()
    }
}

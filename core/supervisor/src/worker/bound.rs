//! `depends_on.S.bind`: who is up without what it is bound to is stopped, and waits for it. What counts is what there is now, so
//! that a new worker and a new config come to the same.
use super::Worker;
use crate::settings::Event;
use sampan_service::Restart;

impl Worker {
    /// Whether anybody was told.
    pub(super) fn stop_with_others(&mut self) -> bool {
        let fleet = &self.fleet;
        let gone = self.graph.bound_in_vain(|name| fleet.get(name).map(|entry| &*entry.machine));
        let told: Vec<(String, Event)> = gone
            .into_iter()
            .map(|(name, on)| (name.to_owned(), Event::Restart(Restart::Bound(on.to_owned()))))
            .collect();
        for (name, event) in &told {
            self.apply(name, event);
        }
        !told.is_empty()
    }
}

//! Who hears of transitions: every follower of `sampanctl events` has a receiver, and nobody waits for the slowest.
//!
//! A follower that falls behind by more than [`LAG_MAX`] transitions learns how many it missed and can ask the journal. The places
//! for them (700 KiB) exist only while somebody follows.
use sampan_api::Transition;
use std::cell::RefCell;
use tokio::sync::broadcast;

/// Transitions that a follower may be behind.
const LAG_MAX: usize = 4096;

#[derive(Debug, Default)]
pub struct Bus {
    sender: RefCell<Option<broadcast::Sender<Transition>>>,
}

impl Bus {
    /// Where nobody follows the transition is not made.
    pub fn publish(&self, transition: impl FnOnce() -> Transition) {
        let mut sender = self.sender.borrow_mut();
        // Fails only if the last receiver has gone: then the places go too.
        if sender.as_ref().is_some_and(|sender| sender.send(transition()).is_err()) {
            *sender = None;
        }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Transition> {
        self.sender.borrow_mut().get_or_insert_with(|| broadcast::Sender::new(LAG_MAX)).subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_follows_hears_and_who_has_gone_leaves_nothing_behind() {
        let bus = Bus::default();
        bus.publish(Transition::default);
        let mut follower = bus.subscribe();
        bus.publish(|| Transition { service: "web".into(), ..Transition::default() });
        assert_eq!(follower.try_recv().map(|heard| heard.service).as_deref(), Ok("web"));
        drop(follower);
        bus.publish(Transition::default);
        assert!(bus.sender.borrow().is_none());
    }
}

//! Who hears of transitions: every follower of `sampanctl events` has a receiver, and nobody waits for the slowest.
//!
//! A follower that falls behind by more than [`LAG_MAX`] transitions learns how many it missed and can ask the journal.
use sampan_api::Transition;
use tokio::sync::broadcast;

/// Transitions that a follower may be behind.
const LAG_MAX: usize = 4096;

#[derive(Debug)]
pub struct Bus {
    sender: broadcast::Sender<Transition>,
}

impl Bus {
    pub fn new() -> Bus {
        Bus { sender: broadcast::Sender::new(LAG_MAX) }
    }

    pub fn publish(&self, transition: &Transition) {
        if self.sender.receiver_count() > 0 {
            // Fails only if the last receiver went this moment.
            let _ = self.sender.send(transition.clone());
        }
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Transition> {
        self.sender.subscribe()
    }
}

impl Default for Bus {
    fn default() -> Self {
        Bus::new()
    }
}

//! A journal that cannot be written (a full disk) stops nothing: records wait in memory. But a worker that died now would
//! not know what they say, so it is told once, tried again without waiting for a further event, and told when it is over.
use super::Worker;
use crate::clock;
use sampan_journal::Health;
use sampan_service::Ms;
use std::time::Duration;

const AGAIN: Duration = Duration::from_secs(1);

/// When to try again; none while all is written.
pub type Behind = Option<Ms>;

impl Worker {
    /// Once a turn.
    pub(crate) fn mind_journal(&mut self) {
        let now = clock::boottime();
        if self.behind.is_some_and(|at| at <= now) {
            // What it says stands in its health.
            let _ = self.journal.flush();
        }
        self.behind = match (self.journal.health(), self.behind) {
            (Health::Behind { waiting, errno, .. }, before) if waiting > 0 => {
                if before.is_none() {
                    tracing::error!(
                        "cannot write the journal in run_dir: {}; what happens is kept in memory, and a worker that dies now does not know of it: make room",
                        std::io::Error::from(errno)
                    );
                }
                let at = before.filter(|at| *at > now).unwrap_or(now.after(AGAIN));
                self.wake_gate(at);
                Some(at)
            }
            (_, Some(_)) => {
                tracing::info!("the journal is written again");
                None
            }
            (_, None) => None,
        };
    }
}

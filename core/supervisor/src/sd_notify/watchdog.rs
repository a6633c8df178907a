//! How long a service may say nothing (WATCHDOG=1). One timer, which looks at the last word when it is due: a word arms nothing.
//!
//! The clock is one that stands still while the host sleeps, as the service does.
use crate::task::Task;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Watchdog {
    every: Duration,
    /// Silent from here on; before its first word it may be a time in the future, where it has longer for that.
    since: Instant,
    missed: bool,
    /// Until somebody has to look.
    pub timer: Task,
}

/// What a look finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// Look again after this.
    Later(Duration),
    Missed(Duration),
}

impl Watchdog {
    /// `first`: how much longer it has for its first word.
    pub fn new(every: Duration, first: Duration, timer: Task) -> Watchdog {
        let now = Instant::now();
        Watchdog { every, since: now.checked_add(first).unwrap_or(now), missed: false, timer }
    }

    pub fn every(&self) -> Duration {
        self.every
    }

    /// It has said nothing yet, and need not for longer than usual.
    pub fn has_longer(&self) -> bool {
        self.since > Instant::now()
    }

    /// True: it had been missed.
    pub fn hears(&mut self) -> bool {
        self.begins_anew();
        std::mem::take(&mut self.missed)
    }

    /// As if it had just said something: it could not.
    pub fn begins_anew(&mut self) {
        self.since = Instant::now();
    }

    /// Missed once, it is not missed again before it says something.
    pub fn look(&mut self) -> Look {
        let now = Instant::now();
        let silent = now.saturating_duration_since(self.since);
        let ahead = self.since.saturating_duration_since(now);
        if silent < self.every || self.missed {
            return Look::Later(ahead + self.every.saturating_sub(silent).max(self.every / 8));
        }
        self.missed = true;
        Look::Missed(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_missed_once_and_heard_again() {
        let local = tokio::task::LocalSet::new();
        let timer = || Task::from(local.spawn_local(async {}));
        let every = Duration::from_millis(20);
        let mut watchdog = Watchdog::new(every, Duration::ZERO, timer());
        assert!(matches!(watchdog.look(), Look::Later(left) if left <= every));
        std::thread::sleep(every);
        assert_eq!(watchdog.look(), Look::Missed(every));
        assert!(matches!(watchdog.look(), Look::Later(_)));
        assert!(watchdog.hears());
        assert!(!watchdog.hears());
        let mut longer = Watchdog::new(every, Duration::from_secs(60), timer());
        std::thread::sleep(every);
        assert!(matches!(longer.look(), Look::Later(left) if left > Duration::from_secs(50)));
    }
}

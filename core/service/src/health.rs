//! From single probes to verdicts: `retries` failures in a row make unhealthy, `success_threshold` successes healthy, and
//! failures during `start_period` do not count. The scheduler owns a [`Tally`] per probed service and asks it when to
//! probe next; a verdict is said once, when it changes.

use crate::event::Verdict;
use crate::state::Health;
use crate::time::Ms;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub interval: Duration,
    /// Failures in a row, at least one.
    pub retries: u32,
    /// Until it is over or a probe succeeds, failures do not count and `start_interval` is the pace.
    pub start_period: Duration,
    pub start_interval: Duration,
    /// Successes in a row, at least one.
    pub success_threshold: u32,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            interval: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::from_secs(30),
            start_interval: Duration::from_secs(1),
            success_threshold: 1,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    said: Health,
    failures: u32,
    successes: u32,
    /// The end of the start period; none when it is over.
    starting_until: Option<Ms>,
    pub next_at: Ms,
}

impl Tally {
    /// `health` is what the service's state says: `Starting` for a new life, the former verdict after an adoption. A new life
    /// is probed at once, since dependants wait for it.
    #[must_use]
    pub fn new(rules: &Rules, health: Health, now: Ms) -> Tally {
        let starting = matches!(health, Health::Starting | Health::None);
        Tally {
            said: health,
            failures: 0,
            successes: 0,
            starting_until: starting.then(|| now.after(rules.start_period)),
            next_at: if starting { now } else { now.after(rules.interval) },
        }
    }

    /// One probe is done. Sets when the next is due, counted from now: probes of one service never overlap.
    pub fn count(&mut self, rules: &Rules, ok: bool, output: &str, now: Ms) -> Option<Verdict> {
        self.starting_until = self.starting_until.filter(|until| !ok && now < *until);
        let starting = self.starting_until.is_some();
        let pace = if starting { rules.start_interval.min(rules.interval) } else { rules.interval };
        self.next_at = now.after(pace);
        if ok {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            let enough = self.successes >= rules.success_threshold.max(1) && self.said != Health::Healthy;
            return enough.then(|| self.say(Health::Healthy, Verdict::Healthy));
        }
        self.successes = 0;
        if !starting {
            self.failures = self.failures.saturating_add(1);
        }
        let enough = self.failures >= rules.retries.max(1) && self.said != Health::Unhealthy;
        enough.then(|| self.say(Health::Unhealthy, Verdict::Unhealthy(output.to_owned())))
    }

    /// Failures in a row that count, for `status`.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn say(&mut self, health: Health, verdict: Verdict) -> Verdict {
        self.said = health;
        verdict
    }
}

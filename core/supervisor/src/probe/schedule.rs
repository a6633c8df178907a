//! Who is checked when. `Action::HealthBegin` and `HealthEnd` come here; a verdict goes back as a [`Report`], of a life
//! that may be over by then: it carries its generation. A service's checks never overlap.

use super::{Check, Helper, Outcome, Target, check};
use crate::clock;
use crate::settings::Event;
use sampan_config::schema::Healthcheck;
use sampan_service::{Health, Life, Ms, Rules, Tally, Verdict};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub service: String,
    pub event: Event,
}

/// The last check, for `status` and `inspect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    pub outcome: Outcome,
    /// Failures in a row that count.
    pub failures: u32,
    pub at: Ms,
}

/// One schedule per checked service. Dropping it ends them all.
pub struct Probes {
    reports: UnboundedSender<Report>,
    running: HashMap<String, Running>,
}

struct Running {
    task: AbortHandle,
    last: Arc<Mutex<Option<Last>>>,
}

/// In text for people the first line of what a check said is enough.
const CAUSE_BYTES_MAX: usize = 200;

impl Probes {
    #[must_use]
    pub fn new(reports: UnboundedSender<Report>) -> Probes {
        Probes { reports, running: HashMap::new() }
    }

    /// Begins to check `target`, where there is something to check; `health` is what its state says now. Replaces a former schedule
    /// of the same service.
    pub fn begin(&mut self, target: Target, plan: &Healthcheck, health: Health) {
        let service = target.service.clone();
        self.end(&service);
        let Some(check) = Check::of(&plan.probe) else { return };
        let last = Arc::new(Mutex::new(None));
        let schedule = Schedule {
            check,
            rules: rules(plan),
            timeout: plan.timeout,
            reports: self.reports.clone(),
            last: Arc::clone(&last),
            target,
        };
        let task = tokio::spawn(schedule.run(health)).abort_handle();
        self.running.insert(service, Running { task, last });
    }

    /// A check in flight is dropped, and its command killed.
    pub fn end(&mut self, service: &str) {
        if let Some(running) = self.running.remove(service) {
            running.task.abort();
        }
    }

    #[must_use]
    pub fn last(&self, service: &str) -> Option<Last> {
        let running = self.running.get(service)?;
        running.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.running.values().for_each(|running| running.task.abort());
    }
}

/// The config's numbers for the pure tally.
fn rules(plan: &Healthcheck) -> Rules {
    Rules {
        interval: plan.interval,
        retries: plan.retries,
        start_period: plan.start_period,
        start_interval: plan.start_interval,
        success_threshold: plan.success_threshold,
    }
}

struct Schedule {
    check: Check,
    rules: Rules,
    timeout: Duration,
    target: Target,
    reports: UnboundedSender<Report>,
    last: Arc<Mutex<Option<Last>>>,
}

impl Schedule {
    async fn run(self, health: Health) {
        let helper = Helper::default();
        let mut tally = Tally::new(&self.rules, health, now());
        loop {
            tokio::time::sleep(tally.next_at.since(now())).await;
            let outcome = check(&self.check, &self.target, &helper, self.timeout).await;
            let at = now();
            let verdict = tally.count(&self.rules, outcome.ok, &outcome.output, at);
            let last = Last { outcome, failures: tally.failures(), at };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
            let Some(verdict) = verdict.map(brief) else { continue };
            let event = Event::life(self.target.generation, Life::Health(verdict));
            if self.reports.send(Report { service: self.target.service.clone(), event }).is_err() {
                return;
            }
        }
    }
}

fn now() -> Ms {
    Ms(u64::try_from(clock::monotonic().as_millis()).unwrap_or(u64::MAX))
}

fn brief(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Healthy => Verdict::Healthy,
        Verdict::Unhealthy(output) => {
            let mut line = output.lines().next().unwrap_or_default().to_owned();
            while line.len() > CAUSE_BYTES_MAX {
                line.pop();
            }
            Verdict::Unhealthy(line)
        }
    }
}

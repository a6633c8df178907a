//! Clients that wait until something has come true, or until it is clear that it will not.
use super::Worker;
use crate::clock;
use crate::fleet::{Entry, Fleet};
use crate::request::Answer;
use sampan_api as api;
use sampan_service::state::Rest;
use sampan_service::{Ms, State, WaitFor, Wanted};
use std::sync::Arc;

/// A client that waits until something has come true.
#[derive(Debug)]
pub struct Waiter {
    pub names: Vec<Arc<str>>,
    pub goal: Goal,
    pub deadline: Option<Ms>,
    pub answer: Answer<api::Done>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Started, or at rest: a job that is done, a failure.
    Up,
    /// Running, and healthy where there is a check; a job that waits for its time is all that it should be.
    Healthy,
    AtRest,
    /// At rest, by itself or not.
    Done,
    /// This life is over, or it is at rest.
    Ended(u64),
    /// A later life than this one runs, or it is at rest.
    Beyond(u64),
}

impl Worker {
    pub(crate) fn answer_waiters(&mut self) {
        let now = clock::boottime();
        let fleet = &self.fleet;
        let (done, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|w| {
                w.answer.is_closed()
                    || w.deadline.is_some_and(|at| at <= now)
                    || w.names
                        .iter()
                        .all(|name| reached(fleet.get(name), w.goal) || stuck(fleet, name, w.goal))
            });
        self.waiters = waiting;
        for waiter in done {
            let complete = waiter.names.iter().all(|name| fulfilled(fleet.get(name), waiter.goal));
            let services = waiter
                .names
                .iter()
                .filter_map(|name| fleet.get(name))
                .map(|entry| fleet.status(entry, now))
                .collect();
            let _ = waiter.answer.send(Ok(api::Done { services, complete }));
        }
    }
}

/// Whether what a client waits for does not come by waiting: a dependency is at rest and is not what its dependant needs.
/// One that tries again by itself counts for `start`, which says how a first attempt went, and not for `up --wait`.
fn stuck(fleet: &Fleet, name: &str, goal: Goal) -> bool {
    let Some(entry) = fleet.get(name) else { return true };
    if goal == Goal::AtRest {
        // Somebody else's `start` came after the stop; or what is left of it cannot be removed, and that is tried again and again.
        return entry.machine.wanted == Wanted::Up || entry.machine.state.is_uncleaned();
    }
    match &entry.machine.state {
        State::Waiting { on: WaitFor::Dependency { service, .. }, .. } => {
            fleet.get(service).is_none_or(Entry::is_at_rest) || stuck(fleet, service, goal)
        }
        State::Backoff { .. } => matches!(goal, Goal::Up | Goal::Beyond(_)),
        state => state.is_uncleaned(),
    }
}

/// Whether a client need not wait any longer for this service.
fn reached(entry: Option<&Entry>, goal: Goal) -> bool {
    let Some(entry) = entry else { return true };
    let machine = &entry.machine;
    let rest = entry.is_at_rest();
    match goal {
        Goal::AtRest | Goal::Done => rest,
        Goal::Ended(generation) => rest || fulfilled(Some(entry), Goal::Ended(generation)),
        Goal::Up => rest || machine.standing().started,
        Goal::Healthy => rest || fulfilled(Some(entry), goal),
        Goal::Beyond(generation) => rest || (machine.generation > generation && machine.standing().started),
    }
}

/// Whether what the client asked for is so.
fn fulfilled(entry: Option<&Entry>, goal: Goal) -> bool {
    let Some(entry) = entry else { return matches!(goal, Goal::AtRest | Goal::Done | Goal::Ended(_)) };
    let machine = &entry.machine;
    let standing = machine.standing();
    match goal {
        Goal::Ended(generation) => {
            standing.at_rest
                || machine.generation > generation
                || machine.generation == generation && !machine.state.has_life()
        }
        Goal::AtRest | Goal::Done => standing.at_rest,
        Goal::Up | Goal::Beyond(_) => standing.started,
        Goal::Healthy => {
            standing.completed
                || machine.state == State::Stopped { why: Rest::Scheduled }
                || if entry.config().healthcheck.is_some() { standing.healthy } else { standing.ready }
        }
    }
}

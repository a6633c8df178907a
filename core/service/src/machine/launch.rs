//! The start gate and the way up: granted, created, started, ready.

use super::Turn;
use crate::action::Action;
use crate::cause::{Problem, WaitFor, Why};
use crate::policy::Readiness;
use crate::service::{HasPolicy, Job};
use crate::state::{End, Health, Phase, State};
use crate::time::Ms;

impl<C: HasPolicy> Turn<'_, C> {
    pub(super) fn blocked(&mut self, reason: &WaitFor) {
        match &mut self.service.facts.state {
            State::Waiting { on, .. } => *on = reason.clone(),
            State::Stopped { .. }
            | launching!()
            | runs!()
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    pub(super) fn granted(&mut self) {
        match self.service.facts.state {
            State::Waiting { .. } => {
                let deadline = self.policy().start_timeout.map(|span| self.now.at.after(span));
                self.service.facts.generation += 1;
                self.service.facts.kept = false;
                self.service.facts.job = Some(Job::Create);
                self.go(State::Creating { since: self.now.at, deadline });
                self.act(Action::Create);
            }
            // It holds a slot already.
            launching!() => {}
            // The grant crossed a change of mind.
            State::Stopped { .. }
            | runs!()
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => self.act(Action::ReleaseStart),
        }
    }

    pub(super) fn created(&mut self) {
        match &mut self.service.facts.state {
            State::Creating { deadline, .. } => {
                let deadline = *deadline;
                self.service.facts.job = Some(Job::Start);
                self.go(State::Created { since: self.now.at, deadline });
                self.act(Action::Start);
            }
            // No program of the user has run: nothing to ask politely.
            State::Stopping { .. } => self.kill_again(),
            State::Lingering { .. } => self.answered(None),
            no_life!() | State::Created { .. } | runs!() => {}
        }
    }

    pub(super) fn create_failed(&mut self, problem: &Problem) {
        match &self.service.facts.state {
            State::Creating { .. } => self.clean(End::Problem(problem.clone())),
            State::Stopping { why, .. } => {
                let end = End::from(why.clone());
                self.clean(end);
            }
            State::Lingering { .. } => self.answered(Some(problem)),
            no_life!() | State::Created { .. } | runs!() => {}
        }
    }

    pub(super) fn started(&mut self) {
        self.service.facts.ran = self.service.facts.generation;
        match &self.service.facts.state {
            State::Created { deadline, .. } => {
                let deadline = *deadline;
                self.run(deadline, false);
            }
            State::Stopping { phase: Phase::Launching { .. }, why, .. } => {
                let grace = self.grace(why);
                self.drain(grace);
            }
            State::Lingering { .. } => self.answered(None),
            no_life!() | State::Stopping { .. } | State::Creating { .. } | runs!() => {}
        }
    }

    /// The process may run, or wait at the barrier, or be gone already: kill, then its Exited goes the usual way.
    pub(super) fn start_failed(&mut self, problem: &Problem) {
        match self.service.facts.state {
            State::Created { .. } => self.kill_for(Why::Problem(problem.clone())),
            State::Stopping { .. } => self.kill_again(),
            State::Lingering { .. } => self.answered(Some(problem)),
            no_life!() | State::Creating { .. } | runs!() => {}
        }
    }

    /// The program runs.
    pub(super) fn run(&mut self, deadline: Option<Ms>, adopted: bool) {
        let health = if self.policy().health.is_some() { Health::Starting } else { Health::None };
        match self.policy().readiness {
            Readiness::Started => self.running(self.now.at, health, adopted),
            Readiness::Healthy | Readiness::Notified => {
                self.go(State::Starting { since: self.now.at, deadline, health });
            }
        }
    }

    pub(super) fn running(&mut self, since: Ms, health: Health, adopted: bool) {
        let steady_at = self.steady_at();
        self.go(State::Running { since, health, adopted, steady_at });
    }

    /// Only a service that was restarted has a row to end: one that just runs has no timer.
    pub(super) fn steady_at(&self) -> Option<Ms> {
        (self.service.facts.attempts > 0).then(|| self.now.at.after(self.policy().reset_after))
    }
}

//! A stop, polite or not: drain, signal, grace, cgroup.kill. Every phase has a deadline.

use super::Turn;
use crate::action::Action;
use crate::cause::Why;
use crate::sabotage::{Invariant, broken};
use crate::service::{HasPolicy, Job};
use crate::state::{Phase, State};
use std::time::Duration;

impl<C: HasPolicy> Turn<'_, C> {
    /// Politely.
    pub(super) fn stop(&mut self, why: Why, grace: Duration) {
        let since = self.now.at;
        match self.service.facts.state {
            launching!() => {
                let phase = Phase::Launching { deadline: since.after(grace) };
                self.go(State::Stopping { since, why, phase });
            }
            runs!() => {
                if !broken(Invariant::Frozen) {
                    self.act(Action::Thaw);
                }
                let phase = Phase::Draining { deadline: since.after(grace) };
                self.go(State::Stopping { since, why, phase });
                self.drain(grace);
            }
            no_life!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }

    pub(super) fn phase(&mut self, next: Phase) {
        if let State::Stopping { phase, .. } = &mut self.service.facts.state {
            *phase = next;
        }
    }

    /// A drain may take as long as the grace period, which begins after it.
    pub(super) fn drain(&mut self, grace: Duration) {
        self.phase(Phase::Draining { deadline: self.now.at.after(grace) });
        self.service.facts.job = Some(Job::Drain);
        self.act(Action::Drain);
    }

    pub(super) fn drained(&mut self) {
        match self.service.facts.state {
            State::Stopping { phase: Phase::Draining { .. }, .. } => self.signal(),
            State::Lingering { .. } => self.answered(None),
            // Too late: the signal went out without it.
            no_life!() | State::Stopping { .. } | launching!() | runs!() => {}
        }
    }

    pub(super) fn signal(&mut self) {
        let State::Stopping { why, .. } = &self.service.facts.state else { return };
        let deadline = self.now.at.after(self.grace(why));
        self.phase(Phase::Signalled { at: self.now.at, deadline });
        self.act(Action::Signal(self.policy().stop_signal));
    }

    pub(super) fn kill_again(&mut self) {
        self.phase(Phase::Killed { again: self.again() });
        self.kill_all();
    }

    pub(super) fn kill_for(&mut self, why: Why) {
        self.go(State::Stopping { since: self.now.at, why, phase: Phase::Killed { again: self.again() } });
        self.kill_all();
    }

    pub(super) fn grace(&self, why: &Why) -> Duration {
        match why {
            Why::Unhealthy(_) => self.policy().health_grace(),
            Why::Down(_) | Why::Restart(_) | Why::Shutdown | Why::StartTimeout | Why::Problem(_) => {
                self.policy().stop_grace
            }
        }
    }
}

//! While it runs: health, and what it says of itself.

use super::Turn;
use crate::cause::Why;
use crate::event::Verdict;
use crate::policy::{OnFailure, Readiness};
use crate::service::HasPolicy;
use crate::state::{Health, State};
use std::time::Duration;

impl<C: HasPolicy> Turn<'_, C> {
    pub(super) fn health(&mut self, verdict: &Verdict) {
        if self.policy().health.is_none() {
            return;
        }
        let (steady, readiness) = (self.steady_at(), self.policy().readiness);
        match (&mut self.service.facts.state, verdict) {
            (State::Starting { since, .. }, Verdict::Healthy) if readiness == Readiness::Healthy => {
                let since = *since;
                self.running(since, Health::Healthy, false);
            }
            (State::Starting { health, .. }, Verdict::Healthy) => *health = Health::Healthy,
            (State::Running { health, steady_at, .. }, Verdict::Healthy) => {
                *health = Health::Healthy;
                *steady_at = steady_at.or(steady);
            }
            (runs!(), Verdict::Unhealthy(output)) => self.unhealthy(output),
            (
                no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. },
                Verdict::Healthy | Verdict::Unhealthy(_),
            ) => {}
        }
    }

    /// What is ready stays so, whatever it says.
    pub(super) fn ready(&mut self) {
        match &self.service.facts.state {
            State::Starting { since, health, .. } if self.policy().readiness == Readiness::Notified => {
                let (since, health) = (*since, *health);
                self.running(since, health, false);
            }
            runs!() | no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }

    /// Of its start alone: a service has no say in how long its stop takes.
    pub(super) fn extend(&mut self, span: Duration) {
        let until = self.now.at.after(span);
        match &mut self.service.facts.state {
            State::Starting { deadline: Some(at), .. } => *at = until.max(*at),
            runs!() | no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }

    pub(super) fn silent(&mut self, text: &str) {
        match &self.service.facts.state {
            runs!() => self.unhealthy(text),
            no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }

    pub(super) fn unhealthy(&mut self, output: &str) {
        let why = Why::Unhealthy(output.to_owned());
        match self.policy().on_unhealthy() {
            OnFailure::Restart | OnFailure::Stop => self.stop(why, self.policy().health_grace()),
            OnFailure::Kill => self.kill_for(why),
            OnFailure::None => match &mut self.service.facts.state {
                State::Starting { health, .. } => *health = Health::Unhealthy,
                State::Running { health, steady_at, .. } => {
                    *health = Health::Unhealthy;
                    *steady_at = None;
                }
                no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. } => {}
            },
        }
    }
}

//! While it runs: health.

use super::Turn;
use crate::cause::Why;
use crate::event::Verdict;
use crate::policy::{OnFailure, Readiness};
use crate::service::HasPolicy;
use crate::state::{Health, State};

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

    pub(super) fn unhealthy(&mut self, output: &str) {
        let why = Why::Unhealthy(output.to_owned());
        match self.policy().health.map_or(OnFailure::None, |h| h.on_failure) {
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

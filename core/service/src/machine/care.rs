//! While it runs: health, memory, pauses.

use super::Turn;
use crate::cause::Why;
use crate::event::Verdict;
use crate::policy::{OnFailure, OomPolicy, Readiness};
use crate::state::{Health, State};

impl Turn<'_> {
    pub(super) fn health(&mut self, verdict: &Verdict) {
        if self.service.policy.health.is_none() {
            return;
        }
        let steady = self.steady_at();
        match (&mut self.service.state, verdict) {
            (State::Starting { since, .. }, Verdict::Healthy)
                if self.service.policy.readiness == Readiness::Healthy =>
            {
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
        match self.service.policy.health.map_or(OnFailure::None, |h| h.on_failure) {
            OnFailure::Restart | OnFailure::Stop => self.stop(why, self.service.policy.health_grace()),
            OnFailure::Kill => self.kill_for(why),
            OnFailure::None => match &mut self.service.state {
                State::Starting { health, .. } => *health = Health::Unhealthy,
                State::Running { health, steady_at, .. } => {
                    *health = Health::Unhealthy;
                    *steady_at = None;
                }
                no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. } => {}
            },
        }
    }

    pub(super) fn paused(&mut self, now: bool) {
        match &mut self.service.state {
            State::Running { paused, .. } => *paused = now,
            no_life!()
            | launching!()
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Lingering { .. } => {}
        }
    }

    pub(super) fn oom(&mut self) {
        match self.service.state {
            runs!() => match self.service.policy.oom {
                OomPolicy::Kill => self.kill_for(Why::Oom),
                OomPolicy::Stop => self.stop(Why::Oom, self.service.policy.stop_grace),
                OomPolicy::Continue => {}
            },
            no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }
}

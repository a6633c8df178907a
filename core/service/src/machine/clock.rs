//! The service's one timer. What it means is the state's to say; fired early or twice it means nothing.

use super::Turn;
use crate::cause::{WaitFor, Why};
use crate::service::HasPolicy;
use crate::state::{CleanupPhase, Phase, State};

impl<C: HasPolicy> Turn<'_, C> {
    pub(super) fn timer(&mut self) {
        let again = self.again();
        if self.service.facts.state.deadline().is_none_or(|at| at > self.now.at) {
            return;
        }
        match &mut self.service.facts.state {
            launching!() => {
                let phase = Phase::Launching { deadline: again };
                self.go(State::Stopping { since: self.now.at, why: Why::StartTimeout, phase });
                self.kill_all();
                self.cause = Some(Why::StartTimeout.to_string());
            }
            State::Starting { .. } => {
                self.stop(Why::StartTimeout, self.policy().stop_grace);
                self.cause = Some(Why::StartTimeout.to_string());
            }
            State::Running { steady_at, .. } => {
                *steady_at = None;
                self.service.facts.attempts = 0;
                self.cause = Some("steady".to_owned());
            }
            State::Stopping { phase: Phase::Launching { deadline }, .. } => {
                *deadline = again;
                self.kill_all();
            }
            State::Stopping { phase: Phase::Draining { .. }, .. } => {
                self.signal();
                self.cause = Some("draining took too long".to_owned());
            }
            State::Stopping { phase: Phase::Signalled { .. }, .. } => {
                self.kill_again();
                self.cause = Some("the grace period is over".to_owned());
            }
            State::Stopping { phase: Phase::Killed { .. }, .. } => {
                self.kill_again();
                self.cause = Some("still there after a kill".to_owned());
            }
            State::Lingering { remains: CleanupPhase::Processes { again: at }, .. } => {
                *at = again;
                self.kill_all();
            }
            State::Lingering { remains: CleanupPhase::Uncleaned { .. }, end, .. } => {
                let end = end.clone();
                self.clean(end);
            }
            State::Backoff { attempt, .. } => {
                self.cause = Some(format!("restart {attempt} in a row"));
                self.go(State::Waiting { since: self.now.at, on: WaitFor::Turn });
            }
            State::Lingering { remains: CleanupPhase::Answer { .. } | CleanupPhase::Cleaning, .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Failed { .. } => {}
        }
    }
}

//! What people, the config and other services want. A wish is kept in `wanted` or in the reason of a stop; what follows from
//! it at the end of a life is decided there (`end`), so that a change of mind in between costs nothing.

use super::Turn;
use crate::action::Action;
use crate::cause::{Down, Restart, Up, Why};
use crate::policy::Readiness;
use crate::sabotage::{Invariant, broken};
use crate::service::{HasPolicy, Wanted};
use crate::state::{CleanupPhase, End, Health, Phase, Rest, State};

impl<C: HasPolicy> Turn<'_, C> {
    pub(super) fn up(&mut self, up: &Up) {
        let by_time = self.begins_by_time();
        if *up == Up::Time && !(by_time && self.service.wanted == Wanted::Up) {
            return;
        }
        let was = std::mem::replace(&mut self.service.facts.wanted, Wanted::Up);
        let unasked = matches!(up, Up::Boot | Up::Config);
        match &mut self.service.facts.state {
            State::Stopped { why: Rest::Finished } | State::Failed { .. } if by_time && unasked => {}
            State::Stopped { why } if by_time && unasked => *why = Rest::Scheduled,
            // A job that is done is what its dependants wait for, not what they ask for again.
            State::Stopped { why: Rest::Finished } if was == Wanted::Up && matches!(up, Up::Dependant(_)) => {
            }
            State::Stopped { .. } | State::Failed { .. } => self.begin_anew(),
            State::Backoff { .. } if *up == Up::Hand => self.begin_anew(),
            State::Lingering { end, .. } => {
                if let Wanted::Down(down) = was {
                    *end = End::Asked(Why::Down(down));
                }
            }
            // After a stop that is no longer wanted it comes up at once: `End::Asked(Down)` while wanted up.
            State::Stopping { .. }
            | State::Backoff { .. }
            | State::Waiting { .. }
            | launching!()
            | runs!() => {}
        }
    }

    pub(super) fn down(&mut self, down: Down) {
        self.service.facts.wanted = Wanted::Down(down);
        match &mut self.service.facts.state {
            State::Stopped { why } if matches!(why, Rest::Shutdown | Rest::Scheduled) => {
                *why = Rest::Down(down);
            }
            State::Stopped { .. } => {}
            State::Failed { .. } | State::Waiting { .. } | State::Backoff { .. } => {
                self.service.facts.attempts = 0;
                self.go(State::Stopped { why: Rest::Down(down) });
            }
            launching!() | runs!() => {
                self.stop(Why::Down(down), self.policy().stop_grace);
            }
            State::Stopping { why, .. } => *why = Why::Down(down),
            State::Lingering { .. } => {}
        }
    }

    pub(super) fn restart(&mut self, restart: &Restart) {
        match self.service.facts.wanted {
            Wanted::Up => {}
            Wanted::Down(Down::Hand | Down::Idle) if *restart == Restart::Hand => return self.up(&Up::Hand),
            Wanted::Down(_) => return,
        }
        let by_config = *restart == Restart::Config;
        let bound = matches!(restart, Restart::Bound(_));
        match &self.service.facts.state {
            // Nothing of it is up, or will be: a start waits for what it is bound to.
            no_life!() | State::Stopping { .. } | State::Lingering { .. } if bound => {}
            // A job that is done stays done until somebody asks for it, whatever its config says now.
            State::Stopped { why: Rest::Finished } if by_config && !broken(Invariant::DoneAgain) => {}
            State::Lingering { end, .. } if by_config && self.is_done(end) => {}
            // What began by time does not begin with others.
            State::Stopped { .. } | State::Failed { .. }
                if self.begins_by_time() && *restart != Restart::Hand => {}
            State::Stopped { .. } | State::Failed { .. } | State::Backoff { .. } => self.begin_anew(),
            State::Waiting { .. } => {}
            launching!() | runs!() => {
                self.stop(Why::Restart(restart.clone()), self.policy().stop_grace);
            }
            State::Stopping { .. } | State::Lingering { .. } => self.ends_for(Why::Restart(restart.clone())),
        }
    }

    /// Another reason for a stop under way, or for what comes after the life whose remains are being cleaned up.
    fn ends_for(&mut self, reason: Why) {
        match &mut self.service.facts.state {
            State::Stopping { why, .. } => *why = reason,
            State::Lingering { end, .. } => *end = End::Asked(reason),
            no_life!() | launching!() | runs!() => {}
        }
    }

    /// What has no life rests; what has one loses it. A failure stays to be seen.
    pub(super) fn shutdown(&mut self) {
        if broken(Invariant::ShutdownOnRecord) {
            self.service.facts.wanted = Wanted::Down(Down::Hand);
        }
        match &self.service.facts.state {
            State::Stopped { .. } | State::Failed { .. } => {}
            State::Waiting { .. } | State::Backoff { .. } => {
                self.service.facts.attempts = 0;
                self.go(State::Stopped { why: Rest::Shutdown });
            }
            launching!() | runs!() => self.stop(Why::Shutdown, self.policy().stop_grace),
            State::Stopping { .. } if self.service.wanted == Wanted::Up => self.ends_for(Why::Shutdown),
            // It is being cleaned up, and told again if it wants another life after that.
            State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }

    pub(super) fn hurry(&mut self) {
        let again = self.again();
        match &mut self.service.facts.state {
            State::Stopping { phase, .. } => {
                *phase = match phase {
                    Phase::Launching { .. } => Phase::Launching { deadline: again },
                    Phase::Draining { .. } | Phase::Signalled { .. } | Phase::Killed { .. } => {
                        Phase::Killed { again }
                    }
                };
                self.kill_all();
            }
            State::Lingering { remains: CleanupPhase::Processes { .. }, .. } => self.kill_all(),
            no_life!() | State::Lingering { .. } | launching!() | runs!() => {}
        }
    }

    pub(super) fn kill(&mut self, signal: i32) {
        match self.service.facts.state {
            State::Stopping { phase: Phase::Launching { .. }, .. } => {}
            State::Created { .. } | runs!() | State::Stopping { .. } => self.act(Action::Signal(signal)),
            no_life!() | State::Creating { .. } | State::Lingering { .. } => {}
        }
    }

    pub(super) fn live(&mut self, config: &C) {
        if let Some(next) = &mut self.service.next {
            *next = config.clone();
            return;
        }
        let by_time = self.begins_by_time();
        self.service.config = config.clone();
        self.begins_by_another(by_time);
        let checked = self.policy().health.is_some();
        match &mut self.service.facts.state {
            State::Starting { health, .. } | State::Running { health, .. } => {
                *health = match *health {
                    _ if !checked => Health::None,
                    Health::None => Health::Starting,
                    Health::Starting => Health::Starting,
                    Health::Healthy => Health::Healthy,
                    Health::Unhealthy => Health::Unhealthy,
                };
            }
            no_life!() | launching!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
        // What it waited for is no longer asked of it.
        if let State::Starting { since, health, .. } = self.service.facts.state
            && self.policy().readiness == Readiness::Started
        {
            self.running(since, health, false);
        }
    }

    pub(super) fn replaced(&mut self, config: &C) {
        if self.service.facts.state.has_life() {
            let first = self.service.next.take().filter(|_| broken(Invariant::LostConfig));
            self.service.next = first.or_else(|| Some(config.clone()));
        } else {
            let by_time = self.begins_by_time();
            self.service.config = config.clone();
            self.drop_kept();
            self.begins_by_another(by_time);
        }
        // It is back in the config. Whether it is to run is another event's to say.
        if self.service.wanted == Wanted::Down(Down::Removed) {
            self.service.facts.wanted = Wanted::Down(Down::Idle);
        }
        self.restart(&Restart::Config);
    }
}

//! What people, the config and other services want. A wish is kept in `wanted` or in the reason of a stop; what follows from
//! it at the end of a life is decided there (`end`), so that a change of mind in between costs nothing.

use super::Turn;
use crate::action::Action;
use crate::cause::{Down, Restart, Up, Why};
use crate::policy::Policy;
use crate::service::Wanted;
use crate::state::{End, Health, Phase, Remains, Rest, State};

impl Turn<'_> {
    pub(super) fn up(&mut self, up: &Up) {
        let was = self.service.wanted;
        if was == Wanted::Down(Down::Shutdown) {
            return;
        }
        self.service.wanted = Wanted::Up;
        match &mut self.service.state {
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
        if self.service.wanted == Wanted::Down(Down::Shutdown) {
            return;
        }
        self.service.wanted = Wanted::Down(down);
        match &mut self.service.state {
            State::Stopped { .. } => {}
            // `ps` after a shutdown's end still says what had failed.
            State::Failed { .. } if down == Down::Shutdown => {}
            State::Failed { .. } | State::Waiting { .. } | State::Backoff { .. } => {
                self.service.attempts = 0;
                self.go(State::Stopped { why: Rest::Down(down) });
            }
            launching!() | runs!() => {
                self.stop(Why::Down(down), self.service.policy.stop_grace);
            }
            State::Stopping { why, .. } => *why = Why::Down(down),
            State::Lingering { .. } => {}
        }
    }

    pub(super) fn restart(&mut self, restart: &Restart) {
        match self.service.wanted {
            Wanted::Up => {}
            Wanted::Down(Down::Hand | Down::Idle) if *restart == Restart::Hand => return self.up(&Up::Hand),
            Wanted::Down(_) => return,
        }
        match &mut self.service.state {
            State::Stopped { .. } | State::Failed { .. } | State::Backoff { .. } => self.begin_anew(),
            State::Waiting { .. } => {}
            launching!() | runs!() => {
                self.stop(Why::Restart(restart.clone()), self.service.policy.stop_grace);
            }
            State::Stopping { why, .. } => *why = Why::Restart(restart.clone()),
            State::Lingering { end, .. } => *end = End::Asked(Why::Restart(restart.clone())),
        }
    }

    pub(super) fn lost(&mut self, name: &str) {
        match self.service.state {
            launching!() | runs!() => {
                self.stop(Why::Bound(name.to_owned()), self.service.policy.stop_grace);
            }
            no_life!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }

    pub(super) fn hurry(&mut self) {
        let again = self.again();
        match &mut self.service.state {
            State::Stopping { phase, .. } => {
                *phase = match phase {
                    Phase::Launching { .. } => Phase::Launching { deadline: again },
                    Phase::Draining { .. } | Phase::Signalled { .. } | Phase::Killed { .. } => {
                        Phase::Killed { again }
                    }
                };
                self.act(Action::KillCgroup);
            }
            State::Lingering { remains: Remains::Processes { .. }, .. } => self.act(Action::KillCgroup),
            no_life!() | State::Lingering { .. } | launching!() | runs!() => {}
        }
    }

    pub(super) fn kill(&mut self, signal: i32) {
        match self.service.state {
            State::Stopping { phase: Phase::Launching { .. }, .. } => {}
            State::Created { .. } | runs!() | State::Stopping { .. } => self.act(Action::Signal(signal)),
            no_life!() | State::Creating { .. } | State::Lingering { .. } => {}
        }
    }

    pub(super) fn live(&mut self, policy: &Policy) {
        if let Some(next) = &mut self.service.next {
            **next = policy.clone();
            return;
        }
        self.service.policy = policy.clone();
        let checked = policy.health.is_some();
        match &mut self.service.state {
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
    }

    pub(super) fn replaced(&mut self, policy: &Policy) {
        if self.service.state.has_life() {
            self.service.next = Some(Box::new(policy.clone()));
        } else {
            self.service.policy = policy.clone();
            if std::mem::take(&mut self.service.kept) {
                self.act(Action::DropKept);
            }
        }
        self.restart(&Restart::Config);
    }
}

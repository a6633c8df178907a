//! A new worker after a crash: the record is compared with what there is.

use super::Turn;
use crate::action::Action;
use crate::cause::WaitFor;
use crate::event::Found;
use crate::exit::Exit;
use crate::service::Job;
use crate::state::{End, Phase, State};

impl Turn<'_> {
    /// The record is compared with what is there. Every intent on record is carried out again: the worker may have died
    /// between the record and the act. That sends a stop signal twice at worst, never not at all.
    pub(super) fn adopted(&mut self, found: Found) {
        self.service.job = None;
        let (alive, empty) = match found {
            Found::Alive { .. } => (true, false),
            Found::Exited { empty, .. } | Found::Gone { empty } => (false, empty),
        };
        match &mut self.service.state {
            // Nothing should be here; whatever it is, it is not counted as a life.
            State::Stopped { .. } | State::Failed { .. } if empty => {}
            State::Stopped { .. } | State::Failed { .. } => self.act(Action::KillCgroup),
            State::Waiting { on, .. } if empty => *on = WaitFor::Turn,
            State::Backoff { .. } if empty => {}
            State::Waiting { .. } | State::Backoff { .. } | State::Creating { .. } => {
                self.leave(End::Interrupted, empty);
            }
            State::Created { deadline, .. } => {
                let deadline = *deadline;
                match found {
                    Found::Alive { started: true } => self.run(deadline, true),
                    Found::Exited { exit, started: true, .. } => self.exited(exit, empty),
                    // Its barrier went with the worker.
                    Found::Alive { started: false }
                    | Found::Exited { started: false, .. }
                    | Found::Gone { .. } => {
                        self.leave(End::Interrupted, empty);
                    }
                }
            }
            State::Starting { .. } if alive => {}
            State::Running { adopted, .. } if alive => *adopted = true,
            runs!() => self.exited(exit_of(found), empty),
            State::Stopping { phase, .. } if alive => match phase {
                Phase::Launching { .. } => self.kill_again(),
                Phase::Draining { .. } => {
                    self.service.job = Some(Job::Drain);
                    self.act(Action::Drain);
                }
                Phase::Signalled { .. } => self.act(Action::Signal(self.service.policy.stop_signal)),
                Phase::Killed { .. } => self.kill_again(),
            },
            State::Stopping { .. } => self.exited(exit_of(found), empty),
            State::Lingering { end, .. } => {
                let end = end.clone();
                self.leave(end, empty);
            }
        }
    }
}

fn exit_of(found: Found) -> Exit {
    match found {
        Found::Exited { exit, .. } => exit,
        Found::Alive { .. } | Found::Gone { .. } => Exit::UNKNOWN,
    }
}

//! A new worker after a crash: the record is compared with what there is.

use super::Turn;
use crate::action::Action;
use crate::cause::{Restart, WaitFor, Why};
use crate::event::Found;
use crate::exit::Exit;
use crate::sabotage::{Invariant, broken};
use crate::service::{HasPolicy, Job, Wanted};
use crate::state::{CleanupPhase, End, Phase, Rest, State};

impl<C: HasPolicy> Turn<'_, C> {
    /// The record is compared with what is there. Every intent on record is carried out again: the worker may have died
    /// between the record and the act. That sends a stop signal twice at worst, never not at all.
    pub(super) fn adopted(&mut self, found: Found) {
        self.service.facts.job = None;
        self.forget_shutdown();
        if found.started() {
            self.service.facts.ran = self.service.facts.generation;
        }
        let (alive, empty) = (matches!(found, Found::Alive { .. }), found.is_empty());
        match &mut self.service.facts.state {
            // Nothing should be here; whatever it is, it is not counted as a life.
            State::Stopped { .. } | State::Failed { .. } if empty => {}
            State::Stopped { .. } | State::Failed { .. } => self.kill_all(),
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
                    | Found::Over { .. }
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
                    self.act(Action::Thaw);
                    self.service.facts.job = Some(Job::Drain);
                    self.act(Action::Drain);
                }
                Phase::Signalled { .. } => {
                    self.act(Action::Thaw);
                    self.act(Action::Signal(self.policy().stop_signal));
                }
                Phase::Killed { .. } => self.kill_again(),
            },
            State::Stopping { .. } => self.exited(exit_of(found), empty),
            State::Lingering { end, remains, .. } => {
                let (end, remains) = (end.clone(), *remains);
                // Its end was seen before the answer of its launch, which died with the worker: what is found says whether it ran.
                if let CleanupPhase::Answer { exit, .. } = remains {
                    self.tell(exit);
                }
                self.leave(end, empty);
            }
        }
    }

    /// A shutdown is the supervisor's, not the record's: what it stopped is started again, and what it was stopping ends and
    /// is started again. Where the shutdown still goes on, its word follows before any start.
    fn forget_shutdown(&mut self) {
        let interrupted = Why::Restart(Restart::Interrupted);
        match &mut self.service.facts.state {
            State::Stopped { why: Rest::Shutdown } if self.service.facts.wanted == Wanted::Up => {
                self.begin_anew();
            }
            State::Stopping { why, .. } if *why == Why::Shutdown => *why = interrupted,
            State::Lingering { end, .. } if *end == End::Asked(Why::Shutdown) => {
                *end = End::Asked(interrupted)
            }
            no_life!() | launching!() | runs!() | State::Stopping { .. } | State::Lingering { .. } => {}
        }
    }
}

fn exit_of(found: Found) -> Exit {
    match found {
        Found::Exited { exit, .. } => exit,
        Found::Alive { .. } | Found::Over { .. } | Found::Gone { .. } if broken(Invariant::UnknownIsZero) => {
            Exit::code(0)
        }
        Found::Alive { .. } | Found::Over { .. } | Found::Gone { .. } => Exit::UNKNOWN,
    }
}

//! After the main process: what it left is killed, the remains are cleaned up, and then, only then, what comes next is
//! decided. No life begins before the one before is cleaned up: `Cleaning` is the only way out of lingering.

use super::Turn;
use crate::action::Action;
use crate::cause::{Problem, WaitFor, Why};
use crate::exit::Exit;
use crate::policy::{Answer, OnFailure};
use crate::sabotage::{Invariant, broken};
use crate::service::{HasPolicy, Job, Kill, Wanted};
use crate::state::{CleanupPhase, End, Failure, Rest, State};

/// What comes after a life.
enum Next {
    Rest(Rest),
    Fail(Failure),
    /// Asked for, or no fault of the service: no wait, not counted.
    AtOnce,
    Again,
}

impl<C: HasPolicy> Turn<'_, C> {
    pub(super) fn exited(&mut self, exit: Exit, empty: bool) {
        let end = match &self.service.facts.state {
            launching!() | State::Starting { .. } => End::Exit(exit),
            State::Running { steady_at, .. } => {
                if steady_at.is_some_and(|at| at <= self.now.at) {
                    self.service.facts.attempts = 0;
                }
                End::Exit(exit)
            }
            State::Stopping { why, .. } => why.clone().into(),
            // Of a launch that a crash interrupted: only that nothing is left is news.
            State::Lingering { .. } if empty => return self.empty(),
            no_life!() | State::Lingering { .. } => return,
        };
        self.tell(exit);
        if self.service.facts.job.is_some() {
            self.kill_rest(empty);
            self.go(State::Lingering {
                since: self.now.at,
                end,
                remains: CleanupPhase::Answer { empty, exit },
            });
        } else {
            self.leave(end, empty);
        }
    }

    pub(super) fn tell(&mut self, exit: Exit) {
        if self.service.facts.ran == self.service.facts.generation {
            self.service.facts.last_exit = Some(exit);
        }
    }

    fn kill_rest(&mut self, empty: bool) {
        if !empty {
            self.kill_all();
        }
    }

    /// The answer to a kill. What else it means is nothing, but that a next life may begin.
    pub(super) fn killed(&mut self, empty: bool) {
        let again = std::mem::take(&mut self.service.kill) == Kill::OwedAndAgain;
        // It may have looked before the process that it was asked to kill was there.
        let may_live = match self.service.state {
            launching!() | runs!() | State::Stopping { .. } => true,
            no_life!() | State::Lingering { .. } => false,
        };
        if again && (may_live || !empty) {
            self.kill_all();
        }
        if empty {
            self.empty();
        }
    }

    fn empty(&mut self) {
        match &mut self.service.facts.state {
            State::Lingering { remains: CleanupPhase::Answer { empty, .. }, .. } => *empty = true,
            State::Lingering { remains: CleanupPhase::Processes { .. }, end, .. } => {
                let end = end.clone();
                self.clean(end);
            }
            State::Lingering { remains: CleanupPhase::Cleaning | CleanupPhase::Uncleaned { .. }, .. } => {}
            no_life!() | launching!() | runs!() | State::Stopping { .. } => {}
        }
    }

    /// The main process is gone. What it leaves in the cgroup is killed: people expect nothing of a container to survive it.
    pub(super) fn leave(&mut self, end: End, empty: bool) {
        self.kill_rest(empty);
        if empty || broken(Invariant::DoubleStart) {
            return self.clean(end);
        }
        let remains = CleanupPhase::Processes { again: self.again() };
        self.go(State::Lingering { since: self.now.at, end, remains });
    }

    /// In lingering{answer}: the answer is here. What it says about a failed start says more than the exit that came first.
    pub(super) fn answered(&mut self, problem: Option<&Problem>) {
        let again = self.again();
        let State::Lingering { end, remains, .. } = &mut self.service.facts.state else { return };
        if let (End::Exit(_), Some(problem)) = (&*end, problem) {
            *end = End::Problem(problem.clone());
        }
        let CleanupPhase::Answer { empty, exit } = *remains else { return };
        if empty {
            let end = end.clone();
            self.clean(end);
        } else {
            *remains = CleanupPhase::Processes { again };
        }
        self.tell(exit);
    }

    pub(super) fn clean(&mut self, end: End) {
        let keep = matches!(self.next(&end), Next::AtOnce | Next::Again) && self.service.next.is_none();
        let since = match self.service.facts.state {
            State::Lingering { since, .. } => since,
            _ => self.now.at,
        };
        self.service.facts.kept = keep;
        self.service.facts.job = Some(Job::Cleanup);
        self.go(State::Lingering { since, end, remains: CleanupPhase::Cleaning });
        self.act(Action::Cleanup { keep });
    }

    pub(super) fn cleaned_up(&mut self) {
        match &self.service.facts.state {
            State::Lingering { end, .. } => {
                let end = end.clone();
                self.settle(&end);
            }
            no_life!() | launching!() | runs!() | State::Stopping { .. } => {}
        }
    }

    pub(super) fn cleanup_failed(&mut self, problem: &Problem) {
        let at = self.again();
        match &mut self.service.facts.state {
            State::Lingering { remains, .. } => {
                *remains = CleanupPhase::Uncleaned { at };
                self.cause = Some(format!("cleaning up failed: {problem}"));
            }
            no_life!() | launching!() | runs!() | State::Stopping { .. } => {}
        }
    }

    /// Nothing is left of the life: what now? What its end means is judged by the rules that it lived by; the wait before the next
    /// one, and all of that, goes by the next one's.
    fn settle(&mut self, end: &End) {
        let (mut next, by_time) = (self.next(end), self.begins_by_time());
        if let Some(config) = self.service.next.take() {
            self.service.config = config;
            self.drop_kept();
        }
        // It was no job by time, and is one from now on: its time comes.
        if !by_time && self.begins_by_time() && matches!(next, Next::AtOnce | Next::Again) {
            next = Next::Rest(Rest::Scheduled);
        }
        self.cause = Some(end.cause());
        let since = self.now.at;
        match next {
            Next::Rest(why) => {
                self.service.facts.attempts = 0;
                self.go(State::Stopped { why });
            }
            Next::Fail(why) => self.go(State::Failed { why }),
            Next::AtOnce => {
                if matches!(end, End::Asked(Why::Restart(_) | Why::Down(_))) {
                    self.service.facts.attempts = 0;
                }
                self.go(State::Waiting { since, on: WaitFor::Turn });
            }
            Next::Again => {
                self.service.facts.restarts += 1;
                self.service.facts.attempts += 1;
                let attempt = self.service.facts.attempts;
                let wait = self.policy().wait(attempt, self.now.jitter_share);
                self.go(if wait.is_zero() {
                    State::Waiting { since, on: WaitFor::Turn }
                } else {
                    State::Backoff { since, until: since.after(wait), attempt }
                });
            }
        }
    }

    /// What was kept for a next life is another config's: it may hold what that must not have, a published port for one.
    pub(super) fn drop_kept(&mut self) {
        if !broken(Invariant::KeptPort) && std::mem::take(&mut self.service.facts.kept) {
            self.act(Action::DropKept);
        }
    }

    /// It ended by itself, and by its policy that was the last time: a job that is done.
    pub(super) fn is_done(&self, end: &End) -> bool {
        matches!(end, End::Exit(exit) if self.policy().answer(Some(*exit), 0) == Answer::Rest)
    }

    fn next(&self, end: &End) -> Next {
        let (policy, attempts) = (self.policy(), self.service.attempts);
        let judge = |exit: Option<Exit>, failure: Failure| match policy.answer(exit, attempts) {
            Answer::Again => Next::Again,
            Answer::Rest => Next::Rest(Rest::Finished),
            Answer::Fail => Next::Fail(failure),
            Answer::TooMany => Next::Fail(Failure::Attempts(attempts)),
        };
        if let Wanted::Down(down) = self.service.wanted {
            // A job that was done before it was told to stop is done.
            return Next::Rest(if self.is_done(end) { Rest::Finished } else { Rest::Down(down) });
        }
        match end {
            End::Exit(exit) if exit.oom => judge(Some(*exit), Failure::Oom),
            End::Exit(exit) => judge(Some(*exit), Failure::Exit(*exit)),
            End::Interrupted => Next::AtOnce,
            End::Problem(p) | End::Asked(Why::Problem(p)) => match p {
                Problem::Config(_) => Next::Fail(Failure::Problem(p.clone())),
                Problem::Hook { .. } | Problem::Veto { .. } | Problem::Exec(_) | Problem::Io(_) => {
                    judge(None, Failure::Problem(p.clone()))
                }
            },
            End::Asked(Why::Shutdown) => Next::Rest(Rest::Shutdown),
            End::Asked(Why::Down(_) | Why::Restart(_)) => Next::AtOnce,
            End::Asked(Why::Unhealthy(_)) => match policy.health.map(|h| h.on_failure) {
                Some(OnFailure::Stop) => Next::Fail(Failure::Unhealthy),
                Some(OnFailure::Restart | OnFailure::Kill | OnFailure::None) | None => {
                    judge(None, Failure::Unhealthy)
                }
            },
            End::Asked(Why::StartTimeout) => judge(None, Failure::StartTimeout),
        }
    }
}

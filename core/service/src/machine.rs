//! `step`: the one place where a service changes state. Each event has one function, each function one match over all
//! states without `_`: a new state does not compile before every event has an answer to it. The drawing is in [`state`].
//!
//! What follows from the difference between before and after is not repeated in the arms but derived at the end
//! ([`follow`]): the timer, the probes, the start gate, the announcement to dependants, what was kept for a life that
//! will not come. Absent on purpose: clocks, luck, I/O, names of services.
//!
//! ```text
//! up ........ stopped, failed, backoff (by hand) -> waiting            granted .. waiting -> creating [create]
//! created ... creating -> created [start]                              started .. created -> starting | running
//! stop ...... creating, created -> stopping{launching}                 starting, running -> stopping{draining} [drain]
//! drained ... stopping{draining} -> stopping{signalled} [signal]       deadline -> stopping{killed} [kill cgroup]
//! exited .... any life -> lingering{answer | processes [kill cgroup] | cleaning [cleanup]}
//! cleaned ... lingering -> stopped | failed | backoff | waiting        time is up: backoff -> waiting
//! ```
//!
//! [`state`]: crate::state

use crate::action::Action;
use crate::cause::{Down, Problem, Restart, Up, WaitFor, Why};
use crate::event::{Event, Found, Life, Verdict};
use crate::exit::Exit;
use crate::policy::{Answer, OnFailure, OomPolicy, Policy, Readiness};
use crate::service::{Job, Service, Standing, Wanted};
use crate::state::{End, Failure, Health, Phase, Remains, Rest, State};
use crate::time::{Ms, Now};
use std::time::Duration;

/// A kill that leaves something behind (a process in uninterruptible sleep, one that was forked past a v1 kill), and a
/// cleanup that failed, are tried again after this long. Nothing wakes up for it otherwise.
const AGAIN: Duration = Duration::from_secs(10);

/// What `event` does to `service`: changes it in place and says what is to be done. An event that means nothing here,
/// or belongs to a former life, changes nothing and asks for nothing. Put `service` on record before acting if it differs
/// from what it was.
#[must_use]
pub fn step(service: &mut Service, event: &Event, now: Now) -> Vec<Action> {
    let state = service.state.clone();
    // A new worker has no timer, no probe and no place in the gate: all that the state implies is asked for anew.
    let before = match event {
        Event::Life { life: Life::Adopted(_), generation } if *generation == service.generation => {
            Implied::default()
        }
        _ => Implied::by(service),
    };
    let mut turn = Turn { service, now, actions: Vec::new(), cause: None };
    turn.event(event);
    let Turn { service, mut actions, cause, .. } = turn;
    if service.state != state {
        service.cause = cause.unwrap_or_else(|| event.to_string());
    }
    follow(service, before, &mut actions);
    actions
}

/// What a state implies for the world around the service.
#[derive(Default, Clone, Copy)]
struct Implied {
    deadline: Option<Ms>,
    probed: bool,
    /// In the start gate: waiting in it, or holding one of its slots.
    gate: bool,
    standing: Standing,
}

impl Implied {
    fn by(service: &Service) -> Implied {
        let gate = match service.state {
            State::Waiting { .. } | State::Creating { .. } | State::Created { .. } => true,
            State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Stopped { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => false,
        };
        Implied {
            deadline: service.state.deadline(),
            probed: service.state.is_probed(),
            gate,
            standing: service.standing(),
        }
    }
}

/// The actions that follow from a difference. Probes end before anything else is done to the container.
fn follow(service: &mut Service, before: Implied, actions: &mut Vec<Action>) {
    let after = Implied::by(service);
    if before.probed && !after.probed {
        actions.insert(0, Action::HealthEnd);
    }
    if after.probed && !before.probed {
        actions.push(Action::HealthBegin);
    }
    match after.deadline {
        Some(at) if before.deadline != after.deadline => actions.push(Action::Arm { at }),
        None if before.deadline.is_some() => actions.push(Action::Disarm),
        Some(_) | None => {}
    }
    if service.kept && service.state.is_at_rest() {
        service.kept = false;
        actions.push(Action::DropKept);
    }
    if before.gate && !after.gate {
        actions.push(Action::ReleaseStart);
    }
    if after.gate && !before.gate && matches!(service.state, State::Waiting { .. }) {
        actions.push(Action::RequestStart);
    }
    if before.standing != after.standing {
        actions.push(Action::Announce);
    }
}

/// What comes after a life.
enum Next {
    Rest(Rest),
    Fail(Failure),
    /// Asked for, or no fault of the service: no wait, not counted.
    AtOnce,
    Again,
}

struct Turn<'s> {
    service: &'s mut Service,
    now: Now,
    actions: Vec<Action>,
    /// Says more than the event does.
    cause: Option<String>,
}

impl Turn<'_> {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Up(up) => self.up(up),
            Event::Down(down) => self.down(*down),
            Event::Restart(restart) => self.restart(restart),
            Event::Lost(name) => self.lost(name),
            Event::Hurry => self.hurry(),
            Event::Kill(signal) => self.kill(*signal),
            Event::Live(policy) => self.live(policy),
            Event::Replaced(policy) => self.replaced(policy),
            Event::Blocked(on) => self.blocked(on),
            Event::Granted => self.granted(),
            Event::Life { generation, life } if *generation == self.service.generation => self.life(life),
            Event::Life { .. } => {}
        }
    }

    fn life(&mut self, life: &Life) {
        match life {
            Life::Created => self.answer(Job::Create, Turn::created),
            Life::CreateFailed(p) => self.answer(Job::Create, |turn| turn.create_failed(p)),
            Life::Started => self.answer(Job::Start, Turn::started),
            Life::StartFailed(p) => self.answer(Job::Start, |turn| turn.start_failed(p)),
            Life::Drained => self.answer(Job::Drain, Turn::drained),
            Life::CleanedUp => self.answer(Job::Cleanup, Turn::cleaned_up),
            Life::CleanupFailed(p) => self.answer(Job::Cleanup, |turn| turn.cleanup_failed(p)),
            Life::Ready => self.ready(),
            Life::Health(verdict) => self.health(verdict),
            Life::Paused => self.paused(true),
            Life::Resumed => self.paused(false),
            Life::Oom => self.oom(),
            Life::Exited { exit, empty } => self.exited(*exit, *empty),
            Life::Empty => self.empty(),
            Life::Timer => self.timer(),
            Life::Adopted(found) => self.adopted(*found),
        }
    }

    /// An answer that nobody waits for (to a job from before a crash) is no answer.
    fn answer(&mut self, job: Job, then: impl FnOnce(&mut Self)) {
        if self.service.job == Some(job) {
            self.service.job = None;
            then(self);
        }
    }

    // Wishes.

    fn up(&mut self, up: &Up) {
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
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. } => {}
        }
    }

    fn down(&mut self, down: Down) {
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
            State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. } => {
                self.stop(Why::Down(down), self.service.policy.stop_grace);
            }
            State::Stopping { why, .. } => *why = Why::Down(down),
            State::Lingering { .. } => {}
        }
    }

    fn restart(&mut self, restart: &Restart) {
        match self.service.wanted {
            Wanted::Up => {}
            Wanted::Down(Down::Hand | Down::Idle) if *restart == Restart::Hand => return self.up(&Up::Hand),
            Wanted::Down(_) => return,
        }
        match &mut self.service.state {
            State::Stopped { .. } | State::Failed { .. } | State::Backoff { .. } => self.begin_anew(),
            State::Waiting { .. } => {}
            State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. } => {
                self.stop(Why::Restart(restart.clone()), self.service.policy.stop_grace);
            }
            State::Stopping { why, .. } => *why = Why::Restart(restart.clone()),
            State::Lingering { end, .. } => *end = End::Asked(Why::Restart(restart.clone())),
        }
    }

    fn lost(&mut self, name: &str) {
        match self.service.state {
            State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. } => {
                self.stop(Why::Bound(name.to_owned()), self.service.policy.stop_grace);
            }
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn hurry(&mut self) {
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
            State::Lingering { .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn kill(&mut self, signal: i32) {
        match self.service.state {
            State::Stopping { phase: Phase::Launching { .. }, .. } => {}
            State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. } => self.act(Action::Signal(signal)),
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn live(&mut self, policy: &Policy) {
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
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn replaced(&mut self, policy: &Policy) {
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

    // The start gate.

    fn blocked(&mut self, reason: &WaitFor) {
        match &mut self.service.state {
            State::Waiting { on, .. } => *on = reason.clone(),
            State::Stopped { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn granted(&mut self) {
        match self.service.state {
            State::Waiting { .. } => {
                let deadline = self.service.policy.start_timeout.map(|span| self.now.at.after(span));
                self.service.generation += 1;
                self.service.kept = false;
                self.service.job = Some(Job::Create);
                self.go(State::Creating { since: self.now.at, deadline });
                self.act(Action::Create);
            }
            // It holds a slot already.
            State::Creating { .. } | State::Created { .. } => {}
            // The grant crossed a change of mind.
            State::Stopped { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => self.act(Action::ReleaseStart),
        }
    }

    // The way up.

    fn created(&mut self) {
        match &mut self.service.state {
            State::Creating { deadline, .. } => {
                let deadline = *deadline;
                self.service.job = Some(Job::Start);
                self.go(State::Created { since: self.now.at, deadline });
                self.act(Action::Start);
            }
            // No program of the user has run: nothing to ask politely.
            State::Stopping { .. } => self.kill_again(),
            State::Lingering { .. } => self.answered(None),
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn create_failed(&mut self, problem: &Problem) {
        match &self.service.state {
            State::Creating { .. } => self.clean(End::Problem(problem.clone())),
            State::Stopping { why, .. } => {
                let end = End::from(why.clone());
                self.clean(end);
            }
            State::Lingering { .. } => self.answered(Some(problem)),
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn started(&mut self) {
        match &self.service.state {
            State::Created { deadline, .. } => {
                let deadline = *deadline;
                self.run(deadline, false);
            }
            State::Stopping { phase: Phase::Launching { .. }, why, .. } => {
                let grace = self.grace(why);
                self.drain(grace);
            }
            State::Lingering { .. } => self.answered(None),
            State::Stopping { .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    /// The process may run, or wait at the barrier, or be gone already: kill, then its Exited goes the usual way.
    fn start_failed(&mut self, problem: &Problem) {
        match self.service.state {
            State::Created { .. } => self.kill_for(Why::Problem(problem.clone())),
            State::Stopping { .. } => self.kill_again(),
            State::Lingering { .. } => self.answered(Some(problem)),
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn ready(&mut self) {
        match self.service.state {
            State::Starting { since, health, .. } => self.running(since, health, false),
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    // While it runs.

    fn health(&mut self, verdict: &Verdict) {
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
            (State::Starting { .. } | State::Running { .. }, Verdict::Unhealthy(output)) => {
                self.unhealthy(output)
            }
            (
                State::Stopped { .. }
                | State::Waiting { .. }
                | State::Creating { .. }
                | State::Created { .. }
                | State::Stopping { .. }
                | State::Lingering { .. }
                | State::Backoff { .. }
                | State::Failed { .. },
                Verdict::Healthy | Verdict::Unhealthy(_),
            ) => {}
        }
    }

    fn unhealthy(&mut self, output: &str) {
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
                State::Stopped { .. }
                | State::Waiting { .. }
                | State::Creating { .. }
                | State::Created { .. }
                | State::Stopping { .. }
                | State::Lingering { .. }
                | State::Backoff { .. }
                | State::Failed { .. } => {}
            },
        }
    }

    fn paused(&mut self, now: bool) {
        match &mut self.service.state {
            State::Running { paused, .. } => *paused = now,
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn oom(&mut self) {
        match self.service.state {
            State::Starting { .. } | State::Running { .. } => match self.service.policy.oom {
                OomPolicy::Kill => self.kill_for(Why::Oom),
                OomPolicy::Stop => self.stop(Why::Oom, self.service.policy.stop_grace),
                OomPolicy::Continue => {}
            },
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    // The way down.

    fn drained(&mut self) {
        match self.service.state {
            State::Stopping { phase: Phase::Draining { .. }, .. } => self.signal(),
            State::Lingering { .. } => self.answered(None),
            // Too late: the signal went out without it.
            State::Stopping { .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn exited(&mut self, exit: Exit, empty: bool) {
        let end = match &self.service.state {
            State::Creating { .. } | State::Created { .. } | State::Starting { .. } => End::Exit(exit),
            State::Running { steady_at, .. } => {
                if steady_at.is_some_and(|at| at <= self.now.at) {
                    self.service.attempts = 0;
                }
                End::Exit(exit)
            }
            State::Stopping { why, .. } => why.clone().into(),
            // Of a launch that a crash interrupted: only that nothing is left is news.
            State::Lingering { .. } if empty => return self.empty(),
            State::Lingering { .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => return,
        };
        self.service.last_exit = Some(exit);
        self.leave(end, empty);
    }

    fn empty(&mut self) {
        match &mut self.service.state {
            State::Lingering { remains: Remains::Answer { empty }, .. } => *empty = true,
            State::Lingering { remains: Remains::Processes { .. }, end, .. } => {
                let end = end.clone();
                self.clean(end);
            }
            State::Lingering { remains: Remains::Cleaning | Remains::Uncleaned { .. }, .. } => {}
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn cleaned_up(&mut self) {
        match &self.service.state {
            State::Lingering { end, .. } => {
                let end = end.clone();
                self.settle(&end);
            }
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn cleanup_failed(&mut self, problem: &Problem) {
        let at = self.again();
        match &mut self.service.state {
            State::Lingering { remains, .. } => {
                *remains = Remains::Uncleaned { at };
                self.cause = Some(format!("cleaning up failed: {problem}"));
            }
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn timer(&mut self) {
        let again = self.again();
        if self.service.state.deadline().is_none_or(|at| at > self.now.at) {
            return;
        }
        match &mut self.service.state {
            State::Creating { .. } | State::Created { .. } => {
                let phase = Phase::Launching { deadline: again };
                self.go(State::Stopping { since: self.now.at, why: Why::StartTimeout, phase });
                self.act(Action::KillCgroup);
                self.cause = Some(Why::StartTimeout.to_string());
            }
            State::Starting { .. } => {
                self.stop(Why::StartTimeout, self.service.policy.stop_grace);
                self.cause = Some(Why::StartTimeout.to_string());
            }
            State::Running { steady_at, .. } => {
                *steady_at = None;
                self.service.attempts = 0;
                self.cause = Some("steady".to_owned());
            }
            State::Stopping { phase: Phase::Launching { deadline }, .. } => {
                *deadline = again;
                self.act(Action::KillCgroup);
            }
            State::Stopping { phase: Phase::Draining { .. }, .. } => self.signal(),
            State::Stopping { phase: Phase::Signalled { .. } | Phase::Killed { .. }, .. } => {
                self.kill_again()
            }
            State::Lingering { remains: Remains::Processes { again: at }, .. } => {
                *at = again;
                self.act(Action::KillCgroup);
            }
            State::Lingering { remains: Remains::Uncleaned { .. }, end, .. } => {
                let end = end.clone();
                self.clean(end);
            }
            State::Backoff { attempt, .. } => {
                self.cause = Some(format!("restart {attempt} in a row"));
                self.go(State::Waiting { since: self.now.at, on: WaitFor::Turn });
            }
            State::Lingering { remains: Remains::Answer { .. } | Remains::Cleaning, .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Failed { .. } => {}
        }
    }

    // A new worker.

    /// The record is compared with what is there. Every intent on record is carried out again: the worker may have died
    /// between the record and the act. That sends a stop signal twice at worst, never not at all.
    fn adopted(&mut self, found: Found) {
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
            State::Starting { .. } | State::Running { .. } => self.exited(exit_of(found), empty),
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

    // Parts.

    fn go(&mut self, state: State) {
        self.service.state = state;
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn again(&self) -> Ms {
        self.now.at.after(AGAIN)
    }

    fn begin_anew(&mut self) {
        self.service.attempts = 0;
        self.go(State::Waiting { since: self.now.at, on: WaitFor::Turn });
    }

    /// The program runs.
    fn run(&mut self, deadline: Option<Ms>, adopted: bool) {
        let health = if self.service.policy.health.is_some() { Health::Starting } else { Health::None };
        match self.service.policy.readiness {
            Readiness::Started => self.running(self.now.at, health, adopted),
            Readiness::Notified | Readiness::Healthy => {
                self.go(State::Starting { since: self.now.at, deadline, health });
            }
        }
    }

    fn running(&mut self, since: Ms, health: Health, adopted: bool) {
        let steady_at = self.steady_at();
        self.go(State::Running { since, health, paused: false, adopted, steady_at });
    }

    /// Only a service that was restarted has a row to end: one that just runs has no timer.
    fn steady_at(&self) -> Option<Ms> {
        (self.service.attempts > 0).then(|| self.now.at.after(self.service.policy.reset_after))
    }

    fn grace(&self, why: &Why) -> Duration {
        match why {
            Why::Unhealthy(_) => self.service.policy.health_grace(),
            Why::Down(_)
            | Why::Restart(_)
            | Why::Bound(_)
            | Why::StartTimeout
            | Why::Oom
            | Why::Problem(_) => self.service.policy.stop_grace,
        }
    }

    /// Politely.
    fn stop(&mut self, why: Why, grace: Duration) {
        let since = self.now.at;
        match self.service.state {
            State::Creating { .. } | State::Created { .. } => {
                let phase = Phase::Launching { deadline: since.after(grace) };
                self.go(State::Stopping { since, why, phase });
            }
            State::Starting { .. } | State::Running { .. } => {
                if matches!(self.service.state, State::Running { paused: true, .. }) {
                    self.act(Action::Thaw);
                }
                self.go(State::Stopping { since, why, phase: Phase::Killed { again: since } });
                self.drain(grace);
            }
            State::Stopped { .. }
            | State::Waiting { .. }
            | State::Stopping { .. }
            | State::Lingering { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
    }

    fn phase(&mut self, next: Phase) {
        if let State::Stopping { phase, .. } = &mut self.service.state {
            *phase = next;
        }
    }

    /// A drain may take as long as the grace period, which begins after it.
    fn drain(&mut self, grace: Duration) {
        self.phase(Phase::Draining { deadline: self.now.at.after(grace) });
        self.service.job = Some(Job::Drain);
        self.act(Action::Drain);
    }

    fn signal(&mut self) {
        let State::Stopping { why, .. } = &self.service.state else { return };
        let deadline = self.now.at.after(self.grace(why));
        self.phase(Phase::Signalled { at: self.now.at, deadline });
        self.act(Action::Signal(self.service.policy.stop_signal));
    }

    fn kill_again(&mut self) {
        self.phase(Phase::Killed { again: self.again() });
        self.act(Action::KillCgroup);
    }

    fn kill_for(&mut self, why: Why) {
        self.go(State::Stopping { since: self.now.at, why, phase: Phase::Killed { again: self.again() } });
        self.act(Action::KillCgroup);
    }

    /// The main process is gone. What it leaves in the cgroup is killed: people expect nothing of a container to survive it.
    fn leave(&mut self, end: End, empty: bool) {
        if !empty {
            self.act(Action::KillCgroup);
        }
        let remains = match (self.service.job, empty) {
            (Some(_), empty) => Remains::Answer { empty },
            (None, false) => Remains::Processes { again: self.again() },
            (None, true) => return self.clean(end),
        };
        self.go(State::Lingering { since: self.now.at, end, remains });
    }

    /// In lingering{answer}: the answer is here. What it says about a failed start says more than the exit that came first.
    fn answered(&mut self, problem: Option<&Problem>) {
        let again = self.again();
        let State::Lingering { end, remains, .. } = &mut self.service.state else { return };
        if let (End::Exit(_), Some(problem)) = (&*end, problem) {
            *end = End::Problem(problem.clone());
        }
        if let Remains::Answer { empty } = *remains {
            if empty {
                let end = end.clone();
                self.clean(end);
            } else {
                *remains = Remains::Processes { again };
            }
        }
    }

    fn clean(&mut self, end: End) {
        let keep = matches!(self.next(&end), Next::AtOnce | Next::Again) && self.service.next.is_none();
        let since = match self.service.state {
            State::Lingering { since, .. } => since,
            _ => self.now.at,
        };
        self.service.kept = keep;
        self.service.job = Some(Job::Cleanup);
        self.go(State::Lingering { since, end, remains: Remains::Cleaning });
        self.act(Action::Cleanup { keep });
    }

    /// Nothing is left of the life: what now?
    fn settle(&mut self, end: &End) {
        if let Some(policy) = self.service.next.take() {
            self.service.policy = *policy;
        }
        self.cause = Some(end.cause());
        let since = self.now.at;
        match self.next(end) {
            Next::Rest(why) => {
                self.service.attempts = 0;
                self.go(State::Stopped { why });
            }
            Next::Fail(why) => self.go(State::Failed { why }),
            Next::AtOnce => {
                if matches!(end, End::Asked(Why::Restart(_) | Why::Down(_))) {
                    self.service.attempts = 0;
                }
                self.go(State::Waiting { since, on: WaitFor::Turn });
            }
            Next::Again => {
                self.service.restarts += 1;
                self.service.attempts += 1;
                let attempt = self.service.attempts;
                let wait = self.service.policy.wait(attempt, self.now.luck);
                self.go(if wait.is_zero() {
                    State::Waiting { since, on: WaitFor::Turn }
                } else {
                    State::Backoff { since, until: since.after(wait), attempt }
                });
            }
        }
    }

    fn next(&self, end: &End) -> Next {
        let Service { policy, attempts, .. } = &*self.service;
        let judge = |exit: Option<Exit>, failure: Failure| match policy.answer(exit, *attempts) {
            Answer::Again => Next::Again,
            Answer::Rest => Next::Rest(Rest::Finished),
            Answer::Fail => Next::Fail(failure),
            Answer::TooMany => Next::Fail(Failure::Attempts(*attempts)),
        };
        if let Wanted::Down(down) = self.service.wanted {
            // A job that was done before it was told to stop is done.
            return match end {
                End::Exit(exit) if policy.answer(Some(*exit), 0) == Answer::Rest => {
                    Next::Rest(Rest::Finished)
                }
                _ => Next::Rest(Rest::Down(down)),
            };
        }
        match end {
            End::Exit(exit) => judge(Some(*exit), Failure::Exit(*exit)),
            End::Interrupted => Next::AtOnce,
            End::Problem(p) | End::Asked(Why::Problem(p)) => match p {
                Problem::Config(_) => Next::Fail(Failure::Problem(p.clone())),
                Problem::Hook { .. } | Problem::Veto { .. } | Problem::Exec(_) | Problem::Io(_) => {
                    judge(None, Failure::Problem(p.clone()))
                }
            },
            End::Asked(Why::Down(_) | Why::Restart(_) | Why::Bound(_)) => Next::AtOnce,
            End::Asked(Why::Unhealthy(_)) => match policy.health.map(|h| h.on_failure) {
                Some(OnFailure::Stop) => Next::Fail(Failure::Unhealthy),
                Some(OnFailure::Restart | OnFailure::Kill | OnFailure::None) | None => {
                    judge(None, Failure::Unhealthy)
                }
            },
            End::Asked(Why::StartTimeout) => judge(None, Failure::StartTimeout),
            End::Asked(Why::Oom) => match policy.oom {
                OomPolicy::Stop => Next::Fail(Failure::Oom),
                OomPolicy::Kill | OomPolicy::Continue => judge(None, Failure::Oom),
            },
        }
    }
}

fn exit_of(found: Found) -> Exit {
    match found {
        Found::Exited { exit, .. } => exit,
        Found::Alive { .. } | Found::Gone { .. } => Exit::UNKNOWN,
    }
}

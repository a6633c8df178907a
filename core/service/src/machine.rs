//! `step`: the one place where a service changes state. Each event has one function, each function one match over all
//! states without `_`: a new state does not compile before every event has an answer to it. The drawing is in [`state`].
//!
//! What follows from the difference between before and after is not repeated in the arms but derived at the end
//! (`follow`): the timer, the probes, the start gate, the announcement to dependants, what was kept for a life that
//! will not come. Absent on purpose: clocks, chance, I/O, names of services.
//!
//! ```text
//! up ........ stopped, failed, backoff (by hand) -> waiting            granted .. waiting -> creating [create]
//! created ... creating -> created [start]                              started .. created -> starting | running
//! stop ...... creating, created -> stopping{launching}                 starting, running -> stopping{draining} [thaw, drain]
//! drained ... stopping{draining} -> stopping{signalled} [signal]       deadline -> stopping{killed} [kill cgroup]
//! exited .... any life -> lingering{answer | processes [kill cgroup] | cleaning [cleanup]}
//! cleaned ... lingering -> stopped | failed | backoff | waiting        time is up: backoff -> waiting
//! ```
//!
//! [`state`]: crate::state

#[macro_use]
mod groups;
mod adopt;
mod care;
mod clock;
mod end;
mod launch;
mod stop;
mod wishes;

use crate::action::Action;
use crate::cause::{Down, WaitFor};
use crate::event::{Event, Life};
use crate::policy::{Begins, Policy};
use crate::sabotage::{Invariant, broken};
use crate::service::{HasPolicy, Job, Kill, Service, Standing, Wanted};
use crate::state::{Rest, State};
use crate::time::{Ms, Now};
use std::time::Duration;

/// A kill that leaves something behind (a process in uninterruptible sleep, one that was forked past a v1 kill), and a
/// cleanup that failed, are tried again after this long. Nothing wakes up for it otherwise.
const AGAIN: Duration = Duration::from_secs(10);

/// What `event` does to `service`: changes it in place and says what is to be done. An event that means nothing here,
/// or belongs to a former life, changes nothing and asks for nothing. Put `service` on record before acting if it differs
/// from what it was.
#[must_use]
pub fn step<C: HasPolicy>(service: &mut Service<C>, event: &Event<C>, now: Now) -> Vec<Action> {
    let state = service.facts.state.clone();
    // A new worker has no timer, no probe and no place in the gate: all that the state implies is asked for anew.
    let before = match event {
        Event::Life { life: Life::Adopted(_), generation } if *generation == service.generation => {
            Implied::default()
        }
        // A timer that has fired is none any more, also where the next one is due at the same instant.
        Event::Life { life: Life::Timer, generation }
            if *generation == service.generation && !broken(Invariant::LostTimer) =>
        {
            Implied { deadline: None, ..Implied::by(service) }
        }
        _ => Implied::by(service),
    };
    let mut turn = Turn { service, now, actions: Vec::new(), cause: None };
    turn.event(event);
    let Turn { service, mut actions, cause, .. } = turn;
    if service.facts.state != state {
        service.facts.cause = cause.unwrap_or_else(|| event.to_string());
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
    fn by<C>(service: &Service<C>) -> Implied {
        let gate = match service.state {
            // A kill that is still under way could hit what is started now.
            State::Waiting { .. } => service.kill == Kill::Idle || broken(Invariant::LateKill),
            launching!() => true,
            runs!()
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
fn follow<C>(service: &mut Service<C>, before: Implied, actions: &mut Vec<Action>) {
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
        service.facts.kept = false;
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

struct Turn<'s, C> {
    service: &'s mut Service<C>,
    now: Now,
    actions: Vec<Action>,
    /// Says more than the event does.
    cause: Option<String>,
}

impl<C: HasPolicy> Turn<'_, C> {
    fn event(&mut self, event: &Event<C>) {
        match event {
            Event::Up(up) => self.up(up),
            Event::Down(down) => self.down(*down),
            Event::Restart(restart) => self.restart(restart),
            Event::Shutdown => self.shutdown(),
            Event::Hurry => self.hurry(),
            Event::Kill(signal) => self.kill(*signal),
            Event::Live(config) => self.live(config),
            Event::Replaced(config) => self.replaced(config),
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
            Life::Health(verdict) => self.health(verdict),
            Life::Ready => self.ready(),
            Life::Extend(span) => self.extend(*span),
            Life::Silent(text) => self.silent(text),
            Life::Exited { exit, empty } => self.exited(*exit, *empty),
            Life::Killed { empty } => self.killed(*empty),
            Life::Timer => self.timer(),
            Life::Adopted(found) => self.adopted(*found),
        }
    }

    /// An answer that nobody waits for (to a job from before a crash) is no answer.
    fn answer(&mut self, job: Job, then: impl FnOnce(&mut Self)) {
        if self.service.job == Some(job) {
            self.service.facts.job = None;
            then(self);
        }
    }

    fn go(&mut self, state: State) {
        self.service.facts.state = state;
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn policy(&self) -> &Policy {
        self.service.config.policy()
    }

    fn begins_by_time(&self) -> bool {
        self.policy().begins == Begins::ByTime
    }

    /// One kill at a time: each is answered, and a second one beside it would find the same processes.
    fn kill_all(&mut self) {
        match self.service.kill {
            Kill::Idle => {
                self.service.kill = Kill::Owed;
                self.act(Action::KillCgroup);
            }
            Kill::Owed | Kill::OwedAndAgain => self.service.kill = Kill::OwedAndAgain,
        }
    }

    fn again(&self) -> Ms {
        self.now.at.after(AGAIN)
    }

    /// The config has changed where nothing of the service lives: what it waits for goes by the new one.
    fn begins_by_another(&mut self, by_time_before: bool) {
        match (&self.service.facts.state, self.begins_by_time()) {
            // When it is to run is said no more, and that is no wish to have it run now.
            (State::Stopped { why: Rest::Scheduled }, false) => {
                self.service.facts.wanted = Wanted::Down(Down::Idle);
                self.go(State::Stopped { why: Rest::Down(Down::Idle) });
            }
            (State::Waiting { .. } | State::Backoff { .. }, true) if !by_time_before => {
                self.service.facts.attempts = 0;
                self.go(State::Stopped { why: Rest::Scheduled });
            }
            _ => {}
        }
    }

    fn begin_anew(&mut self) {
        self.service.facts.attempts = 0;
        self.go(State::Waiting { since: self.now.at, on: WaitFor::Turn });
    }
}

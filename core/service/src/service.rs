//! One service: its config, and the facts about it. The config comes from outside and says no more here than its
//! [`Policy`]; the facts are what the machine knows, and they alone go on record.

use crate::cause::{Down, Why};
use crate::exit::Exit;
use crate::policy::{Begins, Policy};
use crate::state::{Health, Rest, State};

pub use crate::cause::Condition;

/// What a service is configured by, as far as the machine looks into it. The machine carries it, so that there is one
/// place that says which config the present life has and which the next.
pub trait HasPolicy: Clone {
    fn policy(&self) -> &Policy;
}

/// The smallest config there is.
impl HasPolicy for Policy {
    fn policy(&self) -> &Policy {
        self
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service<C = Policy> {
    pub(crate) config: C,
    pub(crate) next: Option<C>,
    pub(crate) facts: Facts,
    pub(crate) kill: Kill,
}

/// What the journal has of a service. Outside of the machine it can be read and not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub wanted: Wanted,
    pub state: State,
    /// What the executor owes an answer to. At most one thing, which is what keeps two lives apart.
    pub job: Option<Job>,
    /// Counts lives; raised by each `Create`.
    pub generation: u64,
    /// The last life whose program was started. One that ends before has no exit to tell: what the kernel says of it is of our
    /// own code, which had not come so far.
    pub ran: u64,
    /// Restarts by policy in this run of sampand.
    pub restarts: u64,
    /// Restarts by policy, in a row.
    pub attempts: u32,
    /// In this run of sampand.
    pub last_exit: Option<Exit>,
    /// In the runs of sampand before this one.
    pub earlier: Counts,
    /// The last cleanup kept something for the next life.
    pub kept: bool,
    /// Why the state is what it is: the text of the event that led here.
    pub cause: String,
}

/// What people count of a service. Nothing is decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub restarts: u64,
    pub last_exit: Option<Exit>,
}

/// The kill of all processes that is under way. It is not on record: it ends with the worker that does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kill {
    #[default]
    Idle,
    /// The executor owes Killed. Until then there is no next life, which a late kill could hit.
    Owed,
    /// And once more after that: it was asked for again meanwhile.
    OwedAndAgain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Up,
    Down(Down),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Create,
    Start,
    Drain,
    Cleanup,
}

/// What others may depend on, and nothing more: a change of it is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Standing {
    pub started: bool,
    pub ready: bool,
    pub healthy: bool,
    pub completed: bool,
    /// Nothing runs and nothing will by itself: what depends on it may wait long, and what it depends on may stop.
    pub at_rest: bool,
}

/// Reading the facts of a service needs no detour; nothing here gives them away to be changed.
impl<C> std::ops::Deref for Service<C> {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl Default for Facts {
    /// Never started, not asked for.
    fn default() -> Facts {
        Facts {
            wanted: Wanted::Down(Down::Idle),
            state: State::Stopped { why: Rest::Down(Down::Idle) },
            job: None,
            generation: 0,
            ran: 0,
            restarts: 0,
            attempts: 0,
            last_exit: None,
            earlier: Counts::default(),
            kept: false,
            cause: String::new(),
        }
    }
}

impl<C> Service<C> {
    /// Never started, not asked for.
    #[must_use]
    pub fn new(config: C) -> Service<C> {
        Service::with(config, Facts::default())
    }

    /// With the facts of a record.
    #[must_use]
    pub fn with(config: C, facts: Facts) -> Service<C> {
        Service { config, next: None, facts, kill: Kill::Idle }
    }

    /// Of the present life; where there is none, of the next.
    #[must_use]
    pub fn config(&self) -> &C {
        &self.config
    }

    /// Of the next life, where that is another config than [`Service::config`].
    #[must_use]
    pub fn next_config(&self) -> Option<&C> {
        self.next.as_ref()
    }

    /// That was applied last.
    #[must_use]
    pub fn applied(&self) -> &C {
        self.next.as_ref().unwrap_or(&self.config)
    }

    /// It is to begin by time: whoever knows the calendar says when.
    #[must_use]
    pub fn waits_for_time(&self) -> bool
    where
        C: HasPolicy,
    {
        self.facts.wanted == Wanted::Up && self.applied().policy().begins == Begins::ByTime
    }

    /// At rest, and no work for it is under way: nothing that is done to its name from now on can meet its last life.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.facts.state.is_at_rest() && self.facts.job.is_none() && self.kill == Kill::Idle
    }
}

impl Facts {
    /// Over all runs of sampand.
    #[must_use]
    pub fn totals(&self) -> Counts {
        Counts {
            restarts: self.earlier.restarts.saturating_add(self.restarts),
            last_exit: self.last_exit.or(self.earlier.last_exit),
        }
    }

    /// As a new run of sampand goes on with them.
    #[must_use]
    pub fn in_a_new_run(self) -> Facts {
        Facts { earlier: self.totals(), restarts: 0, last_exit: None, ..self }
    }

    /// A shutdown has nothing to tell it, at least not now: it is at rest or on its way there, or what is left of it is being
    /// cleaned up.
    #[must_use]
    pub fn comes_to_rest(&self) -> bool {
        match &self.state {
            State::Stopped { .. } | State::Failed { .. } | State::Lingering { .. } => true,
            State::Stopping { why, .. } => *why == Why::Shutdown || self.wanted != Wanted::Up,
            State::Waiting { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. } => false,
        }
    }

    /// A job that is done counts as started: else what waits for no more than its start could wait for ever.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let completed = matches!(self.state, State::Stopped { why: Rest::Finished });
        let ready = matches!(self.state, State::Running { .. });
        Standing {
            started: ready || completed || matches!(self.state, State::Starting { .. }),
            ready,
            healthy: ready && self.state.health() == Health::Healthy,
            completed,
            at_rest: self.state.is_at_rest(),
        }
    }
}

impl Standing {
    #[must_use]
    pub fn meets(self, condition: Condition) -> bool {
        match condition {
            Condition::Started => self.started,
            Condition::Ready => self.ready,
            Condition::Healthy => self.healthy,
            Condition::CompletedSuccessfully => self.completed,
        }
    }
}

//! One service: what is wanted, what is, what is owed, and the counts. Everything but `policy` and `next` (which come from
//! the config) goes into its journal record.

use crate::cause::Down;
use crate::exit::Exit;
use crate::policy::Policy;
use crate::state::{Health, Rest, State};

pub use crate::cause::Condition;

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub policy: Policy,
    /// Replaces `policy` when the present life is over.
    pub next: Option<Box<Policy>>,
    pub wanted: Wanted,
    pub state: State,
    /// What the executor owes an answer to. At most one thing, which is what keeps two lives apart.
    pub job: Option<Job>,
    /// Counts lives; raised by each `Create`.
    pub generation: u64,
    /// Restarts by policy, ever.
    pub restarts: u64,
    /// Restarts by policy, in a row.
    pub attempts: u32,
    pub last_exit: Option<Exit>,
    /// The last cleanup kept something for the next life.
    pub kept: bool,
    /// Why the state is what it is: the text of the event that led here.
    pub cause: String,
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

impl Service {
    /// Never started, not asked for.
    #[must_use]
    pub fn new(policy: Policy) -> Service {
        Service {
            policy,
            next: None,
            wanted: Wanted::Down(Down::Idle),
            state: State::Stopped { why: Rest::Down(Down::Idle) },
            job: None,
            generation: 0,
            restarts: 0,
            attempts: 0,
            last_exit: None,
            kept: false,
            cause: String::new(),
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

//! The life of one service as a pure function: `step(&mut Service<C>, &Event<C>, Now) -> Vec<Action>`.
//!
//! Nothing here reads a clock, draws a number, opens a file or knows tokio; time and chance are arguments. The
//! supervisor gathers events, calls [`step`], writes the transition into the journal, then carries out the actions
//! in order. The machine is drawn in [`machine`].
//!
//! **The contract with the executor**
//! - Each [`Action::Create`], [`Action::Start`], [`Action::Drain`] and [`Action::Cleanup`] is a *job*: it is answered exactly
//!   once, by `Created|CreateFailed`, `Started|StartFailed`, `Drained`, `CleanedUp|CleanupFailed`, with the
//!   generation that the service had when the action was given.
//! - Each [`Action::KillCgroup`] is answered by `Killed`, once, however late. Until then no new life begins: the kill goes
//!   by a name that the next life has too. No other action is answered.
//! - After `Created`, or adoption as `Found::Alive`, the process is watched, and exactly one `Exited` follows whatever
//!   happens. After `CreateFailed` none does.
//! - `Exited { empty }` says whether the cgroup was empty when the exit was read. If not, all that is in it is killed.
//! - One timer per service: `Arm` replaces the former one. A timer that fires early or late does no harm.
//! - A worker that starts again rebuilds each service with [`Facts::from_record`], looks at what there is, and tells
//!   it by [`Life::Adopted`] before any other event.
//! - A shutdown is the supervisor's own: it closes the start gate, sends [`Event::Shutdown`] to each service when its turn has
//!   come ([`Graph::to_end`]), and no wish to start after it. No record of a service says that it is under way, so one that
//!   is interrupted leaves nothing that would keep a service down.
#![forbid(unsafe_code)]

pub mod sabotage;

pub mod time;

pub mod exit;

pub mod cause;

pub mod policy;

pub mod state;

pub mod event;

pub mod action;

pub mod service;

pub mod record;

pub mod machine;

pub mod health;

pub mod limits;

pub mod graph;

pub mod desired;

pub use action::Action;
pub use cause::{Down, Problem, Restart, Up, WaitFor, Why};
pub use event::{Event, Found, Life, Verdict};
pub use exit::{Exit, Status};
pub use graph::{Graph, Need};
pub use health::{Rules, Tally};
pub use limits::{Bucket, Gate};
pub use machine::step;
pub use policy::Policy;
pub use service::{Condition, Counts, Facts, HasPolicy, Job, Service, Standing, Wanted};
pub use state::{CleanupPhase, End, Failure, Health, Phase, Rest, State};
pub use time::{Ms, Now};

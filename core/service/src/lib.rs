//! The life of one service as a pure function: `step(&mut Service, &Event, Now) -> Vec<Action>`.
//!
//! Nothing here reads a clock, draws a number, opens a file or knows tokio; time and luck are arguments. The
//! supervisor gathers events, calls [`step`], writes the transition into the journal, then carries out the actions
//! in order. The machine is drawn in [`machine`].
//!
//! **The contract with the executor**
//! - Each [`Action::Create`], [`Action::Start`], [`Action::Drain`] and [`Action::Cleanup`] is a *job*: it is answered exactly
//!   once, by `Created|CreateFailed`, `Started|StartFailed`, `Drained`, `CleanedUp|CleanupFailed`, with the
//!   generation that the service had when the action was given. No other action is answered.
//! - After `Created`, or adoption as `Found::Alive`, the process is watched, and exactly one `Exited` follows whatever
//!   happens. After `CreateFailed` none does.
//! - `Exited { empty }` says whether the cgroup was empty when the exit was read; if not, `Empty` follows.
//! - One timer per service: `Arm` replaces the former one. A timer that fires early or late does no harm.
//! - A worker that starts again rebuilds each service with [`Service::from_record`], looks at what there is, and tells
//!   it by [`Life::Adopted`] before any other event.
#![forbid(unsafe_code)]

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
pub use service::{Condition, Job, Service, Standing, Wanted};
pub use state::{End, Failure, Health, Phase, Remains, Rest, State};
pub use time::{Ms, Now};

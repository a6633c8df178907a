//! sampand: reads config.toml and keeps its service containers running.
//!
//! The keel clones and holds descriptors, with a holder beside it; the worker does everything else in one event loop. While something starts
//! there are launching processes (`life::job`): they open what users' configs name, and may hang over it.
//! Modules are listed in the order in which they may use each other, in four groups.

// What everybody uses.
pub mod clock;
mod fence;
pub mod log;
pub mod view;

// What comes in: the config, and what was written down.
mod cgroup_parent;
mod check;
mod service_manager;
pub mod source;

// Who does the work.
pub mod hooks;
pub mod probe;

// The loop and what it is made of.
pub mod adopt;
pub mod applied;
mod apply;
mod asks;
mod behind;
pub mod bus;
mod clients;
pub mod desired;
pub mod executor;
pub mod fleet;
pub mod follow;
pub mod inside;
pub mod life;
mod listen;
pub mod opening;
mod places;
pub mod request;
mod seen;
pub mod serve;
pub mod settings;
mod shutdown;
pub mod sources;
mod tidy;
mod waiters;
pub mod worker;
pub mod worker_main;

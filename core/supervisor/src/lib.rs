//! sampand: reads config.toml and keeps its service containers running.
//!
//! The keel clones and holds descriptors, with a holder beside it; the worker does everything else in one event loop. While something starts
//! there are launching processes (`life::job`): they open what users' configs name, and may hang over it.
//! Modules are listed in the order in which they may use each other, in four groups.

// What everybody uses.
pub mod clock;
mod fence;
mod release;
mod task;
mod own_log;
pub mod view;
pub mod log;

// The host and the config.
mod scope;
mod cgroup_parent;
mod open_files;
mod service_manager;
pub mod source;
mod places;
pub mod applied;
pub mod settings;
pub mod one_off;

// What is done with containers: functions that return values, and know nothing of the loop.
pub mod hooks;
pub mod probe;
pub mod inside;
pub mod steps;
pub mod metrics;
pub mod usage;
mod volumes;
mod relay;
pub mod request;
pub mod sd_notify;
mod turn;
pub mod life;
pub mod check;
pub mod background;

// What comes into the loop, and from where.
pub mod message;
mod asks;
mod callers;
mod listen;
mod seen;
pub mod scrape;
pub mod serve;
pub mod sources;
pub mod follow;

// The loop: services and what moves them.
pub mod bus;
pub mod explain;
pub mod fleet;
mod tidy;
pub mod worker;
pub mod worker_main;

//! sampand: reads config.toml and keeps its service containers running.
//!
//! Two processes: the keel clones and holds descriptors, the worker does everything else in one event loop.
pub mod bundle;
pub mod clock;
pub mod config;
pub mod crash;
pub mod journal;
pub mod keel;
pub mod log;
pub mod plugins;
pub mod probe;
pub mod view;

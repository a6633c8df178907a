//! The plugin host: loads plugins, asks them in order at each step of a container's life, and judges their answers.
//!
//! ```text
//!  worker's loop --> Plugins (plugins/life): order, policy, merge --> Plugin (call/): queue, own thread, deadline --> C table
//!                                                           <-- table.rs: complete, log, put, keep_fd, ... <-- any thread
//! ```
//! A plugin is as trusted as sampand; what is guarded against are mistakes: a hang costs one plugin, a panic one request, a
//! crash is blamed on the page that outlives it (quarantine.rs). Known, not built: isolation = "process", loop = true, hot
//! reload, command plugins, sandbox.
pub mod digest;
pub mod queue;
mod types;
mod library;
mod order;
mod quarantine;
mod files;
mod containers;
mod kv;
mod table;
mod call;
mod world;
mod plugins;

pub use containers::Document;
pub use plugins::{Created, ExitFacts, Opened, Plugins, Printed, Reset, Running, Status, next_handle};
pub use sampan_plugin::types::Role;
pub use table::{Kind as MetricKind, Metric};
pub use types::{
    Ctx, Failure, FailureKind, HostEnv, KeepFd, Lent, OnError, PluginConfig, Policy, SHIPPED, discover,
};
use world::World;
pub use world::{Ask, Asker, Wish};

//! The parent's side of a launch.
//!
//! ```text
//!   slots -> spawn -> maps, oom_score_adj -> state.json -> groups, limits -> hooks, attach -> "created" -> start
//!   (groups, limits first where v2 is)   child: ...mounts...joins them.....waits.....pivot, ids, program found...exec
//! ```
//! Blocking, without threads.  Whatever fails, the child is killed and reaped here, and groups made here are removed.
//! Who clones is a [`Spawn`]: this process ([`crate::launch::spawn::Direct`]), or the keel on behalf of the supervisor.

// Descriptors, and what goes through them.
mod pipe;
pub mod maps;
pub mod console;
pub mod printed;
mod report;
pub mod spawn;
pub mod idmap;

// What is asked, and what is said of it.
mod request;
pub mod explain;
pub mod trace;

mod host_root;
pub mod layers;
pub mod slots;
mod users;

// The launch.
pub mod hooks;
mod start;
mod create;
mod exec;

pub use create::create;
pub use exec::{ExecRequest, Executed, exec};
pub use hooks::{HookRunner, Which};
pub use printed::HookOutputs;
pub use request::{Attached, Barrier, Console, Created, Keep, Request, Stages, StartGate};
pub use spawn::{Spawn, Spawned};
pub use start::{poststart, start, start_by_folder};
pub use users::host_facts;

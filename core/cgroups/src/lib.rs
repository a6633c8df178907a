//! Control groups: where a container's processes are counted, limited, frozen and ended; v1, v2, and both at once.
//!
//! ```text
//! config.json's resources --limits--> Limits (files and values; pure) --apply--> Cgroup (one path, every hierarchy)
//! ```
//! What is decided (`limits`, `devices`, `path`) is pure and shown by `sampan plan`; what is done is one system call per
//! file, each with an error that names it. There is no systemd driver yet.

// What can be said at all, and one file at a time.
pub mod error;
mod file;

// Decided: pure.
pub mod path;

pub mod detect;

pub mod devices;
pub mod limits;

// Done: one group, what each version needs besides, and all groups of a container as one thing.
pub mod group;

mod explain;
mod v1;
mod v2;

mod freezer;

mod cgroup;

mod apply;
pub mod stats;

pub use cgroup::{Cgroup, REMOVE_WITHIN};
pub use detect::{Hierarchies, Layout, Version};
pub use error::{Error, Result};
pub use limits::{Limits, Write, limits};
pub use path::Place;
pub use stats::Stats;

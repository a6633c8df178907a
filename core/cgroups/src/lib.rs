//! Control groups: where a container's processes are counted, limited, frozen and killed. v1, v2, and hybrid machines with
//! both at once.
//!
//! ```text
//! config.json's resources --limits--> Limits (files and values; pure) --apply--> Cgroup (one path, every hierarchy)
//! ```
//! What to write is decided without I/O (`cgroups_path`, `devices`, `limits`). Each write is one system call on one file,
//! and its error names the file. There is no systemd driver yet.

// Errors, and reading and writing one file.
pub mod error;
mod file;

// Where groups are: the field of config.json, and this machine.
mod cgroups_path;
mod detect;

// Resources as writes.
pub mod devices;
pub mod limits;

// A group in one hierarchy, and what differs between v1 and v2 when it is made.
mod group;
mod below;
mod explain;
mod v1;
mod v2;

// A container's group in all hierarchies, and what can be done with it.
mod cgroup;
mod mark;
mod freeze;
mod kill;
mod remove;
mod create;
mod apply;
mod update;
mod stats;

pub use cgroup::{Cgroup, Held, Identity};
pub use cgroups_path::CgroupsPath;
pub use detect::{Hierarchies, Layout, Members};
pub use error::{Error, Result};
pub use limits::Limits;
pub use mark::Mark;
pub use remove::REMOVE_WITHIN;
pub use stats::{Psi, Stats};

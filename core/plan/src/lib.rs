#![forbid(unsafe_code)]
//! config.json -> [`spec::Spec`] -> [`plan::Plan`]: all that can be decided before clone3 is decided here.
//!
//! No I/O, no clock, no privileges: facts about the machine come in as [`host::Host`], so a plan can be
//! computed, printed and compared anywhere.  Modules are listed in the order in which they may use each other.

pub mod build;
pub mod default;
pub mod error;
pub mod exec;
pub mod host;
pub mod host_process;
pub mod host_root;
pub mod idmap;
pub mod ids;
pub mod labels;
pub mod limits;
pub mod mounts;
pub mod namespaces;
pub mod order;
pub mod place;
pub mod plan;
pub mod process;
pub mod rootfs;
pub mod scratch;
pub mod seccomp;
pub mod show;
pub mod spec;
pub mod text;

pub use error::Error;
pub use host::Host;
pub use plan::{Options, Plan};
pub use spec::Spec;

#![forbid(unsafe_code)]
//! config.json -> [`spec::Spec`] -> [`plan::Plan`]: all that can be decided before clone3 is decided here.
//!
//! No I/O, no clock, no privileges: facts about the machine come in as [`host::Host`], so a plan can be
//! computed, printed and compared anywhere.  Modules are listed in the order in which they may use each other.

// What comes in, and how it is spoken of.
pub mod error;
pub mod suggest;
pub mod path;
pub mod json_path;
pub mod spec;
pub mod host;

// What a plan is made of.
pub mod text;
pub mod slots;
pub mod plan;
pub mod build;

// Its parts.
pub mod idmap;
pub mod users;
pub mod cpus;
pub mod ids;
pub mod limits;
pub mod labels;
pub mod process;
pub mod propagation;
pub mod sysctl;
pub mod namespaces;
pub mod mount_options;
pub mod mounts;
pub mod scratch;
pub mod layers;
pub mod rootfs;
pub mod host_root;
pub mod seccomp;

pub mod hooks;
mod attach;

// Whole plans.
pub mod check;
pub mod order;
pub mod exec;
pub mod host_process;
pub mod nobody;
pub mod short_names;
pub mod visitor;
pub mod default;
pub mod render;

pub use error::Error;
pub use host::Host;
pub use plan::{Options, Plan};
pub use spec::Spec;

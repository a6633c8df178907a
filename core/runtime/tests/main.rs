//! The runtime's tests: one binary, a file per subject. Without root what can run does; what cannot says what is missing.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod attack;
mod cli;
mod descriptors;
mod docker;
mod enter;
mod entry;
mod exec;
mod explain;
mod home;
mod foreground;
mod hooks;
mod hooks_inside;
mod host_programs;
mod host_root;
mod idmap;
mod image;
mod labels;
mod late_groups;
mod launch;
mod layers;
mod lifecycle;
mod memory;
mod mounts;
mod ownership;
mod planted;
mod podman;
mod refused;
mod root_ids;
mod run_flags;
mod rootless;
mod differential;
mod sampan;
mod scratch;
mod seccomp;
mod shapes;
mod states;
mod terminal;
mod tour;
mod trust;
mod users;
mod world;

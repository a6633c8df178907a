//! The plan's tests: one binary, a file per subject. None needs root, or Linux.

#![allow(clippy::unwrap_used)] // helpers of tests are tests
#![allow(clippy::disallowed_methods)] // they read their data

mod descriptors;
mod fields;
mod host_root;
mod images;
mod json_path;
mod plans;
mod seccomp;
mod spec;

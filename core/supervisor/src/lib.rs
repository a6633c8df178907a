//! Being built.
pub mod config;

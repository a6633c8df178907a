//! One binary for all tests of sampand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod config;
mod crash;
mod e2e;
mod image;
mod journal;
mod keel;
mod keel_model;
mod plugins;
mod probe;

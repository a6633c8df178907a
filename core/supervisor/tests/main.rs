//! One binary for all tests of sampand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bundle;
mod config;
mod journal;
mod keel;

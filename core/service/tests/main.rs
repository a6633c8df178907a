//! One binary for all tests of the crate.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside #[test] functions
mod any_order;
mod crash_anywhere;
mod every_pair;
mod graph;
mod parts;
mod samples;
mod stories;
mod world;

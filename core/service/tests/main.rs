//! One binary for all tests of the crate.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside #[test] functions
mod by_time;
mod every_pair;
mod graph;
mod growth;
mod notified;
mod parts;
mod random;
mod record;
mod samples;
mod simulate;
mod stories;
mod together;
mod world;

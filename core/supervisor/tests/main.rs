//! One binary for all tests of sampand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;
mod e2e;
mod probe;

//! One binary for all tests of the keel.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod image;
mod holder;
mod keel;
mod keel_model;

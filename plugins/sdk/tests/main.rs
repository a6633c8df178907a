//! The SDK through its own C table, and against the header.
#![allow(clippy::unwrap_used, clippy::expect_used)]
mod header;
mod rig;

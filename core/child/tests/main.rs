//! The child's tests, by images made by hand. Without privileges: what needs them is tested by the runtime.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)] // helpers of tests are tests

mod interpret;

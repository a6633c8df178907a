//! One binary for all tests of sampand.

mod config;

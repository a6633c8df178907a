//! One binary for all tests of sampand.

mod bundle;
mod config;
mod journal;
mod keel;

//! One binary for all tests of the crate.
mod any_order;
mod crash_anywhere;
mod every_pair;
mod samples;
mod world;

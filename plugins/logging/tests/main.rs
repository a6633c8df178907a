//! Unit tests of the pure parts, the plugin through the C table, and what happens when it is killed or the disk is full.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on has failed
mod age;
mod any;
mod backlog;
mod crash;
mod disk;
mod framing;
mod journal;
mod lifecycle;
mod limited;
mod memory;
mod packed;
mod ring;
mod rotation;
mod settings;
mod world;

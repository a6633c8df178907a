//! The network plugin against the real kernel, in network namespaces of its own: the host's stays untouched.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod connections;
mod engine;
mod files;
mod forwarding;
mod host;
mod ipv6;
mod links;
mod messages;
mod names;
mod obstacles;
mod plugin;
mod rules;
mod world;

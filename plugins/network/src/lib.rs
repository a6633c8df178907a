//! The network plugin: bridges, addresses and published ports for services.
#![forbid(unsafe_code)]

pub mod wire;
pub mod netlink;
pub mod addresses;
pub mod config;
pub mod bridge;

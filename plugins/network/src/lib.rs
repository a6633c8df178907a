//! The network plugin: bridges, addresses and published ports for services.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod bridge;
pub mod nft;
pub mod ports;
pub mod held;
pub mod config;
pub mod netlink;
pub mod wire;

//! The network plugin: bridges, addresses and published ports for services.
#![forbid(unsafe_code)]

pub mod addresses;
pub mod bridge;
pub mod config;
pub mod held;
pub mod netlink;
pub mod nft;
pub mod ports;
pub mod wire;

//! What Sampan says to systemd: scopes over D-Bus, and readiness over the notification socket.
//!
//! D-Bus has a general client (zbus) that costs 830 KiB of program and 31 crates. We make four calls, one after the other, and
//! wait for each with a deadline: that is this crate. Sources: the D-Bus specification, org.freedesktop.systemd1(5), sd_notify(3).
#![forbid(unsafe_code)]

mod wire;
mod bus;
pub mod manager;
pub mod notify;

pub use bus::Error;
pub use manager::{Manager, Scope};

//! sampand, sampanctl and sampan as they are built, on real containers: what the first voyage's issue wants shown.
//!
//! Each test has a sampand of its own: run folder, state folder, socket and cgroups are named by the test, no service
//! has a network but its own loopback. When a test ends, sampand is asked to stop and nothing of it may be left.

/// What most tests begin with: `let mut world = world!("..config..")`, or the test says why it does not run.
macro_rules! world {
    ($($toml:tt)*) => {
        match $crate::e2e::world::World::new(&format!($($toml)*)) {
            Some(world) => world,
            None => return,
        }
    };
}

mod api;
mod again;
mod applied;
mod apply;
mod callers;
mod attach;
mod attack;
mod background;
mod chaos;
mod completion;
mod cp;
mod descriptors;
mod detach;
mod died;
mod exits;
mod fd_store;
mod full_disk;
mod fuse;
mod growth;
mod health;
mod hostile;
mod holder;
mod hooks;
mod hundred;
mod images;
mod init;
mod joined;
mod kept;
mod launches;
mod limits;
mod looks;
mod one_offs;
mod orders;
mod messages;
mod metrics;
mod names;
mod others;
mod plugins;
mod records;
mod registry;
mod schedule;
mod secrets;
mod runtime;
mod sd_notify;
mod sealed;
mod shutdown;
mod slow_log;
mod stops;
mod stores;
mod steps;
mod socket;
mod sockets;
mod terminal;
mod userns;
mod verbs;
mod why;
mod world;

mod update;

use world::{LIVE, World};

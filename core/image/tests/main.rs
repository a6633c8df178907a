//! Images into a store and out of it.
#![allow(clippy::unwrap_used)]

mod layers;
mod crashes;
mod deep;
mod failing_disk;
mod hostile;
mod made;
mod pulls;
mod registry;
mod roots;
mod server;
mod stores;
mod tools;

//! Images into a store and out of it.
#![allow(clippy::unwrap_used)]

mod layers;
mod made;
mod stores;

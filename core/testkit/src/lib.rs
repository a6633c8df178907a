//! For tests: a bundle made of busybox, and a say about what is missing.
//!
//! A test that cannot run here prints what it needs and why, so that nobody takes silence for success.

pub mod world;
pub mod bundle;
pub mod folder;
pub mod image;
pub mod need;
pub mod observer;
pub mod plugin;
pub mod terminal;

pub use bundle::Bundle;
pub use folder::Folder;
pub use observer::{observer, walker};
pub use world::World;

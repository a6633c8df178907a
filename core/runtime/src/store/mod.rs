//! What is on disk: a folder for each container, and its state.

pub mod dir;
mod aside;
pub mod state;

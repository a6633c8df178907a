//! What is on disk: a folder for each container, and its state.

pub mod dir;
pub mod state;

//! Being built.

pub mod pidfd;
pub mod root;
pub mod state;
pub mod time;

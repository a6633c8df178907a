//! Being built.

pub mod error;
pub mod launch;
pub mod pidfd;
pub mod root;
pub mod state;
pub mod time;

//! Being built.

pub mod error;
pub mod pidfd;
pub mod root;
pub mod state;
pub mod time;
pub mod launch;

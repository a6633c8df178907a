//! Being built.

pub mod cli;
pub mod destroy;
pub mod error;
pub mod launch;
pub mod ops;
pub mod pidfd;
pub mod root;
pub mod signals;
pub mod state;
pub mod time;

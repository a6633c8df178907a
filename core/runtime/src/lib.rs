//! Being built.

pub mod cli;
pub mod clone;
pub mod console;
pub mod destroy;
pub mod error;
pub mod explain;
pub mod host;
pub mod launch;
pub mod maps;
pub mod open;
pub mod ops;
pub mod pidfd;
pub mod root;
pub mod signals;
pub mod state;
pub mod time;

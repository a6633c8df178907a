//! What the kernel is asked, and what it says: processes, signals, clocks, this machine, our own program.

pub mod argv;
pub mod procfs;
pub mod host_root;
pub mod host;
pub mod lookup;
pub mod pidfd;
pub mod seal;
pub mod stdio;
pub mod signals;
pub mod time;
pub mod trust;

//! What is written down. The journal (run folder): one line per transition of a service, for our successor after
//! a crash and for `sampanctl events --since`. desired.json (state folder): what must survive a reboot.
//!
//! The journal is written without fsync: it survives our crash, not the host's, and does not have to, for after
//! a reboot nothing of what it speaks of runs.

#![forbid(unsafe_code)]

pub mod crash;

pub mod atomic;
mod desired;
mod file;
mod record;
mod replay;

pub use desired::{Desired, Heeded, Wish};
pub use file::{HISTORY, Health, Journal, KEEP, Note, Replay, Since, boot_of};
pub use record::{Entry, Record, crc32};

//! The logging plugin: what containers print, into files, losing nothing when sampand is killed.
//!
//! ```text
//!  config   what may be set            time     RFC 3339            record   bytes <-> records, pure
//!  journal  records to systemd's journal
//!  notifier what readers are told      pack     compressed segments   segments the files of a service
//!  memory ! that outlives a process     ring    what waits for a slow disk
//!  spool !  between pipe and file, kept by the keel
//!  engine   the logging thread         follow   reading them, a thread per reader
//! ```
//! It claims `stdio`, is given the read ends of the container's pipes at `attach`, and needs nothing of the supervisor but the
//! SDK. The formats are those that other tools read: CRI lines, or Docker's json-file.
#![deny(unsafe_code)]

pub mod config;
pub mod time;

mod sabotage;

pub mod record;

pub mod journal;
pub mod notifier;
pub mod pack;
pub mod segments;

pub mod memory;
pub mod spool;

pub mod ring;

pub mod engine;
pub mod follow;
pub mod plugin;

pub use plugin::Logging;

/// The one symbol that the host looks for; its attributes are what needs the word.
#[allow(unsafe_code)]
mod exported {
    sampan_plugin::declare_plugin!(crate::Logging);
}

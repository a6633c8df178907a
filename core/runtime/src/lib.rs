//! The OCI runtime: a bundle becomes a container, and every verb on it.
//!
//! ```text
//!   cli (flags) -> ops (one file a verb) -+-> launch: the parent's side of a launch -> sampan_child (clone3 to execve)
//!                                         +-> destroy: the end of a container, from any state
//!                                         +-> store: <root>/<id>/, its lock and its state.json
//!   all of them -> kernel: processes by pidfd, signals, the facts of this machine, files that may be trusted
//! ```
//! Blocking, single-threaded, no async: `sampan` is one run of this, and `sampand` calls the same functions from a
//! worker thread. Modules are listed in the order in which they may use each other. Deliberately absent: what is to be
//! done (sampan_plan decides), limits (sampan_cgroups), and anything that stays running.

pub mod error;
pub mod kernel;
pub mod store;
pub mod launch;
pub mod destroy;
pub(crate) mod log;
pub(crate) mod ops;
pub mod cli;

/// For `make attack`: turns off the defences that `SAMPAN_WEAKEN` names. Nothing at all without the feature `weaken`.
pub fn weaken_if_asked() {
    #[cfg(feature = "weaken")]
    if let Ok(names) = std::env::var("SAMPAN_WEAKEN")
        && !sampan_child::defence::weaken(&names)
    {
        eprintln!("SAMPAN_WEAKEN: {names:?} names a defence that there is not");
        std::process::exit(2);
    }
}

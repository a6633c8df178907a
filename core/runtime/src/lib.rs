//! The OCI runtime: a bundle becomes a container, and every verb on it.
//!
//! ```text
//!   cli (flags) -> ops (one file a verb) -> launch (the parent's side) -> sampan_child (between clone3 and execve)
//!                          |                    \ host, open, clone, maps, console, explain, trace
//!                          +-> root, state, pidfd: <root>/<id>/, what is written there, and who is alive
//!                          +-> destroy: the end, from any state
//! ```
//! Blocking, single-threaded, no async: `sampan` is one run of this, and `sampand` calls the same functions from a
//! worker thread. Three groups of modules, each using those above it. Deliberately absent: what is to be
//! done (sampan_plan decides), limits (sampan_cgroups), and anything that stays running.

pub mod error;
pub mod kernel;
pub mod store;
pub mod launch;
pub mod destroy;
pub mod log;
pub mod ops;
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

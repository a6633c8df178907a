//! The keel: `sampand`'s first process. It clones every process that Sampan supervises, so that each is its
//! child and keeps its exit status as a zombie until the worker has written it down; it holds descriptors that
//! must outlive the worker; and it starts the worker again when that one dies. It decides nothing else.
//!
//! ```text
//!   sampand (keel) ──── clones ────> sampand worker      one at a time; dies with the keel
//!      │   ▲                              │
//!      │   └──── SEQPACKET socket pair ───┘              launch, peek, reap, keep, fetch, list
//!      ├─ clones ─> containers, probes, hooks            live on whoever of the three dies
//!      └─ clones ─> holder                               has the keel's table of descriptors too, and sleeps
//! ```
//! When the keel dies, the holder keeps open what it held. The next sampand finds it by its record in the run folder,
//! takes the descriptors by pidfd_getfd (`takeover`), has a holder of its own and ends the old one.
//!
//! Once it runs it allocates nothing, starts no thread, and waits in one `poll`. Deliberately absent: logging
//! (one line on stderr when a worker dies), configuration, a decision about any service.
//! Modules are listed in the order in which they may use each other.
//!
//! Holder and keel share standard output too: after kill -9 of the keel whoever reads it sees no end until the next sampand has
//! taken over. The end of a worker's socket is its death, so the worker keeps it open until its process ends.

// What both sides know.
mod wire;
mod sys;
mod orders;
mod table;
mod record;

// The keel's side.
mod hold;
mod holder;

// The worker's.
mod sealed;
mod watchdog;
mod client;
mod launcher;
mod executed;
mod in_process;
mod takeover;
pub mod rundir;

// The keel's process.
mod run;

pub use client::{Child, Error, Exit, Fate, Handle, Keel, Kept, LoopKeel, sealed_image};
pub use executed::Executed;
pub use launcher::{HookTag, Launcher};
pub use orders::{Ending, Order};
pub use sys::trim_program;
pub use watchdog::{Turn, Watchdog};
pub use wire::{NAME_MAX, SLOTS_MAX, TAG_MAX};

use std::ffi::OsString;

/// How a worker asks to be followed by a new one at once (after `Keel::program`: an upgrade).
pub const EXIT_AGAIN: u8 = 85;
/// The worker's program could not be executed.
const EXIT_EXEC_FAILED: u8 = 126;
/// The first argument of the worker; `ps` shows `sampand worker --config ...`.
const WORKER: &str = "worker";

/// The first call of `sampand`'s main. In the process that the user started it becomes the keel and never
/// returns; in the worker it returns the way to the keel and the user's arguments (`argv[0]` included), from
/// which the marker is taken.
///
/// The worker parses the arguments and the configuration. It ends with 0 (asked to end), 1 (failed) or 2
/// (configuration, usage) and the keel with it; any other end starts another worker.
pub fn enter() -> Result<(Keel, Vec<OsString>), Error> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_none_or(|a| a != WORKER) {
        // Everything that the keel clones, workers too, has the keel's own file as its exe until it executes another.
        sampan_runtime::kernel::seal::seal().map_err(Error::Seal)?;
        run::run(arguments)
    }
    arguments.remove(1);
    let socket = sys::take_worker_socket().map_err(|_| Error::NoKeel)?;
    // Executed by descriptor, the kernel calls us by its number (before 6.14).
    let _ = rustix::thread::set_name(c"sampand");
    Ok((Keel::greet(socket)?, arguments))
}

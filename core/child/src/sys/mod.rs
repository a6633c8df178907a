//! One function per system call: a typed wrapper around the `syscall` instruction. `unsafe` is in this folder alone.
//!
//! ```text
//!   raw: the instruction, faults      uapi: the kernel's numbers
//!     -> fs, mount, process, credentials, device
//! ```
//! libc is absent on purpose.  Its wrappers touch errno and thread-local state, and its `fork`, `setuid` and `exit` run
//! handlers of the parent; after clone3 none of that may happen.  Every path that comes in is a slice that ends in NUL.
//! That is checked here, because the kernel relies on it.

mod raw;
pub mod uapi;

mod credentials;
mod device;
mod fs;
mod mount;
mod process;

pub use credentials::*;
pub use device::*;
pub use fs::*;
pub use mount::*;
pub use process::*;
pub use raw::{Call, Fault, Fd, Result};

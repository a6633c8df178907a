//! One function per system call, each a typed face on a raw trap: the only file here that holds `unsafe`
//! besides the entry.
//!
//! libc is absent on purpose.  Its wrappers touch errno and thread-local state, and its `fork`, `setuid`
//! and `exit` run handlers of the parent's; after clone3 none of that may happen.  Every path that comes in
//! is a slice ending in NUL, which is checked here, because everything below relies on it.
//!
//! ```text
//!   raw: the trap, faults      uapi: the kernel's numbers
//!     -> fs, mount, process, credentials, device: one function per call
//! ```

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

#![allow(unsafe_code)]
//! The worker's own unsafe calls: what the standard library and tokio leave to their caller's word.
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A block of this size (a plugin's file) is a mapping of its own, gone when freed. Left alone, glibc raises the bound to the
/// largest block that was freed.
const MAPPED_FROM_BYTES: i32 = 1 << 20;

/// Free bytes at the heap's end that are kept: as many as restarts in a row take and give back. `trim_heap` takes no account of it.
const FREE_BYTES: i32 = 4 << 20;

/// A heap for a process that stays (mallopt(3)): one arena for all threads, since the pool's come and go and theirs would stay,
/// and bounds that do not grow.
pub fn small_heap() {
    for (option, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (libc::M_TRIM_THRESHOLD, FREE_BYTES),
    ] {
        // SAFETY: mallopt takes two integers and touches no memory of ours; no other thread runs yet.
        unsafe { libc::mallopt(option, value) };
    }
}

/// Gives the kernel back the heap's pages on which nothing is left (malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: it takes the allocator's own lock and touches free memory alone.
    unsafe { libc::malloc_trim(0) };
}

/// A descriptor that nobody can close while it is shared.
#[derive(Debug, Clone)]
pub struct Held(Arc<OwnedFd>);

impl From<OwnedFd> for Held {
    fn from(fd: OwnedFd) -> Held {
        Held(Arc::new(fd))
    }
}

impl From<Arc<OwnedFd>> for Held {
    fn from(fd: Arc<OwnedFd>) -> Held {
        Held(fd)
    }
}

impl AsRawFd for Held {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl std::ops::Deref for Held {
    type Target = OwnedFd;
    fn deref(&self) -> &OwnedFd {
        &self.0
    }
}

/// Registers a descriptor with the loop, to be told when it can be read.
pub fn readable(fd: impl Into<Held>) -> std::io::Result<AsyncFd<Held>> {
    // SAFETY: a `Held` is open for as long as it lives, its descriptor never changes, and the AsyncFd owns one.
    unsafe { AsyncFd::register_with_interest(fd.into(), Interest::READABLE) }.map_err(Into::into)
}

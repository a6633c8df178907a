#![allow(unsafe_code)]
//! The worker's own unsafe calls: what the standard library and tokio leave to their caller's word.
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One malloc arena for all threads (mallopt(3), M_ARENA_MAX): glibc would give each thread of the pool its own and keep it.
pub fn one_arena() {
    // SAFETY: mallopt takes two integers and touches no memory of ours; no other thread runs yet.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
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

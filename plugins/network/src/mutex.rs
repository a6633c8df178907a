//! Locks that outlive a panic.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A handler that panicked has left the records as they were before or after a step; both are sound.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

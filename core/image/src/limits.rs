//! What an image may cost at most: a bomb is refused long before the disk is full.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// Of an image, all its layers together, or of all images that come in at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the layers' archives, and of what is copied from one layer into another.
    pub bytes: u64,
    /// Files, folders, links.
    pub entries: u64,
    /// How many times larger than its blob a layer may be, once it is larger than [`RATIO_FROM`].
    pub ratio: u64,
    /// Layers of an image.
    pub layers: usize,
    /// How often something is looked up in a layer below: for each hard link to it, and each folder that was only on the way.
    pub looks: u64,
}

/// Small layers may be as empty as they like: a file of zeros packs a thousandfold.
pub const RATIO_FROM: u64 = 256 << 20;
/// Of a manifest, an index, an image's config.
pub const DOCUMENT_BYTES: u64 = 8 << 20;
/// A path in a layer, and a link's target: the kernel's own limit.
pub const PATH_BYTES: usize = 4095;
/// All PAX records of one entry.
pub const PAX_BYTES: u64 = 1 << 20;
/// What waits until the layers below are there: hard links to them, folders that are only on the way.
pub const DEFERRED: usize = 1 << 16;
/// Of the paths of all that.
pub const DEFERRED_BYTES: usize = 16 << 20;

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 64 << 30, entries: 2_000_000, ratio: 200, layers: 500, looks: 20_000_000 }
    }
}

/// What is spent of the limits by now. It is one for all layers: a blob that a manifest lists 500 times is unpacked 500 times.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    bytes: AtomicU64,
    entries: AtomicU64,
    looks: AtomicU64,
    large_window: Mutex<()>,
}

impl Budget {
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Budget> {
        let none = AtomicU64::default;
        Arc::new(Budget {
            limits,
            bytes: none(),
            entries: none(),
            looks: none(),
            large_window: Mutex::default(),
        })
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }
}

/// What one layer spends, by all threads that work at it; given back if the layer comes to nothing and may be begun anew.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Share {
    #[must_use]
    pub fn new(budget: &Arc<Budget>) -> Arc<Share> {
        let none = AtomicU64::default;
        Arc::new(Share { budget: Arc::clone(budget), bytes: none(), entries: none() })
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.budget.limits
    }

    /// So many more are read of the archive, or written by what it says.
    pub fn bytes(&self, bytes: u64) -> Result<()> {
        let max = self.budget.limits.bytes;
        match spend(&self.budget.bytes, &self.bytes, bytes, max) {
            true => Ok(()),
            false => Err(too_much(format!("its layers have more than {} MiB", max >> 20), "--max-size")),
        }
    }

    /// One more file, folder or link.
    pub fn entry(&self) -> Result<()> {
        let max = self.budget.limits.entries;
        match spend(&self.budget.entries, &self.entries, 1, max) {
            true => Ok(()),
            false => Err(too_much(format!("its layers have more than {max} files"), "--max-entries")),
        }
    }

    /// One more look into a layer below. The time that it took is not given back.
    pub fn look(&self) -> Result<()> {
        if self.budget.looks.fetch_add(1, Ordering::Relaxed) < self.budget.limits.looks {
            return Ok(());
        }
        let why = "too many of its hard links and folders are looked for in too many layers below";
        Err(Error::bad("the image is refused", why))
    }

    /// The right to a window of up to 128 MiB, which one layer at a time has: it is waited for. Who has it waits for no other layer.
    pub fn large_window(&self) -> MutexGuard<'_, ()> {
        self.budget.large_window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layer is there now, and so is what it took.
    pub fn keep(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.entries.store(0, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
        self.budget.entries.fetch_sub(*self.entries.get_mut(), Ordering::Relaxed);
    }
}

/// Nothing is spent beyond `max`, so no sum is ever too large for its number.
fn spend(total: &AtomicU64, own: &AtomicU64, more: u64, max: u64) -> bool {
    let sum = |spent: u64| spent.checked_add(more).filter(|sum| *sum <= max);
    let is_spent = total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok();
    if is_spent {
        own.fetch_add(more, Ordering::Relaxed);
    }
    is_spent
}

fn too_much(why: String, flag: &str) -> Error {
    Error::bad("the image is refused", why).hint(format!("if that is meant: {flag}"))
}

//! The keel's two tables: children not yet reaped (pid, tag) and kept descriptors (key, fd). Their size is
//! fixed and their memory is taken once, as zero pages that cost nothing until they are touched. A full
//! table is an answer (`None`), never growth.

use super::wire::{NAME_MAX, Name};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

/// Children that run or wait to be reaped.
pub const CHILDREN_MAX: usize = 8192;
/// Kept descriptors. The limit on open files may be lower; then it is the one that refuses.
pub const KEPT_MAX: usize = 16384;

/// One flat block: `vec![0u8; n]` is `calloc`, whose pages stay untouched (`vec![[0u8; 200]; n]` writes to each).
struct Names {
    len: Vec<u8>,
    bytes: Vec<u8>,
}

impl Names {
    fn new(capacity: usize) -> Names {
        Names { len: vec![0; capacity], bytes: vec![0; capacity * NAME_MAX] }
    }

    fn set(&mut self, at: usize, name: &Name) {
        let (from, text) = (at * NAME_MAX, name.as_bytes());
        if let (Some(len), Some(bytes)) = (self.len.get_mut(at), self.bytes.get_mut(from..from + text.len()))
        {
            *len = text.len() as u8;
            bytes.copy_from_slice(text);
        }
    }

    fn get(&self, at: usize) -> &[u8] {
        let (from, len) = (at * NAME_MAX, self.len.get(at).copied().unwrap_or(0));
        self.bytes.get(from..from + usize::from(len)).unwrap_or_default()
    }
}

pub struct Children {
    /// 0 = free.
    pids: Vec<i32>,
    tags: Names,
    /// No slot at or above was ever used: scans end here.
    high: usize,
    /// No slot below is free.
    low: usize,
    len: usize,
}

impl Children {
    pub fn new(capacity: usize) -> Children {
        Children { pids: vec![0; capacity], tags: Names::new(capacity), high: 0, low: 0, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_full(&self) -> bool {
        self.len == self.pids.len()
    }

    #[must_use]
    pub fn add(&mut self, pid: i32, tag: &Name) -> bool {
        let Some(at) = free_slot(&self.pids, self.low, |pid| *pid == 0) else { return false };
        if let Some(slot) = self.pids.get_mut(at) {
            *slot = pid;
        }
        self.tags.set(at, tag);
        self.low = at + 1;
        self.high = self.high.max(at + 1);
        self.len += 1;
        true
    }

    pub fn contains(&self, pid: i32) -> bool {
        self.find(pid).is_some()
    }

    pub fn remove(&mut self, pid: i32) {
        let Some(at) = self.find(pid) else { return };
        if let Some(slot) = self.pids.get_mut(at) {
            *slot = 0;
        }
        self.low = self.low.min(at);
        self.len -= 1;
    }

    /// The first child at or after the cursor, and the cursor of the one after it.
    pub fn next(&self, cursor: usize) -> Option<(i32, Name, usize)> {
        let used = self.pids.get(cursor..self.high)?;
        let (offset, pid) = used.iter().enumerate().find(|(_, pid)| **pid != 0)?;
        let at = cursor + offset;
        Some((*pid, Name::new(self.tags.get(at))?, at + 1))
    }

    fn find(&self, pid: i32) -> Option<usize> {
        if pid <= 0 {
            return None;
        }
        self.pids.get(..self.high)?.iter().position(|p| *p == pid)
    }
}

pub struct Kept {
    /// Of the key; 0 = free. Scanned first, so that a look-up reads 4 bytes per entry and not the key.
    hashes: Vec<u32>,
    keys: Names,
    fds: Vec<Option<OwnedFd>>,
    high: usize,
    low: usize,
}

impl Kept {
    pub fn new(capacity: usize) -> Kept {
        let mut fds = Vec::new();
        fds.resize_with(capacity, || None);
        Kept { hashes: vec![0; capacity], keys: Names::new(capacity), fds, high: 0, low: 0 }
    }

    /// In the place of an older descriptor of that key, which is closed. The descriptor is given back when full.
    pub fn put(&mut self, key: &Name, fd: OwnedFd) -> Result<(), OwnedFd> {
        let at = match self.find(key) {
            Some(at) => at,
            None => {
                let Some(at) = free_slot(&self.hashes, self.low, |hash| *hash == 0) else { return Err(fd) };
                if let Some(slot) = self.hashes.get_mut(at) {
                    *slot = hash(key.as_bytes());
                }
                self.keys.set(at, key);
                self.low = at + 1;
                self.high = self.high.max(at + 1);
                at
            }
        };
        if let Some(slot) = self.fds.get_mut(at) {
            *slot = Some(fd);
        }
        Ok(())
    }

    pub fn get(&self, key: &Name) -> Option<BorrowedFd<'_>> {
        self.fds.get(self.find(key)?)?.as_ref().map(AsFd::as_fd)
    }

    pub fn remove(&mut self, key: &Name) -> bool {
        let Some(at) = self.find(key) else { return false };
        if let (Some(hash), Some(fd)) = (self.hashes.get_mut(at), self.fds.get_mut(at)) {
            *hash = 0;
            *fd = None;
        }
        self.low = self.low.min(at);
        true
    }

    pub fn next(&self, cursor: usize) -> Option<(Name, usize)> {
        let used = self.hashes.get(cursor..self.high)?;
        let at = cursor + used.iter().position(|hash| *hash != 0)?;
        Some((Name::new(self.keys.get(at))?, at + 1))
    }

    fn find(&self, key: &Name) -> Option<usize> {
        let wanted = hash(key.as_bytes());
        let used = self.hashes.get(..self.high)?;
        used.iter()
            .enumerate()
            .find(|(at, h)| **h == wanted && self.keys.get(*at) == key.as_bytes())
            .map(|(at, _)| at)
    }
}

fn free_slot<T>(slots: &[T], low: usize, is_free: impl Fn(&T) -> bool) -> Option<usize> {
    slots.get(low..)?.iter().position(is_free).map(|offset| low + offset)
}

/// FNV-1a; 0 is kept for "free".
fn hash(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in bytes {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash.max(1)
}

//! Who may write: any number of writers that add, or one that removes.
//!
//! ```text
//!   lock        shared by those who add, held alone by who removes (rm, prune)
//!   index.lock  while index.json is read, changed and written
//!   tmp/blob-.., tmp/layer-..   whoever gets or unpacks that one; others wait and find it done
//! ```
//! Each is flock(2) on a file in a folder that is closed to others, and goes with its process. Nobody waits while holding
//! what the other needs: who holds a layer waits for blobs and for lower layers only, who holds a blob for no other and for no layer.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::{Errno, retry_on_intr};

use super::remove::remove_tree;
use super::{Store, open_ours};
use crate::error::{Error, Kind, Result};

/// A pull may last; who removes asks again that often, and gives up.
const PAUSE: Duration = Duration::from_millis(100);

/// May add.
#[derive(Debug)]
pub struct Writer {
    _lock: File,
}

/// May remove: nobody else writes.
#[derive(Debug)]
pub struct Alone {
    _lock: File,
}

impl Store {
    /// To add. What dead writers left is removed, if nobody else writes now.
    pub fn writer(&self) -> Result<Writer> {
        let lock = self.lock_file("lock")?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            self.collect_rubbish();
        }
        // From alone to shared another may come between, who removes: nothing of ours is there yet.
        wait(&lock, FlockOperation::LockShared)
            .map_err(|e| Error::io("lock", &self.path().join("lock"), e))?;
        Ok(Writer { _lock: lock })
    }

    /// To remove; waits for those who add.
    pub fn alone(&self, patience: Duration) -> Result<Alone> {
        let lock = self.lock_file("lock")?;
        let end = Instant::now() + patience;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Alone { _lock: lock }),
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < end => std::thread::sleep(PAUSE),
                Err(Errno::AGAIN) => {
                    let doing = format!("cannot remove anything from {}", self.path().display());
                    return Err(Error::new(Kind::Temporary, doing, "an image is being pulled or imported")
                        .hint("try again when that is done"));
                }
                Err(e) => return Err(Error::io("lock", &self.path().join("lock"), e)),
            }
        }
    }

    /// While the index changes: short.
    pub(super) fn index_lock(&self) -> Result<File> {
        let lock = self.lock_file("index.lock")?;
        let path = self.path().join("index.lock");
        wait(&lock, FlockOperation::LockExclusive).map_err(|e| Error::io("lock", &path, e))?;
        Ok(lock)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.path().join(name);
        open_ours(&path, OFlags::RDWR | OFlags::CREATE).map_err(|e| Error::io("open", &path, e))
    }

    /// A half-fetched blob is kept for a day: the next pull goes on with it.
    fn collect_rubbish(&self) {
        let day = Duration::from_secs(24 * 3600);
        for entry in fs::read_dir(self.tmp()).into_iter().flatten().flatten() {
            let is_blob = entry.file_name().to_string_lossy().starts_with("blob-");
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if !is_blob || age.is_none_or(|age| age > day) {
                remove_tree(&entry.path());
            }
        }
    }
}

/// A file under this name that we alone hold, made if need be. `waiting` is called once if somebody else has it.
pub fn hold(path: &Path, waiting: &dyn Fn()) -> Result<File> {
    let fail = |doing| move |e: Errno| Error::io(doing, path, e);
    loop {
        let file = open_ours(path, OFlags::RDWR | OFlags::CREATE).map_err(fail("open"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => {
                waiting();
                wait(&file, FlockOperation::LockExclusive).map_err(fail("lock"))?;
            }
            Err(e) => return Err(fail("lock")(e)),
        }
        // It may have been renamed or removed before we had it.
        if sampan_lock::is_at(&file, path) {
            return Ok(file);
        }
    }
}

fn wait(file: &impl AsFd, how: FlockOperation) -> rustix::io::Result<()> {
    retry_on_intr(|| flock(file, how))
}

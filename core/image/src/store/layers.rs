//! Unpacked layers. One grows in tmp/ and has its name when it is whole and on the disk.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, syncfs};
use sampan_journal::crash;

use super::blobs::{Verified, serial};
use super::{Store, locks, remove, rename_new};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};

/// A layer on top of certain others: the same archive elsewhere is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId {
    digest: Digest,
}

impl ChainId {
    /// Of each layer, lowest first: `C(1) = d(1)`, `C(n) = sha256(C(n-1) " " d(n))`.
    #[must_use]
    pub fn of(diff_ids: &[Digest]) -> Vec<ChainId> {
        let mut chain: Vec<ChainId> = Vec::new();
        for diff in diff_ids {
            let digest = match chain.last() {
                None => diff.clone(),
                Some(below) => {
                    let mut hasher = Hasher::sha256();
                    hasher.update(format!("{} {diff}", below.digest).as_bytes());
                    hasher.finish()
                }
            };
            chain.push(ChainId { digest });
        }
        chain
    }

    /// The name of its folder.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.digest.hex()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.fmt(f)
    }
}

/// What [`Store::layer`] found.
#[derive(Debug)]
pub enum Claim {
    There,
    /// It is ours to unpack.
    Ours(Staging),
}

/// A layer that is being unpacked. Dropped, it is removed.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    target: PathBuf,
    /// Open since before anything was written: syncfs tells what went wrong since then.
    folder: OwnedFd,
    lock: File,
    lock_path: PathBuf,
}

impl Store {
    #[must_use]
    pub fn layer_path(&self, chain: &ChainId) -> PathBuf {
        self.path().join("layers").join(chain.hex())
    }

    #[must_use]
    pub fn has_layer(&self, chain: &ChainId) -> bool {
        self.layer_path(chain).is_dir()
    }

    /// The layer, or the right to unpack it. If somebody else unpacks it `waiting` is called, and then waited.
    pub fn layer(&self, chain: &ChainId, waiting: &dyn Fn()) -> Result<Claim> {
        if self.has_layer(chain) {
            return Ok(Claim::There);
        }
        let lock_path = self.tmp().join(format!("layer-{}", chain.hex()));
        let lock = locks::hold(&lock_path, waiting)?;
        if self.has_layer(chain) {
            let _ = fs::remove_file(&lock_path);
            return Ok(Claim::There);
        }
        let path = self.tmp().join(format!("unpack-{}-{}-{}", chain.short(), std::process::id(), serial()));
        DirBuilder::new().mode(0o755).create(&path).map_err(|e| Error::io("make", &path, e))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = open(&path, flags, Mode::empty()).map_err(|e| Error::io("open", &path, e))?;
        Ok(Claim::Ours(Staging { path, target: self.layer_path(chain), folder, lock, lock_path }))
    }
}

impl ChainId {
    fn short(&self) -> &str {
        self.digest.short()
    }
}

impl Staging {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it is there: to the disk, and then under its name; with it the blob that it was unpacked from, if that is new.
    pub fn commit(self, blob: Option<Verified>) -> Result<()> {
        crash::point("a layer is unpacked, not synced");
        // One call for all files of it, and for the blob, which is in tmp/ too; each by itself takes many times as long.
        syncfs(&self.folder).map_err(|e| Error::io("sync", &self.path, e))?;
        blob.map_or(Ok(()), Verified::name)?;
        crash::point("a layer is synced, not named");
        match rename_new(&self.path, &self.target) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(Error::io("name", &self.target, e)),
        }
        crash::point("a layer is named, its folder not synced");
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        remove::remove_tree(&self.path);
        if sampan_lock::is_at(&self.lock, &self.lock_path) {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

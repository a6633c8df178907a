//! Blobs by digest. One comes in through [`Partial`]: under its own name it is only when it is whole, right and on the disk.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Advice, OFlags, fadvise, syncfs};
use sampan_journal::crash;

use super::{Store, locks, open_ours, rename_new};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Kind, Result};
use crate::limits::DOCUMENT_BYTES;
use crate::writeback::Written;

/// What [`Store::blob`] found.
#[derive(Debug)]
pub enum Blob {
    There(File),
    /// It is ours to get.
    Partial(Partial),
}

/// A blob that is coming in, from where an earlier attempt stopped.
#[derive(Debug)]
pub struct Partial {
    file: File,
    path: PathBuf,
    target: PathBuf,
    digest: Digest,
    /// Bytes in the file.
    have: u64,
    /// Bytes of these that were read again.
    replayed: u64,
    /// What comes behind them.
    written: Option<Written>,
}

impl Store {
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    #[must_use]
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// To read.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        open_ours(&path, OFlags::RDONLY).map_err(|e| {
            if e == rustix::io::Errno::NOENT {
                return Error::new(
                    Kind::NotFound,
                    format!("there is no blob {digest}"),
                    "the store has none",
                );
            }
            Error::io("open", &path, e)
        })
    }

    /// A manifest, an index or a config, whole and as its digest says.
    pub fn read_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let path = self.blob_path(digest);
        let mut file = self.open_blob(digest)?.take(DOCUMENT_BYTES + 1);
        file.read_to_end(&mut bytes).map_err(|e| Error::io("read", &path, e))?;
        if bytes.len() as u64 > DOCUMENT_BYTES {
            return Err(Error::bad(format!("cannot read {digest}"), "it is larger than 8 MiB"));
        }
        let mut hasher = digest.hasher();
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            let hint = "remove the image and pull it again: is the disk all right?";
            return Err(Error::bad(format!("cannot use {}", path.display()), "it is not what its name says")
                .hint(hint));
        }
        Ok(bytes)
    }

    /// The blob, or the right to get it. If somebody else is getting it `waiting` is called, and then waited.
    pub fn blob(&self, digest: &Digest, waiting: &dyn Fn()) -> Result<Blob> {
        if self.has_blob(digest) {
            return self.open_blob(digest).map(Blob::There);
        }
        let path = self.tmp().join(format!("blob-{}-{}", digest.algorithm(), digest.hex()));
        let file = locks::hold(&path, waiting)?;
        if self.has_blob(digest) {
            let _ = fs::remove_file(&path);
            return self.open_blob(digest).map(Blob::There);
        }
        let have = left(&file).map_err(|e| Error::io("look at", &path, e))?;
        let target = self.blob_path(digest);
        Ok(Blob::Partial(Partial {
            file,
            path,
            target,
            digest: digest.clone(),
            have,
            replayed: 0,
            written: None,
        }))
    }

    /// Bytes that are at hand.
    pub fn add_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        self.add_document(&digest, bytes)?;
        Ok(digest)
    }

    /// Bytes that must be of this digest.
    pub fn add_document(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        if let Blob::Partial(mut partial) = self.blob(digest, &|| ())? {
            partial.restart()?;
            partial.write(bytes)?;
            let mut hasher = digest.hasher();
            hasher.update(bytes);
            partial.verified(&hasher.finish())?.commit()?;
        }
        Ok(())
    }
}

/// How much an earlier attempt left of a blob. That counts so far as the disk has it: what could not be written there the kernel
/// keeps in memory all the same, tells of it once, and whoever was told may have been killed (fsync(2)). So it is dropped from
/// memory, and what is read again and hashed comes from the disk.
fn left(file: &File) -> io::Result<u64> {
    let have = file.metadata()?.len();
    if have == 0 {
        return Ok(0);
    }
    if file.sync_all().is_err() {
        file.set_len(0)?;
        return Ok(0);
    }
    fadvise(file, 0, None, Advice::DontNeed)?;
    Ok(have)
}

impl Partial {
    #[must_use]
    pub fn have(&self) -> u64 {
        self.have
    }

    /// The next bytes of what an earlier attempt left, for them to be hashed. None: that was all, and the file goes on there.
    pub fn replay(&mut self, room: &mut [u8]) -> Result<usize> {
        let n = self.file.read(room).map_err(|e| Error::io("read", &self.path, e))?;
        self.replayed += n as u64;
        if n == 0 {
            self.have = self.replayed;
        }
        Ok(n)
    }

    /// From the beginning: what is there is not what it should be.
    pub fn restart(&mut self) -> Result<()> {
        let path = &self.path;
        self.file.set_len(0).map_err(|e| Error::io("empty", path, e))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("empty", path, e))?;
        (self.have, self.replayed, self.written) = (0, 0, None);
        Ok(())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let have = self.have;
        let written = self.written.get_or_insert_with(|| Written::new(have));
        written.write(&self.file, bytes).map_err(|e| Error::io("write", &self.path, e))?;
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// All is written, and this is the digest of it. What is wrong goes at once.
    pub fn verified(self, found: &Digest) -> Result<Verified> {
        if *found != self.digest {
            let _ = fs::remove_file(&self.path);
            let doing = format!("{} is not what its digest says", self.digest);
            return Err(Error::bad(doing, format!("what came has the digest {found}")));
        }
        crash::point("a blob is written, not synced");
        Ok(Verified { file: self.file, path: self.path, target: self.target })
    }
}

/// A blob that is whole and right, and not named yet. Dropped, the next attempt finds it so.
#[derive(Debug)]
pub struct Verified {
    file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Verified {
    /// To the disk, and then under its name.
    pub fn commit(self) -> Result<()> {
        self.file.sync_all().map_err(|e| Error::io("sync", &self.path, e))?;
        self.name()
    }

    /// Under its name: it is on the disk.
    pub(super) fn name(self) -> Result<()> {
        crash::point("a blob is synced, not named");
        match rename_new(&self.path, &self.target) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => drop(fs::remove_file(&self.path)),
            Err(e) => return Err(Error::io("name", &self.target, e)),
        }
        crash::point("a blob is named, its folder not synced");
        Ok(())
    }
}

/// A blob of which nobody knows the digest before it is whole: an archive's. Dropped, it is removed.
pub(crate) struct Unnamed {
    file: File,
    path: Removed,
    hasher: Hasher,
    size: u64,
    written: Written,
}

/// Whole, and not yet under its name. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Whole {
    path: Removed,
    digest: Digest,
    size: u64,
}

/// A file that goes with its owner.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Store {
    pub(crate) fn unnamed(&self, hasher: Hasher) -> Result<Unnamed> {
        loop {
            let path = self.tmp().join(format!("new-{}-{}", std::process::id(), serial()));
            match open_ours(&path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
                Ok(file) => {
                    return Ok(Unnamed {
                        file,
                        path: Removed(path),
                        hasher,
                        size: 0,
                        written: Written::new(0),
                    });
                }
                // Of another pid namespace's process with our number.
                Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(Error::io("make", &path, e)),
            }
        }
    }

    /// They become blobs. `since` was open before any of them was written.
    pub(crate) fn name(&self, new: &[&Whole], since: &OwnedFd) -> Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        syncfs(since).map_err(|e| Error::io("sync", &self.tmp(), e))?;
        for blob in new {
            crash::point("an archive's blob is written, not named");
            let (path, target) = (&blob.path.0, self.blob_path(&blob.digest));
            match rename_new(path, &target) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(Error::io("name", &target, e)),
            }
        }
        Ok(())
    }
}

impl Unnamed {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written.write(&self.file, bytes).map_err(|e| Error::io("write", &self.path.0, e))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn finish(self) -> Whole {
        Whole { path: self.path, digest: self.hasher.finish(), size: self.size }
    }
}

impl Whole {
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn open(&self) -> Result<File> {
        open_ours(&self.path.0, OFlags::RDONLY).map_err(|e| Error::io("open", &self.path.0, e))
    }
}

/// Of this process.
pub(super) fn serial() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

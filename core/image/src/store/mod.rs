//! Images on disk: an OCI layout, beside which each layer lies unpacked.
//!
//! ```text
//!   oci-layout  index.json      names -> manifests          written beside, synced, renamed
//!   blobs/sha256/HEX            manifests, configs, layers  under its name only when whole, right and synced
//!   layers/HEX/                 one unpacked layer, by its chain id: it depends on what lies below it
//!   used/SERVICE/digest         what a service runs: no prune takes it away
//!   tmp/                        all that is not whole yet
//!   lock, index.lock            for writers (store/locks.rs); who reads takes none
//! ```
//! A name in blobs/ or layers/ is a promise that all of it is there. Whoever is killed leaves something in tmp/, which the
//! next writer that is alone removes. Nothing is ever changed in place.

mod blobs;
mod gc;
mod index;
mod layers;
mod locks;
mod remove;
mod uses;

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

pub use blobs::{Blob, Partial, Verified};
pub(crate) use blobs::{Unnamed, Whole};
pub use gc::Pruned;
pub use index::{Image, Name};
pub use layers::{ChainId, Claim, Staging};
pub use locks::{Alone, Writer, hold};
pub use remove::{remove_deep, remove_in};

use crate::error::{Error, Kind, Result};

const LAYOUT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}\n";

#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store at `path`, made if it is not there. It is closed to others: old programs with setuid lie in it.
    pub fn open(path: &Path) -> Result<Store> {
        let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        for folder in ["", "blobs", "blobs/sha256", "blobs/sha512", "layers", "tmp"] {
            let folder = if folder.is_empty() { path.clone() } else { path.join(folder) };
            match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
                Ok(()) => {}
                Err(e) => return Err(Error::io("make", &folder, e)),
            }
        }
        let store = Store { path };
        let top = store.check_owner()?;
        if top.mode() & 0o077 != 0 {
            fs::set_permissions(&store.path, Permissions::from_mode(0o700))
                .map_err(|e| Error::io("close to others", &store.path, e))?;
        }
        // Two that begin at once would write one file beside it.
        let is_there = || store.path.join("oci-layout").exists();
        let lock = if is_there() { None } else { Some(store.index_lock()?) };
        if lock.is_some() && !is_there() {
            sampan_journal::atomic::replace(&store.path, "oci-layout", LAYOUT.as_bytes())
                .map_err(|e| Error::io("write", &store.path.join("oci-layout"), e))?;
        }
        Ok(store)
    }

    /// The store at `path`, to read: nothing is made.
    pub fn read(path: &Path) -> Result<Store> {
        let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        if !path.is_dir() {
            let doing = format!("there is no store of images at {}", path.display());
            return Err(Error::new(Kind::NotFound, doing, "nothing was pulled or imported there yet"));
        }
        let store = Store { path };
        store.check_owner()?;
        Ok(store)
    }

    /// What another user arranges is no store of ours.
    fn check_owner(&self) -> Result<fs::Metadata> {
        let top = fs::metadata(&self.path).map_err(|e| Error::io("look at", &self.path, e))?;
        let us = rustix::process::geteuid().as_raw();
        if top.uid() != us {
            let doing = format!("cannot use {}", self.path.display());
            let why = format!("it belongs to uid {}, and this is uid {us}", top.uid());
            return Err(Error::new(Kind::Host, doing, why).hint("--store names another place"));
        }
        Ok(top)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// A folder of the store's file system: syncfs on it tells what went wrong since it was opened.
    pub(crate) fn since_now(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(self.tmp(), flags, Mode::empty()).map_err(|e| Error::io("open", &self.tmp(), e))
    }
}

/// Waits until what was named in this folder is on the disk.
fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|e| Error::io("sync", path, e))
}

/// `from` becomes `to`, which must not be there.
fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}

/// A file of ours, by a name that nobody has put a link at.
fn open_ours(path: &Path, flags: OFlags) -> rustix::io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

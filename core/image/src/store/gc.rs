//! What nobody needs goes: blobs and layers that no name and nobody who runs leads to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::blobs::serial;
use super::{Alone, Store, remove, sync_folder};
use crate::config::ConfigDocument;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::store::ChainId;
use sampan_journal::crash;

/// What went.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pruned {
    pub blobs: u64,
    pub layers: u64,
    pub bytes: u64,
}

impl Store {
    /// Removes what neither a name, nor a service's note, nor a digest of `keep` needs. These are manifests' digests. If any
    /// document that leads on cannot be read nothing is removed: what it needs is not known.
    pub fn prune(&self, _may: &Alone, keep: &[Digest]) -> Result<Pruned> {
        let mut blobs = BTreeSet::new();
        let mut layers = BTreeSet::new();
        let named = self.names()?.into_iter().map(|name| name.manifest);
        // A container may run an image that somebody removed by hand.
        let uses = self.uses()?;
        let kept = keep.iter().chain(&uses).filter(|digest| self.has_blob(digest)).cloned();
        for digest in named.chain(kept) {
            let manifest = self.manifest(&digest)?;
            let document = ConfigDocument::parse(&self.read_document(&manifest.config.digest)?)?;
            layers.extend(ChainId::of(&document.diff_ids).iter().map(|chain| chain.hex().to_owned()));
            blobs.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            blobs.insert(manifest.config.digest);
            blobs.insert(digest);
        }
        let mut pruned = Pruned::default();
        for algorithm in ["sha256", "sha512"] {
            let folder = self.path().join("blobs").join(algorithm);
            for name in names_in(&folder)? {
                if !blobs.iter().any(|b| b.algorithm() == algorithm && b.hex() == name) {
                    pruned.bytes += self.remove(&folder.join(&name))?;
                    pruned.blobs += 1;
                }
            }
        }
        let folder = self.path().join("layers");
        for name in names_in(&folder)?.into_iter().filter(|name| !layers.contains(name)) {
            pruned.bytes += self.remove(&folder.join(&name))?;
            pruned.layers += 1;
        }
        for name in names_in(&self.tmp())? {
            pruned.bytes += size(&self.tmp().join(&name));
            remove::remove_tree(&self.tmp().join(name));
        }
        Ok(pruned)
    }

    /// Out of the way first, as a whole: a layer is never half there under its name.
    fn remove(&self, path: &Path) -> Result<u64> {
        let bytes = size(path);
        let away = self.tmp().join(format!("old-{}-{}", std::process::id(), serial()));
        fs::rename(path, &away).map_err(|e| Error::io("remove", path, e))?;
        crash::point("a blob or layer is out of the way, not removed");
        path.parent().map_or(Ok(()), sync_folder)?;
        remove::remove_tree(&away);
        Ok(bytes)
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))?;
    let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()));
    names.collect::<std::io::Result<_>>().map_err(|e| Error::io("list", folder, e))
}

/// What it takes on the disk, with all below it.
fn size(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut todo: Vec<PathBuf> = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    bytes
}

//! The files of an archive, each in the store and under no name yet.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;

use super::{Found, layout};
use crate::digest::{Digest, Hasher};
use crate::documents::{Document, Platform};
use crate::error::{Error, Result};
use crate::limits::{Budget, DOCUMENT_BYTES, Limits, Share};
use crate::store::{Store, Unnamed, Whole};
use crate::tar::{Archive, Kind, show};
use crate::unpack::{Place, Unpacked};

/// An image of 500 layers has 2,000 in docker's old form.
const FILES_MAX: usize = 10_000;
const LINKS_MAX: usize = 16;

#[derive(Debug)]
pub struct Files {
    /// Open since before any of them was written.
    since: OwnedFd,
    files: BTreeMap<String, Whole>,
    /// docker wrote a layer that stands twice as a link.
    links: BTreeMap<String, String>,
}

impl Files {
    pub fn read(store: &Store, reader: impl Read, limits: Limits) -> Result<Files> {
        let share = Share::new(&Budget::new(limits));
        let mut archive = Archive::new(Unpacked::new(reader, &share)?);
        let since = store.since_now()?;
        let mut found = Files { since, files: BTreeMap::new(), links: BTreeMap::new() };
        while let Some(entry) = archive.member()? {
            let name = name(&entry.path)?;
            if found.files.len() + found.links.len() >= FILES_MAX {
                return Err(Error::bad("it is no image", "the archive has more than 10,000 files"));
            }
            match entry.kind {
                Kind::File if entry.segments.is_none() => {
                    let is_long = name.starts_with("blobs/sha512/");
                    let hasher = if is_long { Hasher::sha512() } else { Hasher::sha256() };
                    let mut new = store.unnamed(hasher)?;
                    copy(&mut archive, &mut new)?;
                    found.files.insert(name, new.finish());
                }
                Kind::Symlink => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = [folder.as_bytes(), b"/", &entry.target].concat();
                    found.links.insert(name, self::name(&target)?);
                }
                Kind::HardLink => drop(found.links.insert(name, self::name(&entry.target)?)),
                _ => {}
            }
        }
        archive.into_inner().finish()?;
        Ok(found)
    }

    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Through links.
    pub fn file(&self, name: &str) -> Result<&Whole> {
        let mut at = name;
        for _ in 0..LINKS_MAX {
            match self.links.get(at) {
                Some(target) => at = target,
                None => break,
            }
        }
        let missing =
            || Error::bad("the archive is not whole", format!("there is no {} in it", show(name.as_bytes())));
        self.files.get(at).ok_or_else(missing)
    }

    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.file(name)?;
        if file.size() > DOCUMENT_BYTES {
            return Err(Error::bad(
                format!("cannot read {} of the archive", show(name.as_bytes())),
                "it is larger than 8 MiB",
            ));
        }
        let mut bytes = Vec::new();
        let read = file.open()?.take(DOCUMENT_BYTES).read_to_end(&mut bytes);
        read.map_err(|e| Error::bad("cannot read the archive", e))?;
        Ok(bytes)
    }

    fn blob(&self, digest: &Digest) -> Result<&Whole> {
        let file = self.file(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))?;
        if file.digest() != digest {
            let why = format!("what is under that name has the digest {}", file.digest());
            return Err(Error::bad(format!("{digest} is not what its digest says"), why));
        }
        Ok(file)
    }

    /// The images of an OCI layout.
    pub fn oci(&self, platform: &Platform) -> Result<Vec<Found>> {
        let read = |digest: &Digest| {
            self.blob(digest)?;
            self.document(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))
        };
        layout::images(&self.document("index.json")?, platform, &read)
    }

    /// The blobs of this image get their names, so far as the archive has them: some the store may have already.
    pub fn keep(&self, store: &Store, manifest: &[u8]) -> Result<()> {
        let Document::Manifest(manifest) = Document::parse(manifest, "")? else { return Ok(()) };
        let by_digest: BTreeMap<&Digest, &Whole> =
            self.files.values().map(|file| (file.digest(), file)).collect();
        let mut new = Vec::new();
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            match by_digest.get(&blob.digest) {
                Some(whole) if !store.has_blob(&blob.digest) => new.push(*whole),
                Some(_) => {}
                None if store.has_blob(&blob.digest) => {}
                None => drop(self.blob(&blob.digest)?),
            }
        }
        // A layer that stands twice is one file.
        new.sort_by_key(|whole| whole.digest());
        new.dedup_by_key(|whole| whole.digest());
        store.name(&new, &self.since)
    }
}

fn name(path: &[u8]) -> Result<String> {
    Ok(Place::parse(path)?.path().to_string_lossy().into_owned())
}

fn copy<R: Read>(archive: &mut Archive<R>, to: &mut Unnamed) -> Result<()> {
    let mut piece = vec![0; 128 << 10];
    loop {
        let n = archive.read(&mut piece)?;
        if n == 0 {
            return Ok(());
        }
        to.write(piece.get(..n).unwrap_or_default())?;
    }
}

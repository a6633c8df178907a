//! Images from files: what `docker save`, `podman save` and `skopeo copy` write, folders of an OCI layout, standard input.
//!
//! An archive is read once, from front to back, so that a pipe will do: each file of it comes into the store under no name,
//! and what the documents at its end name is then a blob.

mod archive;
mod docker;
mod layout;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::digest::Digest;
use crate::documents::Platform;
use crate::error::{Error, Kind, Result};
use crate::get::{Getter, Nowhere};
use crate::limits::{Budget, Limits};
use crate::progress::Progress;
use crate::reference::Reference;
use crate::store::Store;

/// What to do with what is found.
pub struct Import<'a> {
    pub store: &'a Store,
    pub limits: Limits,
    pub platform: &'a Platform,
    pub progress: &'a dyn Progress,
    /// Instead of the names that the archive has.
    pub name: Option<&'a Reference>,
}

/// An image that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub names: Vec<String>,
    pub digest: Digest,
}

/// One of an archive's images: its manifest, and what the archive calls it.
struct Found {
    names: Vec<String>,
    manifest: Vec<u8>,
}

impl Import<'_> {
    /// An archive or a folder of an OCI layout.
    pub fn path(&self, path: &Path) -> Result<Vec<Imported>> {
        if path.is_dir() {
            return self.layout(path).map_err(|e| e.within(format!("cannot import {}", path.display())));
        }
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        self.stream(file).map_err(|e| e.within(format!("cannot import {}", path.display())))
    }

    /// An archive from a pipe.
    pub fn stream(&self, reader: impl Read) -> Result<Vec<Imported>> {
        self.check_name()?;
        let writer = self.store.writer()?;
        let archive = archive::Files::read(self.store, reader, self.limits)?;
        let images =
            if archive.has("index.json") { archive.oci(self.platform)? } else { archive.docker()? };
        for image in &images {
            archive.keep(self.store, &image.manifest)?;
        }
        let getter = self.getter(&writer);
        self.each(images, |image, names| getter.image(&Nowhere, &image.manifest, names))
    }

    fn layout(&self, path: &Path) -> Result<Vec<Imported>> {
        self.check_name()?;
        let writer = self.store.writer()?;
        let layout = layout::Layout::open(path)?;
        let images = layout.images(self.platform)?;
        let getter = self.getter(&writer);
        self.each(images, |image, names| getter.image(&layout, &image.manifest, names))
    }

    /// Before an archive is read, which may be large.
    fn check_name(&self) -> Result<()> {
        let Some(name) = self.name.filter(|name| name.digest().is_some()) else { return Ok(()) };
        let why = "a name with a digest says what a registry gave for it";
        Err(Error::new(Kind::Usage, format!("--name {name} cannot be given to an archive"), why)
            .hint("`sampan-image pull` gets it by that name"))
    }

    fn getter<'a>(&'a self, writer: &'a crate::store::Writer) -> Getter<'a> {
        Getter {
            store: self.store,
            writer,
            budget: Budget::new(self.limits),
            platform: self.platform,
            progress: self.progress,
        }
    }

    fn each(
        &self,
        images: Vec<Found>,
        get: impl Fn(&Found, &[String]) -> Result<Digest>,
    ) -> Result<Vec<Imported>> {
        if images.is_empty() {
            return Err(Error::bad("there is no image in it", "its index is empty"));
        }
        if self.name.is_some() && images.len() > 1 {
            let why = format!("it has {} images", images.len());
            return Err(Error::new(Kind::Usage, "--name is for one image", why));
        }
        let mut imported = Vec::new();
        for image in images {
            let names = match self.name {
                Some(name) => vec![name.to_string()],
                None => image.names.clone(),
            };
            if names.is_empty() {
                return Err(Error::new(Kind::Usage, "the image has no name", "the archive gives it none")
                    .hint(
                        "--name NAME gives it one; names with a digest come from `sampan-image pull` alone",
                    ));
            }
            let digest = get(&image, &names)?;
            imported.push(Imported { names, digest });
        }
        Ok(imported)
    }
}

/// A name that an archive gives, in full. One word alone (`v1`) is a tag of nobody knows what. One with a digest may be that of an
/// index, which nobody can check here: it is believed from the registry alone.
fn full_name(text: &str) -> Option<String> {
    let is_name = text.contains(['/', ':']);
    let reference = Reference::parse(text).ok().filter(|found| is_name && found.digest().is_none());
    reference.map(|reference| reference.to_string())
}

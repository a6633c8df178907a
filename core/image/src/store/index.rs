//! Names of images: index.json, which any tool that knows OCI layouts can read too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sampan_journal::{atomic, crash};

use super::{ChainId, Store, Writer, sync_folder};
use crate::config::ConfigDocument;
use crate::digest::Digest;
use crate::documents::{Descriptor, Document, Index, Manifest, REF_NAME, parse};
use crate::error::{Error, Kind, Result};
use crate::reference::Reference;

const FILE: &str = "index.json";
/// So many digits of a digest are a name at least.
const PREFIX_MIN: usize = 4;

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub reference: String,
    pub manifest: Digest,
}

/// An image that is here, with all that is known of it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its names, in full.
    pub names: Vec<String>,
    /// What it is pinned by: the same here as in the registry.
    pub digest: Digest,
    pub manifest: Manifest,
    pub document: ConfigDocument,
    /// Unpacked layers, lowest first.
    pub chain: Vec<ChainId>,
}

impl Image {
    /// What docker calls the image's id.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    /// Of its blobs.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add)
    }
}

impl Store {
    fn read_index(&self) -> Result<Index> {
        let path = self.path().join(FILE);
        match std::fs::read(&path) {
            Ok(text) => parse(&text, &format!("{}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Ok(Index { schema_version: 2, media_type: String::new(), manifests: Vec::new() })
            }
            Err(e) => Err(Error::io("read", &path, e)),
        }
    }

    fn write_index(&self, index: &Index) -> Result<()> {
        let path = self.path().join(FILE);
        let text = serde_json::to_vec_pretty(index).map_err(|e| Error::bad("cannot write the index", e))?;
        crash::point("the index is changed, not written");
        atomic::replace(self.path(), FILE, &text).map_err(|e| Error::io("write", &path, e))
    }

    /// From now on `name` is this image, and no other any more. All its blobs and layers are here.
    pub fn tag(&self, _may: &Writer, name: &str, manifest: &Descriptor) -> Result<()> {
        // Whoever named them: before an image leads there, their names are on the disk. Once for all.
        for folder in ["blobs/sha256", "blobs/sha512", "layers"] {
            sync_folder(&self.path().join(folder))?;
        }
        let _lock = self.index_lock()?;
        let mut index = self.read_index()?;
        index.manifests.retain(|known| known.annotations.get(REF_NAME).map(String::as_str) != Some(name));
        let annotations = BTreeMap::from([(REF_NAME.to_owned(), name.to_owned())]);
        index.manifests.push(Descriptor { annotations, ..manifest.clone() });
        self.write_index(&index)
    }

    /// All names, sorted.
    pub fn names(&self) -> Result<Vec<Name>> {
        let index = self.read_index()?;
        let mut names: Vec<Name> = index
            .manifests
            .into_iter()
            .filter_map(|mut d| Some(Name { reference: d.annotations.remove(REF_NAME)?, manifest: d.digest }))
            .collect();
        names.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(names)
    }

    /// Takes the name away; the image goes with `prune` when it has no other.
    pub fn untag(&self, name: &str) -> Result<bool> {
        let _lock = self.index_lock()?;
        let mut index = self.read_index()?;
        let before = index.manifests.len();
        index.manifests.retain(|known| known.annotations.get(REF_NAME).map(String::as_str) != Some(name));
        let found = index.manifests.len() < before;
        if found {
            self.write_index(&index)?;
        }
        Ok(found)
    }

    /// By a name (`nginx`, `nginx:1`, `nginx@sha256:..`), by a manifest's digest, or by the first digits of an id.
    pub fn find(&self, text: &str) -> Result<Image> {
        let names = self.names()?;
        let digest = match Digest::parse(text) {
            Ok(digest) => self.by_digest(&digest, &names)?,
            Err(_) => match self.by_name(text, &names)? {
                Some(digest) => digest,
                None => self.by_prefix(text, &names)?,
            },
        };
        self.image(&digest, &names)
    }

    fn by_digest(&self, digest: &Digest, names: &[Name]) -> Result<Digest> {
        if self.has_blob(digest) && self.manifest(digest).is_ok() {
            return Ok(digest.clone());
        }
        self.by_prefix(digest.hex(), names)
    }

    fn by_name(&self, text: &str, names: &[Name]) -> Result<Option<Digest>> {
        let Ok(reference) = Reference::parse(text) else { return Ok(None) };
        let full = reference.to_string();
        let named = || names.iter().find(|name| name.reference == full).map(|name| name.manifest.clone());
        // Whatever a name says, a digest is that of the image, or of an index: then the image was pulled by it, and has it in
        // its name.
        let pinned = reference.digest().filter(|digest| self.manifest(digest).is_ok());
        Ok(pinned.cloned().or_else(named))
    }

    fn by_prefix(&self, text: &str, names: &[Name]) -> Result<Digest> {
        let none = || {
            let doing = format!("there is no image {text:?} in {}", self.path().display());
            Error::new(Kind::NotFound, doing, "it was neither pulled nor imported")
                .hint("`sampan-image list` shows what is there, `sampan-image pull` gets it")
        };
        let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        if text.len() < PREFIX_MIN || !digits {
            return Err(none());
        }
        let mut found: Vec<&Digest> = Vec::new();
        for name in names {
            let id = || self.manifest(&name.manifest).map(|m| m.config.digest.hex().starts_with(text));
            if (name.manifest.hex().starts_with(text) || id().unwrap_or(false))
                && !found.contains(&&name.manifest)
            {
                found.push(&name.manifest);
            }
        }
        match found[..] {
            [] => Err(none()),
            [one] => Ok(one.clone()),
            _ => {
                let why = format!("{} images begin so", found.len());
                Err(Error::new(Kind::Usage, format!("{text:?} is not one image"), why)
                    .hint("give more digits"))
            }
        }
    }

    pub(crate) fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        match Document::parse(&self.read_document(digest)?, "")? {
            Document::Manifest(manifest) => Ok(manifest),
            Document::Index(_) => {
                Err(Error::bad(format!("{digest} is no image"), "it is an index of images"))
            }
        }
    }

    /// All of an image that is here.
    fn image(&self, digest: &Digest, names: &[Name]) -> Result<Image> {
        let manifest = self.manifest(digest)?;
        let document = ConfigDocument::parse(&self.read_document(&manifest.config.digest)?)?;
        let chain = ChainId::of(&document.diff_ids);
        let names = names.iter().filter(|name| name.manifest == *digest);
        let names = names.map(|name| name.reference.clone()).collect();
        Ok(Image { names, digest: digest.clone(), manifest, document, chain })
    }

    /// Where the layers of an image are, lowest first. All must be there.
    pub fn layers(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for chain in &image.chain {
            if !self.has_layer(chain) {
                let doing = format!("the image {} is not whole", image.digest.short());
                return Err(Error::new(Kind::NotFound, doing, format!("its layer {chain} is not unpacked"))
                    .hint("pull or import it again"));
            }
            paths.push(self.layer_path(chain));
        }
        Ok(paths)
    }
}

//! OCI layouts: a folder, or the same as an archive.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Found, full_name};
use crate::digest::Digest;
use crate::documents::{Descriptor, Document, IMAGE_NAME, Index, Platform, REF_NAME, parse};
use crate::error::{Error, Result};
use crate::get::Source;
use crate::limits::DOCUMENT_BYTES;

/// An index of indexes of indexes is nobody's.
const DEPTH_MAX: u32 = 4;
const IMAGES_MAX: usize = 1_000;

pub struct Layout {
    path: PathBuf,
}

impl Layout {
    pub fn open(path: &Path) -> Result<Layout> {
        if !path.join("index.json").is_file() {
            let hint = "a root file system by itself is no image: `rootfs` of a service names one";
            return Err(Error::bad("it is no image", "the folder has no index.json").hint(hint));
        }
        Ok(Layout { path: path.to_owned() })
    }

    pub fn images(&self, platform: &Platform) -> Result<Vec<Found>> {
        let index = self.read(&self.path.join("index.json"))?;
        images(&index, platform, &|digest| {
            let bytes = self.read(&self.blob(digest))?;
            let mut hasher = digest.hasher();
            hasher.update(&bytes);
            let found = hasher.finish();
            if found == *digest { Ok(bytes) } else { Err(wrong(digest, &found)) }
        })
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs").join(digest.algorithm()).join(digest.hex())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        file.take(DOCUMENT_BYTES + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
        Ok(bytes)
    }
}

fn wrong(digest: &Digest, found: &Digest) -> Error {
    Error::bad(format!("{digest} is not what its digest says"), format!("its digest is {found}"))
}

impl Source for Layout {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let path = self.blob(&blob.digest);
        let mut file = File::open(&path).map_err(|e| Error::io("open", &path, e))?;
        let length = file.metadata().map_err(|e| Error::io("look at", &path, e))?.len();
        if length != blob.size {
            let why = format!("it has {length} bytes, and the manifest says {}", blob.size);
            return Err(Error::bad(format!("cannot use {}", path.display()), why));
        }
        file.seek(SeekFrom::Start(offset)).map_err(|e| Error::io("read", &path, e))?;
        Ok(Box::new(file))
    }
}

/// Those that an index names, each with the names it has there. Of an image for several platforms, this one's.
pub fn images(
    index: &[u8],
    platform: &Platform,
    read: &dyn Fn(&Digest) -> Result<Vec<u8>>,
) -> Result<Vec<Found>> {
    let index: Index = parse(index, "index.json")?;
    if index.manifests.len() > IMAGES_MAX {
        return Err(Error::bad("cannot read index.json", "it names more than 1,000 images"));
    }
    let mut found: Vec<(Digest, Found)> = Vec::new();
    // An index of one image for several platforms, without a name of its own.
    let is_one = index.manifests.len() > 1
        && index.manifests.iter().all(|d| d.platform.is_some() && names(d).is_empty());
    let chosen: Vec<&Descriptor> =
        if is_one { vec![index.choose(platform)?] } else { index.manifests.iter().collect() };
    for descriptor in chosen {
        let manifest = manifest(descriptor, platform, read, 0)?;
        let digest = Digest::of(&manifest);
        match found.iter_mut().find(|(known, _)| *known == digest) {
            Some((_, known)) => known.names.extend(names(descriptor)),
            None => found.push((digest, Found { names: names(descriptor), manifest })),
        }
    }
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

/// containerd's annotation has it in full, OCI's own may be a tag alone.
fn names(descriptor: &Descriptor) -> Vec<String> {
    let given = [IMAGE_NAME, REF_NAME].iter().filter_map(|key| descriptor.annotations.get(*key));
    given.filter_map(|name| full_name(name)).take(1).collect()
}

fn manifest(
    descriptor: &Descriptor,
    platform: &Platform,
    read: &dyn Fn(&Digest) -> Result<Vec<u8>>,
    depth: u32,
) -> Result<Vec<u8>> {
    let bytes = read(&descriptor.digest)?;
    match Document::parse(&bytes, &descriptor.media_type)? {
        Document::Manifest(_) => Ok(bytes),
        Document::Index(_) if depth >= DEPTH_MAX => {
            Err(Error::bad("cannot read the index", "indexes in indexes, without end"))
        }
        Document::Index(index) => manifest(index.choose(platform)?, platform, read, depth + 1),
    }
}

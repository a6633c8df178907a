//! What `docker save` wrote before version 25: manifest.json, a config, and a tar for each layer.

use serde::Deserialize;

use super::archive::Files;
use super::{Found, full_name};
use crate::documents::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, parse};
use crate::error::{Error, Result};
use crate::store::Whole;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default, deserialize_with = "crate::documents::or_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "crate::documents::or_default")]
    layers: Vec<String>,
}

impl Files {
    pub fn docker(&self) -> Result<Vec<Found>> {
        if !self.has("manifest.json") {
            let why = "the archive has neither index.json nor manifest.json";
            let hint = "a root file system by itself is no image: `rootfs` of a service names one";
            return Err(Error::bad("it is no image", why).hint(hint));
        }
        let images: Vec<Saved> = parse(&self.document("manifest.json")?, "manifest.json")?;
        images.iter().map(|image| self.saved(image)).collect()
    }

    /// Its manifest is ours to write: docker's archive has none.
    fn saved(&self, image: &Saved) -> Result<Found> {
        let descriptor = |file: &Whole, media_type: &str| Descriptor {
            media_type: media_type.to_owned(),
            digest: file.digest().clone(),
            size: file.size(),
            platform: None,
            annotations: Default::default(),
        };
        let layers: Result<Vec<Descriptor>> =
            image.layers.iter().map(|name| self.file(name).map(|file| descriptor(file, OCI_LAYER))).collect();
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            config: descriptor(self.file(&image.config)?, OCI_CONFIG),
            layers: layers?,
        };
        let names = image.repo_tags.iter().filter_map(|name| full_name(name)).collect();
        let manifest =
            serde_json::to_vec(&manifest).map_err(|e| Error::bad("cannot write the manifest", e))?;
        Ok(Found { names, manifest })
    }
}

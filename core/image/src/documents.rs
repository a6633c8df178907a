//! The JSON documents of images, docker's and OCI's: an index leads to manifests, a manifest to a config and layers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;
use crate::error::{Error, Kind, Result};
use crate::limits::DOCUMENT_BYTES;

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The annotations by which an OCI layout names its images.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub const IMAGE_NAME: &str = "io.containerd.image.name";

/// Content by its digest, and what it must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(deserialize_with = "or_default")]
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    #[serde(deserialize_with = "or_default")]
    pub manifests: Vec<Descriptor>,
}

/// What a manifest's place has.
#[derive(Debug, Clone)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    media_type: String,
    schema_version: u32,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// By its media type: its own, else that which it came with, else what is in it. Never both (CVE-2021-41190).
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Document> {
        let wrong = |why: &str| Error::bad("cannot read the manifest", why);
        let probe: Probe = parse(bytes, "the manifest")?;
        if probe.manifests.is_some() && probe.config.is_some() {
            return Err(wrong("it is an index and a manifest at once"));
        }
        if probe.schema_version != 2 {
            let hint = "push it again with docker 1.10 or newer, or convert it with `skopeo copy`";
            let why = format!("its schema version is {}, and only 2 is supported", probe.schema_version);
            return Err(wrong(&why).hint(hint));
        }
        let said = if probe.media_type.is_empty() { media_type } else { &probe.media_type };
        let is_index = match said.split(';').next().unwrap_or_default().trim() {
            OCI_INDEX | DOCKER_INDEX => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => probe.manifests.is_some(),
        };
        Ok(if is_index {
            Document::Index(parse(bytes, "the index")?)
        } else {
            Document::Manifest(parse(bytes, "the manifest")?)
        })
    }
}

/// JSON of this type, within the limit.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    if bytes.len() as u64 > DOCUMENT_BYTES {
        return Err(Error::bad(format!("cannot read {what}"), "it is larger than 8 MiB"));
    }
    serde_json::from_slice(bytes).map_err(|e| Error::bad(format!("cannot read {what}"), e))
}

/// docker writes null for what is empty.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl Platform {
    /// This machine's, in Go's words.
    #[must_use]
    pub fn host() -> Platform {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform { architecture: architecture.into(), os: "linux".into(), variant: None }
    }

    /// `linux/arm64/v8`, `arm64`.
    pub fn parse(text: &str) -> Result<Platform> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => ("", "", None),
        };
        if os.is_empty() || architecture.is_empty() {
            let why = "it is os/architecture, as linux/arm64";
            return Err(Error::new(Kind::Usage, format!("{text:?} is no platform"), why));
        }
        Ok(Platform { architecture: architecture.into(), os: os.into(), variant })
    }

    /// Can what is made for `other` run here? A variant counts where both say one.
    #[must_use]
    pub fn runs(&self, other: &Platform) -> bool {
        let variant = match (&self.variant, &other.variant) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.os == other.os && self.architecture == other.architecture && variant
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl Index {
    /// The image for this platform, or who it is for.
    pub fn choose(&self, platform: &Platform) -> Result<&Descriptor> {
        let runs = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| platform.runs(p));
        if let Some(found) = self.manifests.iter().find(runs) {
            return Ok(found);
        }
        if let [only] = &self.manifests[..]
            && only.platform.is_none()
        {
            return Ok(only);
        }
        // What buildkit attests is under "unknown/unknown".
        let known = self.manifests.iter().filter_map(|d| d.platform.as_ref());
        let known: Vec<String> = known.filter(|p| p.os != "unknown").map(|p| p.to_string()).collect();
        let has = if known.is_empty() { "nothing".into() } else { known.join(", ") };
        Err(Error::bad(format!("the image is not for {platform}"), format!("it is for {has}"))
            .hint("--platform takes another one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let manifests = platforms.iter().map(|p| Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest: Digest::of(p.as_bytes()),
            size: 2,
            platform: Platform::parse(p).ok(),
            annotations: BTreeMap::new(),
        });
        Index { schema_version: 2, media_type: String::new(), manifests: manifests.collect() }
    }

    #[test]
    fn an_index_has_an_image_for_a_platform_or_says_for_which() {
        let index = index(&["linux/amd64", "linux/arm64/v8", "unknown/unknown"]);
        let arm = Platform::parse("linux/arm64").unwrap();
        assert_eq!(index.choose(&arm).unwrap().digest, Digest::of(b"linux/arm64/v8"));
        let said = index.choose(&Platform::parse("riscv64").unwrap()).unwrap_err().to_string();
        assert_eq!(
            said,
            "the image is not for linux/riscv64: it is for linux/amd64, linux/arm64/v8 (--platform takes another one)"
        );
    }

    #[test]
    fn one_document_is_one_thing() {
        let both = br#"{"schemaVersion": 2, "manifests": [], "config": {}, "layers": []}"#;
        assert!(Document::parse(both, OCI_INDEX).unwrap_err().to_string().contains("at once"));
        let old = br#"{"schemaVersion": 1, "name": "x"}"#;
        assert!(Document::parse(old, "").unwrap_err().to_string().contains("skopeo copy"));
        let null = br#"{"schemaVersion": 2, "manifests": null}"#;
        assert!(matches!(Document::parse(null, OCI_INDEX).unwrap(), Document::Index(_)));
    }
}

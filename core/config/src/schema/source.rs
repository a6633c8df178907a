//! What a service runs on: a root of somebody's, a bundle, an image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Rootfs(Rootfs),
    Bundle(PathBuf),
    Image(Image),
}

impl Source {
    /// How its root is written to; a bundle says that itself.
    pub fn mode(&self) -> Option<RootMode> {
        match self {
            Source::Rootfs(rootfs) => Some(rootfs.mode),
            Source::Image(image) => Some(image.mode),
            Source::Bundle(_) => None,
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        match self {
            Source::Rootfs(rootfs) => map.serialize_entry("rootfs", rootfs)?,
            Source::Bundle(folder) => map.serialize_entry("bundle", folder)?,
            Source::Image(Image { reference, pull, mode }) => {
                map.serialize_entry("image", reference)?;
                map.serialize_entry("pull", pull)?;
                map.serialize_entry("rootfs", &BTreeMap::from([("mode", mode)]))?;
            }
        }
        map.end()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As it was written: `nginx`, `registry.example.org/app@sha256:..`.
    pub reference: String,
    pub pull: Pull,
    pub mode: RootMode,
}

/// When an image is asked for at its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    Missing,
    Always,
    Never,
}

/// `rootfs = "host"` is `{ path = "/", mode = "ro" }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rootfs {
    pub path: PathBuf,
    pub mode: RootMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootMode {
    Ro,
    Rw,
    Scratch,
}

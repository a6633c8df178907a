//! What of the host's files a container has: volumes, tmpfs, secrets.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// A bind mount.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Volume {
    pub source: VolumeSource,
    pub target: String,
    pub read_only: bool,
    /// Beyond rbind, rprivate, nosuid, nodev.
    pub options: Vec<String>,
    /// Make a missing source a folder.
    pub create: bool,
    /// A named one that is made stays empty, whatever the image has there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nocopy: bool,
    /// What SELinux is to call it; nothing where it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Relabel>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum VolumeSource {
    /// Absolute.
    Path(PathBuf),
    /// Of `[volumes]`, with its name.
    Named(String, NamedVolume),
}

impl VolumeSource {
    pub fn path(&self) -> &Path {
        match self {
            VolumeSource::Path(path) => path,
            VolumeSource::Named(_, volume) => &volume.path,
        }
    }
}

impl Serialize for VolumeSource {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            VolumeSource::Path(path) => path.serialize(s),
            VolumeSource::Named(name, _) => name.serialize(s),
        }
    }
}

/// docker's `z` and `Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Relabel {
    #[serde(rename = "z")]
    Shared,
    #[serde(rename = "Z")]
    Private,
}

/// `[volumes.X]`: a folder that no `down` and no `apply` removes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedVolume {
    pub path: PathBuf,
    /// These three when it is made, and never again. None: as the image's folder has it that is filled in, or else 0, 0, 0755.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "super::text::some_mode")]
    pub mode: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Tmpfs {
    pub target: String,
    pub size: Option<u64>,
    pub mode: Option<u32>,
    pub options: Vec<String>,
}

/// `[secrets.X]`: where the text comes from, which is read at each start and nowhere kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Secret {
    #[serde(flatten)]
    pub source: SecretSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    File(PathBuf),
    /// A variable of sampand's own environment.
    Environment(String),
    /// What a program of the host prints.
    Command(Vec<String>),
}

/// A secret as a file in a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecretUse {
    /// Its name in `[secrets]`.
    pub source: String,
    #[serde(skip)]
    pub secret: Secret,
    /// Absolute.
    pub target: String,
    #[serde(serialize_with = "super::text::mode")]
    pub mode: u32,
    /// None = the service's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

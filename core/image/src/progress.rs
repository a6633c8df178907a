//! How far the work is, for whoever shows it.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Kind;

/// What happens to the content of this digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was here before.
    Present,
    /// Somebody else is getting it; we wait for them.
    Waiting,
    Fetching,
    /// The way to the registry broke; it is asked again, from where it broke.
    Retrying,
    /// A layer is being unpacked from a blob that is here.
    Unpacking,
    Done,
}

/// Called from several threads at once.
pub trait Progress: Send + Sync {
    /// The work as a whole: the sizes of all blobs.
    fn total(&self, _blobs: usize, _bytes: u64) {}
    fn stage(&self, _what: &Digest, _size: u64, _stage: Stage) {}
    /// So many bytes of it are here.
    fn bytes(&self, _what: &Digest, _done: u64) {}
    /// For the user to know: what was left out, what is tried again.
    fn note(&self, _text: &str) {}
}

/// Says nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {}

/// What `sampan-image --progress json` prints, a line each. The last one is an `image` for each that came in, or an `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Line {
    /// Bytes of all blobs.
    Progress {
        done: u64,
        total: u64,
    },
    Note {
        text: String,
    },
    Image {
        names: Vec<String>,
        digest: Digest,
    },
    Error {
        kind: Kind,
        text: String,
    },
}

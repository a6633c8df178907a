//! What an image may cost at most: a bomb is refused long before the disk is full.

/// Of one layer, unless it says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that are written for all files of a layer, and bytes of its archive.
    pub bytes: u64,
    /// Files, folders, links.
    pub entries: u64,
    /// How many times larger than its blob a layer may be, once it is larger than [`RATIO_FROM`].
    pub ratio: u64,
    /// Layers of an image.
    pub layers: usize,
}

/// Small layers may be as empty as they like: a file of zeros packs a thousandfold.
pub const RATIO_FROM: u64 = 256 << 20;
/// Of a manifest, an index, an image's config.
pub const DOCUMENT_BYTES: u64 = 8 << 20;
/// A path in a layer, and a link's target: the kernel's own limit.
pub const PATH_BYTES: usize = 4095;
/// All PAX records of one entry.
pub const PAX_BYTES: u64 = 1 << 20;
/// What waits until the layers below are there: hard links to them, folders that are only on the way.
pub const DEFERRED: usize = 1 << 16;

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 64 << 30, entries: 2_000_000, ratio: 200, layers: 500 }
    }
}

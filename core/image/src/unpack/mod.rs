//! A layer's archive -> its folder. What a stranger has put into the archive decides names, kinds and contents of what is
//! made below that folder, and nothing else.
//!
//! | in the archive | what becomes of it |
//! |---|---|
//! | names with `..`, absolute ones | counted from the layer's root; one that leads out of it refuses the layer |
//! | links | made as they are; whoever looks something up in the layer stays in it |
//! | devices | left out: a container has its own /dev |
//! | hard links | to what this layer has; to what a layer below has: a copy of it |
//! | `.wh.NAME`, `.wh..wh..opq` | overlayfs's own whiteouts and opaque folders |
//! | xattrs | user.*, security.capability, ACLs; those that overlayfs obeys, and others, are left out |
//! | more than [`Limits`](crate::limits::Limits), with all layers of the image | refuses the image |

mod below;
mod folders;
mod frames;
mod member;
mod path;
mod stream;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sampan_journal::crash;

pub(crate) use below::{copy_data, each_piece, find, look_like};
pub(crate) use folders::{fd_path, times};
pub use stream::{Unpacked, ahead};

use self::folders::Folders;
pub use self::path::Place;
use crate::error::{Error, Result};
use crate::limits::{DEFERRED, DEFERRED_BYTES, Share};
use crate::tar::{Archive, show};

/// A layer on its way into a folder.
#[derive(Debug)]
pub struct Unpack {
    folders: Folders,
    share: Arc<Share>,
    /// There are layers below.
    is_above: bool,
    /// Ids can be given: else all is ours.
    is_root: bool,
    /// Hard links to layers below, from and to.
    links: Vec<(Place, Place)>,
    /// Folders that were only on the way to a member, until they are one.
    on_the_way: BTreeSet<PathBuf>,
    /// Of the paths of both.
    deferred_bytes: usize,
    left_out: LeftOut,
    buffer: Vec<u8>,
}

/// Counted, to be told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    pub devices: u64,
    pub xattrs: u64,
}

impl Unpack {
    /// `is_above`: it is not the lowest layer.
    pub fn new(folder: &Path, is_above: bool, share: &Arc<Share>) -> Result<Unpack> {
        Ok(Unpack {
            folders: Folders::new(folder)?,
            share: Arc::clone(share),
            is_above,
            is_root: rustix::process::geteuid().is_root(),
            links: Vec::new(),
            on_the_way: BTreeSet::new(),
            deferred_bytes: 0,
            left_out: LeftOut::default(),
            buffer: vec![0; 128 << 10],
        })
    }

    /// All members of the archive.
    pub fn all<R: Read>(&mut self, archive: &mut Archive<R>) -> Result<()> {
        while let Some(entry) = archive.member()? {
            self.share.entry()?;
            self.member(archive, &entry).map_err(|e| {
                let of_it = e.to_string().contains(&show(&entry.path));
                if of_it { e } else { e.within(format!("cannot unpack {}", show(&entry.path))) }
            })?;
            crash::point("a member is unpacked");
        }
        self.folders.settle();
        Ok(())
    }

    /// Must the layers below be there before [`Unpack::finish`]?
    #[must_use]
    pub fn needs_lower(&self) -> bool {
        !self.links.is_empty() || !self.on_the_way.is_empty()
    }

    /// With the layers below, the nearest first.
    pub fn finish(mut self, lower: &[PathBuf]) -> Result<LeftOut> {
        for (from, to) in std::mem::take(&mut self.links) {
            self.folders.settle();
            self.copy_up(lower, &from, &to)?;
        }
        self.folders.settle();
        // Those within before those around them, which may be closed to us then.
        for path in std::mem::take(&mut self.on_the_way).iter().rev() {
            self.like_below(lower, path)?;
        }
        Ok(self.left_out)
    }

    fn defer(&mut self, from: Place, to: Place) -> Result<()> {
        let bytes = from.bytes() + to.bytes();
        self.links.push((from, to));
        self.deferred(bytes)
    }

    /// A folder that is only on the way.
    fn passes(&mut self, path: PathBuf) -> Result<()> {
        let bytes = path.as_os_str().len();
        let more = if self.on_the_way.insert(path) { bytes } else { 0 };
        self.deferred(more)
    }

    /// A folder says itself now what it is like.
    fn arrives(&mut self, path: &Path) {
        if self.on_the_way.remove(path) {
            self.deferred_bytes = self.deferred_bytes.saturating_sub(path.as_os_str().len());
        }
    }

    /// How much waits for the layers below.
    fn deferred(&mut self, more_bytes: usize) -> Result<()> {
        self.deferred_bytes += more_bytes;
        if self.links.len() + self.on_the_way.len() > DEFERRED || self.deferred_bytes > DEFERRED_BYTES {
            let why = "too many of its hard links and folders are those of layers below";
            return Err(Error::bad("the layer is refused", why));
        }
        Ok(())
    }
}

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
mod member;
mod path;
mod stream;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sampan_journal::crash;

pub(crate) use below::{find, look_like};
pub(crate) use folders::fd_path;
pub use stream::Unpacked;

use self::folders::Folders;
pub use self::path::Place;
use crate::error::{Error, Result};
use crate::limits::{DEFERRED, Share};
use crate::tar::{Archive, show};

/// A layer on its way into a folder.
#[derive(Debug)]
pub struct Unpack {
    folders: Folders,
    share: Rc<Share>,
    /// There are layers below.
    is_above: bool,
    /// Ids can be given: else all is ours.
    is_root: bool,
    later: Vec<Later>,
    left_out: LeftOut,
    buffer: Vec<u8>,
}

/// What the layers below must be there for.
#[derive(Debug)]
enum Later {
    HardLink { from: Place, to: Place },
    Folder(PathBuf),
}

/// Counted, to be told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    pub devices: u64,
    pub xattrs: u64,
}

impl Unpack {
    /// `is_above`: it is not the lowest layer.
    pub fn new(folder: &Path, is_above: bool, share: &Rc<Share>) -> Result<Unpack> {
        Ok(Unpack {
            folders: Folders::new(folder)?,
            share: Rc::clone(share),
            is_above,
            is_root: rustix::process::geteuid().is_root(),
            later: Vec::new(),
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
        !self.later.is_empty()
    }

    /// With the layers below, the nearest first.
    pub fn finish(mut self, lower: &[PathBuf]) -> Result<LeftOut> {
        for later in std::mem::take(&mut self.later) {
            self.folders.settle();
            match later {
                Later::HardLink { from, to } => self.copy_up(lower, &from, &to)?,
                Later::Folder(path) => self.like_below(lower, &path)?,
            }
        }
        self.folders.settle();
        Ok(self.left_out)
    }

    fn defer(&mut self, later: Later) -> Result<()> {
        if self.later.len() >= DEFERRED {
            let why = "too many of its hard links and folders are those of layers below";
            return Err(Error::bad("the layer is refused", why));
        }
        self.later.push(later);
        Ok(())
    }
}

#![forbid(unsafe_code)]
//! A new file system by mount(2), for options that are longer than the 255 bytes which fsconfig(2) takes: an overlay of many
//! layers has such.
//!
//! ```text
//!   mount(2) over our own / -> "/..", which is what lies on top there -> a detached clone -> the first is let go
//! ```
//! mount(2) attaches what it makes at a path, and the target is no path but a descriptor: so it goes where nobody else looks, in
//! our own mount namespace, above what has no peers any more.

use crate::image::Strings;
use crate::sys::{self, Call, Fault, Fd, Result, uapi};
use crate::targets;

/// A page: mount(2) reads no more.
const LONGEST: usize = 4096;

/// What the superblock is told with bits and not with words.
const BITS: [(&[u8], usize); 6] = [
    (b"ro\0", 1),
    (b"sync\0", 16),
    (b"mand\0", 64),
    (b"dirsync\0", 128),
    (b"iversion\0", 1 << 23),
    (b"lazytime\0", 1 << 25),
];

/// The same list that `mounts::configure` takes, as a detached mount. `covered`: the mode that its top gets.
pub(crate) fn mounted(
    options: Strings<'_>,
    kind: &[u8],
    covered: Option<u32>,
    attributes: u32,
) -> Result<Fd> {
    let mut text = Joined { bytes: [0; LONGEST], length: 0 };
    let (mut source, mut bits): (&[u8], usize) = (b"none\0", 0);
    let mut options = options;
    while let Some(option) = options.next() {
        match option.split_first() {
            Some((b'f', key)) => match BITS.iter().find(|(name, _)| *name == key) {
                Some((_, bit)) => bits |= bit,
                None => text.add(key, None)?,
            },
            Some((_, b"source\0")) => source = options.next().unwrap_or(source),
            Some((_, key)) => text.add(key, options.next())?,
            None => {}
        }
    }
    sys::mount_on_root(source, kind, bits, &text.bytes)?;
    let made = sys::openat(uapi::AT_FDCWD, b"/..\0", uapi::O_PATH | uapi::O_DIRECTORY, 0)?;
    let tree = sys::clone_tree(made, false)?;
    targets::in_directory(made, || {
        if let Some(mode) = covered {
            sys::fchmodat(made, b".\0", mode & 0o7777)?;
        }
        sys::detach(b".\0")
    })?;
    sys::close(made);
    sys::set_attributes(tree, attributes, 0, false)?;
    Ok(tree)
}

/// `NAME=VALUE,NAME,..`, with zeros after it.
struct Joined {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Joined {
    fn add(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let comma: &[u8] = if self.length == 0 { b"" } else { b"," };
        let equals: &[u8] = if value.is_some() { b"=" } else { b"" };
        for part in [comma, key, equals, value.unwrap_or(b"")] {
            for byte in part.iter().filter(|byte| **byte != 0) {
                // The last one stays zero.
                let place = self.bytes.get_mut(self.length).filter(|_| self.length.wrapping_add(1) < LONGEST);
                *place.ok_or(Fault::new(Call::mount, uapi::ENAMETOOLONG))? = *byte;
                self.length = self.length.wrapping_add(1);
            }
        }
        Ok(())
    }
}

//! Names in an archive: what they mean below a layer's root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::tar::show;

/// The kernel's limit for one part.
const PART_BYTES: usize = 255;

/// A place below the root, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `a/b/c`; empty: the root itself.
    path: Vec<u8>,
}

impl Place {
    /// Absolute names count from the root. `..` takes the part before it away, and is refused where there is none.
    pub fn parse(name: &[u8]) -> Result<Place> {
        let refused = |why: &str| Error::bad("the layer is refused", format!("{}: {why}", show(name)));
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in name.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or_else(|| refused("its name leads out of the layer"))?;
                }
                part if part.len() > PART_BYTES => {
                    return Err(refused("a part of its name is longer than 255 bytes"));
                }
                part => parts.push(part),
            }
        }
        Ok(Place { path: parts.join(&b'/') })
    }

    /// How long it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.path.len()
    }

    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        if self.is_root() { Path::new(".") } else { as_path(&self.path) }
    }

    /// The folder and the name in it.
    #[must_use]
    pub fn split(&self) -> (&Path, &OsStr) {
        match self.path.iter().rposition(|b| *b == b'/') {
            Some(slash) => {
                let (folder, name) = self.path.split_at(slash);
                (as_path(folder), OsStr::from_bytes(name.get(1..).unwrap_or_default()))
            }
            None => (Path::new(""), OsStr::from_bytes(&self.path)),
        }
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_place_below_the_root_or_none() {
        for (name, path) in [
            ("./", "."),
            ("/", "."),
            ("a", "a"),
            ("/etc//passwd", "etc/passwd"),
            ("./a/./b/", "a/b"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
        ] {
            assert_eq!(Place::parse(name.as_bytes()).unwrap().path(), Path::new(path), "{name}");
        }
        for name in ["..", "../x", "a/../../x", "/../x", &"x".repeat(256)] {
            assert!(Place::parse(name.as_bytes()).is_err(), "{name}");
        }
    }
}

//! What a container sees in the overlay of its layers, without mounting it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, open, readlinkat};

use crate::error::{Error, Result};
use crate::unpack::{fd_path, find};

/// As the kernel's.
const LINKS_MAX: u32 = 40;

#[derive(Debug, Clone)]
pub struct View {
    /// The nearest first.
    layers: Vec<PathBuf>,
}

/// Where a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// As far as it exists: below the root, without links.
    pub path: PathBuf,
    /// What it is; nothing for the root.
    pub kind: Option<FileType>,
    /// The parts that do not exist.
    pub missing: Vec<OsString>,
}

impl View {
    /// Of layers as an image has them, the lowest first.
    #[must_use]
    pub fn new(layers: &[PathBuf]) -> View {
        View { layers: layers.iter().rev().cloned().collect() }
    }

    /// Through links, which lead on from the root or from where they are.
    pub fn walk(&self, path: &Path) -> Result<Whereabouts> {
        let mut todo = parts(path);
        let mut at = Whereabouts { path: PathBuf::new(), kind: None, missing: Vec::new() };
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                at.path.pop();
                at.kind = None;
                continue;
            }
            if at.kind.is_some_and(|kind| kind != FileType::Directory) {
                let why = format!("/{} is no folder", at.path.display());
                return Err(Error::bad(format!("cannot look up {} in the image", path.display()), why));
            }
            let next = at.path.join(&part);
            let Some((fd, stat)) = find(&self.layers, &next, &|| Ok(()))? else {
                todo.push(part);
                todo.reverse();
                at.missing = todo;
                return Ok(at);
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind != FileType::Symlink {
                (at.path, at.kind) = (next, Some(kind));
                continue;
            }
            links += 1;
            if links > LINKS_MAX {
                let doing = format!("cannot look up {} in the image", path.display());
                return Err(Error::bad(doing, "its links lead on without end"));
            }
            let target = readlinkat(&fd, "", Vec::new()).map_err(|e| Error::io("read the link", &next, e))?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                (at.path, at.kind) = (PathBuf::new(), None);
            }
            todo.extend(parts(&target));
        }
        Ok(at)
    }

    /// A file's text, if there is a file: its first `max` bytes.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
        let at = self.walk(path)?;
        if at.kind != Some(FileType::RegularFile) || !at.missing.is_empty() {
            return Ok(None);
        }
        let Some((fd, _)) = self.find(&at.path)? else { return Ok(None) };
        let fail = |e: std::io::Error| Error::io("read the image's", path, e);
        let file = open(fd_path(&fd), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut text = Vec::new();
        File::from(file.map_err(|e| fail(e.into()))?).take(max).read_to_end(&mut text).map_err(fail)?;
        Ok(Some(text))
    }

    pub(super) fn find(&self, path: &Path) -> Result<Option<(OwnedFd, Stat)>> {
        find(&self.layers, path, &|| Ok(()))
    }
}

/// The last first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    let mut parts: Vec<OsString> = path.components().filter_map(part).collect();
    parts.reverse();
    parts
}

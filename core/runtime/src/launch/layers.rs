//! The overlay of a root of layers (plan/layers.rs), detached: nobody sees it before the child attaches it.
//!
//! Layers are handed to overlayfs as descriptors (Linux 6.13): no path is resolved twice, and none needs an escape. Before that
//! they are paths, each by itself (6.5). Ids are mapped on private clones of the layers, which overlayfs takes where they are
//! attached to nothing from 6.15 on.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};
use sampan_plan::slots::IdMap;

use crate::error::{Errno, Error, Result};
use crate::launch::idmap::UserNamespaces;

/// What the slot says.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The lowest first.
    pub lower: &'a [String],
    pub upper: Option<&'a str>,
    pub in_user_namespace: bool,
    pub idmap: Option<&'a IdMap>,
    pub field: &'a str,
}

impl Wanted<'_> {
    pub fn overlay(&self, namespaces: &mut UserNamespaces) -> Result<OwnedFd> {
        let mut layers = Vec::new();
        for path in self.lower {
            layers.push(self.layer(path, namespaces)?);
        }
        // overlayfs wants two, if nothing is written.
        if let ([_], [path], None) = (&layers[..], self.lower, self.upper) {
            return self.clone_of(path, namespaces);
        }
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|e| self.failed("cannot make an overlay", "fsopen", e))?;
        let made = self.configure(&fs, &layers);
        made.map_err(|e| match said(&fs) {
            said if said.is_empty() => e,
            said => e.likely(said),
        })?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(|e| self.failed("cannot mount the overlay", "fsmount", e))
    }

    fn configure(&self, fs: &OwnedFd, layers: &[OwnedFd]) -> Result<()> {
        let set = |e| self.failed("cannot make the overlay of the root's layers", "fsconfig", e);
        fsconfig_set_string(fs, "source", "overlay").map_err(set)?;
        for (layer, path) in layers.iter().zip(self.lower).rev() {
            self.add(fs, layer.as_fd(), path)?;
        }
        if let Some(upper) = self.upper {
            // As it is on disk: overlayfs makes files there as whoever makes the overlay, whom a map does not know. So what is
            // written has the host's ids of the container's users.
            for (key, name) in [("upperdir", "upper"), ("workdir", "work")] {
                let path = format!("{upper}/{name}");
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = open(path.as_str(), flags, Mode::empty())
                    .map_err(|e| self.failed(&format!("cannot open {path}"), "open", e))?;
                match fsconfig_set_fd(fs, key, inner.as_fd()) {
                    Err(Errno::INVAL) => fsconfig_set_string(fs, key, path.as_str()).map_err(set)?,
                    other => other.map_err(set)?,
                }
            }
        }
        if self.in_user_namespace {
            fsconfig_set_flag(fs, "userxattr").map_err(set)?;
        }
        fsconfig_create(fs).map_err(set)
    }

    fn add(&self, fs: &OwnedFd, layer: BorrowedFd<'_>, path: &str) -> Result<()> {
        match fsconfig_set_fd(fs, "lowerdir+", layer) {
            // A kernel that takes paths.
            Err(Errno::INVAL) if self.idmap.is_none() => {
                fsconfig_set_string(fs, "lowerdir+", path).map_err(|e| {
                    let problem = format!("cannot take {path} as a layer");
                    self.failed(&problem, "fsconfig", e).likely("roots of layers need Linux 6.5")
                })
            }
            other => other.map_err(|e| {
                let error = self.failed(&format!("cannot take {path} as a layer"), "fsconfig", e);
                if self.idmap.is_some() {
                    error.likely("in a user namespace roots of layers need Linux 6.15")
                } else {
                    error
                }
            }),
        }
    }

    /// To be looked at by overlayfs alone: with its ids mapped it is a mount of its own.
    fn layer(&self, path: &str, namespaces: &mut UserNamespaces) -> Result<OwnedFd> {
        if self.idmap.is_some() {
            return self.clone_of(path, namespaces);
        }
        open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| self.failed(&format!("cannot open the layer {path}"), "open", e))
    }

    fn clone_of(&self, path: &str, namespaces: &mut UserNamespaces) -> Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(rustix::fs::CWD, path, flags)
            .map_err(|e| self.failed(&format!("cannot clone the layer {path}"), "open_tree", e))?;
        if let Some(map) = self.idmap {
            namespaces.apply(tree.as_fd(), path, map)?;
        }
        Ok(tree)
    }

    fn failed(&self, problem: &str, call: &'static str, errno: Errno) -> Error {
        Error::new(problem.to_owned()).field(self.field.to_owned()).call(call, errno)
    }
}

/// A layer by itself, without an overlay that would keep it as it is.
pub fn read_only(tree: BorrowedFd<'_>) -> Result<()> {
    sampan_child::sys::set_attributes(tree.as_raw_fd(), sampan_child::sys::uapi::MOUNT_ATTR_RDONLY, 0, false)
        .map_err(|fault| {
            let errno = Errno::from_raw_os_error(fault.errno.into());
            Error::new("cannot make the layer read-only").call(fault.call.name(), errno)
        })
}

/// The kernel's own words: the first line that it has for this context.
fn said(fs: &OwnedFd) -> String {
    let mut line = [0; 256];
    let n = rustix::io::read(fs, &mut line).unwrap_or(0);
    let text = String::from_utf8_lossy(line.get(..n).unwrap_or_default()).into_owned();
    text.trim_start_matches(['e', 'w', 'i']).trim().to_owned()
}

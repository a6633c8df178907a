//! The overlay of a root of layers (plan/layers.rs), detached: nobody sees it before the child attaches it.
//!
//! Layers are handed to overlayfs as descriptors (Linux 6.13): no path is resolved twice, and none needs an escape. Before that
//! they are paths, each by itself (6.5). Ids are mapped on private clones of the layers, which overlayfs takes where they are
//! attached to nothing from 6.15 on. On an older kernel a process with a mount namespace of its own attaches the layers under
//! short names and makes the overlay of them (`sampan_plan::short_names`).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};
use sampan_plan::short_names;
use sampan_plan::slots::IdMap;

use crate::error::{Errno, Error, Result};
use crate::launch::host_root::made_by_child;
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
        match self.at_once(&layers) {
            // Before 6.5 overlayfs knows neither the key nor descriptors.
            Err(e) if matches!(e.errno, Some(Errno::INVAL | Errno::OPNOTSUPP)) => self.by_child(namespaces),
            other => other,
        }
    }

    /// All that a kernel of today can.
    fn at_once(&self, layers: &[OwnedFd]) -> Result<OwnedFd> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|e| self.failed("cannot make an overlay", "fsopen", e))?;
        let made = self.configure(&fs, layers);
        made.map_err(|e| match said(&fs) {
            said if said.is_empty() => e,
            said => e.likely(said),
        })?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
            .map_err(|e| self.failed("cannot mount the overlay", "fsmount", e))
    }

    fn by_child(&self, namespaces: &mut UserNamespaces) -> Result<OwnedFd> {
        let plan = short_names::plan(self.lower.len(), self.upper.is_some(), self.in_user_namespace)
            .map_err(|e| Error::new(e.problem).field(self.field.to_owned()))?;
        let mut trees = Vec::new();
        for path in self.lower {
            trees.push(self.clone_of(path, namespaces)?);
        }
        if let Some(upper) = self.upper {
            trees.push(self.tree_of(upper)?);
        }
        let trees: Vec<BorrowedFd<'_>> = trees.iter().map(AsFd::as_fd).collect();
        made_by_child(&plan, &trees)
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
                    Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                        fsconfig_set_string(fs, key, path.as_str()).map_err(set)?;
                    }
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
            Err(Errno::INVAL) if self.idmap.is_none() => fsconfig_set_string(fs, "lowerdir+", path),
            other => other,
        }
        .map_err(|e| self.failed(&format!("cannot take {path} as a layer"), "fsconfig", e))
    }

    /// To be looked at by overlayfs alone: with its ids mapped it is a mount of its own.
    fn layer(&self, path: &str, namespaces: &mut UserNamespaces) -> Result<OwnedFd> {
        if self.idmap.is_some() {
            return self.clone_of(path, namespaces);
        }
        open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| self.failed(&format!("cannot open the layer {path}"), "open", e))
    }

    fn tree_of(&self, path: &str) -> Result<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(rustix::fs::CWD, path, flags)
            .map_err(|e| self.failed(&format!("cannot clone the layer {path}"), "open_tree", e))
    }

    fn clone_of(&self, path: &str, namespaces: &mut UserNamespaces) -> Result<OwnedFd> {
        let tree = self.tree_of(path)?;
        if let Some(map) = self.idmap {
            namespaces.apply(tree.as_fd(), path, map)?;
        }
        Ok(tree)
    }

    fn failed(&self, problem: &str, call: &'static str, errno: Errno) -> Error {
        Error::new(problem.to_owned()).field(self.field.to_owned()).call(call, errno)
    }
}

/// What nobody may do in the root of layers, before it is attached.
pub fn restrict(tree: BorrowedFd<'_>, attributes: MountAttrFlags) -> Result<()> {
    sampan_child::sys::set_attributes(tree.as_raw_fd(), attributes.bits(), 0, false).map_err(|fault| {
        let errno = Errno::from_raw_os_error(fault.errno.into());
        Error::new("cannot restrict the mount of the layers").call(fault.call.name(), errno)
    })
}

/// The kernel's own words: the first line that it has for this context.
fn said(fs: &OwnedFd) -> String {
    let mut line = [0; 256];
    let n = rustix::io::read(fs, &mut line).unwrap_or(0);
    let text = String::from_utf8_lossy(line.get(..n).unwrap_or_default()).into_owned();
    text.trim_start_matches(['e', 'w', 'i']).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_testkit::{Folder, need};
    use std::os::unix::fs::MetadataExt;

    /// What the overlay shows, reached through its descriptor.
    fn read(root: &OwnedFd, path: &str) -> String {
        let file = rustix::fs::openat(root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        std::io::read_to_string(std::fs::File::from(file)).unwrap()
    }

    fn made(upper: Option<&str>, idmap: Option<&IdMap>, folder: &Folder) -> OwnedFd {
        let lower: Vec<String> =
            (0..60).map(|n| folder.path(&format!("layer{n}")).to_str().unwrap().to_owned()).collect();
        let wanted = Wanted { lower: &lower, upper, in_user_namespace: false, idmap, field: "f" };
        wanted.by_child(&mut UserNamespaces::default()).unwrap()
    }

    /// As on a kernel that takes no layers one by one, before 6.5.
    #[test]
    fn an_older_kernel_has_its_overlay_by_short_names() {
        if !need::root() {
            return;
        }
        let mut folder = Folder::new().with("up/upper/.keep", "").with("up/work/.keep", "");
        for n in 0..60 {
            folder =
                folder.with(&format!("layer{n}/n"), &n.to_string()).with(&format!("layer{n}/only{n}"), "x");
        }
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = made(None, None, &folder);
        assert_eq!((read(&root, "n"), read(&root, "only0")), ("59".into(), "x".into()));
        let up = folder.path("up");
        let root = made(up.to_str(), None, &folder);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        rustix::fs::openat(&root, "written", flags, Mode::RUSR).unwrap();
        assert!(up.join("upper/written").exists());
        let shift = sampan_plan::spec::IdMapping { container_id: 0, host_id: 100_000, size: 65_536 };
        let map = IdMap { uids: vec![shift.clone()], gids: vec![shift], recursive: false, field: "f".into() };
        let root = made(None, Some(&map), &folder);
        let stat = rustix::fs::statat(&root, "n", rustix::fs::AtFlags::empty()).unwrap();
        assert_eq!((stat.st_uid, std::fs::metadata(folder.path("layer0/n")).unwrap().uid()), (100_000, 0));
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    }
}

//! An image mounted by hand, to be looked at or changed.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode as FileMode, mkdirat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsmount,
    fsopen, move_mount,
};
use sampan_runtime::launch::idmap::UserNamespaces;
use sampan_runtime::launch::layers::{Wanted, restrict};

use crate::error::{Error, Kind, Result};
use crate::unpack::fd_path;

/// Where writes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    ReadOnly,
    /// Into `upper` of this folder, where they stay; `work` beside it is overlayfs's own.
    Writable(PathBuf),
    /// Into memory, until it is unmounted.
    Scratch,
}

/// At `place`, a folder.
pub fn mount(layers: &[PathBuf], mode: &Mode, place: &Path) -> Result<()> {
    let failed =
        |why: String| Error::new(Kind::Host, format!("cannot mount the image on {}", place.display()), why);
    let lower: Option<Vec<String>> = layers.iter().map(|path| path.to_str().map(str::to_owned)).collect();
    let lower = lower.ok_or_else(|| failed("the store's path is no UTF-8".into()))?;
    if lower.is_empty() {
        return Err(failed("it has no layers, and so no files".into()));
    }
    // The memory is there for as long as the overlay is.
    let memory = (*mode == Mode::Scratch).then(memory).transpose()?;
    let upper = match (mode, &memory) {
        (Mode::Writable(folder), _) => {
            for name in ["upper", "work"] {
                let path = folder.join(name);
                std::fs::create_dir_all(&path).map_err(|e| Error::io("make", &path, e))?;
            }
            Some(std::path::absolute(folder).map_err(|e| Error::io("find", folder, e))?)
        }
        (_, memory) => memory.as_ref().map(fd_path),
    };
    let upper = upper
        .map(|path| path.to_str().map(str::to_owned).ok_or_else(|| failed("its path is no UTF-8".into())));
    let upper = upper.transpose()?;
    let wanted =
        Wanted { lower: &lower, upper: upper.as_deref(), in_user_namespace: false, idmap: None, field: "" };
    let overlay = wanted.overlay(&mut UserNamespaces::default()).map_err(|e| failed(e.to_string()))?;
    // All users of the host can look into it: no setuid program of a stranger runs from there.
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if *mode == Mode::ReadOnly {
        // One layer by itself is no overlay, and could be written to.
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    restrict(overlay.as_fd(), attributes).map_err(|e| failed(e.to_string()))?;
    move_mount(&overlay, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|e| Error::io("mount the image on", place, e))
}

/// Never through a link.
pub fn unmount(place: &Path) -> Result<()> {
    rustix::mount::unmount(place, UnmountFlags::NOFOLLOW).map_err(|e| Error::io("unmount", place, e))
}

/// A tmpfs that nobody sees, with `upper` and `work`.
fn memory() -> Result<std::os::fd::OwnedFd> {
    let made = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|fs| {
        fsconfig_create(&fs)?;
        let memory = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
        for name in ["upper", "work"] {
            mkdirat(&memory, name, FileMode::from_raw_mode(0o755))?;
        }
        Ok(memory)
    });
    made.map_err(|e| Error::new(Kind::Host, "cannot make a tmpfs for what is written", e))
}

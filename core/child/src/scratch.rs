#![forbid(unsafe_code)]
//! A root that may be written to and keeps nothing: an overlay of the root's tree and a tmpfs.
//!
//! ```text
//!   on the host's /:  tmpfs { lower: the root's tree, upper, work }, while the overlay is made; then the overlay
//! ```
//! The layers lie attached in our mount namespace meanwhile, because overlayfs could take no other before Linux 6.15.
//! It holds on to private clones of its own, so they go at once: the pivot expects nothing but the root on the old one
//! (what else were there would be let go in the old root's place).  Layers are named from the tmpfs as working directory: no path of the host is spelt, so none needs
//! overlayfs's escapes (`:`, `,`, `\`), and the container's mountinfo tells nothing of the host.

use crate::context::Context;
use crate::step::{List, Propagation, Source, Text, scratch as flag};
use crate::sys::{self, Fd, Result, Stat, uapi};
use crate::{mounts, targets};

const LOWER: &[u8] = b"lower\0";
const UPPER: &[u8] = b"upper\0";
const WORK: &[u8] = b"work\0";

pub(crate) fn root(
    c: &mut Context<'_>,
    from: Source,
    at: Text,
    host: Propagation,
    data: List,
    flags: u32,
) -> Result<()> {
    let lower = mounts::root_tree(c, from, host, 0)?;
    let top = sys::stat_fd(lower)?;
    // What a bind of it would not allow, the overlay does not either.
    let attributes = sys::mount_flags(lower)?
        & (uapi::MOUNT_ATTR_NOSUID | uapi::MOUNT_ATTR_NODEV | uapi::MOUNT_ATTR_NOEXEC);
    let memory = tmpfs(c, data, 0)?;
    sys::attach_at(memory, b"/\0")?;
    for name in [LOWER, UPPER, WORK] {
        sys::mkdirat(memory, name, 0o755)?;
    }
    let below = sys::openat(memory, LOWER, uapi::O_PATH | uapi::O_DIRECTORY, 0)?;
    sys::attach(lower, below)?;
    sys::close(below);
    sys::close(lower);
    look_like(memory, top)?;
    let root = targets::in_directory(memory, || {
        let root = overlay(c, attributes, flags)?;
        sys::detach(b".\0")?;
        Ok(root)
    })?;
    sys::close(memory);
    sys::attach_at(root, c.text(at))?;
    c.root = Some(root);
    Ok(())
}

/// A tmpfs alone: nosuid and nodev, as nothing of ours in it needs either.
pub(crate) fn empty_root(c: &mut Context<'_>, host: Propagation, data: List) -> Result<()> {
    sys::propagate(b"/\0", host.bit(), host.is_recursive())?;
    let root = tmpfs(c, data, uapi::MOUNT_ATTR_NOSUID | uapi::MOUNT_ATTR_NODEV)?;
    sys::attach_at(root, b"/\0")?;
    c.root = Some(root);
    Ok(())
}

/// Whoever opens a file of an overlay must be allowed to by its own modes, and the overlay's maker by the modes of the layer.
pub(crate) fn send_overlay(c: &mut Context<'_>, data: List, attributes: u32, to: Fd) -> Result<()> {
    let overlay = targets::in_directory(c.root()?, || {
        let fs = sys::fsopen(b"overlay\0")?;
        c.done_with(fs, mounts::configure(c, fs, data).and_then(|()| sys::fsmount(fs, attributes)))
    })?;
    sys::send_fd(to, overlay)?;
    sys::close(overlay);
    Ok(())
}

pub(crate) fn send_mount(c: &Context<'_>, path: &[u8], to: Fd) -> Result<()> {
    let found = targets::lookup(c.root()?, path, 0, 0)?;
    let tree = sys::clone_tree(found, false)?;
    sys::send_fd(to, tree)?;
    sys::close(tree);
    sys::close(found);
    Ok(())
}

fn tmpfs(c: &Context<'_>, data: List, attributes: u32) -> Result<Fd> {
    let fs = sys::fsopen(b"tmpfs\0")?;
    c.done_with(fs, mounts::configure(c, fs, data).and_then(|()| sys::fsmount(fs, attributes)))
}

/// The merged top has the upper one's owner and mode.  Whom this user namespace does not map looks
/// like nobody (65534), and is that then; where nobody is not mapped either it stays root's.
fn look_like(memory: Fd, top: Stat) -> Result<()> {
    match sys::fchownat(memory, UPPER, top.uid, top.gid) {
        Err(fault) if !matches!(fault.errno, uapi::EPERM | uapi::EINVAL) => return Err(fault),
        _ => {}
    }
    sys::fchmodat(memory, UPPER, top.mode & 0o7777)
}

/// The working directory is where the layers are.
fn overlay(c: &Context<'_>, attributes: u32, flags: u32) -> Result<Fd> {
    let fs = sys::fsopen(b"overlay\0")?;
    let made =
        sys::fsconfig_string(fs, b"source\0", b"overlay\0")
            .and_then(|()| sys::fsconfig_string(fs, b"lowerdir\0", LOWER))
            .and_then(|()| sys::fsconfig_string(fs, b"upperdir\0", UPPER))
            .and_then(|()| sys::fsconfig_string(fs, b"workdir\0", WORK))
            .and_then(|()| {
                if flags & flag::USER_XATTR != 0 { sys::fsconfig_flag(fs, b"userxattr\0") } else { Ok(()) }
            })
            .and_then(|()| sys::fsmount(fs, attributes));
    c.done_with(fs, made)
}

//! Mounts: detached trees, their attributes, the pivot.

use super::raw::{Call, EMPTY, Fd, Result, cstr, fd, numbers, syscall};
use super::uapi::*;
use core::mem::size_of;

pub fn open_tree(dir: Fd, path: &[u8], flags: u32) -> Result<Fd> {
    let p = cstr(Call::open_tree, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { syscall(Call::open_tree, [dir as usize, p, (flags | OPEN_TREE_CLOEXEC) as usize, 0, 0, 0]) }
        .map(fd)
}

/// Clones what a descriptor stands for, as a detached mount.
pub fn clone_tree(of: Fd, recursive: bool) -> Result<Fd> {
    open_tree(of, EMPTY, OPEN_TREE_CLONE | AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 })
}

/// Attaches a detached tree on what `target` stands for: no path is looked up.
pub fn attach(tree: Fd, target: Fd) -> Result<()> {
    let p = EMPTY.as_ptr() as usize;
    // SAFETY: both paths are the empty string; F_EMPTY_PATH | T_EMPTY_PATH.
    unsafe { syscall(Call::move_mount, [tree as usize, p, target as usize, p, 0x4 | 0x40, 0]) }.map(drop)
}

/// Attaches a detached tree on `name` in the folder `dir`; not where a link leads.
pub fn attach_in(tree: Fd, dir: Fd, name: &[u8]) -> Result<()> {
    let n = cstr(Call::move_mount, name)?;
    // SAFETY: the first path is the empty string, `name` ends in NUL; F_EMPTY_PATH.
    unsafe { syscall(Call::move_mount, [tree as usize, EMPTY.as_ptr() as usize, dir as usize, n, 0x4, 0]) }
        .map(drop)
}

/// Attaches a detached tree at a path of the host's tree, which may be a link.
pub fn attach_at(tree: Fd, path: &[u8]) -> Result<()> {
    let t = cstr(Call::move_mount, path)?;
    // SAFETY: the first path is the empty string, `path` ends in NUL; F_EMPTY_PATH | T_SYMLINKS.
    unsafe {
        syscall(
            Call::move_mount,
            [tree as usize, EMPTY.as_ptr() as usize, AT_FDCWD as usize, t, 0x4 | 0x10, 0],
        )
    }
    .map(drop)
}

pub fn fsopen(kind: &[u8]) -> Result<Fd> {
    let p = cstr(Call::fsopen, kind)?;
    // SAFETY: `kind` ends in NUL.  1 is FSOPEN_CLOEXEC.
    unsafe { syscall(Call::fsopen, [p, 1, 0, 0, 0, 0]) }.map(fd)
}

pub fn fsconfig_flag(fs: Fd, key: &[u8]) -> Result<()> {
    let k = cstr(Call::fsconfig, key)?;
    // SAFETY: `key` ends in NUL.  0 is FSCONFIG_SET_FLAG.
    unsafe { syscall(Call::fsconfig, [fs as usize, 0, k, 0, 0, 0]) }.map(drop)
}

pub fn fsconfig_string(fs: Fd, key: &[u8], value: &[u8]) -> Result<()> {
    let (k, v) = (cstr(Call::fsconfig, key)?, cstr(Call::fsconfig, value)?);
    // SAFETY: both end in NUL.  1 is FSCONFIG_SET_STRING.
    unsafe { syscall(Call::fsconfig, [fs as usize, 1, k, v, 0, 0]) }.map(drop)
}

/// Makes the file system, and a detached mount of it.
pub fn fsmount(fs: Fd, attributes: u32) -> Result<Fd> {
    // 6 is FSCONFIG_CMD_CREATE, 1 is FSMOUNT_CLOEXEC.
    numbers(Call::fsconfig, [fs as usize, 6, 0, 0, 0, 0])?;
    numbers(Call::fsmount, [fs as usize, 1, attributes as usize, 0, 0, 0]).map(fd)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn mount_setattr(of: Fd, attr: &MountAttr, recursive: bool) -> Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let (p, a) = (EMPTY.as_ptr() as usize, &raw const *attr as usize);
    // SAFETY: the path is the empty string; `attr` is the kernel's mount_attr, passed with its size.
    unsafe { syscall(Call::mount_setattr, [of as usize, p, flags as usize, a, size_of::<MountAttr>(), 0]) }
        .map(drop)
}

/// Maps the owners of a detached mount's files by a user namespace (Linux 5.12); `recursive`: of those below it too.
pub fn set_idmap(of: Fd, userns: Fd, recursive: bool) -> Result<()> {
    let attr = MountAttr { set: MOUNT_ATTR_IDMAP.into(), clear: 0, propagation: 0, userns: userns as u64 };
    mount_setattr(of, &attr, recursive)
}

/// Attributes of the mount that a descriptor stands for.
pub fn set_attributes(of: Fd, set: u32, clear: u32, recursive: bool) -> Result<()> {
    mount_setattr(
        of,
        &MountAttr { set: set.into(), clear: clear.into(), propagation: 0, userns: 0 },
        recursive,
    )
}

/// Propagation (an MS_ bit) of the mount that a descriptor stands for; it may be detached.
pub fn set_propagation(of: Fd, bit: u32, recursive: bool) -> Result<()> {
    let attr = MountAttr { set: 0, clear: 0, propagation: bit.into(), userns: 0 };
    mount_setattr(of, &attr, recursive)
}

/// Propagation of the mount at `path`: the old call, because the new one has no path but through a descriptor.
pub fn propagate(path: &[u8], bit: u32, recursive: bool) -> Result<()> {
    let p = cstr(Call::mount, path)?;
    let flags = bit | if recursive { MS_REC } else { 0 };
    // SAFETY: `path` ends in NUL; source, type and data may be null for a change of propagation.
    unsafe { syscall(Call::mount, [0, p, 0, flags as usize, 0, 0]) }.map(drop)
}

/// A new file system on `/`, by the old call: `data` is its options, a page of them.
pub fn mount_on_root(source: &[u8], kind: &[u8], flags: usize, data: &[u8; 4096]) -> Result<()> {
    let (s, k) = (cstr(Call::mount, source)?, cstr(Call::mount, kind)?);
    let d = cstr(Call::mount, data)?;
    // SAFETY: `source` and `kind` end in NUL, as does `data`, of which the kernel copies a page at most.
    unsafe { syscall(Call::mount, [s, c"/".as_ptr() as usize, k, flags, d, 0]) }.map(drop)
}

/// pivot_root(".", "."): the old root ends up below the new one, at the same place.
pub fn pivot_here() -> Result<()> {
    let dot = c".".as_ptr() as usize;
    // SAFETY: both paths are ".".
    unsafe { syscall(Call::pivot_root, [dot, dot, 0, 0, 0, 0]) }.map(drop)
}

pub fn detach(path: &[u8]) -> Result<()> {
    let p = cstr(Call::umount2, path)?;
    // SAFETY: `path` ends in NUL.
    unsafe { syscall(Call::umount2, [p, MNT_DETACH as usize, 0, 0, 0, 0]) }.map(drop)
}

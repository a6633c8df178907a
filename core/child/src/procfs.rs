#![forbid(unsafe_code)]
//! What is written below /proc: sysctls, and the labels of security modules.
//!
//! It goes through a procfs of our own: what a config or a neighbour mounted on the container's /proc could be anything, and
//! the write would be lost or land in another file (CVE-2019-16884, CVE-2025-52881).

use crate::context::{Context, put};
use crate::defence::{self, Defence};
use crate::sys::{self, Call, Fault, Fd, Result, uapi};

pub(crate) fn sysctl(c: &mut Context<'_>, path: &[u8], value: &[u8]) -> Result<()> {
    write(c, path, value, uapi::RESOLVE_NO_SYMLINKS)
}

/// `exec PROFILE`: what this process executes next runs under that profile (apparmor(7)). With `may_be_off` a kernel
/// without AppArmor is as good.
pub(crate) fn apparmor(c: &mut Context<'_>, command: &[u8], may_be_off: bool) -> Result<()> {
    match label(c, b"thread-self/attr/apparmor/exec\0", command) {
        // Not built in, or not turned on.
        Err(Fault { call: Call::openat2, errno: uapi::ENOENT, .. }) if may_be_off => Ok(()),
        Err(Fault { call: Call::write, errno: uapi::EINVAL, .. }) if may_be_off => Ok(()),
        other => other,
    }
}

/// SELinux's label for what `attribute` names, a file of /proc/thread-self/attr.
pub(crate) fn selinux(c: &mut Context<'_>, attribute: &[u8], value: &[u8]) -> Result<()> {
    label(c, attribute, value)
}

/// thread-self is a link whose text is a name; links that jump (magic ones) are refused.
fn label(c: &mut Context<'_>, attribute: &[u8], value: &[u8]) -> Result<()> {
    write(c, attribute, value, uapi::RESOLVE_NO_MAGICLINKS)
}

/// `path` begins below /proc, and nothing is mounted on the way.
fn write(c: &mut Context<'_>, path: &[u8], value: &[u8], links: u64) -> Result<()> {
    let text = value.strip_suffix(b"\0").unwrap_or(value);
    if let Some(root) = c.root.filter(|_| !defence::on(Defence::OwnProc)) {
        let proc = sys::openat(root, b"proc\0", uapi::O_PATH | uapi::O_DIRECTORY, 0)?;
        return put(proc, path, text, 0);
    }
    put(procfs(c)?, path, text, uapi::RESOLVE_BENEATH | uapi::RESOLVE_NO_XDEV | links)
}

/// Ours, made once. Only the owner of the pid namespace may make one (procfs(5)); others take what is on the /proc that we
/// still see, after a look at what it is.
fn procfs(c: &mut Context<'_>) -> Result<Fd> {
    if let Some(proc) = c.proc {
        return Ok(proc);
    }
    let proc = match new_procfs() {
        Err(Fault { errno: uapi::EPERM, .. }) => visible_procfs()?,
        other => other?,
    };
    Ok(*c.proc.insert(proc))
}

/// Before the old root goes, in which it is put: it goes with that. By itself it would be a tree of its own to the kernel, whose
/// end waits once more for all processors to have seen it. What is not ours, or finds no /proc there, is closed like any other.
pub(crate) fn leave_behind(c: &mut Context<'_>) {
    if let Some(proc) = c.proc.take() {
        let _ = sys::attach_at(proc, b"/proc\0");
    }
}

fn new_procfs() -> Result<Fd> {
    let fs = sys::fsopen(b"proc\0")?;
    let attributes = uapi::MOUNT_ATTR_NOSUID | uapi::MOUNT_ATTR_NODEV | uapi::MOUNT_ATTR_NOEXEC;
    let proc = sys::fsmount(fs, attributes);
    sys::close(fs);
    proc
}

fn visible_procfs() -> Result<Fd> {
    let how = uapi::RESOLVE_NO_SYMLINKS;
    let proc = sys::openat2(uapi::AT_FDCWD, b"/proc\0", uapi::O_PATH | uapi::O_DIRECTORY, 0, how)?;
    match sys::fs_magic(proc) {
        Ok(uapi::PROC_SUPER_MAGIC) => Ok(proc),
        other => {
            sys::close(proc);
            Err(other.map_or_else(|fault| fault, |_| Fault::new(Call::fstatfs, uapi::EXDEV)))
        }
    }
}

//! A part of the host's own root as containers see it (sampan_plan::host_root).
//!
//! Where its file system takes no id map, as overlayfs takes none on any kernel, an overlay of it is shown that a process without
//! rights has mounted.  overlayfs asks twice: may whoever is inside, and might its maker, that is nobody without groups?  So root
//! inside reads what both may.  Its FIFOs and sockets are nobody's: who opens one through an overlay gets another one.
//!
//! An overlay is one of folders. A file by itself, as /etc/resolv.conf may be, is shown as a copy that is as it was at the launch.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat, open, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use sampan_plan::slots::IdMap;
use sampan_plan::{Plan, nobody, render};

use crate::error::{Errno, Error, Result};
use crate::launch::explain::{Circumstances, explain};
use crate::launch::idmap::UserNamespaces;
use crate::launch::pipe::{pipe, receive_fd, sockets};
use crate::launch::report::next_report;
use crate::launch::spawn::{Direct, Spawn};

/// With its ids mapped; where that cannot be, by nobody's overlay.
pub fn shown(namespaces: &mut UserNamespaces, tree: OwnedFd, path: &str, map: &IdMap) -> Result<OwnedFd> {
    let Err(refused) = namespaces.apply(tree.as_fd(), path, map) else { return Ok(tree) };
    if refused.errno != Some(Errno::INVAL) {
        return Err(refused);
    }
    let failed = |call| move |e: Errno| Error::new("cannot copy it").call(call, e);
    let shown = fstat(&tree).map_err(failed("fstat")).and_then(|found| {
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => overlay(&tree, path),
            FileType::RegularFile => copy(&tree, Mode::from_raw_mode(found.st_mode), failed),
            _ => Err(Error::new("it is neither a folder nor a regular file")),
        }
    });
    shown.map_err(|e| {
        let why = format!(
            "{}; and it cannot be shown in place of that: {}",
            refused.likely,
            e.to_string().replace("\n  ", "; ")
        );
        refused.likely(why)
    })
}

/// The most of a file that is copied: it stays in memory for as long as the container.
const COPIED_MAX: u64 = 1 << 20;

const COPY: &str = "copy";

/// A mount of a copy. It has what others may read, which is nothing where they may not.
fn copy<F: FnOnce(Errno) -> Error>(
    tree: &OwnedFd,
    mode: Mode,
    failed: impl Fn(&'static str) -> F,
) -> Result<OwnedFd> {
    let mut bytes = Vec::new();
    if mode.contains(Mode::ROTH) {
        let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
        let source = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed("open"))?;
        let read = File::from(source).take(COPIED_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|e| Error::io("cannot copy it", &e))?;
        if bytes.len() as u64 > COPIED_MAX {
            return Err(Error::new(format!("it is larger than {COPIED_MAX} bytes")));
        }
    }
    let folder = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("fsopen"))?;
    fsconfig_create(&folder).map_err(failed("fsconfig"))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let folder = fsmount(&folder, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("fsmount"))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let mut file = File::from(openat(&folder, COPY, flags, Mode::RUSR).map_err(failed("openat"))?);
    file.write_all(&bytes).map_err(|e| Error::io("cannot copy it", &e))?;
    fchmod(&file, mode & Mode::from_raw_mode(0o444)).map_err(failed("fchmod"))?;
    let plan = nobody::file("its copy", COPY).map_err(|e| Error::new(e.problem))?;
    made_by_child(&plan, &[folder.as_fd()])
}

fn overlay(tree: &OwnedFd, path: &str) -> Result<OwnedFd> {
    let plan = nobody::overlay(path).map_err(|e| Error::new(e.problem))?;
    made_by_child(&plan, &[tree.as_fd()])
}

/// The child ends as soon as it has sent its mount: in a mount namespace of its own, so that nobody else sees what it does.
pub(super) fn made_by_child(plan: &Plan<'_>, trees: &[BorrowedFd<'_>]) -> Result<OwnedFd> {
    let (read, write) = pipe()?;
    let (ours, theirs) = sockets()?;
    let slots: Vec<BorrowedFd<'_>> =
        [write.as_fd()].into_iter().chain(trees.iter().copied()).chain([theirs.as_fd()]).collect();
    let child = Direct.spawn(&plan.image, &slots)?;
    drop((write, theirs));
    let sent = receive_fd(ours.as_fd()).map_err(|e| Error::new("cannot take a mount").call("recvmsg", e));
    let told = next_report(&read);
    Direct.reap(&child)?;
    match (sent?, told?) {
        (Some(mount), None) => Ok(mount),
        (_, Some(told)) => {
            let reader = render::reader(plan).ok_or_else(|| Error::new("the plan is damaged"))?;
            let circumstances = Circumstances { privileged: true, ..Circumstances::default() };
            Err(explain(&told, &reader, &plan.origins, circumstances))
        }
        (None, None) => Err(Error::new("the process that makes it was killed")),
    }
}

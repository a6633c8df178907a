//! The host's own root as a container's: its programs without its secrets.
//!
//! ```text
//!   tmpfs { usr, etc, opt: the host's, id-mapped    bin -> usr/bin, lib -> ..    run, tmp, var, root, ..: empty }
//! ```
//! What is shown of the host is bound with a map in which no id of a disk occurs.  So each file there belongs to nobody, and
//! the kernel gives whoever is inside, root too, what the mode grants to others and nothing else: CAP_DAC_OVERRIDE and its
//! like have a say only over owners that the mount maps (capabilities(7)), and where the owner is unmapped nothing is
//! written and no socket is connected to.  That holds for a file that appears later, too; a list of masks would miss
//! what the running host renames over a masked file, as passwd and package managers do.
//!
//! Mounts below are cloned one by one, because one that takes no map would refuse it for all, and they are private: what the
//! host mounts later would come in without the map.
//!
//! All of it is the runtime's, not the supervisor's, so that sampand, `sampan run --rootfs host` and anybody's bundle have the same
//! guarantee. As scratch this root has a copy of /etc and no overlay: above files without an owner nothing could be written.

use crate::build::Build;
use crate::error::Error;
use crate::host::HostRoot;
use crate::mounts::MountContext;
use crate::namespaces::Namespaces;
use crate::path::clean;
use crate::scratch::{self, RootMode};
use crate::slots::{IdMap, SlotSource};
use crate::spec::{IdMapping, Mount, Root, Spec};
use sampan_child::defence::{self, Defence};
use sampan_child::step::{Base, Propagation, Source, Step, mount as flag};
use sampan_child::sys::uapi::*;

const FIELD: &str = "root.path";

/// Empty folders beside what is shown: where programs look first, and where mounts are made.
const EMPTY: [&str; 11] =
    ["/dev", "/home", "/mnt", "/proc", "/root", "/run", "/srv", "/sys", "/tmp", "/var", "/var/tmp"];

/// Capabilities with which root inside is past what the modes say: by file handles (open_by_handle_at(2)), which no folder
/// on the way stops, and by mounting the disk itself.
pub const VOID: [&str; 2] = ["CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN"];

/// The root, from nothing.
pub fn root(
    b: &mut Build,
    shown: &HostRoot,
    spec: &Spec<'_>,
    root: &Root<'_>,
    context: &MountContext<'_>,
) -> Result<(), Error> {
    if !context.host.privileged || context.host.in_user_namespace {
        return Err(Error::new(
            FIELD,
            "the host's own root is shown through id-mapped mounts, which the kernel leaves to the host's root: run as root, \
             or give it a root of its own",
        ));
    }
    // `ro` says nothing new: the folders of this root are ours, and the host's are shown read-only.
    let scratch = scratch::asked(spec)? == RootMode::Scratch;
    if !(root.readonly || scratch) {
        return Err(Error::new(
            "root.readonly",
            "must be true: the host's own root is shown read-only; the annotation org.sampan.rootfs.mode = \"scratch\" makes \
             one that may be written to",
        ));
    }
    let bounding = spec.process.iter().flat_map(|p| &p.capabilities).flat_map(|c| &c.bounding);
    for capability in bounding.filter(|c| VOID.contains(&c.as_str())) {
        b.warnings.push(format!(
            "process.capabilities: with {} the container can read what the host's own root hides",
            capability.as_str()
        ));
    }
    let data = b.table.list(["smode", "0755"], FIELD)?;
    b.step(FIELD, Step::EmptyRoot { data, host: context.propagation.host });
    for path in EMPTY {
        let path = b.table.own(path);
        b.step(FIELD, Step::Folder { path });
    }
    for (name, to) in &shown.links {
        let (path, to) = (b.text(name, FIELD)?, b.text(to, FIELD)?);
        b.step(FIELD, Step::Link { base: Base::Root, path, to });
    }
    shown.folders.iter().try_for_each(|path| show(b, path, path))?;
    if scratch {
        writable_etc(b)?;
    }
    Ok(())
}

/// `file` of the host at `path`.
fn show(b: &mut Build, file: &str, path: &str) -> Result<(), Error> {
    let from = Source::Tree(b.slot(SlotSource::Tree {
        path: file.to_owned(),
        recursive: false,
        follow: true,
        propagation: Propagation::RPrivate,
        idmap: defence::on(Defence::UnmappedOwners).then(nobodys),
        field: FIELD.to_owned(),
    }));
    let target = b.text(path, FIELD)?;
    let set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    b.step(FIELD, Step::Bind { from, target, set, clear: 0, propagation: None, flags: 0 });
    Ok(())
}

/// One line, since none is EINVAL, for an id that no file has: the last but two. 4294967294 is the nobody of macOS and of NFS,
/// 4294967295 is no id.
pub fn nobodys() -> IdMap {
    let unused = u32::MAX - 2;
    let line = IdMapping { container_id: unused, host_id: unused, size: 1 };
    IdMap { uids: vec![line.clone()], gids: vec![line], recursive: false, field: FIELD.to_owned() }
}

/// A copy of /etc, without what others may not read: over an unmapped owner's folder an overlay could not be written to.
fn writable_etc(b: &mut Build) -> Result<(), Error> {
    let (kind, target) = (b.table.own("tmpfs"), b.table.own("/etc"));
    let data = b.table.list(["smode", "0755"], FIELD)?;
    let (attributes, flags) = (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, flag::COPY_UP | flag::COPY_READABLE);
    b.step(FIELD, Step::Mount { kind, target, data, attributes, propagation: None, flags });
    Ok(())
}

/// /etc/resolv.conf, where it is a link to a file outside of what is shown: that one file, once the config's mounts are made,
/// since it lies below /run, where those have a tmpfs.  With a network of its own the container does not reach
/// systemd-resolved on 127.0.0.53, so it gets the file that names the servers behind it.
pub fn resolver(b: &mut Build, shown: &HostRoot, mounts: &[Mount<'_>], ns: &Namespaces) -> Result<(), Error> {
    let Some(resolver) = &shown.resolver else { return Ok(()) };
    let covering = |path: &str| mounts.iter().rev().find(|m| is_at_or_below(path, &clean(&m.destination)));
    // Somebody else's file, or somebody else's folder, in which nothing of ours is made.
    let is_tmpfs = |m: &Mount<'_>| m.kind.as_deref() == Some("tmpfs");
    if covering("/etc/resolv.conf").is_some() || covering(&resolver.link).is_some_and(|m| !is_tmpfs(m)) {
        return Ok(());
    }
    let file = match &resolver.upstream {
        Some(upstream) if ns.has(CLONE_NEWNET) => upstream,
        _ => &resolver.file,
    };
    show(b, file, &resolver.link)
}

pub fn is_at_or_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

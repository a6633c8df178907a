#![forbid(unsafe_code)]
//! Everything below the container's root: mounts, devices, masks, the pty, the pivot.
//!
//! Sources are looked up in the host's tree, targets by openat2 inside the root; what a lookup found is used
//! through its descriptor and never looked up again (CVE-2019-18837, CVE-2021-30465).  All of it happens
//! before the pivot, because the host's devices cannot be cloned once the old root is gone.

use crate::context::{Context, Newest};
use crate::copy_up::{self, Copies};
use crate::defence::{self, Defence};
use crate::step::{List, Propagation, Source, Text, console as terminal, mount as flag};
use crate::sys::{self, Call, Fault, Fd, Result, uapi};
use crate::targets::{Target, lookup, make_one, parent_of, target_in};
use crate::{option_string, procfs};

/// What a mask's mount has: whoever is inside changes nothing of the file behind it.
const UNCHANGEABLE: u32 = uapi::MOUNT_ATTR_RDONLY | uapi::MOUNT_ATTR_NOSUID | uapi::MOUNT_ATTR_NOEXEC;

/// The root's tree goes on top of the old root, which is always reachable, or where hooks look for it; both are below the old
/// root, as pivot_root demands. Paths of this process still start in the host's tree.
pub(crate) fn root(c: &mut Context<'_>, from: Source, at: Text, host: Propagation) -> Result<()> {
    let tree = root_tree(c, from, host, uapi::AT_RECURSIVE)?;
    sys::attach_at(tree, c.text(at))?;
    c.root = Some(tree);
    Ok(())
}

/// A detached clone of the root, made here or by the parent. It is the first: nothing is cloned or attached while the host's
/// mounts are still our peers.
pub(crate) fn root_tree(c: &Context<'_>, from: Source, host: Propagation, recursive: u32) -> Result<Fd> {
    sys::propagate(b"/\0", host.bit(), host.is_recursive())?;
    match from {
        Source::Path(path) => sys::open_tree(uapi::AT_FDCWD, c.text(path), uapi::OPEN_TREE_CLONE | recursive),
        Source::Tree(slot) => c.slot(slot),
        // It cannot be below itself.
        Source::Inside(_) => Err(Fault::new(Call::open_tree, uapi::EINVAL)),
    }
}

pub(crate) fn root_attributes(c: &mut Context<'_>, set: u32) -> Result<()> {
    let root = c.root()?;
    c.root_closed = set & uapi::MOUNT_ATTR_RDONLY & !sys::mount_flags(root)? != 0;
    sys::set_attributes(root, set, 0, false)
}

/// A clone has the attributes of what it is cloned from: that we have closed the root is no matter of a volume that shows a
/// part of it. A root that is read-only on the host stays so.
fn clone_inside(c: &Context<'_>, root: Fd, found: Fd, recursive: bool) -> Result<Fd> {
    if !c.root_closed {
        return sys::clone_tree(found, recursive);
    }
    sys::set_attributes(root, 0, uapi::MOUNT_ATTR_RDONLY, false)?;
    let tree = sys::clone_tree(found, recursive);
    sys::set_attributes(root, uapi::MOUNT_ATTR_RDONLY, 0, false)?;
    tree
}

pub(crate) fn mount<'a>(
    c: &mut Context<'a>,
    kind: &[u8],
    target: &'a [u8],
    data: List,
    attributes: u32,
    propagation: Option<Propagation>,
    flags: u32,
) -> Result<()> {
    let fs = sys::fsopen(kind)?;
    let at = place(c, target, true, flags)?;
    let covered = match at {
        Place::Found(found) if flags & flag::COVERED_MODE != 0 => Some(sys::stat_fd(found)?.mode),
        _ => None,
    };
    let tree = if flags & flag::OPTION_STRING == 0 {
        let made = covered
            .map_or(Ok(()), |mode| sys::fsconfig_string(fs, b"mode\0", &octal(mode)))
            .and_then(|()| configure(c, fs, data))
            .and_then(|()| sys::fsmount(fs, attributes));
        c.done_with(fs, made)?
    } else {
        sys::close(fs);
        option_string::mounted(c.image.list(data), kind, covered, attributes)?
    };
    if let Place::Found(found) = at
        && flags & flag::COPY_UP != 0
    {
        let what = if flags & flag::COPY_READABLE != 0 { Copies::Readable } else { Copies::Everything };
        copy_up::copy_up(found, tree, what)?;
    }
    attach(c, tree, at, target)?;
    if let Some(to) = propagation {
        sys::set_propagation(tree, to.bit(), to.is_recursive())?;
    }
    if flags & flag::IS_DEV != 0 {
        c.dev = Some(tree);
    }
    if c.newest.is_none() && kind == b"tmpfs\0" {
        c.newest = Some(Newest { tree, at: target });
    } else if flags & flag::IS_DEV == 0 {
        sys::close(tree);
    }
    Ok(())
}

/// Where a mount goes.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// On what was there, or on what was made a moment ago where nothing was.
    Found(Fd),
    New(Fd),
    /// The same by its name in a file system of ours that stays open.
    NewIn(Fd, &'a [u8]),
}

/// procfs is known by what it is, and not by its path: an image's link, or a second procfs, leads there
/// as well, and what covers a file of it lies to whoever reads it (CVE-2019-16884).
fn place<'a>(c: &Context<'a>, path: &'a [u8], dir: bool, flags: u32) -> Result<Place<'a>> {
    if let Some(made) = made_in_newest(c, path, dir) {
        return Ok(made);
    }
    let no_symlinks = flags & flag::NO_SYMLINKS != 0 && defence::on(Defence::ProcIsNoLink);
    let Target { fd, found } = target_in(c.root()?, path, dir, no_symlinks)?;
    if !found {
        return Ok(Place::New(fd));
    }
    let checked = flags & flag::ON_PROC == 0 && defence::on(Defence::ProcMountsChecked);
    if checked && sys::fs_magic(fd)? == uapi::PROC_SUPER_MAGIC {
        return Err(Fault::new(Call::fstatfs, uapi::EXDEV));
    }
    Ok(Place::Found(fd))
}

/// A name right below the tmpfs that was mounted last needs no lookup: nobody but us has been in it, so what mkdir has made there
/// is what the path leads to. None: it is not for there, or there is something already; the lookup then says what.
fn made_in_newest<'a>(c: &Context<'a>, path: &'a [u8], dir: bool) -> Option<Place<'a>> {
    let newest = c.newest?;
    let name = newest.below(path)?;
    let is_one = name.len() > 1 && name.iter().all(|byte| *byte != b'/') && !matches!(name, b".\0" | b"..\0");
    if !is_one || make_one(newest.tree, name, dir).is_err() {
        return None;
    }
    Some(Place::NewIn(newest.tree, name))
}

/// Attaches a tree at its place, which is at `path`.
fn attach<'a>(c: &mut Context<'a>, tree: Fd, at: Place<'a>, path: &'a [u8]) -> Result<()> {
    let is_looked_up = match at {
        Place::NewIn(dir, name) => {
            sys::attach_in(tree, dir, name)?;
            false
        }
        Place::Found(fd) | Place::New(fd) => {
            sys::attach(tree, fd)?;
            sys::close(fd);
            true
        }
    };
    // What is mounted anywhere but below it may be in its way; and a path below it may lead elsewhere, by a link in what is mounted there.
    if let Some(newest) = c.newest.filter(|newest| is_looked_up || newest.below(path).is_none()) {
        if c.dev != Some(newest.tree) {
            sys::close(newest.tree);
        }
        c.newest = None;
    }
    Ok(())
}

/// Permission bits as file systems are told them, with a NUL.
fn octal(mode: u32) -> [u8; 5] {
    let digit = |place: u32| b'0' | (mode >> place & 7) as u8;
    [digit(9), digit(6), digit(3), digit(0), 0]
}

/// Options come as strings that begin with their kind: `fKEY` is a flag, `sKEY` has its value in the next.
pub(crate) fn configure(c: &Context<'_>, fs: Fd, data: List) -> Result<()> {
    let mut options = c.image.list(data);
    while let Some(option) = options.next() {
        match option.split_first() {
            Some((b'f', key)) => sys::fsconfig_flag(fs, key)?,
            Some((_, key)) => sys::fsconfig_string(fs, key, options.next().unwrap_or(b"\0"))?,
            None => {}
        }
    }
    Ok(())
}

pub(crate) fn bind<'a>(
    c: &mut Context<'a>,
    from: Source,
    target: &'a [u8],
    set: u32,
    clear: u32,
    propagation: Option<Propagation>,
    flags: u32,
) -> Result<()> {
    // Without a root the host's mounts are our peers still.
    let root = c.root()?;
    let recursive = flags & flag::RECURSIVE != 0;
    let follow = flags & flag::NO_FOLLOW_SOURCE == 0;
    let tree = match from {
        Source::Tree(slot) => c.slot(slot)?,
        Source::Path(path) => {
            let recursive = if recursive { uapi::AT_RECURSIVE } else { 0 };
            let nofollow = if follow { 0 } else { uapi::AT_SYMLINK_NOFOLLOW };
            sys::open_tree(uapi::AT_FDCWD, c.text(path), uapi::OPEN_TREE_CLONE | recursive | nofollow)?
        }
        Source::Inside(path) => {
            let found = lookup(root, c.text(path), if follow { 0 } else { uapi::O_NOFOLLOW }, 0)?;
            let tree = clone_inside(c, root, found, recursive)?;
            sys::close(found);
            tree
        }
    };
    let is_dir = flags & flag::IS_FOLDER != 0 || {
        let stat = sys::stat_fd(tree)?;
        let is_device = matches!(stat.kind(), uapi::S_IFCHR | uapi::S_IFBLK | uapi::S_IFIFO);
        if flags & flag::IS_DEVICE != 0 && !is_device {
            return Err(Fault::new(Call::open_tree, uapi::ENODEV));
        }
        stat.is_dir()
    };
    if set | clear != 0 {
        sys::set_attributes(tree, set, clear, flags & flag::ATTRIBUTES_RECURSIVE != 0)?;
    }
    let at = place(c, target, is_dir, flags)?;
    attach(c, tree, at, target)?;
    if let Some(to) = propagation {
        sys::set_propagation(tree, to.bit(), to.is_recursive())?;
    }
    sys::close(tree);
    Ok(())
}

pub(crate) fn attributes(c: &Context<'_>, target: &[u8], set: u32, clear: u32, flags: u32) -> Result<()> {
    let at = lookup(c.root()?, target, 0, 0)?;
    let done = sys::set_attributes(at, set, clear, flags & flag::ATTRIBUTES_RECURSIVE != 0);
    sys::close(at);
    done
}

pub(crate) fn node(base: Fd, path: &[u8], mode: u32, device: u32, uid: u32, gid: u32) -> Result<()> {
    let (dir, name) = parent_of(base, path)?;
    let made = match sys::mknodat(dir, name, mode, device) {
        Err(fault) if fault.errno == uapi::EEXIST => {
            is_node(dir, name, mode, device).then_some(()).ok_or(fault)
        }
        Ok(()) if uid | gid != 0 => sys::fchownat(dir, name, uid, gid),
        other => other,
    };
    if dir != base {
        sys::close(dir);
    }
    made
}

fn is_node(dir: Fd, name: &[u8], mode: u32, device: u32) -> bool {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    sys::stat(dir, name, false).is_ok_and(|s| {
        s.kind() == mode & uapi::S_IFMT && (s.kind() == uapi::S_IFIFO || s.rdev == (major, minor))
    })
}

/// What the image has at that name is replaced, unless it is a directory.
pub(crate) fn link(base: Fd, path: &[u8], to: &[u8]) -> Result<()> {
    let (dir, name) = parent_of(base, path)?;
    let made = match sys::symlinkat(to, dir, name) {
        Err(Fault { errno: uapi::EEXIST, .. }) => {
            sys::unlinkat(dir, name).and_then(|()| sys::symlinkat(to, dir, name))
        }
        other => other,
    };
    if dir != base {
        sys::close(dir);
    }
    made
}

/// A file is covered by null, a directory by one empty directory that all masks share.
pub(crate) fn mask(c: &mut Context<'_>, path: &[u8]) -> Result<()> {
    let at = match lookup(c.root()?, path, 0, 0) {
        Err(Fault { errno: uapi::ENOENT | uapi::ENOTDIR, .. }) => return Ok(()),
        other => other?,
    };
    let is_dir = sys::stat_fd(at)?.is_dir();
    // Attached, so it can be cloned: a detached mount could not be before Linux 6.15.
    let first = if is_dir { c.empty } else { c.null };
    let tree = match first {
        Some(first) => sys::clone_tree(first, false)?,
        None if is_dir => empty_directory()?,
        None => null(c)?,
    };
    sys::attach(tree, at)?;
    match first {
        Some(_) => sys::close(tree),
        None if is_dir => c.empty = Some(tree),
        None => c.null = Some(tree),
    }
    sys::close(at);
    Ok(())
}

fn empty_directory() -> Result<Fd> {
    let fs = sys::fsopen(b"tmpfs\0")?;
    sys::fsconfig_string(fs, b"nr_inodes\0", b"1\0")?;
    let tree = sys::fsmount(fs, UNCHANGEABLE | uapi::MOUNT_ATTR_NODEV);
    sys::close(fs);
    tree
}

/// The host's null device, not the container's, which may be a link (CVE-2025-31133).  Its file is the host's own: root inside,
/// who may chmod and chown, must not do so to that.  A device on a read-only mount can be written to all the same.
fn null(c: &Context<'_>) -> Result<Fd> {
    let null = if defence::on(Defence::HostNull) {
        sys::openat(uapi::AT_FDCWD, b"/dev/null\0", uapi::O_PATH | uapi::O_NOFOLLOW, 0)?
    } else {
        lookup(c.root()?, b"/dev/null\0", 0, 0)?
    };
    let stat = sys::stat_fd(null)?;
    if defence::on(Defence::HostNull) && !stat.is_null_device() {
        return Err(Fault::new(Call::statx, uapi::ENODEV));
    }
    let tree = sys::clone_tree(null, false)?;
    sys::close(null);
    if defence::on(Defence::NullStaysTheHosts) && defence::on(Defence::HostNull) {
        sys::set_attributes(tree, UNCHANGEABLE, 0, false)?;
    }
    Ok(tree)
}

/// A bind of the path on itself, with read-only as the one change: nosuid, nodev, noexec stay.
pub(crate) fn read_only(c: &Context<'_>, path: &[u8]) -> Result<()> {
    let at = match lookup(c.root()?, path, 0, 0) {
        Err(Fault { errno: uapi::ENOENT | uapi::ENOTDIR, .. }) => return Ok(()),
        other => other?,
    };
    let tree = sys::clone_tree(at, true)?;
    sys::set_attributes(tree, uapi::MOUNT_ATTR_RDONLY, 0, true)?;
    sys::attach(tree, at)?;
    sys::close(tree);
    sys::close(at);
    Ok(())
}

/// The pty's peer comes from its master, never by a path in a /dev/pts that others can write to (CVE-2025-52565).
pub(crate) fn console(c: &mut Context<'_>, to: Fd, uid: u32, size: u32, flags: u32) -> Result<()> {
    // During create the root is a descriptor; exec comes here from inside, with its own root.
    let (dir, path): (Fd, &[u8]) = match c.root {
        Some(root) => (root, b"/dev/pts/ptmx\0"),
        None => (uapi::AT_FDCWD, b"/dev/pts/ptmx\0"),
    };
    let how = uapi::RESOLVE_NO_MAGICLINKS | if c.root.is_some() { uapi::RESOLVE_IN_ROOT } else { 0 };
    let master = sys::openat2(dir, path, uapi::O_RDWR | uapi::O_NOCTTY, 0, how)?;
    if sys::fs_magic(master)? != uapi::DEVPTS_SUPER_MAGIC {
        return Err(Fault::new(Call::fstatfs, uapi::EXDEV));
    }
    let peer = if defence::on(Defence::PtyFromMaster) {
        sys::pty_peer(master)?
    } else {
        sys::openat2(dir, b"/dev/pts/0\0", uapi::O_RDWR | uapi::O_NOCTTY, 0, how)?
    };
    if size != 0 {
        sys::set_window(master, size)?;
    }
    if flags & terminal::PLAIN_NEWLINES != 0 {
        sys::plain_newlines(peer)?;
    }
    // The group stays what devpts' gid= made it. A user namespace may not map the uid: then it is root's.
    match sys::fchownat(peer, b"\0", uid, u32::MAX) {
        Err(fault) if !matches!(fault.errno, uapi::EPERM | uapi::EINVAL) => return Err(fault),
        _ => {}
    }
    if flags & terminal::ON_DEV_CONSOLE != 0 {
        let dev = c.dev.ok_or(Fault::new(Call::openat, uapi::EBADF))?;
        if !defence::on(Defence::ConsoleIsNoLink) {
            sys::close(sys::openat(dev, b"console\0", uapi::O_CREAT | uapi::O_WRONLY, 0o600)?);
        }
        let file = sys::openat(dev, b"console\0", uapi::O_CREAT | uapi::O_NOFOLLOW | uapi::O_PATH, 0o600);
        let at = match file {
            // O_PATH ignores O_CREAT: make it first where it is missing.
            Err(Fault { errno: uapi::ENOENT, .. }) => {
                make_one(dev, b"console\0", false)?;
                sys::openat(dev, b"console\0", uapi::O_NOFOLLOW | uapi::O_PATH, 0)?
            }
            other => other?,
        };
        let tree = sys::clone_tree(peer, false)?;
        sys::attach(tree, at)?;
        sys::close(tree);
        sys::close(at);
    }
    sys::send_fd(to, master)?;
    sys::close(master);
    for number in 0..3 {
        sys::dup_to(peer, number)?;
    }
    sys::close(peer);
    Ok(())
}

/// pivot_root(".", "."), then the old root, which lies below, is let go. That cannot reach the host: the old root's mounts
/// are no peers of its mounts since the step that made ours.
pub(crate) fn pivot(c: &mut Context<'_>) -> Result<()> {
    let root = c.root()?;
    sys::fchdir(root)?;
    procfs::leave_behind(c);
    sys::pivot_here()?;
    sys::detach(b".\0")?;
    sys::chdir(b"/\0")?;
    // Closed with all the rest, in the step's second half.
    (c.root, c.dev, c.newest, c.null, c.empty) = (None, None, None, None, None);
    Ok(())
}

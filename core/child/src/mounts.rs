#![forbid(unsafe_code)]
//! Everything below the container's root: mounts, devices, masks, the pty, the pivot.
//!
//! Sources are looked up in the host's tree, targets by openat2 inside the root; what a lookup found is used
//! through its descriptor and never looked up again (CVE-2019-18837, CVE-2021-30465).  All of it happens
//! before the pivot, because the host's devices cannot be cloned once the old root is gone.

use crate::context::Context;
use crate::defence::{self, Defence};
use crate::step::{List, Propagation, Source, mount as flag};
use crate::sys::{self, Call, Fault, Fd, Result, uapi};

/// A link inside the root is followed inside the root; /proc/PID/fd and the like never.
pub(crate) const INSIDE: u64 = uapi::RESOLVE_IN_ROOT | uapi::RESOLVE_NO_MAGICLINKS;
const PATH_MAX: usize = 4096;

/// The root's tree goes on top of the old root: always reachable, and below it as pivot_root demands. Paths
/// of this process still start under it, in the host's tree.
pub(crate) fn root(c: &mut Context<'_>, from: Source, host: Propagation) -> Result<()> {
    let tree = root_tree(c, from, host, uapi::AT_RECURSIVE)?;
    sys::attach_at(tree, b"/\0")?;
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
    }
}

pub(crate) fn mount(
    c: &mut Context<'_>,
    kind: &[u8],
    target: &[u8],
    data: List,
    attributes: u32,
    propagation: Option<Propagation>,
    flags: u32,
) -> Result<()> {
    let fs = sys::fsopen(kind)?;
    let made = configure(c, fs, data).and_then(|()| sys::fsmount(fs, attributes));
    sys::close(fs);
    let tree = made?;
    let no_symlinks = flags & flag::NO_SYMLINKS != 0 && defence::on(Defence::ProcIsNoLink);
    let at = target_in(c.root()?, target, true, no_symlinks)?;
    if flags & flag::COPY_UP != 0 {
        crate::mounts::copy_up(at, tree)?;
    }
    sys::attach(tree, at)?;
    sys::close(at);
    if let Some(to) = propagation {
        sys::set_propagation(tree, to.bit(), to.is_recursive())?;
    }
    if flags & flag::IS_DEV != 0 {
        c.dev = Some(tree);
    } else {
        sys::close(tree);
    }
    Ok(())
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

pub(crate) fn bind(
    c: &mut Context<'_>,
    from: Source,
    target: &[u8],
    set: u32,
    clear: u32,
    propagation: Option<Propagation>,
    flags: u32,
) -> Result<()> {
    // Without a root the host's mounts are our peers still.
    let root = c.root()?;
    let tree = match from {
        Source::Tree(slot) => c.slot(slot)?,
        Source::Path(path) => {
            let recursive = if flags & flag::RECURSIVE != 0 { uapi::AT_RECURSIVE } else { 0 };
            let nofollow = if flags & flag::NO_FOLLOW_SOURCE != 0 { uapi::AT_SYMLINK_NOFOLLOW } else { 0 };
            match sys::open_tree(uapi::AT_FDCWD, c.text(path), uapi::OPEN_TREE_CLONE | recursive | nofollow) {
                Err(Fault { errno: uapi::ENOENT, .. }) if flags & flag::OPTIONAL != 0 => return Ok(()),
                other => other?,
            }
        }
    };
    let stat = sys::stat_fd(tree)?;
    if flags & flag::IS_DEVICE != 0 && !matches!(stat.kind(), uapi::S_IFCHR | uapi::S_IFBLK | uapi::S_IFIFO) {
        return Err(Fault::new(Call::open_tree, uapi::ENODEV));
    }
    if set | clear != 0 {
        sys::set_attributes(tree, set, clear, flags & flag::ATTRIBUTES_RECURSIVE != 0)?;
    }
    let at = target_in(root, target, stat.is_dir(), flags & flag::NO_SYMLINKS != 0)?;
    sys::attach(tree, at)?;
    sys::close(at);
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

/// What `path` is inside `base`; `resolve` says what else may not be followed.
fn lookup(base: Fd, path: &[u8], flags: u32, resolve: u64) -> Result<Fd> {
    if !defence::on(Defence::TargetsInRoot) {
        // As if the path were only joined to the root's: a link leads where it does on the host.
        let relative = path.iter().position(|b| *b != b'/').and_then(|start| path.get(start..));
        return sys::openat(base, relative.unwrap_or(path), uapi::O_PATH | flags, 0);
    }
    sys::openat2(base, path, uapi::O_PATH | flags, 0, INSIDE | resolve)
}

/// What `path` is inside `base`, made where it is missing: a directory, or an empty file.
pub(crate) fn target_in(base: Fd, path: &[u8], dir: bool, no_symlinks: bool) -> Result<Fd> {
    let resolve = if no_symlinks { uapi::RESOLVE_NO_SYMLINKS } else { 0 };
    let kind = if dir { uapi::O_DIRECTORY } else { 0 };
    match lookup(base, path, kind, resolve) {
        Err(Fault { errno: uapi::ENOENT, .. }) => match make_last(base, path, dir, resolve) {
            Err(Fault { errno: uapi::ENOENT | uapi::EEXIST, .. }) => make_in(base, path, dir, resolve, 0),
            other => other,
        },
        other => other,
    }
}

/// The common case: only the last name is missing. What we made a moment ago is opened by its name alone, in the
/// directory that we hold.
fn make_last(base: Fd, path: &[u8], dir: bool, resolve: u64) -> Result<Fd> {
    let not_this_way = Fault::new(Call::mkdirat, uapi::ENOENT);
    let slash = path.iter().rposition(|b| *b == b'/').filter(|at| *at > 0).ok_or(not_this_way)?;
    let name = path.get(slash.wrapping_add(1)..).filter(|name| name.len() > 1).ok_or(not_this_way)?;
    let mut above = [0u8; PATH_MAX];
    for (place, byte) in above.iter_mut().zip(path.get(..slash).unwrap_or(&[])) {
        *place = *byte;
    }
    let above = above.get(..slash.wrapping_add(1)).ok_or(not_this_way)?;
    let parent = lookup(base, above, uapi::O_DIRECTORY, resolve)?;
    let made = make_one(parent, name, dir)
        .and_then(|()| sys::openat(parent, name, uapi::O_PATH | uapi::O_NOFOLLOW, 0));
    sys::close(parent);
    made
}

/// Walks down from `base`, making each part that is missing in the directory that the walk has open. A
/// link that dangles is followed by its text, inside the root, as the lookup would.
fn make_in(base: Fd, path: &[u8], dir: bool, resolve: u64, depth: u32) -> Result<Fd> {
    let too_long = Fault::new(Call::mkdirat, uapi::ENAMETOOLONG);
    let mut prefix = [0u8; PATH_MAX];
    let path = path.split(|b| *b == 0).next().unwrap_or(&[]);
    let mut above = base;
    let mut at = 0usize;
    let mut name_start;
    loop {
        // The next name, copied behind what the prefix holds already.
        while path.get(at) == Some(&b'/') {
            *prefix.get_mut(at).ok_or(too_long)? = b'/';
            at = at.wrapping_add(1);
        }
        name_start = at;
        while let Some(byte) = path.get(at).filter(|b| **b != b'/') {
            *prefix.get_mut(at).ok_or(too_long)? = *byte;
            at = at.wrapping_add(1);
        }
        *prefix.get_mut(at).ok_or(too_long)? = 0;
        let whole = prefix.get(..at.wrapping_add(1)).ok_or(too_long)?;
        let name = prefix.get(name_start..at.wrapping_add(1)).ok_or(too_long)?;
        let last = path.get(at..).unwrap_or(&[]).iter().all(|b| *b == b'/');
        let as_dir = dir || !last;
        let kind = if as_dir { uapi::O_DIRECTORY } else { 0 };
        let found = match lookup(base, whole, kind, resolve) {
            Err(Fault { errno: uapi::ENOENT, .. }) => match make_one(above, name, as_dir) {
                Err(Fault { errno: uapi::EEXIST, .. }) if depth < 8 => {
                    let mut link = [0u8; PATH_MAX];
                    let to = sys::readlinkat(above, name, &mut link)?;
                    let mut whole = [0u8; PATH_MAX];
                    let joined = join(prefix.get(..name_start).unwrap_or(&[]), to, &mut whole)?;
                    make_in(base, joined, as_dir, resolve, depth.wrapping_add(1))
                }
                other => other.and_then(|()| lookup(base, whole, kind, resolve)),
            },
            other => other,
        };
        if above != base {
            sys::close(above);
        }
        above = found?;
        if last {
            return Ok(above);
        }
    }
}

fn make_one(above: Fd, name: &[u8], dir: bool) -> Result<()> {
    if dir {
        return sys::mkdirat(above, name, 0o755);
    }
    let flags = uapi::O_CREAT | uapi::O_EXCL | uapi::O_NOFOLLOW | uapi::O_WRONLY;
    sys::openat(above, name, flags, 0o644).map(sys::close)
}

/// `to` as seen from the directory `dir`, with a NUL.
fn join<'b>(dir: &[u8], to: &[u8], into: &'b mut [u8]) -> Result<&'b [u8]> {
    let dir = if to.first() == Some(&b'/') { &[] } else { dir };
    let length = dir.len().wrapping_add(to.len());
    for (place, byte) in into.iter_mut().zip(dir.iter().chain(to)) {
        *place = *byte;
    }
    into.get(..length.wrapping_add(1)).ok_or(Fault::new(Call::readlinkat, uapi::ENAMETOOLONG))
}

/// The directory, made if it can be: what is in the way is found again, and reported, by whoever needs it.
pub(crate) fn folder(c: &Context<'_>, path: &[u8]) {
    if let Ok(at) = c.root().and_then(|root| target_in(root, path, true, false)) {
        sys::close(at);
    }
}

/// Without a mount on /dev, the root's own directory is it; a link there could lead anywhere, so none is followed.
pub(crate) fn open_dev(c: &mut Context<'_>) -> Result<()> {
    let root = c.root()?;
    c.dev = Some(if defence::on(Defence::DevIsNoLink) {
        target_in(root, b"/dev\0", true, true)?
    } else {
        sys::openat(root, b"dev\0", uapi::O_PATH | uapi::O_DIRECTORY, 0)?
    });
    Ok(())
}

/// The directory of `path` below `base`, and its last name.
fn parent_of(base: Fd, path: &[u8]) -> Result<(Fd, &[u8])> {
    let Some(slash) = path.iter().rposition(|b| *b == b'/') else { return Ok((base, path)) };
    let name = path.get(slash.wrapping_add(1)..).unwrap_or(&[]);
    let mut dir = [0u8; PATH_MAX];
    let above = path.get(..slash).filter(|dir| !dir.is_empty()).unwrap_or(b".");
    for (place, byte) in dir.iter_mut().zip(above) {
        *place = *byte;
    }
    let dir = dir.get(..above.len().wrapping_add(1)).ok_or(Fault::new(Call::mknodat, uapi::ENAMETOOLONG))?;
    Ok((target_in(base, dir, true, false)?, name))
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

/// What an image brought at that name gives way, unless it is a directory.
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

/// The host's null device, not the container's, which may be a link (CVE-2025-31133).
fn host_null(c: &mut Context<'_>) -> Result<Fd> {
    if let Some(null) = c.null {
        return Ok(null);
    }
    if !defence::on(Defence::HostNull) {
        return lookup(c.root()?, b"/dev/null\0", 0, 0);
    }
    let null = sys::openat(uapi::AT_FDCWD, b"/dev/null\0", uapi::O_PATH | uapi::O_NOFOLLOW, 0)?;
    let stat = sys::stat_fd(null)?;
    if stat.kind() != uapi::S_IFCHR || stat.rdev != (1, 3) {
        return Err(Fault::new(Call::statx, uapi::ENODEV));
    }
    c.null = Some(null);
    Ok(null)
}

/// A file is covered by null, a directory by one empty directory that all masks share.
pub(crate) fn mask(c: &mut Context<'_>, path: &[u8]) -> Result<()> {
    let at = match lookup(c.root()?, path, 0, 0) {
        Err(Fault { errno: uapi::ENOENT | uapi::ENOTDIR, .. }) => return Ok(()),
        other => other?,
    };
    if !sys::stat_fd(at)?.is_dir() {
        let tree = sys::clone_tree(host_null(c)?, false)?;
        sys::attach(tree, at)?;
        sys::close(tree);
    } else if let Some(empty) = c.empty {
        let tree = sys::clone_tree(empty, false)?;
        sys::attach(tree, at)?;
        sys::close(tree);
    } else {
        let fs = sys::fsopen(b"tmpfs\0")?;
        let ro = uapi::MOUNT_ATTR_RDONLY
            | uapi::MOUNT_ATTR_NOSUID
            | uapi::MOUNT_ATTR_NODEV
            | uapi::MOUNT_ATTR_NOEXEC;
        sys::fsconfig_string(fs, b"nr_inodes\0", b"1\0")?;
        let tree = sys::fsmount(fs, ro)?;
        sys::close(fs);
        sys::attach(tree, at)?;
        // Attached, so it can be cloned: a detached mount could not be before Linux 6.15.
        c.empty = Some(tree);
    }
    sys::close(at);
    Ok(())
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
pub(crate) fn console(c: &mut Context<'_>, to: Fd, uid: u32, on_dev_console: bool, size: u32) -> Result<()> {
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
    // The group stays what devpts' gid= made it. A user namespace may not map the uid: then it is root's.
    match sys::fchownat(peer, b"\0", uid, u32::MAX) {
        Err(fault) if !matches!(fault.errno, uapi::EPERM | uapi::EINVAL) => return Err(fault),
        _ => {}
    }
    if on_dev_console {
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
    sys::controlling_tty(peer)?;
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
    sys::pivot_here()?;
    sys::detach(b".\0")?;
    sys::chdir(b"/\0")?;
    // Closed with all the rest, in the step's second half.
    (c.root, c.dev, c.null, c.empty, c.proc) = (None, None, None, None, None);
    Ok(())
}

/// How deep copy-up follows directories: each level holds a frame of the stack and two descriptors.
const COPY_DEPTH_MAX: u32 = 64;

/// Copies what lies at a mount's target into the new file system: modes, owners, links and devices.
fn copy_up(from: Fd, to: Fd) -> Result<()> {
    let source = sys::openat(from, b".\0", uapi::O_RDONLY | uapi::O_DIRECTORY, 0)?;
    let stat = sys::stat_fd(source)?;
    let copied = copy_dir(source, to, 0);
    sys::close(source);
    copied?;
    sys::fchownat(to, b"\0", stat.uid, stat.gid)?;
    sys::fchmodat(to, b".\0", stat.mode & 0o7777)
}

fn copy_dir(from: Fd, to: Fd, depth: u32) -> Result<()> {
    if depth > COPY_DEPTH_MAX {
        return Err(Fault::new(Call::getdents64, uapi::ELOOP));
    }
    let mut entries = [0u8; 2048];
    loop {
        let n = sys::getdents(from, &mut entries)?;
        if n == 0 {
            return Ok(());
        }
        let mut rest = entries.get(..n).unwrap_or(&[]);
        // struct linux_dirent64: inode 8, offset 8, length 2, type 1, then the name with its NUL.
        while let Some(&[low, high]) = rest.get(16..18).and_then(|b| b.first_chunk::<2>()) {
            let length = usize::from(u16::from_le_bytes([low, high]));
            let name = rest.get(19..length).unwrap_or(&[]);
            let end = name.iter().position(|b| *b == 0).map_or(0, |n| n.wrapping_add(1));
            let name = name.get(..end).unwrap_or(&[]);
            if !matches!(name, b".\0" | b"..\0" | b"") {
                copy_one(from, to, name, depth)?;
            }
            rest = rest.get(length..).unwrap_or(&[]);
        }
    }
}

fn copy_one(from: Fd, to: Fd, name: &[u8], depth: u32) -> Result<()> {
    let stat = sys::stat(from, name, false)?;
    let mode = stat.mode & 0o7777;
    match stat.kind() {
        uapi::S_IFDIR => {
            sys::mkdirat(to, name, 0o700)?;
            let flags = uapi::O_RDONLY | uapi::O_DIRECTORY | uapi::O_NOFOLLOW;
            let (source, dest) = (sys::openat(from, name, flags, 0)?, sys::openat(to, name, flags, 0)?);
            let copied = copy_dir(source, dest, depth.wrapping_add(1));
            sys::close(source);
            sys::close(dest);
            copied?;
        }
        uapi::S_IFREG => {
            // A neighbour may have put a FIFO there since: then it ends at once, where we would wait for a writer.
            let source = sys::openat(from, name, uapi::O_RDONLY | uapi::O_NOFOLLOW | uapi::O_NONBLOCK, 0)?;
            let dest = sys::openat(to, name, uapi::O_CREAT | uapi::O_EXCL | uapi::O_WRONLY, 0o600)?;
            let copied = loop {
                match sys::sendfile(dest, source, 1 << 20) {
                    Ok(0) => break Ok(()),
                    Ok(_) => {}
                    Err(fault) => break Err(fault),
                }
            };
            sys::close(source);
            sys::close(dest);
            copied?;
        }
        uapi::S_IFLNK => {
            let mut link = [0u8; PATH_MAX];
            // The buffer starts as zeroes and readlink leaves at least one.
            let length = sys::readlinkat(from, name, &mut link)?.len();
            sys::symlinkat(link.get(..length.wrapping_add(1)).unwrap_or(b"\0"), to, name)?;
            return sys::fchownat(to, name, stat.uid, stat.gid);
        }
        kind => {
            let (major, minor) = stat.rdev;
            let device = minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12;
            sys::mknodat(to, name, kind | mode, device)?;
        }
    }
    sys::fchownat(to, name, stat.uid, stat.gid)?;
    sys::fchmodat(to, name, mode)
}

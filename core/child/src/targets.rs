#![forbid(unsafe_code)]
//! Where mounts, devices and links go: looked up inside the root, and made where it is missing.

use crate::context::Context;
use crate::defence::{self, Defence};
use crate::sys::{self, Call, Fault, Fd, Result, uapi};

/// A link inside the root is followed inside the root; /proc/PID/fd and the like never.
pub(crate) const INSIDE: u64 = uapi::RESOLVE_IN_ROOT | uapi::RESOLVE_NO_MAGICLINKS;
pub(crate) const PATH_MAX: usize = 4096;
/// As many links that dangle are followed before there is a loop.
const DANGLING_MAX: u32 = 8;

/// Where something goes.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub fd: Fd,
    /// It was there; else it was made a moment ago.
    pub found: bool,
}

/// What `path` is inside `base`; `resolve` says what else may not be followed.
pub(crate) fn lookup(base: Fd, path: &[u8], flags: u32, resolve: u64) -> Result<Fd> {
    if !defence::on(Defence::TargetsInRoot) {
        // As if the path were only joined to the root's: a link leads where it does on the host.
        let relative = path.iter().position(|b| *b != b'/').and_then(|start| path.get(start..));
        return sys::openat(base, relative.unwrap_or(path), uapi::O_PATH | flags, 0);
    }
    sys::openat2(base, path, uapi::O_PATH | flags, 0, INSIDE | resolve)
}

/// What `path` is inside `base`, made where it is missing: a directory, or an empty file.
pub(crate) fn target_in(base: Fd, path: &[u8], dir: bool, no_symlinks: bool) -> Result<Target> {
    let resolve = if no_symlinks { uapi::RESOLVE_NO_SYMLINKS } else { 0 };
    let kind = if dir { uapi::O_DIRECTORY } else { 0 };
    let made = match lookup(base, path, kind, resolve) {
        Err(Fault { errno: uapi::ENOENT, .. }) => match make_last(base, path, dir, resolve) {
            Err(Fault { errno: uapi::ENOENT | uapi::EEXIST, .. }) => make_in(base, path, dir, resolve, 0),
            other => other,
        },
        other => return other.map(|fd| Target { fd, found: true }),
    };
    made.map(|fd| Target { fd, found: false })
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
                Err(Fault { errno: uapi::EEXIST, .. }) => match lookup(base, whole, kind, resolve) {
                    // There is the name, and behind it nothing: a link that dangles.
                    Err(Fault { errno: uapi::ENOENT, .. }) if depth < DANGLING_MAX => {
                        let dir = prefix.get(..name_start).unwrap_or(&[]);
                        make_behind(base, above, (dir, name), as_dir, resolve, depth)
                    }
                    // Another launch has made it meanwhile.
                    other => other,
                },
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

/// What the link `name` in `above`, whose path is `dir`, leads to.
fn make_behind(
    base: Fd,
    above: Fd,
    (dir, name): (&[u8], &[u8]),
    as_dir: bool,
    resolve: u64,
    depth: u32,
) -> Result<Fd> {
    let mut link = [0u8; PATH_MAX];
    let to = sys::readlinkat(above, name, &mut link)?;
    let mut whole = [0u8; PATH_MAX];
    let joined = join(dir, to, &mut whole)?;
    make_in(base, joined, as_dir, resolve, depth.wrapping_add(1))
}

pub(crate) fn make_one(above: Fd, name: &[u8], dir: bool) -> Result<()> {
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

/// Does this with `dir` as the working directory, and comes back to where we were.
pub(crate) fn in_directory<T>(dir: Fd, what: impl FnOnce() -> Result<T>) -> Result<T> {
    let here = sys::openat(uapi::AT_FDCWD, b".\0", uapi::O_PATH | uapi::O_DIRECTORY, 0);
    sys::fchdir(dir)?;
    let done = what();
    // A user namespace's root may not be allowed in there.
    if here.and_then(|fd| sys::fchdir(fd).map(|()| sys::close(fd))).is_err() {
        sys::chdir(b"/\0")?;
    }
    done
}

/// The directory, made if it can be: what is in the way is found again, and reported, by whoever needs it.
pub(crate) fn folder(c: &Context<'_>, path: &[u8]) {
    if let Ok(at) = c.root().and_then(|root| target_in(root, path, true, false)) {
        sys::close(at.fd);
    }
}

/// Without a mount on /dev, the root's own directory is it; a link there could lead anywhere, so none is followed.
pub(crate) fn open_dev(c: &mut Context<'_>) -> Result<()> {
    let root = c.root()?;
    c.dev = Some(if defence::on(Defence::DevIsNoLink) {
        target_in(root, b"/dev\0", true, true)?.fd
    } else {
        sys::openat(root, b"dev\0", uapi::O_PATH | uapi::O_DIRECTORY, 0)?
    });
    Ok(())
}

/// The directory of `path` below `base`, and its last name.
pub(crate) fn parent_of(base: Fd, path: &[u8]) -> Result<(Fd, &[u8])> {
    let Some(slash) = path.iter().rposition(|b| *b == b'/') else { return Ok((base, path)) };
    let name = path.get(slash.wrapping_add(1)..).unwrap_or(&[]);
    let mut dir = [0u8; PATH_MAX];
    let above = path.get(..slash).filter(|dir| !dir.is_empty()).unwrap_or(b".");
    for (place, byte) in dir.iter_mut().zip(above) {
        *place = *byte;
    }
    let dir = dir.get(..above.len().wrapping_add(1)).ok_or(Fault::new(Call::mknodat, uapi::ENAMETOOLONG))?;
    Ok((target_in(base, dir, true, false)?.fd, name))
}

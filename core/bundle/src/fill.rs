//! A new volume of a service from an image begins with what the image has there, as docker does it: all of it or nothing, whoever
//! is killed over this.
//!
//! ```text
//!   PARENT/.HASH.filling/data    grows, and is named PARENT/NAME when it is whole and on the disk
//!   state_dir/filling/HASH       the lock: services that begin with one volume at the same time wait for the first of them
//! ```
//! What an earlier one has left that was killed goes when the volume is filled, or any volume is removed. Only the layers of the image are read, which no
//! container can write to; a folder of the host that is no volume of a name is never filled, nor one that is there already.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, Dir, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, fchown, fstat, fsync, mkdirat, openat,
    renameat_with, syncfs,
};
use rustix::io::Errno;
use sampan_image::digest::Hasher;
use sampan_image::root::{Amount, copy, measure};
use sampan_image::store::{hold, remove_in};
use sampan_image::{Error as Failed, Kind, Limits};
use sampan_journal::crash;
use sampan_lock::Lock;
use sampan_runtime::kernel::trust::make_folders;

use super::Error;
use super::folders::Make;
use super::image::Image;
use super::root::Root;

/// Ends the name of what is not whole yet.
const FILLING: &str = ".filling";
/// Of a hash in a name.
const HASH_LEN: usize = 32;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Where the locks are.
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("filling")
}

/// Removes what killed ones have left in state_dir's folder of volumes, `all`.
pub fn remove_half_filled(state_dir: &Path, all: &OwnedFd) {
    let Ok(entries) = Dir::read_from(all) else { return };
    for entry in entries.flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let Some(hash) = name.to_str().and_then(hash_of) else { continue };
        // Whoever fills it now has the lock.
        let lock = make_folders(&folder(state_dir), Mode::from_raw_mode(0o700))
            .ok()
            .and_then(|()| Lock::take(&folder(state_dir).join(hash), std::process::id()).ok());
        if let Some(lock) = lock {
            let _ = remove_in(all, name);
            lock.remove();
        }
    }
}

/// Makes those that are not there. `locks`: the folder of the locks.
pub fn make_all(
    service: &str,
    all: &[&Make],
    image: Option<&Image>,
    locks: &Path,
    tell: &dyn Fn(String),
) -> Result<(), Error> {
    let wrong = |doing, make: &Make| Error::new(service, "volumes", doing).path(&make.path);
    let is_new = |make: &&&Make| make.from.is_some() && !make.path.is_dir();
    let sources = match image.zip(all.iter().find(is_new)) {
        None => Vec::new(),
        Some((image, first)) => {
            let sources = image.root().and_then(|root| sources(all, &root).map_err(|e| e.sentence()));
            sources.map_err(|why| wrong("fill the volume", first).why(why).hint(hint(first)))?
        }
    };
    for make in all {
        match sources.iter().find(|source| source.make == *make) {
            Some(source) if !make.path.is_dir() => {
                let filled = source.fill(locks, tell);
                filled.map_err(|e| wrong("fill the volume", make).why(e.sentence()).hint(hint(make)))?;
            }
            _ => make.make().map_err(|e| wrong("make the folder", make).because(&e))?,
        }
    }
    Ok(())
}

fn hint(make: &Make) -> String {
    let from = make.from.as_deref().unwrap_or_default();
    format!(
        "it is to begin with what the image has in {from}; `NAME:{from}:nocopy` in volumes begins with nothing"
    )
}

/// A folder of the image, and what is to be made of it.
struct Source<'s> {
    make: &'s Make,
    folder: OwnedFd,
    stat: Stat,
    has_something: bool,
}

/// All that the image has, also of volumes that are there: how often a service begins does not make it more.
fn sources<'s>(all: &[&'s Make], root: &Root) -> Result<Vec<Source<'s>>, Failed> {
    let mut total = Amount::default();
    let mut sources = Vec::new();
    for make in all {
        let Some(from) = &make.from else { continue };
        let fail = |e: Errno| Failed::io("look into the image's", Path::new(from), e);
        let Some(folder) = root.folder(from).map_err(fail)? else { continue };
        let before = total.entries;
        measure(&folder, &mut total, &Limits::default())
            .map_err(|e| e.within(format!("{from} of the image")))?;
        let stat = fstat(&folder).map_err(fail)?;
        sources.push(Source { make, folder, stat, has_something: total.entries > before });
    }
    Ok(sources)
}

impl Source<'_> {
    fn fill(&self, locks: &Path, tell: &dyn Fn(String)) -> Result<(), Failed> {
        let path = &self.make.path;
        if !self.has_something {
            return self.like_the_images().make().map_err(|e| Failed::io("make", path, e));
        }
        let from = self.make.from.as_deref().unwrap_or_default();
        make_folders(locks, Mode::from_raw_mode(0o700)).map_err(|e| Failed::io("make", locks, e))?;
        let hash = hash(path);
        let lock_path = locks.join(&hash);
        let waiting = || tell(format!("another service's copy of {from} of the image to {}", path.display()));
        let lock = hold(&lock_path, &waiting)?;
        tell(format!("the copy of {from} of the image to {}", path.display()));
        let filled = if path.is_dir() { Ok(()) } else { self.fill_alone(&format!(".{hash}{FILLING}")) };
        // Whoever waits for it finds that it has no name any more, and makes another one.
        let _ = std::fs::remove_file(&lock_path);
        drop(lock);
        filled
    }

    /// With nothing in it.
    fn like_the_images(&self) -> Make {
        let Stat { st_uid, st_gid, st_mode, .. } = self.stat;
        let Make { path, uid, gid, mode, .. } = self.make;
        Make {
            path: path.clone(),
            uid: uid.or(Some(st_uid)),
            gid: gid.or(Some(st_gid)),
            mode: mode.or(Some(st_mode & 0o7777)),
            from: None,
        }
    }

    fn fill_alone(&self, staging: &str) -> Result<(), Failed> {
        let path = &self.make.path;
        let fail = |doing| move |e: io::Error| Failed::io(doing, path, e);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Failed::io("make", path, Errno::EXIST));
        };
        make_folders(parent, Mode::from_raw_mode(0o755)).map_err(fail("make the folder of"))?;
        let parent =
            openat(CWD, parent, FOLDER, Mode::empty()).map_err(|e| fail("open the folder of")(e.into()))?;
        let remove = || match remove_in(&parent, staging.as_ref()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail("remove what is beside")(e)),
            _ => Ok(()),
        };
        remove()?;
        crash::point("a volume is to be filled");
        let filled = self.fill_in(&parent, staging).and_then(|made| {
            crash::point("a volume is filled, not named");
            match renameat_with(&made, "data", &parent, name, RenameFlags::NOREPLACE) {
                // By somebody who does not fill it: his counts.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(fail("name")(e.into())),
            }
            crash::point("a volume is named, its folder not synced");
            fsync(&parent).map_err(|e| fail("sync the folder of")(e.into()))
        });
        filled.and(remove())
    }

    /// The folder with `data` in it, on the disk.
    fn fill_in(&self, parent: &OwnedFd, staging: &str) -> Result<OwnedFd, Failed> {
        let path = &self.make.path;
        let fail = |e: Errno| Failed::io("make the folder that becomes", path, e);
        let made = new_folder(parent, staging).map_err(fail)?;
        // The parent may be another user's, who has put something in its place.
        if fstat(&made).map_err(fail)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(Failed::new(
                Kind::Host,
                format!("cannot fill {}", path.display()),
                "somebody else changes names beside it",
            ));
        }
        let data = new_folder(&made, "data").map_err(fail)?;
        let names = new_folder(&made, "names").map_err(fail)?;
        copy(&self.folder, &data, &names)?;
        self.own(&data).map_err(fail)?;
        syncfs(&data).map_err(|e| Failed::io("sync", path, e))?;
        Ok(made)
    }

    /// What the config says of it counts more than the image.
    fn own(&self, data: &OwnedFd) -> rustix::io::Result<()> {
        let Make { uid, gid, mode, .. } = self.make;
        if uid.is_some() || gid.is_some() {
            fchown(data, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
        }
        let of_image = self.stat.st_mode & 0o7777;
        fchmod(data, Mode::from_raw_mode(mode.unwrap_or(of_image)))
    }
}

fn new_folder(parent: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
    openat(&parent, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
}

/// Of a path, which may be longer than a name can be.
fn hash(path: &Path) -> String {
    let mut hasher = Hasher::sha256();
    hasher.update(path.as_os_str().as_encoded_bytes());
    hasher.finish().hex().chars().take(HASH_LEN).collect()
}

/// Of the name of what grows beside a volume.
fn hash_of(name: &str) -> Option<&str> {
    let hash = name.strip_prefix('.')?.strip_suffix(FILLING)?;
    (hash.len() == HASH_LEN && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

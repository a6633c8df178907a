//! The folders that make one sampand: run_dir (this boot: lock, journal, bundles, containers) and state_dir (what
//! survives). Both must be ours and closed to others; one sampand per run_dir, held by a lock on `sampand.lock`
//! that the keel keeps, so that it outlives a worker; after a reboot what an earlier boot left is cleared. The keel also
//! keeps a lock on state_dir and a claim on the control groups: a second sampand with a run_dir of its own and these in
//! common would write the first one's logs, and kill its containers for strays.

use super::client::{self, Keel};
use crate::journal;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const LOCK: &str = "sampand.lock";
/// The keel's name for the lock on state_dir, which is on the folder itself.
const STATE: &str = "sampand.state";
/// The keel's name for the claim on the control groups.
const GROUPS: &str = "sampand.groups";
/// The runtime's root. After a reboot nothing in it runs, whoever made it.
const CONTAINERS: &str = "containers";
/// All that sampand ever makes in a run folder. Nothing else is touched when it is cleared: the folder's name
/// comes from a file that somebody wrote by hand.
const OURS: [&str; 7] = [CONTAINERS, "bundles", "io", "notify", "plugins", "journal", "sampand.sock"];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{path}: cannot {doing}: {errno}",
        path = path.display()
    )]
    Folder { path: PathBuf, doing: &'static str, errno: Errno },
    #[error(
        "{path}: owned by uid {owner}, not by us (uid {us})\n  chown it, or name another folder",
        path = path.display()
    )]
    Owner { path: PathBuf, owner: u32, us: u32 },
    #[error(
        "{path}: others may write to it (mode {mode:03o})\n  chmod go-w {path}",
        path = path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error(
        "{path}: sampand runs already{holder}\n  `sampanctl` talks to it; a second one needs a run_dir of its own",
        path = path.display(),
        holder = holder.map(|pid| format!(", as process {pid}")).unwrap_or_default()
    )]
    Held { path: PathBuf, holder: Option<u32> },
    #[error(
        "supervisor.{key} {what}: another sampand uses it\n  stop that one, or name another: {key} = \"..\" beside a run_dir of its own"
    )]
    Shared { key: &'static str, what: String },
    #[error("cannot read the boot id from /proc/sys/kernel/random/boot_id: {0}")]
    BootId(std::io::Error),
    #[error(transparent)]
    Keel(#[from] client::Error),
}

/// A run folder that is ours alone.
#[derive(Debug)]
pub struct Claim {
    pub boot_id: String,
    /// What an earlier boot left was cleared.
    pub rebooted: bool,
}

/// Makes the folders if need be, checks whose they are, takes the locks (or finds them with the keel, after a crash
/// of the worker) and clears what an earlier boot left.
pub fn claim(run_dir: &Path, state_dir: &Path, cgroup_parent: &str, keel: &Keel) -> Result<Claim, Error> {
    let boot_id = boot_id().map_err(Error::BootId)?;
    // The socket in it may be open to a group: others may pass, but see nothing.
    let run = folder(run_dir, 0o711)?;
    let state = folder(state_dir, 0o700)?;
    lock(&run, run_dir, keel)?;
    lock_state(&state, state_dir, keel)?;
    claim_groups(cgroup_parent, keel)?;
    let rebooted = journal::boot_of(run_dir).is_some_and(|boot| boot != boot_id);
    if rebooted {
        clear(run_dir).map_err(|error| failed(run_dir, "clear it after a reboot", io(&error)))?;
    }
    Ok(Claim { boot_id, rebooted })
}

fn lock_state(state: &OwnedFd, path: &Path, keel: &Keel) -> Result<(), Error> {
    let same = |held: &OwnedFd| match (rustix::fs::fstat(held), rustix::fs::fstat(state)) {
        (Ok(held), Ok(here)) => (held.st_dev, held.st_ino) == (here.st_dev, here.st_ino),
        _ => false,
    };
    if keel.fetch(STATE)?.is_some_and(|held| same(&held)) {
        return Ok(());
    }
    match rustix::fs::flock(state, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(keel.keep(STATE, Some(state.as_fd()))?),
        Err(Errno::AGAIN) => Err(Error::Shared { key: "state_dir", what: path.display().to_string() }),
        // A file system without locks on folders (some network ones) is no reason not to run.
        Err(_) => Ok(()),
    }
}

/// A socket in the abstract namespace, as a cgroup has no file that could be locked before there is a group: it goes with
/// the keel, however that ends. A path of control groups means something in one cgroup namespace, whose number is in the name.
fn claim_groups(parent: &str, keel: &Keel) -> Result<(), Error> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
    use std::os::unix::fs::MetadataExt;
    let fail = |errno| failed(Path::new(parent), "claim these control groups", errno);
    let namespace = std::fs::metadata("/proc/self/ns/cgroup").map_or(0, |found| found.ino());
    // Such a name has at most 107 bytes.
    let name = format!("sampan/groups/{namespace}/{:08x}", journal::crc32(parent.as_bytes()));
    let key = format!("{GROUPS}/{name}");
    if keel.fetch(&key)?.is_some() {
        return Ok(());
    }
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).map_err(fail)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(fail)?;
    match bind(&socket, &address).and_then(|()| listen(&socket, 1)) {
        Ok(()) => Ok(keel.keep(&key, Some(socket.as_fd()))?),
        Err(Errno::ADDRINUSE) => match rustix::net::connect(&socket, &address) {
            // Anybody may take such a name, and nobody is to keep us from starting so: only who could be one of us counts.
            Ok(()) if peer_is_a_stranger(&socket) => Ok(()),
            _ => Err(Error::Shared { key: "cgroup_parent", what: parent.to_owned() }),
        },
        Err(errno) => Err(fail(errno)),
    }
}

fn peer_is_a_stranger(socket: &OwnedFd) -> bool {
    rustix::net::sockopt::socket_peercred(socket).is_ok_and(|peer| peer.uid != rustix::process::geteuid())
}

pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Removes all that is ours in a run folder, but for the lock.
pub fn clear(run_dir: &Path) -> std::io::Result<()> {
    OURS.iter().try_for_each(|name| remove(&run_dir.join(name)))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The last thing before sampand ends: all that is ours goes, the lock too, and the folder if nothing else is in it. Containers that
/// another client has in the same root stay: by now ours are removed one by one. Nothing of ours runs any more, so a
/// sampand that starts this moment with a new lock meets nobody.
pub fn leave(run_dir: &Path) -> std::io::Result<()> {
    let empty = |path: &Path| match std::fs::remove_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => Ok(()),
        other => other,
    };
    empty(&run_dir.join(CONTAINERS))?;
    OURS.iter().filter(|name| **name != CONTAINERS).try_for_each(|name| remove(&run_dir.join(name)))?;
    std::fs::remove_file(run_dir.join(LOCK))?;
    empty(run_dir)
}

/// A folder of our own that nobody else can write to; made if it is not there.
fn folder(path: &Path, mode: u32) -> Result<OwnedFd, Error> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| failed(path, "make it", io(&error)))?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder =
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|e| failed(path, "open it", e))?;
    // Asked of the descriptor: the path may be a link that somebody turns round.
    let stat = rustix::fs::fstat(&folder).map_err(|e| failed(path, "look at it", e))?;
    let us = rustix::process::geteuid().as_raw();
    if stat.st_uid != us {
        return Err(Error::Owner { path: path.to_owned(), owner: stat.st_uid, us });
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(Error::Mode { path: path.to_owned(), mode: stat.st_mode & 0o777 });
    }
    Ok(folder)
}

fn lock(run: &OwnedFd, run_dir: &Path, keel: &Keel) -> Result<(), Error> {
    let path = run_dir.join(LOCK);
    let in_place = |held: &OwnedFd| match rustix::fs::statat(run, LOCK, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => {
            rustix::fs::fstat(held).is_ok_and(|h| (h.st_dev, h.st_ino) == (there.st_dev, there.st_ino))
        }
        Err(_) => false,
    };
    if keel.fetch(LOCK)?.is_some_and(|held| in_place(&held)) {
        return Ok(());
    }
    loop {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(run, LOCK, flags, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH)
            .map_err(|e| failed(&path, "open it", e))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Err(Error::Held { path, holder: holder(&file) }),
            Err(errno) => return Err(failed(&path, "lock it", errno)),
        }
        // Somebody may have removed it between open and flock: then we hold a file that no one else will find.
        if !in_place(&file) {
            continue;
        }
        let keel_pid = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        let text = format!("{keel_pid}\n");
        rustix::fs::ftruncate(&file, 0)
            .and_then(|()| rustix::io::pwrite(&file, text.as_bytes(), 0))
            .map_err(|e| failed(&path, "write to it", e))?;
        return Ok(keel.keep(LOCK, Some(file.as_fd()))?);
    }
}

fn holder(file: &OwnedFd) -> Option<u32> {
    let mut text = [0u8; 16];
    let got = rustix::io::pread(file, &mut text, 0).ok()?;
    core::str::from_utf8(text.get(..got)?).ok()?.trim().parse().ok()
}

fn failed(path: &Path, doing: &'static str, errno: Errno) -> Error {
    Error::Folder { path: path.to_owned(), doing, errno }
}

fn io(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

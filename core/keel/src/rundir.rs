//! The folders that make one sampand: run_dir (this boot: lock, journal, bundles, containers) and state_dir (what
//! survives). Both must be ours and closed to others; one sampand per run_dir, held by a lock on `sampand.lock`
//! that the keel keeps, so that it outlives a worker; after a reboot what an earlier boot left is cleared. The keel also
//! keeps a lock on state_dir and a claim on the control groups: a second sampand with a run_dir of its own and these in
//! common would write the first one's logs, and kill its containers for strays.

use super::client::{self, Keel};
use super::record;
use super::takeover::{self, TakenOver};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags, fchmod};
use rustix::io::Errno;
use sampan_journal as journal;
use sampan_plugin::lock::{self, Lock, Refused};
use sampan_runtime::kernel::trust::{self, Group};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LOCK: &str = "sampand.lock";
/// The lock in state_dir, and the keel's name for it.
const STATE: &str = "state.lock";
/// The keel's name for the claim on the control groups.
const GROUPS: &str = "sampand.groups";
/// The runtime's root. After a reboot nothing in it runs, whoever made it.
const CONTAINERS: &str = "containers";
/// All that sampand ever makes in a run folder. Nothing else is touched when it is cleared: the folder's name
/// comes from a file that somebody wrote by hand.
const OURS: [&str; 9] = [
    CONTAINERS,
    "bundles",
    "io",
    "notify",
    "plugins",
    "journal",
    "cgroup_parent",
    "sampand.sock",
    record::NAME,
];
/// A lock whose holder is not on record yet will be: it is the first thing that a holder does.
const UNKNOWN_MAX: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(10);

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
    #[error(transparent)]
    NotTrusted(#[from] trust::Error),
    #[error(transparent)]
    Lock(#[from] Refused),
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
    #[error(transparent)]
    TakeOver(#[from] takeover::Error),
}

/// A run folder that is ours alone.
#[derive(Debug)]
pub struct Claim {
    pub boot_id: String,
    /// What an earlier boot left was cleared.
    pub rebooted: bool,
    /// What the holder of a dead sampand had is this keel's.
    pub taken_over: bool,
}

/// Makes the folders if need be, checks whose they are, takes the locks (or finds them with the keel, after a crash
/// of the worker) and clears what an earlier boot left.
pub fn claim(run_dir: &Path, state_dir: &Path, keel: &Keel) -> Result<Claim, Error> {
    let boot_id = boot_id().map_err(Error::BootId)?;
    // The socket in it may be open to a group: others may pass, but see nothing.
    folder(run_dir, 0o711)?;
    folder(state_dir, 0o700)?;
    let taken_over = own(run_dir, &boot_id, keel)?;
    lock_state(state_dir, keel)?;
    let rebooted = journal::boot_of(run_dir).is_some_and(|boot| boot != boot_id);
    if rebooted {
        clear(run_dir).map_err(|error| failed(run_dir, "clear it after a reboot", io(&error)))?;
    }
    close_to_others(run_dir)?;
    takeover::hold(run_dir, &boot_id, keel)?;
    Ok(Claim { boot_id, rebooted, taken_over: taken_over.is_some() })
}

/// Locks the run folder, by taking over from a holder that has outlived its sampand if there is one.
fn own(run_dir: &Path, boot: &str, keel: &Keel) -> Result<Option<TakenOver>, Error> {
    let begin = Instant::now();
    loop {
        let taken = takeover::take_over(run_dir, boot, keel)?;
        match lock(run_dir, keel) {
            Err(Error::Held { .. }) if begin.elapsed() < UNKNOWN_MAX && !is_led(run_dir, boot) => {
                std::thread::sleep(AGAIN);
            }
            locked => return locked.map(|()| taken),
        }
    }
}

/// Whether a sampand runs there.
fn is_led(run_dir: &Path, boot: &str) -> bool {
    record::living(run_dir, boot).first().is_some_and(|one| record::running(&one.entry.keel).is_some())
}

/// Its folder may be readable, and so lockable, for others: a file in it is not.
fn lock_state(state_dir: &Path, keel: &Keel) -> Result<(), Error> {
    match hold(&state_dir.join(STATE), STATE, keel) {
        Err(Error::Lock(Refused::Held { .. })) => {
            Err(Error::Shared { key: "state_dir", what: state_dir.display().to_string() })
        }
        // A file system without locks (some network ones) is no reason not to run.
        Err(Error::Lock(Refused::Call { doing: "lock it", .. })) => Ok(()),
        other => other,
    }
}

/// The control groups below `parent`, which may be known only when run_dir is ours.
/// A cgroup has no file that could be locked before there is a group. A path of control groups means something in one
/// cgroup namespace, whose number is in the name.
pub fn claim_groups(parent: &str, keel: &Keel) -> Result<(), Error> {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/cgroup").map_or(0, |found| found.ino());
    let name = format!("groups.{namespace}.{:08x}", journal::crc32(parent.as_bytes()));
    let folder = match lock::shared_folder() {
        Ok(folder) => folder,
        Err(refused @ Refused::NoFolder { .. }) => {
            tracing::warn!("the control groups are not claimed: {refused}");
            return Ok(());
        }
        Err(refused) => return Err(refused.into()),
    };
    match hold(&folder.join(&name), &format!("{GROUPS}/{name}"), keel) {
        Err(Error::Lock(Refused::Held { .. })) => {
            Err(Error::Shared { key: "cgroup_parent", what: parent.to_owned() })
        }
        other => other,
    }
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
        // In use: a mount point, as systemd makes of RuntimeDirectory= in some units.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound | ErrorKind::ResourceBusy
            ) =>
        {
            Ok(())
        }
        other => other,
    };
    empty(&run_dir.join(CONTAINERS))?;
    OURS.iter().filter(|name| **name != CONTAINERS).try_for_each(|name| remove(&run_dir.join(name)))?;
    std::fs::remove_file(run_dir.join(LOCK))?;
    empty(run_dir)
}

/// A folder of our own that nobody else can write to or put another in the place of; made if it is not there.
fn folder(path: &Path, mode: u32) -> Result<(), Error> {
    trust::make_folders(path, mode).map_err(|error| failed(path, "make it", io(&error)))?;
    let folder = trust::folder(path, Group::MayNotWrite)?;
    // Asked of the descriptor: the path may be a link that somebody turns round.
    let owner = rustix::fs::fstat(&folder).map_err(|e| failed(path, "look at it", e))?.st_uid;
    let us = rustix::process::geteuid().as_raw();
    if owner != us {
        return Err(Error::Owner { path: path.to_owned(), owner, us });
    }
    Ok(())
}

/// What an older version left open to others is closed.
fn close_to_others(run_dir: &Path) -> Result<(), Error> {
    for name in OURS {
        let path = run_dir.join(name);
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(folder) => {
                let mode = rustix::fs::fstat(&folder).map(|stat| Mode::from_raw_mode(stat.st_mode & 0o7700));
                let closed = mode.and_then(|mode| fchmod(&folder, mode));
                closed.map_err(|e| failed(&path, "close it to others", e))?;
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(failed(&path, "open it", errno)),
        }
    }
    Ok(())
}

fn lock(run_dir: &Path, keel: &Keel) -> Result<(), Error> {
    match hold(&run_dir.join(LOCK), LOCK, keel) {
        Err(Error::Lock(Refused::Held { path, holder })) => Err(Error::Held { path, holder }),
        other => other,
    }
}

/// Takes the lock at `path` and gives it to the keel under `key`, which may have it already.
fn hold(path: &Path, key: &str, keel: &Keel) -> Result<(), Error> {
    if let Some(held) = keel.fetch(key)?.map(std::fs::File::from)
        && lock::is_at(&held, path)
    {
        // It may have been a dead keel's.
        return lock::sign(&held, keel_pid()).map_err(|error| failed(path, "write to it", io(&error)));
    }
    let lock = Lock::take(path, keel_pid())?;
    Ok(keel.keep(key, Some(lock.as_fd()))?)
}

fn keel_pid() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}

fn failed(path: &Path, doing: &'static str, errno: Errno) -> Error {
    Error::Folder { path: path.to_owned(), doing, errno }
}

fn io(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

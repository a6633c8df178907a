//! The folders that make one sampand: run_dir (this boot: lock, journal, bundles, containers) and state_dir (what
//! survives). Both must be ours and closed to others; one sampand per run_dir, held by a lock on `sampand.lock`
//! that the keel keeps, so that it outlives a worker; after a reboot what an earlier boot left is cleared. The keel also
//! keeps a lock on state_dir and a claim on the control groups: a second sampand with a run_dir of its own and these in
//! common would write the first one's logs, and kill its containers for strays.

use crate::client::{self, Keel};
use crate::record;
use crate::takeover::{self, TakenOver};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use sampan_child::defence::{self, Defence};
use sampan_journal as journal;
use sampan_lock::{self as lock, Lock, Refused};
use sampan_runtime::kernel::trust::{self, Group};
use std::ffi::OsStr;
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
/// The config that was applied last.
pub const APPLIED: &str = "applied.json";
/// Containers that are run once, beside the services of the config: a folder each.
pub const ONE_OFFS: &str = "one-offs";
/// All that sampand ever makes in a run folder, and beside each the one that was to replace it. Nothing else is touched when
/// it is cleared: the folder's name comes from a file that somebody wrote by hand.
const OURS: [&str; 15] = [
    CONTAINERS,
    "bundles",
    "init",
    "secrets",
    "io",
    "fdstore",
    "notify",
    "requests",
    ONE_OFFS,
    "plugins",
    "journal",
    "cgroup_parent",
    "sampand.sock",
    record::NAME,
    APPLIED,
];
/// A lock whose holder is not on record yet will be: it is the first thing that a holder does.
const UNKNOWN_MAX: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(10);

/// Journals that could not be read are kept under such names.
const DAMAGED: &[u8] = b"journal.damaged.";

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
        "{source}\n  that is {key} of [supervisor]: see that we can write to it and that there is room, or name another: {key} = \"..\""
    )]
    Key { key: &'static str, source: Box<Error> },
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
    /// The process that keeps the descriptors; none if it has just ended, and another one starts.
    pub holder: Option<u32>,
}

/// Makes the folders if need be, checks whose they are, takes the locks (or finds them with the keel, after a crash
/// of the worker) and clears what an earlier boot left.
pub fn claim(run_dir: &Path, state_dir: &Path, keel: &Keel) -> Result<Claim, Error> {
    let boot_id = boot_id().map_err(Error::BootId)?;
    // The socket in it may be open to a group: others may pass, but see nothing.
    let run = folder(run_dir, trust::closed(0o711)).map_err(of("run_dir"))?;
    make_state(state_dir).map_err(of("state_dir"))?;
    let taken_over = own(run_dir, &boot_id, keel).map_err(of("run_dir"))?;
    lock_state(state_dir, keel).map_err(of("state_dir"))?;
    let rebooted = journal::boot_of(run_dir).is_some_and(|boot| boot != boot_id);
    if rebooted {
        clear(run_dir).map_err(|error| failed(run_dir, "clear it after a reboot", io(&error)))?;
    }
    close_to_others(run_dir, &run)?;
    let holder = start_holder(run_dir, &boot_id, keel).map_err(of("run_dir"))?;
    Ok(Claim { boot_id, rebooted, taken_over: taken_over.is_some(), holder })
}

/// Has the keel make a holder, unless it has one, and ends those before it. The pid of the holder, unless it has just ended.
fn start_holder(run_dir: &Path, boot: &str, keel: &Keel) -> Result<Option<u32>, Error> {
    let file: OwnedFd = record::open(run_dir, boot).map_err(|error| {
        failed(&run_dir.join(record::NAME), "make the record of who holds what", io(&error))
    })?;
    let living = record::living(run_dir, boot);
    let ours = rustix::process::getppid().map_or(0, |keel| keel.as_raw_nonzero().get());
    let is_ours = |living: &&record::Living| {
        living.entry.keel.pid == ours && record::running(&living.entry.keel).is_some()
    };
    // Not in the place of one that lives. A keel that has a holder keeps it.
    let (place, number) = living.first().map_or((0, 1), |latest| (1 - latest.place, latest.entry.number + 1));
    let holder = keel.hold(file.as_fd(), place, number)?;
    for older in living.iter().filter(|living| !is_ours(living)) {
        takeover::end(older.pidfd.as_fd());
    }
    Ok(holder)
}

/// The state folder, made if it is not there, also while sampand runs.
pub fn make_state(state_dir: &Path) -> Result<(), Error> {
    folder(state_dir, trust::closed(0o700)).map(drop)
}

/// What is wrong with a folder is mended where the config names it.
fn of(key: &'static str) -> impl Fn(Error) -> Error {
    move |error| match error {
        Error::Folder { .. }
        | Error::Owner { .. }
        | Error::NotTrusted(_)
        | Error::Lock(Refused::Call { .. } | Refused::Folder { .. } | Refused::NoFolder { .. }) => {
            Error::Key { key, source: Box::new(error) }
        }
        Error::Lock(Refused::Held { .. })
        | Error::Key { .. }
        | Error::Held { .. }
        | Error::Shared { .. }
        | Error::BootId(_)
        | Error::Keel(_)
        | Error::TakeOver(_) => error,
    }
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
/// A cgroup has no file that could be locked before there is a group.
pub fn claim_groups(parent: &str, keel: &Keel) -> Result<(), Error> {
    let path = match claim_of(parent) {
        Ok(path) => path,
        Err(refused @ Refused::NoFolder { .. }) => {
            tracing::warn!("the control groups are not claimed: {refused}");
            return Ok(());
        }
        Err(refused) => return Err(refused.into()),
    };
    match hold(&path, &key_of(&path), keel) {
        Err(Error::Lock(Refused::Held { .. })) => {
            Err(Error::Shared { key: "cgroup_parent", what: parent.to_owned() })
        }
        other => other,
    }
}

/// The file that stands for a path of control groups. Such a path means something in one cgroup namespace, whose number is in
/// the name.
fn claim_of(parent: &str) -> Result<PathBuf, Refused> {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/cgroup").map_or(0, |found| found.ino());
    let name = format!("groups.{namespace}.{:08x}", journal::crc32(parent.as_bytes()));
    Ok(lock::shared_folder()?.join(name))
}

/// The keel's name for that claim.
fn key_of(claim: &Path) -> String {
    format!("{GROUPS}/{}", claim.file_name().unwrap_or_default().display())
}

/// Where the containers of a run folder are.
pub fn containers(run_dir: &Path) -> PathBuf {
    run_dir.join(CONTAINERS)
}

pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Removes all that is ours in a run folder, but for the lock.
pub fn clear(run_dir: &Path) -> std::io::Result<()> {
    OURS.iter().try_for_each(|name| remove_both(run_dir, name))
}

fn remove_both(run_dir: &Path, name: &str) -> std::io::Result<()> {
    remove(&run_dir.join(name))?;
    remove(&run_dir.join(journal::atomic::beside(name)))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The last thing before sampand ends: all that is ours goes, the locks too, and the folder if nothing else is in it. Containers that
/// another client has in the same root stay: by now ours are removed one by one. Nothing of ours runs any more, so a
/// sampand that starts this moment with a new lock meets nobody.
pub fn leave(run_dir: &Path, cgroup_parent: &str, keel: &Keel) -> std::io::Result<()> {
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
    OURS.iter().filter(|name| **name != CONTAINERS).try_for_each(|name| remove_both(run_dir, name))?;
    if let Ok(claim) = claim_of(cgroup_parent) {
        // Where it is not ours somebody else may have it by now.
        let ours = keel.fetch(&key_of(&claim)).ok().flatten();
        if ours.is_some_and(|held| lock::is_at(&held.into(), &claim)) {
            remove(&claim)?;
        }
    }
    std::fs::remove_file(run_dir.join(LOCK))?;
    empty(run_dir)
}

/// A folder of our own that nobody else can write to or put another in the place of; made if it is not there.
fn folder(path: &Path, mode: Mode) -> Result<OwnedFd, Error> {
    trust::make_folders(path, mode).map_err(|error| failed(path, "make it", io(&error)))?;
    let folder = trust::folder(path, Group::MayNotWrite)?;
    // Asked of the descriptor: the path may be a link that somebody turns round.
    let owner = rustix::fs::fstat(&folder).map_err(|e| failed(path, "look at it", e))?.st_uid;
    let us = rustix::process::geteuid().as_raw();
    if owner != us {
        return Err(Error::Owner { path: path.to_owned(), owner, us });
    }
    Ok(folder)
}

/// What an older version, or whoever made the folder for us, left open to others is closed. Others may pass through run_dir itself
/// and see nothing; but a folder in which somebody else has files too keeps its mode.
fn close_to_others(run_dir: &Path, run: &OwnedFd) -> Result<(), Error> {
    if !defence::on(Defence::ClosedToOthers) {
        return Ok(());
    }
    let mut alone = true;
    let entries = std::fs::read_dir(run_dir).map_err(|e| failed(run_dir, "look into it", io(&e)))?;
    for entry in entries {
        let name = entry.map_err(|e| failed(run_dir, "look into it", io(&e)))?.file_name();
        if is_ours(&name) {
            close(run, run_dir, &name, 0o7700)?;
        } else {
            alone &= name == LOCK;
        }
    }
    if alone { close(run, run_dir, OsStr::new("."), 0o7711) } else { Ok(()) }
}

fn is_ours(name: &OsStr) -> bool {
    OURS.iter().any(|ours| name == *ours || name == journal::atomic::beside(ours).as_str())
        || name.as_encoded_bytes().starts_with(DAMAGED)
}

/// Takes the bits that are not in `mode` from a folder or file. A socket, which cannot be opened, has its mode from whoever binds it.
fn close(run: &OwnedFd, run_dir: &Path, name: &OsStr, mode: u32) -> Result<(), Error> {
    let path = run_dir.join(name);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(run, name, flags, Mode::empty()) {
        Ok(file) => {
            let closed = rustix::fs::fstat(&file).map(|stat| Mode::from_raw_mode(stat.st_mode & mode));
            closed
                .and_then(|closed| fchmod(&file, closed))
                .map_err(|e| failed(&path, "close it to others", e))
        }
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(()),
        Err(errno) => Err(failed(&path, "open it", errno)),
    }
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
        lock::sign(&held, keel_pid());
        return Ok(());
    }
    let lock = Lock::take(path, keel_pid())?;
    if !defence::on(Defence::LocksOutOfReach) {
        let open = fchmod(lock.as_fd(), Mode::from_raw_mode(0o644));
        open.map_err(|e| failed(path, "open it to others", e))?;
    }
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

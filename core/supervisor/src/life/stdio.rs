//! A container's standard streams: nowhere, straight into files, or FIFOs whose read ends a plugin and the keel hold.
//!
//! Without a plugin for logs a container writes straight into files (`state_dir/logs/X/{stdout,stderr}.log`): nothing of ours stands
//! between, so nothing can be lost, whoever dies.
use super::of_io;
use super::relayed::{self, Relayed};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sampan_keel::{Keel, LoopKeel};
use sampan_plan::{Plan, Spec};
use sampan_plugin_host::{Lent, Printed, Role};
use sampan_runtime::error::Error;
use sampan_runtime::kernel::stdio::Null;
use sampan_runtime::store::dir::Root;
use sampan_service::Problem;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Where a container's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Output {
    /// FIFOs, whose read ends a plugin and the keel hold.
    Plugin,
    /// Straight into files: nothing of ours stands between, so nothing is lost whoever dies.
    Files,
    Nowhere,
}

pub struct Stdio {
    pub input: OwnedFd,
    pub output: OwnedFd,
    pub error: OwnedFd,
    /// The read ends, for whoever claimed them.
    pub reads: Vec<(Role, Arc<OwnedFd>)>,
}

/// What a launching process keeps open for the next launch.
#[derive(Debug, Default)]
pub struct Standing {
    root: OnceCell<Root>,
    null: Null,
    /// Our ends of FIFOs, by the key that the keel knows them by.
    reads: RefCell<BTreeMap<String, Arc<OwnedFd>>>,
}

/// More ends than that are not kept open: two for each service.
const READS_MAX: usize = 64;

/// Where the streams of a service are.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    pub service: &'a str,
    /// Of the FIFOs.
    pub io: &'a Path,
    /// Of the files.
    pub logs: &'a Path,
}

impl Standing {
    /// Where containers' state folders are: the same for all launches.
    pub fn root(&self, containers: &Path) -> Result<&Root, Error> {
        if self.root.get().is_none() {
            let _ = self.root.set(Root::new(Some(containers))?.held());
        }
        self.root.get().ok_or_else(|| Error::new("no folder of containers"))
    }

    /// Opens the three standard descriptors; `owner` is the container's user as the host numbers it.
    pub fn open(
        &self,
        to: Output,
        relayed: Relayed,
        keel: &Keel,
        places: Places<'_>,
        owner: (u32, u32),
    ) -> Result<Stdio, Problem> {
        let log = self.to_the_log(to, keel, places, owner)?;
        match relayed {
            Relayed::Nothing if relayed::are_left(places.io) => {
                relayed::let_go(keel, places.io, places.service);
                Ok(log)
            }
            Relayed::Nothing => Ok(log),
            Relayed::Pipes | Relayed::Terminal => relayed::between(relayed, to, keel, places, owner, log),
        }
    }

    /// With nothing in between.
    fn to_the_log(
        &self,
        to: Output,
        keel: &Keel,
        places: Places<'_>,
        owner: (u32, u32),
    ) -> Result<Stdio, Problem> {
        let null = |flags| self.null.open(flags).map_err(of_io);
        let Places { service, io, logs } = places;
        let input = null(OFlags::RDONLY)?;
        let (output, error, reads) = match to {
            Output::Nowhere => (null(OFlags::WRONLY)?, null(OFlags::WRONLY)?, Vec::new()),
            Output::Files => {
                make_folder(logs)?;
                (append(&logs.join("stdout.log"))?, append(&logs.join("stderr.log"))?, Vec::new())
            }
            Output::Plugin => {
                let (out, out_read) = self.fifo(keel, io, service, "stdout", owner)?;
                let (err, err_read) = self.fifo(keel, io, service, "stderr", owner)?;
                (out, err, vec![(Role::Stdout, out_read), (Role::Stderr, err_read)])
            }
        };
        Ok(Stdio { input, output, error, reads })
    }

    /// A FIFO of the run folder: the container's end and ours. The container's is open for reading and writing, so that it never
    /// meets a pipe without a reader whoever of us dies; the keel keeps ours, so that nothing that is in it is lost.
    fn fifo(
        &self,
        keel: &Keel,
        folder: &Path,
        service: &str,
        stream: &str,
        owner: (u32, u32),
    ) -> Result<(OwnedFd, Arc<OwnedFd>), Problem> {
        let path = folder.join(stream);
        let theirs = match open_both(&path) {
            Ok(theirs) => theirs,
            // Nearly always it is there.
            Err(_) => {
                make_folder(folder)?;
                make_fifo(&path)?;
                open_both(&path).map_err(opened(&path))?
            }
        };
        let stat = rustix::fs::fstat(&theirs).map_err(opened(&path))?;
        if (stat.st_uid, stat.st_gid) != owner {
            // /dev/stdout can be opened again by the user it belongs to.
            let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
            let _ = rustix::fs::fchown(&theirs, Some(uid), Some(gid));
        }
        let key = key(service, stream);
        if let Some(ours) = self.reads.borrow().get(&key).filter(|ours| is_same_file(ours, &stat)) {
            return Ok((theirs, ours.clone()));
        }
        let ours = match keel.fetch(&key).map_err(of_io)? {
            Some(ours) => ours,
            None => {
                let ours = open_end(folder, stream).map_err(|unopened| match unopened {
                    Unopened::Missing => opened(&path)(Errno::NOENT),
                    Unopened::Problem(problem) => problem,
                })?;
                keel.keep(&key, Some(ours.as_fd())).map_err(of_io)?;
                ours
            }
        };
        let ours = Arc::new(ours);
        let mut reads = self.reads.borrow_mut();
        if reads.len() >= READS_MAX {
            reads.clear();
        }
        reads.insert(key, ours.clone());
        Ok((theirs, ours))
    }
}

fn open_both(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// A service that was removed and came back has other pipes.
fn is_same_file(fd: &OwnedFd, stat: &Stat) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino))
}

pub(super) fn make_fifo(path: &Path) -> Result<(), Problem> {
    match rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Problem::Io(format!("cannot make {}: {error}", path.display()))),
    }
}

/// `owner`: of the end that is for a container, whose /dev/stdout can be opened again by the user it belongs to.
pub(super) fn open_fifo(path: &Path, flags: OFlags, owner: Option<(u32, u32)>) -> Result<OwnedFd, Problem> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let end = rustix::fs::open(path, flags, Mode::empty()).map_err(opened(path))?;
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        let _ = rustix::fs::fchown(&end, Some(uid), Some(gid));
    }
    Ok(end)
}

pub(super) fn opened(path: &Path) -> impl Fn(Errno) -> Problem {
    move |error| Problem::Io(format!("cannot open {}: {error}", path.display()))
}

/// The read ends of a container that was there before.
pub struct Reads {
    pub ends: Vec<(Role, Arc<OwnedFd>)>,
    /// Whether anybody has held them all the time. If the holder and the keel were killed together they are opened again, and what a
    /// service had written that has ended is lost, as is all that a plugin kept with the keel.
    pub printed: Printed,
}

/// The keel has those that were lost when `hold` is called: whoever dies before that leaves them lost.
pub fn reads(keel: &LoopKeel, folder: &Path, service: &str) -> Reads {
    let (mut ends, mut printed) = (Vec::new(), Printed::Held);
    for (stream, role) in [("stdout", Role::Stdout), ("stderr", Role::Stderr)] {
        match keel.fetch(&key(service, stream)) {
            Ok(Some(end)) => ends.push((role, Arc::new(end))),
            Ok(None) => match open_end(folder, stream) {
                Ok(end) => {
                    printed = Printed::Lost;
                    ends.push((role, Arc::new(end)));
                }
                // It writes elsewhere.
                Err(Unopened::Missing) => {}
                Err(Unopened::Problem(problem)) => {
                    tracing::error!(service, "its output is not read: {problem}")
                }
            },
            Err(error) => tracing::error!(service, "its output is not read: {error}"),
        }
    }
    Reads { ends, printed }
}

/// From now on the keel has the read ends.
pub fn hold(keel: &Keel, service: &str, ends: &[(Role, Arc<OwnedFd>)]) {
    for (role, end) in ends {
        let stream = if *role == Role::Stdout { "stdout" } else { "stderr" };
        if let Err(error) = keel.keep(&key(service, stream), Some(end.as_fd())) {
            tracing::error!(service, "its output is lost if this worker dies: {error}");
        }
    }
}

/// By what the keel knows the read end of a stream.
pub(super) fn key(service: &str, stream: &str) -> String {
    format!("io/{service}/{stream}")
}

/// A descriptor of a container for the plugins. The read ends are at the keel already.
pub fn lent(service: &str, role: Role, fd: impl Into<Arc<OwnedFd>>) -> Lent {
    let lent = Lent::new(role, fd.into());
    match role {
        Role::Stdout => lent.at_keel(key(service, "stdout")),
        Role::Stderr => lent.at_keel(key(service, "stderr")),
        _ => lent,
    }
}

enum Unopened {
    Missing,
    Problem(Problem),
}

/// Opens our end of a FIFO.
fn open_end(folder: &Path, stream: &str) -> Result<OwnedFd, Unopened> {
    let path = folder.join(stream);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => Unopened::Missing,
        error => Unopened::Problem(Problem::Io(format!("cannot open {}: {error}", path.display()))),
    })
}

/// Lets go of a service's FIFOs.
pub fn drop_stdio(keel: &Keel, folder: &Path, service: &str) {
    relayed::let_go(keel, folder, service);
    for stream in ["stdout", "stderr"] {
        let _ = keel.keep(&key(service, stream), None);
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// The container's user as the host numbers it.
pub fn owner(spec: &Spec<'_>, plan: &Plan<'_>) -> (u32, u32) {
    let id = |inside: u32, maps: &[sampan_plan::spec::IdMapping]| {
        let map = maps.iter().find(|map| inside.checked_sub(map.container_id).is_some_and(|n| n < map.size));
        map.map_or(inside, |map| map.host_id.saturating_add(inside - map.container_id))
    };
    let (uid, gid) = spec.process.as_ref().map_or((0, 0), |process| (process.user.uid, process.user.gid));
    (id(uid, &plan.parent.uid_mappings), id(gid, &plan.parent.gid_mappings))
}

pub(super) fn append(path: &Path) -> Result<OwnedFd, Problem> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| Problem::Io(format!("cannot open {}: {error}", path.display())))
}

pub(super) fn make_folder(path: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Problem::Io(format!("cannot make {}: {error}", path.display())))
}

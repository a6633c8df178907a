//! The slots of a plan, opened: what the child is handed, and the ends that stay with us.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FileType, MemfdFlags, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, ftruncate, memfd_create, mknodat,
    open, openat, stat,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use sampan_cgroups::Cgroup;
use sampan_child::defence::{self, Defence};
use sampan_child::step::Propagation;
use sampan_child::sys;
use sampan_plan::host_root::nobodys;
use sampan_plan::namespaces::proc_name;
use sampan_plan::plan::Plan;
use sampan_plan::slots::{Gate, SlotSource};

use crate::error::{Errno, Error, Result};
use crate::kernel::stdio::null;
use crate::launch::host_root;
use crate::launch::idmap::UserNamespaces;
use crate::launch::layers::Wanted;
use crate::launch::pipe::{pipe, sockets};
use crate::launch::printed::HookOutputs;
use crate::store::dir::Folder;

/// In the state folder, where the container outlives its creator.
pub const START: &str = "start";
pub const REPORT: &str = "report";

/// A slot is ours to close after the clone, or the caller's.
#[derive(Debug)]
enum Held<'a> {
    Ours(OwnedFd),
    /// The read end that all gates share.
    Gates,
    Callers(BorrowedFd<'a>),
}

/// Everything opened for one launch.
#[derive(Debug)]
pub struct Slots<'a> {
    held: Vec<Held<'a>>,
    /// The read end that all gates of a pipe share: one byte opens one gate, in their order.
    gates_read: Option<OwnedFd>,
    pub gate: Option<OwnedFd>,
    pub report: Option<OwnedFd>,
    pub console: Option<OwnedFd>,
    pub trace: Option<OwnedFd>,
    pub inside: HookOutputs,
    user_namespaces: UserNamespaces,
}

/// What the caller of a launch brings for the slots.
#[derive(Clone, Copy, Debug)]
pub struct SlotInputs<'a> {
    pub plan: &'a Plan<'a>,
    /// Where FIFOs go, if the container is to outlive us as `created`.
    pub fifos: Option<&'a Folder>,
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    /// Those from 3 on.
    pub given: &'a [BorrowedFd<'a>],
    pub netns: Option<BorrowedFd<'a>>,
    pub container: Option<BorrowedFd<'a>>,
}

impl<'a> Slots<'a> {
    pub fn open(request: &SlotInputs<'a>, cgroup: Option<&Cgroup<'_>>) -> Result<Slots<'a>> {
        let (read, write) = pipe()?;
        let mut slots = Slots {
            held: Vec::with_capacity(request.plan.slots.len()),
            gates_read: Some(read),
            gate: Some(write),
            report: None,
            console: None,
            trace: None,
            inside: HookOutputs::default(),
            user_namespaces: UserNamespaces::default(),
        };
        for source in &request.plan.slots {
            let held = slots.one(source, request, cgroup)?;
            slots.held.push(held);
        }
        Ok(slots)
    }

    fn one(
        &mut self,
        source: &SlotSource,
        request: &SlotInputs<'a>,
        cgroup: Option<&Cgroup<'_>>,
    ) -> Result<Held<'a>> {
        let missing = |what: &str| Error::new(format!("the plan needs {what}, and the caller gave none"));
        Ok(match source {
            SlotSource::Report => Held::Ours(self.report(request.fifos)?),
            SlotSource::Gate(Gate::Start) if let Some(folder) = request.fifos => {
                Held::Ours(start_gate(folder)?)
            }
            SlotSource::Gate(_) => Held::Gates,
            SlotSource::Group => {
                let folder = cgroup.map(|c| c.v2_fd()).transpose()?.flatten();
                Held::Ours(folder.ok_or_else(|| missing("a v2 control group"))?)
            }
            SlotSource::Namespace { path, kind, field, set_in } => {
                let namespace = namespace(path, *kind, field)?;
                if let Some(set_in) = set_in {
                    not_our_own(&namespace, path, *kind, set_in)?;
                }
                Held::Ours(namespace)
            }
            SlotSource::OwnNamespace { kind } => Held::Ours(own_namespace(*kind)?),
            SlotSource::GivenNetns => {
                Held::Callers(request.netns.ok_or_else(|| missing("a network namespace"))?)
            }
            SlotSource::Container => {
                Held::Callers(request.container.ok_or_else(|| missing("a running container"))?)
            }
            SlotSource::Tree { path, recursive, follow, propagation, idmap, field } => {
                let tree = tree(path, *recursive, *follow, *propagation, field)?;
                Held::Ours(match idmap {
                    None => tree,
                    Some(map) if map.is_same_map(&nobodys()) => {
                        host_root::shown(&mut self.user_namespaces, tree, path, map)?
                    }
                    Some(map) => self.user_namespaces.apply(tree.as_fd(), path, map).map(|()| tree)?,
                })
            }
            SlotSource::Layers { lower, upper, in_user_namespace, idmap, field } => {
                let (upper, idmap) = (upper.as_deref(), idmap.as_ref());
                let wanted = Wanted { lower, upper, in_user_namespace: *in_user_namespace, idmap, field };
                Held::Ours(wanted.overlay(&mut self.user_namespaces)?)
            }
            SlotSource::Console => Held::Ours(self.console()?),
            SlotSource::Stdio(n) => {
                let stdio = request.stdio.iter().flatten().chain(request.given).nth(*n as usize);
                Held::Callers(*stdio.ok_or_else(|| missing("stdio"))?)
            }
            SlotSource::Trace => Held::Ours(self.trace(request.plan.steps.len())?),
            // Runs when we are gone: nobody is there to read it.
            SlotSource::HookOutput { kind: "startContainer", .. } if request.fifos.is_some() => {
                Held::Ours(nowhere()?)
            }
            SlotSource::HookOutput { kind, index, path } => Held::Ours(self.inside.pipe(kind, *index, path)?),
        })
    }

    fn report(&mut self, fifos: Option<&Folder>) -> Result<OwnedFd> {
        let (read, write) = match fifos {
            None => pipe()?,
            Some(folder) => fifo(folder, REPORT)?,
        };
        self.report = Some(read);
        Ok(write)
    }

    fn console(&mut self) -> Result<OwnedFd> {
        let (ours, theirs) = sockets()?;
        self.console = Some(ours);
        Ok(theirs)
    }

    fn trace(&mut self, steps: usize) -> Result<OwnedFd> {
        let fd = memfd("trace")?;
        ftruncate(&fd, (steps as u64 + 1) * 8)
            .map_err(|e| Error::new("cannot size the trace").call("ftruncate", e))?;
        self.trace = Some(duplicate(&fd)?);
        Ok(fd)
    }

    /// In the order of the plan.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let shared = self.gates_read.as_ref();
        self.held
            .iter()
            .filter_map(|held| match held {
                Held::Ours(fd) => Some(fd.as_fd()),
                Held::Gates => shared.map(AsFd::as_fd),
                Held::Callers(fd) => Some(*fd),
            })
            .collect()
    }

    /// Closes the child's ends here: only then does the end of a report mean that the child's is closed.
    pub fn handed_over(&mut self) {
        self.held.clear();
        self.gates_read = None;
        self.user_namespaces = UserNamespaces::default();
    }
}

/// A namespace of that kind, by path. setns would say no more than EINVAL; and a path may lead to a pipe, where open waits.
pub(super) fn namespace(path: &str, kind: u32, field: &str) -> Result<OwnedFd> {
    let wrong = |problem: String| Error::new(problem).field(field.to_owned());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = open(path, flags, Mode::empty())
        .map_err(|e| wrong(format!("cannot open the namespace {path}")).call("open", e))?;
    match sys::namespace_kind(opened.as_raw_fd()) {
        Ok(found) if found == kind => Ok(opened),
        Ok(found) => {
            let (found, wanted) = (proc_name(found), proc_name(kind));
            Err(wrong(format!("{path} is a {found} namespace, not a {wanted} namespace")))
        }
        Err(_) => Err(wrong(format!("{path} is no namespace"))
            .likely("it must be a file like /proc/PID/ns/net, or one that such a file is mounted on")),
    }
}

/// What the field sets there would be set for the host. runc compares paths' inodes before it opens them; this is the
/// descriptor that will be joined, so nobody can exchange it in between.
fn not_our_own(namespace: &OwnedFd, path: &str, kind: u32, set_in: &str) -> Result<()> {
    let own = format!("/proc/thread-self/ns/{}", proc_name(kind));
    let failed =
        |e| Error::new(format!("cannot look at the namespace {path}")).field(set_in).call("fstat", e);
    let (theirs, ours) = (fstat(namespace).map_err(failed)?, stat(own.as_str()).map_err(failed)?);
    if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino) {
        return Ok(());
    }
    let problem = format!("not allowed in the host's {} namespace, which is what {path} is", proc_name(kind));
    Err(Error::new(problem)
        .field(set_in)
        .likely("leave the path out, for a namespace of the container's own, or the setting"))
}

fn own_namespace(kind: u32) -> Result<OwnedFd> {
    let path = format!("/proc/thread-self/ns/{}", proc_name(kind));
    open(path.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::new(format!("cannot open our own namespace {path}")).call("open", e))
}

/// For reading and writing: then there is always a writer, and the child waits for a byte, not for one of us.
fn start_gate(folder: &Folder) -> Result<OwnedFd> {
    make_fifo(folder, START)?;
    open_in(folder, START, OFlags::RDWR)
}

fn nowhere() -> Result<OwnedFd> {
    null(OFlags::WRONLY).map_err(|e| Error::new("cannot open /dev/null").call("open", e))
}

/// A detached clone, as the child will attach it.
fn tree(path: &str, recursive: bool, follow: bool, propagation: Propagation, field: &str) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    if !follow {
        flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    }
    let tree = open_tree(rustix::fs::CWD, path, flags)
        .map_err(|e| Error::new(format!("cannot clone {path}")).field(field).call("open_tree", e))?;
    if !defence::on(Defence::NoPeers) {
        return Ok(tree);
    }
    sys::set_propagation(tree.as_raw_fd(), propagation.bit(), propagation.is_recursive()).map_err(
        |fault| {
            Error::new(format!("cannot make the clone of {path} {}", propagation.name()))
                .field(field)
                .call(fault.call.name(), Errno::from_raw_os_error(fault.errno.into()))
        },
    )?;
    Ok(tree)
}

fn memfd(name: &str) -> Result<OwnedFd> {
    memfd_create(name, MemfdFlags::CLOEXEC)
        .map_err(|e| Error::new("cannot make a memfd").call("memfd_create", e))
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3)
        .map_err(|e| Error::new("cannot duplicate a descriptor").call("fcntl", e))
}

fn make_fifo(folder: &Folder, name: &str) -> Result<()> {
    mknodat(folder.fd(), name, FileType::Fifo, Mode::from(0o600), 0)
        .map_err(|e| Error::new(format!("cannot make {}/{name}", folder.path().display())).call("mknodat", e))
}

pub fn open_in(folder: &Folder, name: &str, flags: OFlags) -> Result<OwnedFd> {
    openat(folder.fd(), name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|e| Error::new(format!("cannot open {}/{name}", folder.path().display())).call("openat", e))
}

/// Both ends of a FIFO. The reader must come first and not wait for a writer; after that it blocks like a pipe's.
fn fifo(folder: &Folder, name: &str) -> Result<(OwnedFd, OwnedFd)> {
    make_fifo(folder, name)?;
    let read = open_in(folder, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let write = open_in(folder, name, OFlags::WRONLY)?;
    let flags =
        fcntl_getfl(&read).map_err(|e| Error::new("cannot read descriptor flags").call("fcntl", e))?;
    fcntl_setfl(&read, flags - OFlags::NONBLOCK)
        .map_err(|e| Error::new("cannot set descriptor flags").call("fcntl", e))?;
    Ok((read, write))
}

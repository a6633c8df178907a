//! What is asked of a launch, and what comes of it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use sampan_plan::{Host, Plan};

use crate::error::Result;
use crate::launch::printed::HookOutputs;
use crate::launch::spawn::Spawned;
use crate::store::dir::Folder;
use crate::store::state::State;

/// What others may do in the middle of a launch.
pub trait Stages {
    /// Nothing is made yet that stays if we die now, beside the folder. What a later delete has to know is to be written down here.
    fn record(&mut self) -> Result<()> {
        Ok(())
    }

    /// Namespaces and mounts exist, prestart and createRuntime hooks have run; the pivot has not happened.
    /// Only called where `Options::attach` asked for the stop.
    fn attach(&mut self, _container: &Attached<'_>) -> Result<()> {
        Ok(())
    }

    /// Something went wrong that is no reason to fail, or came after the failure that is told.
    fn warn(&mut self, _warning: &str) {}
}

/// For launches without such others.
impl Stages for () {}

/// The container as `attach` sees it.
#[derive(Debug)]
pub struct Attached<'a> {
    pub id: &'a str,
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    /// Its network namespace; None where it has the host's.
    pub netns: Option<BorrowedFd<'a>>,
    pub rootfs: &'a Path,
}

/// How `start` will reach the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// FIFOs in the state folder: the container stays `created` when we die (`sampan create`).
    Folder,
    /// A pipe held by us: the child exits when we die (`sampan run`, the supervisor).
    Pipe,
    /// None, where nobody has anything to do between `created` and the start (`sampan run` without hooks and terminal): the child
    /// goes on as soon as it is ready. state.json says that it runs before it can.
    Open,
}

/// Where the master of the terminal goes.
#[derive(Clone, Copy, Debug)]
pub enum Console<'a> {
    /// Back in [`Created::console`]; without a terminal, nowhere.
    Keep,
    /// To the listener at this path, as containerd and conmon want it.
    Socket(&'a Path),
}

/// Whose the control groups are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The container's: they go with it.
    No,
    /// The caller's, who keeps them over restarts: made anew here, and never removed by us.
    Fresh,
    /// The same, and the container before has left them with the limits of this one.
    Ready,
}

/// One container to create.
#[derive(Debug)]
pub struct Request<'a> {
    pub plan: &'a Plan<'a>,
    pub host: &'a Host,
    /// Was made and locked by the caller; state.json (and FIFOs) go there.
    pub folder: &'a Folder,
    pub bundle: &'a Path,
    pub barrier: Barrier,
    pub console: Console<'a>,
    /// stdin, stdout, stderr, where `Options::given_stdio` said so; else ours are inherited.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
    /// Those for 3 and on, of which `Options::given_fds` said how many.
    pub given: &'a [BorrowedFd<'a>],
    /// To join, where `Options::given_netns` said so.
    pub netns: Option<BorrowedFd<'a>>,
    pub groups: Keep,
    /// Where lines that hooks print go, besides their end into the error of the one that fails. Not blocking, if it is a pipe.
    pub hook_log: Option<BorrowedFd<'a>>,
}

/// What [`crate::launch::start()`] opens.
#[derive(Debug)]
pub enum StartGate {
    /// [`Barrier::Folder`]
    InFolder,
    /// [`Barrier::Pipe`]
    Pipe(OwnedFd),
    /// [`Barrier::Open`]
    IsOpen,
}

/// A container in the state `created`.
#[derive(Debug)]
pub struct Created {
    pub id: String,
    pub child: Spawned,
    pub gate: StartGate,
    /// The reports, up to execve.
    pub report: OwnedFd,
    pub console: Option<OwnedFd>,
    /// The network namespace, for those who asked by `Options::attach`.
    pub netns: Option<OwnedFd>,
    /// What state.json says, or with [`Barrier::Pipe`] would: there only `start` writes it. With [`Barrier::Open`] `running`.
    pub state: State,
    pub trace: Option<OwnedFd>,
    /// What hooks in the container print.
    pub inside: HookOutputs,
}

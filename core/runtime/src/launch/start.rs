//! From `created` to a running program: by the process that created it, or by another one through the state folder.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::process::{Signal, pidfd_send_signal};
use sampan_child::image::Image;
use sampan_hooks::Kind;
use sampan_plan::slots::SlotSource;
use sampan_plan::{Plan, render};

use super::hooks::{HookRunner, run_all};
use super::report::{failed_io, next_report, open_gate};
use super::{Created, HookOutputs, StartGate};
use crate::error::{Errno, Error, Result};
use crate::launch::explain::{Circumstances, explain, silence};
use crate::launch::slots;
use crate::store::dir::Folder;
use crate::store::state::{Stage, State};

/// Runs the program of a container that this process created; returns once execve has succeeded and poststart hooks ran.
pub fn start(
    created: &mut Created,
    plan: &Plan<'_>,
    folder: &Folder,
    runner: &mut HookRunner<'_>,
) -> Result<()> {
    let gate = match std::mem::replace(&mut created.gate, StartGate::IsOpen) {
        StartGate::Pipe(gate) => Some(gate),
        StartGate::InFolder => Some(start_fifo(folder)?),
        StartGate::IsOpen => None,
    };
    let reader = render::reader(plan).ok_or_else(|| Error::new("the plan is damaged"))?;
    let go = Starter {
        gate,
        report: &created.report,
        reader,
        origins: &plan.origins,
        inside: &mut created.inside,
        runner,
    };
    go.start(&mut created.state, folder, created.child.pidfd.as_fd()).map_err(|e| e.of(&created.id))
}

/// The same for a container whose creator is gone (its barrier was [`Barrier::Folder`](super::Barrier::Folder)).
pub fn start_by_folder(folder: &Folder, runner: &mut HookRunner<'_>) -> Result<()> {
    let id = folder.id().to_owned();
    let of = |e: Error| e.of(&id);
    let Some(mut state) = State::load(folder)? else {
        return Err(of(Error::new("the container was never fully created; delete it")));
    };
    if state.no_process {
        return Err(of(
            Error::new("is missing: this container can be created, but not started").field("process")
        ));
    }
    let init =
        state.init().map_err(|e| failed_io("cannot look at the container's process", "pidfd_open", &e))?;
    let Some(init) = init else { return Err(of(Error::new("cannot start a container that has stopped"))) };
    // Before the go: the end of an execve that failed must find a reader.
    let report = slots::open_in(folder, slots::REPORT, OFlags::RDONLY | OFlags::NONBLOCK).map_err(of)?;
    let (image, slots, origins) = kept_plan(folder).map_err(of)?;
    let image = Image::check(&image)
        .map_err(|fault| of(Error::new(format!("the kept plan is damaged: {fault:?}"))))?;
    let reader = render::Reader { image, slots: &slots };
    let gate = Some(start_fifo(folder).map_err(of)?);
    let go = Starter {
        gate,
        report: &report,
        reader,
        origins: &origins,
        inside: &mut HookOutputs::default(),
        runner,
    };
    go.start(&mut state, folder, init.as_fd()).map_err(of)
}

/// The last stretch, however we came to it.
struct Starter<'g, 'h> {
    /// None: it is open, and state.json says that the container runs.
    gate: Option<OwnedFd>,
    report: &'g OwnedFd,
    reader: render::Reader<'g>,
    origins: &'g [String],
    inside: &'g mut HookOutputs,
    runner: &'g mut HookRunner<'h>,
}

impl Starter<'_, '_> {
    fn start(self, state: &mut State, folder: &Folder, init: BorrowedFd<'_>) -> Result<()> {
        if let Some(gate) = self.gate {
            state.stage = Stage::Running;
            state.save(folder)?;
            open_gate(&gate)?;
        }
        self.inside.wait(self.report.as_fd(), self.runner.log)?;
        match next_report(self.report)? {
            // Closed by execve: the program runs (or ran).
            None => {
                self.inside.finish(Kind::StartContainer.name(), self.runner.log);
                if let Some(error) = silence(&self.reader) {
                    return Err(error);
                }
            }
            Some(told) => {
                let error = explain(
                    &told,
                    &self.reader,
                    self.origins,
                    Circumstances { privileged: true, ..Circumstances::default() },
                );
                return Err(self.inside.explain(error, self.runner.log));
            }
        }
        poststart(state, folder, init, self.runner)
    }
}

/// The poststart hooks that have not run yet. Also for whoever finds a running container whose starter died.
pub fn poststart(
    state: &mut State,
    folder: &Folder,
    init: BorrowedFd<'_>,
    runner: &mut HookRunner<'_>,
) -> Result<()> {
    match run_all(state, Kind::Poststart, folder, runner) {
        Ok(_) => Ok(()),
        Err(e) => {
            // Fatal since 1.3 (runtime-spec#1262).
            let _ = pidfd_send_signal(init, Signal::KILL);
            Err(e.into())
        }
    }
}

fn start_fifo(folder: &Folder) -> Result<OwnedFd> {
    slots::open_in(folder, slots::START, OFlags::WRONLY | OFlags::NONBLOCK).map_err(|e| match e.errno {
        // Nobody reads it: the process that waited there is gone.
        Some(Errno::NXIO) => Error::new("cannot start a container that has stopped"),
        Some(Errno::NOENT) => Error::new("cannot start a container that its creator has not left to others"),
        _ => e,
    })
}

/// What `start` in another process needs to explain a failure: origins as one line of JSON, then the image.
const PLAN: &str = "plan";

pub(super) fn keep_plan(folder: &Folder, plan: &Plan<'_>) -> Result<()> {
    let mut bytes = serde_json::to_vec(&plan.origins).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(&plan.image);
    folder.write(PLAN, &bytes)
}

fn kept_plan(folder: &Folder) -> Result<(Vec<u8>, Vec<SlotSource>, Vec<String>)> {
    let bytes = folder.read(PLAN)?.unwrap_or_default();
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(0);
    let (origins, image) = bytes.split_at(end);
    let origins = serde_json::from_slice(origins).unwrap_or_default();
    Ok((image.get(1..).unwrap_or_default().to_vec(), Vec::new(), origins))
}

//! One more process for a running container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Signal, pidfd_send_signal};
use sampan_cgroups::Cgroup;
use sampan_plan::{Plan, render};

use super::report::{next_report, set_oom_score_adj};
use super::{Console, Spawn, Spawned};
use crate::error::{Error, Result};
use crate::launch::console;
use crate::launch::explain::{Circumstances, explain, silence};
use crate::launch::slots::{SlotInputs, Slots};

/// One more process for a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// Of [`Plan::exec`].
    pub plan: &'a Plan<'a>,
    pub id: &'a str,
    /// Init's pidfd.
    pub container: BorrowedFd<'a>,
    pub cgroup: Option<&'a Cgroup<'a>>,
    pub console: Console<'a>,
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
}

/// It runs its program.
#[derive(Debug)]
pub struct Executed {
    pub child: Spawned,
    pub console: Option<OwnedFd>,
    pub trace: Option<OwnedFd>,
}

/// Returns once execve has succeeded; after an error there is no process.
pub fn exec(request: &ExecRequest<'_>, spawn: &mut dyn Spawn) -> Result<Executed> {
    let given = SlotInputs {
        plan: request.plan,
        fifos: None,
        stdio: request.stdio,
        given: &[],
        netns: None,
        container: Some(request.container),
    };
    let of = |e: Error| e.of(request.id);
    let mut slots = Slots::open(&given, request.cgroup).map_err(of)?;
    let child = spawn.spawn(&request.plan.image, &slots.fds()).map_err(of)?;
    slots.handed_over();
    match joined(request, &child, &mut slots) {
        Ok(console) => Ok(Executed { child, console, trace: slots.trace.take() }),
        Err(e) => {
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ = spawn.reap(&child);
            Err(of(e))
        }
    }
}

fn joined(request: &ExecRequest<'_>, child: &Spawned, slots: &mut Slots<'_>) -> Result<Option<OwnedFd>> {
    if let Some(score) = request.plan.parent.oom_score_adj {
        set_oom_score_adj(child.pid, score)?;
    }
    let report = slots.report.take().ok_or_else(|| Error::new("no report"))?;
    let mut console = match &slots.console {
        Some(socket) => console::receive(socket.as_fd())?,
        None => None,
    };
    let reader = render::reader(request.plan).ok_or_else(|| Error::new("the plan is damaged"))?;
    let circumstances = Circumstances { privileged: true, ..Circumstances::default() };
    let failed = match next_report(&report)? {
        Some(told) => Some(explain(&told, &reader, &request.plan.origins, circumstances)),
        None => silence(&reader),
    };
    if let Some(error) = failed {
        return Err(error);
    }
    if let (Some(master), Console::Socket(path)) = (&console, request.console) {
        console::hand_over(path, master)?;
        console = None;
    }
    Ok(console)
}

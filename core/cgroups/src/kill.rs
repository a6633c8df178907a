//! Ending all processes of a control group.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sampan_plan::host::Version;

use crate::cgroup::{Cgroup, list};
use crate::error::{Doing, Errno, Error, Result};
use crate::group::Group;
use crate::v2;

impl Cgroup<'_> {
    /// Sends SIGKILL to every process once and does not wait: one write to cgroup.kill where v2 is mounted (Linux 5.14).
    pub fn kill_now(&self) -> Result<()> {
        if let Some(group) = self.v2() {
            match group.write("cgroup.kill", "1") {
                // The signal is there, and what is thawed runs no further than to its end. A group above that stays frozen is
                // no failure of the kill: whoever waits for the end sees that it does not come.
                Ok(()) => {
                    self.let_killed_die();
                    return Ok(());
                }
                // The group is gone or threaded, or the kernel older than 5.14.
                Err((_, Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP)) => {}
                Err((call, e)) => return Err(Error::new(Doing::Kill, group.name()).call(call, e)),
            }
        }
        self.primary().map_or(Ok(()), |g| self.kill_each(&g))
    }

    /// One signal for each process. The group is frozen meanwhile, so that a fork bomb does not fork faster than it is
    /// killed, and thawed after that: what v1 has frozen does not get its SIGKILL (runc#3134).
    fn kill_each(&self, group: &Group<'_>) -> Result<()> {
        let _ = self.freeze(Duration::from_millis(50));
        let outcome = group.procs().and_then(|pids| {
            // In parts, so that thousands of processes do not take thousands of descriptors.
            pids.chunks(64).try_for_each(|part| signal_members(group, part))
        });
        let _ = self.thaw(Duration::from_millis(50));
        self.let_killed_die();
        outcome
    }

    /// Ends every process and waits until the group is empty.
    pub fn kill(&self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        let mut pause = Duration::from_millis(1);
        loop {
            self.kill_now()?;
            let left = until.saturating_duration_since(Instant::now());
            match self.v2() {
                Some(group) => {
                    v2::wait_for_event(&group, "populated", false, left)?;
                }
                None if self.procs()?.is_empty() => {}
                None => {
                    std::thread::sleep(pause.min(left));
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
            }
            // A process may be in one v1 group alone: put there by hand, or by a runtime that knows only v1.
            let stray = self.groups().find_map(|g| g.procs().ok().filter(|p| !p.is_empty()).map(|p| (g, p)));
            let Some((group, pids)) = stray else { return Ok(()) };
            if left.is_zero() {
                let e = Error::new(Doing::Kill, group.name()).call("kill", Errno::TIMEDOUT);
                return Err(e
                    .problem(format!("still there after {} ms: {}", within.as_millis(), list(&pids)))
                    .likely("they are in uninterruptible system calls: see /proc/PID/stack"));
            }
            if group.hierarchy.version == Version::V1 && self.v2().is_some() {
                self.kill_each(&group)?;
            }
        }
    }

    /// [`Cgroup::kill`] if there is any process; true if there was one. A group that was killed in cannot be used for the next
    /// container: on Linux 6.18 a child that CLONE_INTO_CGROUP puts into a group to whose cgroup.kill was ever written, even
    /// while it was empty, dies of SIGKILL at once. A new group of the same name takes it.
    pub fn kill_if_any(&self, within: Duration) -> Result<bool> {
        if self.is_empty()? && self.groups().all(|g| g.procs().is_ok_and(|pids| pids.is_empty())) {
            return Ok(false);
        }
        self.kill(within)?;
        Ok(true)
    }
}

/// By pidfd, and only those that are still in the group once their pidfds are open: until then a number may have gone to
/// another process.
fn signal_members(group: &Group<'_>, pids: &[i32]) -> Result<()> {
    let open = |pid: &i32| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?));
    let opened: Vec<(i32, OwnedFd)> = pids.iter().filter_map(open).collect();
    let now = group.procs()?;
    for (pid, process) in opened {
        if now.binary_search(&pid).is_ok() {
            let _ = pidfd_send_signal(&process, Signal::KILL); // ESRCH: it has ended by itself
        }
    }
    Ok(())
}

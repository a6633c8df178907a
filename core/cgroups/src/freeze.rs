//! Freezing and thawing all processes of a control group, within a time limit. A group that does not freeze in time is
//! thawed again: it is never left half frozen. v2's freezer is used wherever v2 is mounted, on hybrid hosts too.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, openat};
use sampan_plan::host::Version;

use crate::cgroup::Cgroup;
use crate::error::{Doing, Errno, Error, Result};
use crate::file::{Failed, read_at, write_all};
use crate::group::Group;
use crate::v2::wait_for_event;

impl Cgroup<'_> {
    pub fn freeze(&self, within: Duration) -> Result<()> {
        self.set_frozen(true, within)
    }

    /// By whichever freezer: on a hybrid host others may have used v1's.
    pub fn thaw(&self, within: Duration) -> Result<()> {
        self.set_frozen(false, within)?;
        self.thaw_v1(within)
    }

    /// Beside a v2 group. What v1 has frozen does not even hear a SIGKILL.
    pub(crate) fn thaw_v1(&self, within: Duration) -> Result<()> {
        match self.group_of(Version::V1, "freezer") {
            Some(group) if self.v2().is_some() && v1_frozen(&group)? => v1(&group, false, within),
            _ => Ok(()),
        }
    }

    /// For what was killed: v1 lets nobody die whom it has frozen, and a container that may write to its groups freezes a part of
    /// itself in a group below. The outer ones first, since what is below a frozen one stays frozen. What fails here is
    /// seen by whoever waits for the end.
    pub fn let_killed_die(&self) {
        let Some(group) = self.group_of(Version::V1, "freezer") else { return };
        if let Ok(folder) = group.folder() {
            thaw_one(folder.as_fd());
        }
        let thaw = |below: BorrowedFd<'_>| {
            thaw_one(below);
            Ok(())
        };
        let _ = group.walk_below(thaw, |_, _| Ok(()));
    }

    fn set_frozen(&self, frozen: bool, within: Duration) -> Result<()> {
        match (self.v2(), self.group_of(Version::V1, "freezer")) {
            (Some(group), _) => v2(&group, frozen, within),
            (None, Some(group)) => v1(&group, frozen, within),
            (None, None) => Err(Error::new(Doing::Freeze, "freezer").problem("no freezer is mounted")),
        }
    }

    pub fn is_frozen(&self) -> Result<bool> {
        if let Some(group) = self.v2()
            && group.try_read("cgroup.freeze")?.is_some_and(|t| t.trim() == "1")
        {
            return Ok(true);
        }
        // On a hybrid host another runtime may have used v1's. FREEZING counts, because somebody has asked for it; that a
        // group above is frozen does not count.
        let Some(group) = self.group_of(Version::V1, "freezer") else { return Ok(false) };
        v1_frozen(&group)
    }
}

fn thaw_one(group: BorrowedFd<'_>) {
    if read_at(group, "freezer.self_freezing").is_ok_and(|text| text.trim() == "1")
        && let Ok(file) = openat(group, "freezer.state", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    {
        let _ = write_all(file.as_fd(), "THAWED");
    }
}

fn v1_frozen(group: &Group<'_>) -> Result<bool> {
    Ok(group.try_read("freezer.self_freezing")?.is_some_and(|t| t.trim() == "1"))
}

fn v2(group: &Group<'_>, frozen: bool, within: Duration) -> Result<()> {
    let value = if frozen { "1" } else { "0" };
    group.write("cgroup.freeze", value).map_err(|f| refused(group, "cgroup.freeze", value, f))?;
    if wait_for_event(group, "frozen", frozen, within)? {
        return Ok(());
    }
    if frozen {
        let _ = group.write("cgroup.freeze", "0");
    }
    Err(timed_out(group, value, frozen, "poll"))
}

/// v1 may stay FREEZING for ever while processes fork. Writing FROZEN again catches the new ones. Now and then the group is
/// thawed for a moment, for processes that cannot be frozen where they are now (runc does the same).
fn v1(group: &Group<'_>, frozen: bool, within: Duration) -> Result<()> {
    let value = if frozen { "FROZEN" } else { "THAWED" };
    let write = |value: &str| match group.write("freezer.state", value) {
        Ok(()) | Err((_, Errno::NODEV)) => Ok(()),
        Err(f) => Err(refused(group, "freezer.state", value, f)),
    };
    let until = Instant::now() + within;
    for attempt in 1_u32.. {
        write(value)?;
        match group.try_read("freezer.state")? {
            Some(state) if state.trim() != value => {}
            _ => return Ok(()),
        }
        if Instant::now() >= until {
            break;
        }
        if frozen && attempt % 50 == 0 {
            write("THAWED")?;
            std::thread::sleep(Duration::from_millis(10));
        } else {
            std::thread::sleep(Duration::from_micros(if attempt < 10 { 20 } else { 1_000 }));
        }
    }
    if frozen {
        let _ = write("THAWED");
    }
    Err(timed_out(group, value, frozen, "write"))
}

fn refused(group: &Group<'_>, file: &str, value: &str, (call, errno): Failed) -> Error {
    let e = Error::new(Doing::Freeze, group.name()).value(value).call(call, errno);
    e.problem(format!("its {file} does not take {value}"))
}

fn timed_out(group: &Group<'_>, value: &str, frozen: bool, call: &'static str) -> Error {
    let e = Error::new(Doing::Freeze, group.name()).value(value).call(call, Errno::TIMEDOUT);
    e.likely(match frozen {
        true => "a process in it is in an uninterruptible system call; the group was thawed again",
        false => "a group above it is frozen",
    })
}

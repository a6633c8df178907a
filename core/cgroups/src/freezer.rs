//! Stopping and resuming all processes of a group, with a bound: who cannot be frozen in time is thawed again, never
//! left half frozen. v2 freezes where it is mounted (hybrid too); v1's freezer needs coaxing.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::error::{Doing, Errno, Error, Result};
use crate::file::read_fd;
use crate::group::Group;
use crate::v2;

fn failed(group: &Group<'_>, file: &str, value: &str, (call, errno): (&'static str, Errno)) -> Error {
    Error::new(Doing::Freeze, group.name())
        .controller("freezer")
        .value(value)
        .call(call, errno)
        .problem(format!("its {file} does not take {value}"))
}

pub(crate) fn v2(group: &Group<'_>, frozen: bool, within: Duration) -> Result<()> {
    let value = if frozen { "1" } else { "0" };
    group.write("cgroup.freeze", value).map_err(|f| failed(group, "cgroup.freeze", value, f))?;
    if wait_for(group, "frozen", frozen, within)? {
        return Ok(());
    }
    if frozen {
        let _ = group.write("cgroup.freeze", "0");
    }
    let e = Error::new(Doing::Freeze, group.name()).value(value).call("poll", Errno::TIMEDOUT);
    Err(e.likely(match frozen {
        true => "a process in it is in an uninterruptible system call; the group was thawed again",
        false => "a group above it is frozen",
    }))
}

/// Waits until a word of cgroup.events has that value, without polling: kernfs wakes on each change. A group that is
/// gone counts as reached. False = the time is over.
pub(crate) fn wait_for(group: &Group<'_>, word: &str, wanted: bool, within: Duration) -> Result<bool> {
    let read = |call, errno| Error::new(Doing::Read, group.file("cgroup.events")).call(call, errno);
    let until = Instant::now() + within;
    let file = match group.open("cgroup.events", OFlags::RDONLY) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(true),
        Err(e) => return Err(read("openat", e)),
    };
    loop {
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).map_err(|e| read("lseek", e))?;
        let text = match read_fd(std::os::fd::AsFd::as_fd(&file)) {
            Ok(text) => text,
            Err((_, Errno::NODEV)) => return Ok(true),
            Err((call, e)) => return Err(read(call, e)),
        };
        if v2::word_of(&text, word).is_none_or(|n| (n != 0) == wanted) {
            return Ok(true);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(read("poll", e)),
        }
    }
}

/// v1 may stay FREEZING for ever while processes fork: writing FROZEN again catches the new ones, and now and then a
/// thaw lets go of those that the freezer waits for in vain (runc does the same).
pub(crate) fn v1(group: &Group<'_>, frozen: bool, within: Duration) -> Result<()> {
    let value = if frozen { "FROZEN" } else { "THAWED" };
    let write = |value: &str| match group.write("freezer.state", value) {
        Ok(()) | Err((_, Errno::NODEV)) => Ok(()),
        Err(f) => Err(failed(group, "freezer.state", value, f)),
    };
    let until = Instant::now() + within;
    for attempt in 1_u32.. {
        write(value)?;
        let state = match group.try_read("freezer.state")? {
            Some(state) => state,
            None => return Ok(()),
        };
        if state.trim() == value {
            return Ok(());
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
    let e = Error::new(Doing::Freeze, group.name()).value(value).call("write", Errno::TIMEDOUT);
    Err(e.likely(match frozen {
        true => "a process in it is in an uninterruptible system call; the group was thawed again",
        false => "a group above it is frozen",
    }))
}

pub(crate) fn v1_frozen(group: &Group<'_>) -> Result<bool> {
    // FREEZING counts: somebody asked for it. A frozen group above is not our state.
    Ok(group.try_read("freezer.self_freezing")?.is_some_and(|t| t.trim() == "1"))
}

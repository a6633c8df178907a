//! A new sampand takes over what a dead one's holder has: locks, FIFOs, spools, sockets, and a pidfd of each child that the
//! dead keel had. It is the worker that does it, for its keel does not know of run folders. What it takes it gives to its keel
//! at once; the old holder ends last. So whoever dies on the way, the next one does it once more.

use crate::client::{self, Keel, Orphan};
use crate::record::{self, Living};
use crate::table::LastTable;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use sampan_runtime::error::errno_name;
use sampan_runtime::kernel::pidfd;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// How long a killed process may take to be gone. One in an uninterruptible wait may take longer.
const END_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "cannot take over what process {holder} holds for the sampand before: {doing}: {errno}{hint}",
        errno = errno_name(*errno),
        hint = if *errno == Errno::PERM { "\n  it takes CAP_SYS_PTRACE, or the user that the sampand before ran as" } else { "" }
    )]
    Call { holder: i32, doing: &'static str, errno: Errno },
    #[error(
        "the worker of the sampand before, process {pid}, was killed and does not end\n  it waits in the kernel (`cat /proc/{pid}/stack` says for what); start sampand again when it is gone"
    )]
    Stuck { pid: i32 },
    #[error("another sampand is taking over at this moment")]
    Busy,
    #[error(transparent)]
    Keel(#[from] client::Error),
}

/// A takeover under way: its lock keeps others out.
#[derive(Debug)]
pub struct TakenOver {
    _lock: std::fs::File,
}

pub fn end(pidfd: BorrowedFd<'_>) {
    let _ = pidfd::send(pidfd, libc::SIGKILL);
    let _ = pidfd::wait(pidfd, Some(END_MAX));
}

/// Takes all that the latest holder has. None: there is none that has outlived its keel.
pub fn take_over(run_dir: &Path, boot: &str, keel: &Keel) -> Result<Option<TakenOver>, Error> {
    let alone = |living: &Living| record::running(&living.entry.keel).is_none();
    if !record::living(run_dir, boot).first().is_some_and(alone) {
        return Ok(None);
    }
    // A file opened anew: the lock is this process's own and goes with it.
    let lock = std::fs::File::open(run_dir.join(record::NAME)).map_err(|_| Error::Busy)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Busy)?;
    let mut living = record::living(run_dir, boot).into_iter();
    let Some(old) = living.next().filter(alone) else { return Ok(None) };
    // One that an interrupted takeover has left: the later one has all that it had.
    living.for_each(|older| end(older.pidfd.as_fd()));
    match take(&old, keel) {
        // It was killed at this moment, and has no descriptors any more. What was taken until now is as good as ever.
        Err(Error::Call { errno: Errno::SRCH, .. }) => {
            end(old.pidfd.as_fd());
            Ok(None)
        }
        taken => taken.map(|()| Some(TakenOver { _lock: lock })),
    }
}

fn take(old: &Living, keel: &Keel) -> Result<(), Error> {
    let pid = old.entry.holder.pid;
    let failed = |doing| move |errno| Error::Call { holder: pid, doing, errno };
    let get = |fd: i32| pidfd_getfd(&old.pidfd, fd, PidfdGetfdFlags::empty()).map_err(failed("pidfd_getfd"));
    let memory = get(old.entry.table)?;
    let Some(left) = LastTable::read(memory.as_fd()).map_err(failed("read its table"))? else {
        return Err(Error::Call {
            holder: pid,
            doing: "its table is of another version",
            errno: Errno::PROTO,
        });
    };
    if let Some(worker) = left.worker {
        let worker = get(worker)?;
        let _ = pidfd::send(worker.as_fd(), libc::SIGKILL);
        if !pidfd::wait(worker.as_fd(), Some(END_MAX)).unwrap_or(true) {
            return Err(Error::Stuck { pid: pid_of(worker.as_fd()).unwrap_or(0) });
        }
    }
    for (key, fd) in &left.kept {
        keel.keep(&String::from_utf8_lossy(key), Some(get(*fd)?.as_fd()))?;
    }
    for (pid, fd, tag) in &left.children {
        let orphan = Orphan { pid: *pid, tag: &String::from_utf8_lossy(tag) };
        keel.keep(&orphan.to_string(), Some(get(*fd)?.as_fd()))?;
    }
    if let Some(tag) = &left.cloning {
        for (pid, fd) in unlisted(old, &left) {
            let orphan = Orphan { pid, tag: &String::from_utf8_lossy(tag) };
            keel.keep(&orphan.to_string(), Some(get(fd)?.as_fd()))?;
        }
    }
    Ok(())
}

/// Processes that the holder has a pidfd of and the table does not know: a child that was just being cloned. It is younger than
/// the keel. What is older is no child of it: a service of an earlier sampand's, whose pidfd came with the request (a check of
/// its health enters it by that), would be taken for the check and ended.
fn unlisted(old: &Living, left: &LastTable) -> Vec<(i32, i32)> {
    let known: BTreeSet<i32> = left.children.iter().map(|(pid, ..)| *pid).collect();
    let listed: BTreeSet<i32> = left.kept.iter().map(|(_, fd)| *fd).chain(left.worker).collect();
    let holder = old.entry.holder.pid;
    let folder = std::fs::read_dir(format!("/proc/{holder}/fdinfo")).into_iter().flatten().flatten();
    let numbers = folder.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pidfd = |fd: i32| {
        let text = std::fs::read_to_string(format!("/proc/{holder}/fdinfo/{fd}")).ok()?;
        let pid = pid_in(&text).filter(|pid| *pid > 0 && *pid != holder && !known.contains(pid))?;
        (pidfd::start_time(pid).ok()? >= old.entry.keel.start).then_some((pid, fd))
    };
    numbers.filter(|fd| !listed.contains(fd)).filter_map(pidfd).collect()
}

fn pid_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    pid_in(&std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?)
}

fn pid_in(fdinfo: &str) -> Option<i32> {
    fdinfo.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Entry;
    use rustix::fd::OwnedFd;
    use sampan_runtime::kernel::pidfd::Identity;

    /// Its life ends with the test.
    struct Sleeper(std::process::Child, OwnedFd);

    impl Sleeper {
        fn new() -> Sleeper {
            let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            let pidfd = pidfd::open(child.id().cast_signed()).unwrap().unwrap();
            // Start times are told in hundredths of a second.
            std::thread::sleep(Duration::from_millis(30));
            Sleeper(child, pidfd)
        }

        fn identity(&self) -> Identity {
            pidfd::identify(self.0.id().cast_signed(), self.1.as_fd()).unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn what_is_older_than_the_keel_is_no_child_that_it_was_cloning() {
        let [service, keel, child] = [(); 3].map(|()| Sleeper::new());
        let own = std::process::id().cast_signed();
        let holder = pidfd::open(own).unwrap().unwrap();
        let identity = pidfd::identify(own, holder.as_fd()).unwrap();
        let entry = Entry { number: 1, holder: identity, keel: keel.identity(), table: 0 };
        let old = Living { entry, place: 0, pidfd: holder };
        let found = unlisted(&old, &LastTable::default());
        assert!(found.contains(&(child.identity().pid, child.1.as_raw_fd())), "{found:?}");
        assert!(!found.iter().any(|(pid, _)| *pid == service.identity().pid), "{found:?}");
    }
}

//! The keel as the one who clones in `sampan_runtime::launch`: the same launch as `sampan create`, only that the
//! container becomes the keel's child.

use super::client::{Error, Keel, hint};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::BorrowedFd;
use rustix::io::retry_on_intr;
use sampan_runtime::error::{Error as LaunchError, Result};
use sampan_runtime::launch::{Spawn, Spawned};

/// Starts processes through the keel, all under one tag.
#[derive(Clone, Debug)]
pub struct Launcher {
    keel: Keel,
    tag: String,
}

impl Launcher {
    pub(super) fn new(keel: Keel, tag: &str) -> Launcher {
        Launcher { keel, tag: tag.to_owned() }
    }
}

impl Spawn for Launcher {
    fn spawn(&mut self, image: &[u8], slots: &[BorrowedFd<'_>]) -> Result<Spawned> {
        let child = self.keel.launch(image, slots, &self.tag)?;
        Ok(Spawned { pid: child.pid, pidfd: child.pidfd })
    }

    fn reap(&mut self, child: &Spawned) -> Result<()> {
        // The keel does not wait for anybody: see to it that the child is dead.
        let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, None))
            .map_err(|e| LaunchError::new("wait for the child").call("poll", e))?;
        self.keel.reap(child.pid)?;
        Ok(())
    }
}

impl From<Error> for LaunchError {
    fn from(error: Error) -> LaunchError {
        let Error::Refused { doing, errno, fault, .. } = error else {
            return LaunchError::new(error.to_string());
        };
        let doing = format!("the keel could not {doing} it");
        let call = fault.map_or("keel", |fault| fault.call.name());
        LaunchError::new(doing).call(call, errno).likely(hint(errno).trim())
    }
}

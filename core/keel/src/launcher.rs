//! The keel as the one who clones in `sampan_runtime::launch`: the same launch as `sampan create`, only that the
//! container becomes the keel's child.

use crate::client::{self, Child, Error, Handle, Keel, hint};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::io::retry_on_intr;
use sampan_runtime::error::{Error as LaunchError, Result};
use sampan_runtime::kernel::pidfd::{self, Exit};
use sampan_runtime::launch::{Spawn, Spawned, Which};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

/// How long whoever inherited a process may take to reap it; after that its exit status is unknown.
const REAPED_MAX: Timespec = Timespec { tv_sec: 3, tv_nsec: 0 };

/// Starts processes through the keel, all under one tag.
#[derive(Clone, Debug)]
pub struct Launcher {
    keel: Keel,
    tag: String,
    /// Of the one process that it was made for, if that was there already.
    found: Option<Handle>,
    /// The image of what it starts, if that is kept from one to the next.
    image: Option<Arc<OwnedFd>>,
}

impl Keel {
    /// As a `Spawn` for `sampan_runtime::launch`: what it starts carries this tag.
    pub fn launcher(&self, tag: &str) -> Launcher {
        Launcher { keel: self.clone(), tag: tag.to_owned(), found: None, image: None }
    }

    /// For what is left to do with a child that is there already: it is looked at and let go as its handle says.
    pub fn launcher_of(&self, child: &Child, tag: &str) -> Launcher {
        Launcher { found: Some(child.handle.clone()), ..self.launcher(tag) }
    }
}

impl Launcher {
    /// What it starts carries out this image (`sealed_image`), whatever it is told.
    pub fn of_image(self, image: Arc<OwnedFd>) -> Launcher {
        Launcher { image: Some(image), ..self }
    }

    fn hook_tag(&self, which: &Which<'_>) -> String {
        HookTag { of: &self.tag, kind: which.kind.name(), index: which.index, worker: std::process::id() }
            .to_string()
    }
}

/// What a hook's process and its pipe are known by at the keel: the tag of what it is a hook of, and who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookTag<'t> {
    pub of: &'t str,
    pub kind: &'t str,
    pub index: usize,
    /// The worker that started it.
    pub worker: u32,
}

impl fmt::Display for HookTag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hook/{}/{}/{}/{}", self.of, self.kind, self.index, self.worker)
    }
}

impl<'t> HookTag<'t> {
    pub fn parse(tag: &'t str) -> Option<HookTag<'t>> {
        let (rest, worker) = tag.strip_prefix("hook/")?.rsplit_once('/')?;
        let (rest, index) = rest.rsplit_once('/')?;
        let (of, kind) = rest.rsplit_once('/')?;
        Some(HookTag { of, kind, index: index.parse().ok()?, worker: worker.parse().ok()? })
    }
}

impl Spawn for Launcher {
    fn spawn(&mut self, image: &[u8], slots: &[BorrowedFd<'_>]) -> Result<Spawned> {
        let child = match &self.image {
            Some(kept) => self.keel.launch_from(kept.as_fd(), slots, &self.tag)?,
            None => self.keel.launch(image, slots, &self.tag)?,
        };
        Ok(Spawned { pid: child.pid, pidfd: child.pidfd })
    }

    fn spawn_hook(
        &mut self,
        image: &[u8],
        slots: &[BorrowedFd<'_>],
        which: &Which<'_>,
        output: BorrowedFd<'_>,
    ) -> Result<Spawned> {
        let tag = self.hook_tag(which);
        // First, so that a hook is never without a reader whenever we die.
        self.keel.keep(&tag, Some(output))?;
        let launched = self.keel.launch(image, slots, &tag);
        if launched.is_err() {
            let _ = self.keel.keep(&tag, None);
        }
        let child = launched?;
        Ok(Spawned { pid: child.pid, pidfd: child.pidfd })
    }

    fn reap_hook(&mut self, child: &Spawned, which: &Which<'_>) -> Result<()> {
        self.reap(child)?;
        let _ = self.keel.keep(&self.hook_tag(which), None);
        Ok(())
    }

    fn peek(&mut self, child: &Spawned) -> Result<Exit> {
        if let Some(Handle::Orphan(_)) = self.found {
            // Readable when it has ended; hung up (always asked for) when it has been reaped, which tells how.
            let mut fds = [PollFd::new(&child.pidfd, PollFlags::empty())];
            let known = pidfd::exit(child.pidfd.as_fd());
            if known == Exit::Unknown {
                let _ = poll(&mut fds, Some(&REAPED_MAX));
            }
            return Ok(pidfd::exit(child.pidfd.as_fd()));
        }
        Ok(match self.keel.peek(child.pid)? {
            Some(client::Exit::Code(code)) => Exit::Code(code),
            Some(client::Exit::Signal { number, .. }) => Exit::Signal(number),
            None => Exit::Unknown,
        })
    }

    fn reap(&mut self, child: &Spawned) -> Result<()> {
        // The keel does not wait for anybody: see to it that the child is dead.
        let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, None))
            .map_err(|e| LaunchError::new("wait for the child").call("poll", e))?;
        Ok(self.keel.let_go(self.found.as_ref().unwrap_or(&Handle::Own(child.pid)))?)
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

#[cfg(test)]
mod tests {
    use super::HookTag;

    #[test]
    fn a_hooks_tag_reads_as_it_was_written() {
        let tag = HookTag { of: "service/web/7", kind: "poststop", index: 2, worker: 4711 };
        assert_eq!(tag.to_string(), "hook/service/web/7/poststop/2/4711");
        assert_eq!(HookTag::parse(&tag.to_string()), Some(tag));
        assert_eq!(HookTag::parse("service/web/7"), None);
    }
}

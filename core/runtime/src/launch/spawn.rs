//! Cloning in this process: the image is checked, then the child crate's one entry does the rest.
//!
//! The only `unsafe` is the moment when the kernel's numbers become descriptors with an owner.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{WaitId, WaitIdOptions, waitid};
use sampan_child::image::Image;
use sampan_plan::Plan;

use crate::error::{Errno, Error, Result};
use crate::kernel::pidfd::{self, Exit};
use crate::launch::hooks::Which;

/// A child that walks its image.
#[derive(Debug)]
pub struct Spawned {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Who clones. The slots are valid until `spawn` returns.
pub trait Spawn {
    fn spawn(&mut self, image: &[u8], slots: &[BorrowedFd<'_>]) -> Result<Spawned>;
    /// The same for a hook on the host's side. `which` and `output`, the read end of its pipe, are for those whose successor
    /// may find it running.
    fn spawn_hook(
        &mut self,
        image: &[u8],
        slots: &[BorrowedFd<'_>],
        _which: &Which<'_>,
        _output: BorrowedFd<'_>,
    ) -> Result<Spawned> {
        self.spawn(image, slots)
    }
    fn reap_hook(&mut self, child: &Spawned, _which: &Which<'_>) -> Result<()> {
        self.reap(child)
    }
    /// How a child that has ended did. It stays a zombie, and its number nobody else's.
    fn peek(&mut self, child: &Spawned) -> Result<Exit> {
        Ok(pidfd::exit(child.pidfd.as_fd()))
    }
    /// The child ended before it was handed over: take its status, so that no zombie stays.
    fn reap(&mut self, child: &Spawned) -> Result<()>;
}

/// Clones right here: for `sampan`, whose address space is small.
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct;

impl Direct {
    /// As [`sampan_child::spawn_then`].
    pub fn spawn_then(image: &[u8], slots: &[BorrowedFd<'_>], once_cloned: impl FnOnce()) -> Result<Spawned> {
        let image =
            Image::check(image).map_err(|fault| Error::new(format!("the plan is damaged: {fault:?}")))?;
        let slots: Vec<i32> = slots.iter().map(|fd| fd.as_raw_fd()).collect();
        let spawned = sampan_child::spawn_then(&image, &slots, once_cloned).map_err(|fault| {
            let cannot = match fault.call {
                sampan_child::sys::Call::setns => "cannot enter a namespace",
                sampan_child::sys::Call::sched_setaffinity => {
                    "process.execCPUAffinity.initial: cannot use these CPUs"
                }
                _ => "cannot make the container's process",
            };
            Error::new(cannot).call(fault.call.name(), Errno::from_raw_os_error(fault.errno.into()))
        })?;
        // SAFETY: clone3 made this descriptor for us a moment ago, and nobody else knows its number.
        let pidfd = unsafe { OwnedFd::from_raw_fd(spawned.pidfd) };
        Ok(Spawned { pid: spawned.pid as i32, pidfd })
    }
}

impl Spawn for Direct {
    fn spawn(&mut self, image: &[u8], slots: &[BorrowedFd<'_>]) -> Result<Spawned> {
        Direct::spawn_then(image, slots, || {})
    }

    fn reap(&mut self, child: &Spawned) -> Result<()> {
        loop {
            match waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(_) | Err(Errno::CHILD) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::new("cannot reap the container's process").call("waitid", e)),
            }
        }
    }
}

/// A plan's image in a memfd, sealed: the form in which it is handed to another process.
pub fn sealed(plan: &Plan<'_>) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let failed = |call| move |e| Error::new("cannot seal the plan").call(call, e);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memfd = memfd_create("plan", flags).map_err(failed("memfd_create"))?;
    let mut rest = plan.image.as_slice();
    while !rest.is_empty() {
        let n = rustix::io::write(&memfd, rest).map_err(failed("write"))?;
        rest = rest.get(n..).unwrap_or_default();
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&memfd, seals).map_err(failed("fcntl"))?;
    Ok(memfd)
}

#![no_std]
#![deny(unsafe_code)]
//! What runs between clone3 and execve.
//!
//! No heap, no locks, no panics, no std: after clone3 this process is a frozen copy of one that may have had
//! threads, so anything that waits for another thread waits for ever.  The parent opens what it can and
//! hands it over as slots; the child carries out the image, reports sixteen bytes where it fails, and is gone.
//!
//! `sampan` calls [`spawn`] in process; the keel calls it with an image that came in a sealed memfd.
//! Modules are listed in the order in which they may use each other.

pub mod defence;
#[allow(unsafe_code)]
pub mod sys;
// The language: a step, a plan of them as flat data, what a child answers.
mod field;
pub mod step;
pub mod image;
pub mod report;
// What the steps do.
mod home;
mod context;
mod ids;
mod stdio;
mod procfs;
mod targets;
mod copy_up;
mod option_string;
mod mounts;
mod scratch;
mod find;
mod hooks;
mod oversee;
mod interpret;

use image::Image;
use step::{Back, FOR_EVER, Numbers, Slot, Step};
use sys::{Call, CpuMask, Fault, Fd, Successor, uapi};

/// A child that carries out its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spawned {
    pub pid: u32,
    /// Close-on-exec; the caller's to close.
    pub pidfd: Fd,
}

/// Clones a child that carries out the image. `slots` are the descriptors that the image's slots stand for.
///
/// How long a process that has nothing left to do but to end may take for it once it is killed.
const KILLED_MS_MAX: i64 = 1_000;

/// Returns as soon as the child exists, or where the image says so the child in which it goes on; everything it has to say
/// comes through the image's report slot.
/// A fault's `detail` is the step, if it was one of the first ones, which are the spawner's to do.
pub fn spawn(image: &Image<'_>, slots: &[Fd]) -> Result<Spawned, Fault> {
    spawn_then(image, slots, || {})
}

/// The same, and does what `once_cloned` says when the child has all that it needs, also if it has to wait: it may have joined
/// a paused container.
pub fn spawn_then(image: &Image<'_>, slots: &[Fd], once_cloned: impl FnOnce()) -> Result<Spawned, Fault> {
    let header = image.header();
    if slots.len() < header.slots as usize {
        return Err(Fault::new(Call::clone3, uapi::EBADF));
    }
    let slot = |s: Slot| slots.get(s.0 as usize).copied().ok_or(Fault::new(Call::clone3, uapi::EBADF));
    let cgroup = if header.cgroup == Slot::NONE { None } else { Some(slot(header.cgroup)?) };

    let wait_ms = image.goes_on_in_child();
    let successor = wait_ms.map(|_| Successor::new()).transpose()?;
    let successor = successor.as_ref();

    let place = Place::enter(image, slots)?;
    let first = place.steps;
    let cloned =
        sys::clone(header.clone_flags, cgroup, || interpret::interpret(image, slots, first, successor));
    let back = place.leave();
    let (pid, pidfd) = cloned?;
    let child = Spawned { pid, pidfd };
    if let Err(fault) = back {
        // The caller hears of a failure alone, so it must not leave a child that nobody knows.
        sys::kill(pidfd);
        reap(child);
        return Err(fault);
    }
    once_cloned();
    match (wait_ms, successor) {
        (Some(wait_ms), Some(successor)) => succeeded(child, successor, wait_ms),
        _ => Ok(child),
    }
}

/// The child in which `first` went on; or `first` itself, if it failed before that, or is paused with the container.
fn succeeded(first: Spawned, successor: &Successor, wait_ms: u32) -> Result<Spawned, Fault> {
    let wait_ms = if wait_ms == FOR_EVER { -1 } else { i64::from(wait_ms) };
    let mut ended = sys::readable(first.pidfd, wait_ms)?;
    if !ended && successor.give_up() {
        return Ok(first);
    }
    if !ended {
        // All that is left to it is to end. Whoever has its uid may have stopped it, and the spawner has other work.
        sys::kill(first.pidfd);
        ended = sys::readable(first.pidfd, KILLED_MS_MAX)?;
    }
    let Some(pid) = successor.pid() else { return Ok(first) };
    let pidfd = sys::pidfd(pid)?;
    match ended {
        true => reap(first),
        // It waits in the kernel; nobody waits for it.
        false => sys::close(first.pidfd),
    }
    Ok(Spawned { pid, pidfd })
}

fn reap(child: Spawned) {
    let _ = sys::reap(child.pidfd);
    sys::close(child.pidfd);
}

/// Where the spawner is while it clones: what the first steps of the image are about.
struct Place<'i> {
    image: &'i Image<'i>,
    slots: &'i [Fd],
    /// How many of the first steps are done.
    steps: u32,
    /// Where it ran before, if that has changed.
    cpus: Option<CpuMask>,
}

impl<'i> Place<'i> {
    fn enter(image: &'i Image<'i>, slots: &'i [Fd]) -> Result<Place<'i>, Fault> {
        let mut place = Place { image, slots, steps: 0, cpus: None };
        loop {
            let done = match image.step(place.steps) {
                Some(Step::Enter { ns, kind, .. }) => place.slot(ns).and_then(|ns| sys::setns(ns, kind)),
                Some(Step::StartOn { mask }) => place.run_on(mask),
                _ => return Ok(place),
            };
            if let Err(fault) = done {
                let detail = place.steps;
                let _ = place.leave();
                return Err(Fault { detail, ..fault });
            }
            place.steps = place.steps.wrapping_add(1);
        }
    }

    fn slot(&self, slot: Slot) -> Result<Fd, Fault> {
        self.slots.get(slot.0 as usize).copied().ok_or(Fault::new(Call::setns, uapi::EBADF))
    }

    fn run_on(&mut self, mask: Numbers) -> Result<(), Fault> {
        let before = sys::own_cpus()?;
        sys::cpus(self.image.numbers(mask))?;
        self.cpus.get_or_insert(before);
        Ok(())
    }

    /// Undoes all of it, also where a part of that fails.
    fn leave(self) -> Result<(), Fault> {
        let mut result = self.cpus.map_or(Ok(()), |cpus| sys::cpus(cpus.into_iter()));
        let mut index = 0;
        while index < self.steps {
            if let Some(Step::Enter { back, kind, .. }) = self.image.step(index) {
                let left = match back {
                    Back::Slot(slot) => self.slot(slot).and_then(|own| sys::setns(own, kind)),
                    Back::ByPidfd => sys::pidfd_self().and_then(|own| {
                        let left = sys::setns(own, kind);
                        sys::close(own);
                        left
                    }),
                };
                result = result.and(left);
            }
            index = index.wrapping_add(1);
        }
        result
    }
}

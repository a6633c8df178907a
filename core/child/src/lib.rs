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
mod procfs;
mod targets;
mod copy_up;
mod mounts;
mod scratch;
mod find;
mod hooks;
mod interpret;

use image::Image;
use step::{Back, Slot, Step};
use sys::{Call, Fault, Fd, uapi};

/// A child that carries out its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spawned {
    pub pid: u32,
    /// Close-on-exec; the caller's to close.
    pub pidfd: Fd,
}

/// Clones a child that carries out the image. `slots` are the descriptors that the image's slots stand for.
///
/// Returns as soon as the child exists; everything it has to say comes through the image's report slot.
/// A fault's `detail` is the step, if it was one of the `Enter` steps that are ours to do.
pub fn spawn(image: &Image<'_>, slots: &[Fd]) -> Result<Spawned, Fault> {
    let header = image.header();
    if slots.len() < header.slots as usize {
        return Err(Fault::new(Call::clone3, uapi::EBADF));
    }
    let slot = |s: Slot| slots.get(s.0 as usize).copied().ok_or(Fault::new(Call::clone3, uapi::EBADF));
    let cgroup = if header.cgroup == Slot::NONE { None } else { Some(slot(header.cgroup)?) };

    let entered = enter(image, slots)?;
    let cloned = sys::clone(header.clone_flags, cgroup, || interpret::interpret(image, slots, entered));
    let back = leave(image, slots, entered);
    let (pid, pidfd) = cloned?;
    match back {
        Ok(()) => Ok(Spawned { pid, pidfd }),
        Err(fault) => {
            // The caller hears of a failure alone, so it must not leave a child that nobody knows.
            sys::kill(pidfd);
            let _ = sys::reap(pidfd);
            sys::close(pidfd);
            Err(fault)
        }
    }
}

/// Enters the namespaces of the image's first steps; returns how many there were.
fn enter(image: &Image<'_>, slots: &[Fd]) -> Result<u32, Fault> {
    let mut index = 0u32;
    while let Some(Step::Enter { ns, kind, .. }) = image.step(index) {
        let done = match slots.get(ns.0 as usize) {
            Some(ns) => sys::setns(*ns, kind),
            None => Err(Fault::new(Call::setns, uapi::EBADF)),
        };
        if let Err(fault) = done {
            let _ = leave(image, slots, index);
            return Err(Fault { detail: index, ..fault });
        }
        index = index.wrapping_add(1);
    }
    Ok(index)
}

/// Returns from what [`enter`] entered.
fn leave(image: &Image<'_>, slots: &[Fd], entered: u32) -> Result<(), Fault> {
    let mut result = Ok(());
    let mut index = 0;
    while index < entered {
        if let Some(Step::Enter { back, kind, .. }) = image.step(index) {
            let left = match back {
                Back::Slot(slot) => match slots.get(slot.0 as usize) {
                    Some(own) => sys::setns(*own, kind),
                    None => Err(Fault::new(Call::setns, uapi::EBADF)),
                },
                Back::ByPidfd => sys::pidfd_self().and_then(|own| {
                    let left = sys::setns(own, kind);
                    sys::close(own);
                    left
                }),
                Back::Stay => Ok(()),
            };
            result = result.and(left);
        }
        index = index.wrapping_add(1);
    }
    result
}

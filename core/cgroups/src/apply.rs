//! Writing limits to a control group.
//!
//! A write is one system call with one error. Which value the kernel wants first is not modelled: what it refuses with
//! EINVAL is tried again after the other values of the same controller (see `limits`).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;

use crate::cgroup::Cgroup;
use crate::devices::Program;
use crate::error::{Doing, Errno, Error, Result};
use crate::explain;
use crate::file::{Failed, write_all};
use crate::group::Group;
use crate::limits::{IfMissing, Limits, Write};
use crate::v2;

impl Cgroup<'_> {
    /// Writes all limits of a new container, and stops at the first one that is refused.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        self.enable_controllers(limits)?;
        self.write(&limits.writes, &mut Vec::new())?;
        limits.devices.as_ref().map_or(Ok(()), |program| self.attach(program))
    }

    pub(crate) fn enable_controllers(&self, limits: &Limits) -> Result<()> {
        let Some(group) = self.v2() else { return Ok(()) };
        let mut wanted = limits.v2_controllers();
        wanted.retain(|c| group.hierarchy.has(c));
        if wanted.is_empty() { Ok(()) } else { v2::enable(&group, &wanted) }
    }

    pub(crate) fn attach(&self, program: &Program) -> Result<()> {
        let Some(group) = self.v2() else { return Ok(()) };
        let folder =
            group.folder().map_err(|e| Error::new(Doing::Devices, group.name()).call("openat", e))?;
        program.attach(folder.as_fd(), &group.name())
    }

    /// Controller by controller. `done` gets each write that the kernel took, whatever the outcome.
    pub(crate) fn write(&self, writes: &[Write], done: &mut Vec<Write>) -> Result<()> {
        let of_one_controller = |a: &Write, b: &Write| a.version == b.version && a.controller == b.controller;
        for writes in writes.chunk_by(of_one_controller) {
            let Some(first) = writes.first() else { continue };
            let group = self.group_of(first.version, &first.controller).ok_or_else(|| {
                Error::new(Doing::Unavailable, &*first.controller)
                    .field(&first.field)
                    .problem("that controller is on no mounted hierarchy")
            })?;
            write_to(&group, writes, done)?;
        }
        Ok(())
    }
}

/// The writes of one controller. EINVAL may mean "not before another value": such a write is tried again as long as others
/// succeed. Device rules are a list, of which the order must stay.
fn write_to(group: &Group<'_>, writes: &[Write], done: &mut Vec<Write>) -> Result<()> {
    let mut pending: Vec<&Write> = writes.iter().collect();
    while !pending.is_empty() {
        let mut open = None;
        let mut again = Vec::new();
        let mut first_error = None;
        for write in &pending {
            match write_one(group, write, &mut open) {
                Ok(()) => done.push((*write).clone()),
                Err((_, Errno::NOENT)) if write.if_missing == IfMissing::Skip => {}
                Err(failed @ (_, Errno::INVAL)) if write.controller != "devices" => {
                    first_error.get_or_insert_with(|| refused(group, write, failed));
                    again.push(*write);
                }
                Err(failed) => return Err(refused(group, write, failed)),
            }
        }
        if let Some(error) = first_error
            && again.len() == pending.len()
        {
            return Err(error);
        }
        pending = again;
    }
    Ok(())
}

fn refused(group: &Group<'_>, write: &Write, (call, errno): Failed) -> Error {
    Error::new(Doing::Limit, group.file(&write.file))
        .field(&write.field)
        .value(&write.value)
        .call(call, errno)
        .likely_or(explain::limit(group, write, errno))
}

/// One write call. The file stays open in `open` for further values of the same file.
fn write_one<'w>(
    group: &Group<'_>,
    write: &'w Write,
    open: &mut Option<(&'w str, OwnedFd)>,
) -> std::result::Result<(), Failed> {
    if let Some((file, fd)) = open
        && *file == write.file
    {
        return write_all(fd.as_fd(), &write.value);
    }
    match (group.open(&write.file, OFlags::WRONLY), &write.if_missing) {
        (Ok(fd), _) => {
            let written = write_all(fd.as_fd(), &write.value);
            *open = Some((&write.file, fd));
            written
        }
        (Err(Errno::NOENT), IfMissing::Instead(file, value)) => group.write(file, value),
        (Err(e), _) => Err(("openat", e)),
    }
}

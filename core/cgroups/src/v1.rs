//! Making a v1 group. A cpuset needs more than mkdir: it is empty until it is filled.

use crate::error::{Doing, Errno, Error, Result};
use crate::explain;
use crate::group::Group;

/// Makes the group and what is missing above it. True if the group itself is new.
pub(crate) fn make(group: &Group<'_>) -> Result<bool> {
    let failed = |e| {
        let error = Error::new(Doing::Make, group.name()).call("mkdirat", e);
        error.likely_or(explain::make(e))
    };
    let new = match group.mkdir() {
        Ok(new) => new,
        Err(Errno::NOENT) => {
            if let Some(parent) = group.parent() {
                make(&parent)?;
            }
            group.mkdir().map_err(failed)?
        }
        Err(e) => return Err(failed(e)),
    };
    if group.hierarchy.has("cpuset") {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fill(group, file, new)?;
        }
    }
    Ok(new)
}

/// A new cpuset has no CPU and no memory node, and joining one gives ENOSPC. It gets those of its parent, which gets those of
/// its own parent first.
fn fill(group: &Group<'_>, file: &str, new: bool) -> Result<String> {
    let Some(parent) = group.parent() else {
        return group.read(file);
    };
    if !new {
        let present = group.read(file)?;
        if !present.trim().is_empty() {
            return Ok(present);
        }
    }
    let mut value = parent.read(file)?;
    if value.trim().is_empty() {
        value = fill(&parent, file, false)?;
    }
    group.write(file, value.trim_end()).map_err(|(call, e)| {
        Error::new(Doing::Limit, group.file(file)).value(value.trim_end()).call(call, e)
    })?;
    Ok(value)
}

//! What only v1 needs: a cpuset that is empty until filled.

use crate::error::{Doing, Error, Result};
use crate::group::Group;

/// Makes the group and what is missing above it; true if the group itself is new.
pub(crate) fn make(group: &Group<'_>) -> Result<bool> {
    let failed = |e| {
        let error = Error::new(Doing::Make, group.name()).call("mkdirat", e);
        error.likely_or(crate::explain::make(e))
    };
    let new = match group.mkdir() {
        Ok(new) => new,
        Err(rustix::io::Errno::NOENT) => {
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

/// A new cpuset has no CPU and no memory node, and joining one gives ENOSPC: it takes its parent's, top down.
fn fill(group: &Group<'_>, file: &str, new: bool) -> Result<String> {
    let Some(parent) = group.parent() else {
        return group.read(file);
    };
    if !new {
        let held = group.read(file)?;
        if !held.trim().is_empty() {
            return Ok(held);
        }
    }
    let mut value = parent.read(file)?;
    if value.trim().is_empty() {
        value = fill(&parent, file, false)?;
    }
    group.write(file, value.trim_end()).map_err(|(call, e)| {
        Error::new(Doing::Limit, group.file(file)).controller("cpuset").value(value.trim_end()).call(call, e)
    })?;
    Ok(value)
}

//! A part of the host's own root as containers see it (sampan_plan::host_root).
//!
//! Where its file system takes no id map, as overlayfs takes none on any kernel, an overlay of it is shown that a process without
//! rights has mounted.  overlayfs asks twice: may whoever is inside, and might its maker, that is nobody without groups?  So root
//! inside reads what both may.  Its FIFOs and sockets are nobody's: who opens one through an overlay gets another one.

use std::os::fd::{AsFd, OwnedFd};

use sampan_plan::slots::IdMap;
use sampan_plan::{nobody, render};

use crate::error::{Errno, Error, Result};
use crate::launch::explain::{Circumstances, explain};
use crate::launch::idmap::UserNamespaces;
use crate::launch::pipe::{pipe, receive_fd, sockets};
use crate::launch::report::next_report;
use crate::launch::spawn::{Direct, Spawn};

/// With its ids mapped; where that cannot be, by nobody's overlay.
pub fn shown(namespaces: &mut UserNamespaces, tree: OwnedFd, path: &str, map: &IdMap) -> Result<OwnedFd> {
    let Err(refused) = namespaces.apply(tree.as_fd(), path, map) else { return Ok(tree) };
    if refused.errno != Some(Errno::INVAL) {
        return Err(refused);
    }
    overlay(&tree, path).map_err(|e| {
        let why = format!(
            "{}; and an overlay of it cannot be made in place of that: {}",
            refused.likely,
            e.to_string().replace("\n  ", "; ")
        );
        refused.likely(why)
    })
}

/// The child ends as soon as it has sent its mount: in a mount namespace of its own, so that nobody else sees what it does.
fn overlay(tree: &OwnedFd, path: &str) -> Result<OwnedFd> {
    let plan = nobody::overlay(path).map_err(|e| Error::new(e.problem))?;
    let (read, write) = pipe()?;
    let (ours, theirs) = sockets()?;
    let child = Direct.spawn(&plan.image, &[write.as_fd(), tree.as_fd(), theirs.as_fd()])?;
    drop((write, theirs));
    let sent = receive_fd(ours.as_fd()).map_err(|e| Error::new("cannot take a mount").call("recvmsg", e));
    let told = next_report(&read);
    Direct.reap(&child)?;
    match (sent?, told?) {
        (Some(mount), None) => Ok(mount),
        (_, Some(told)) => {
            let reader = render::reader(&plan).ok_or_else(|| Error::new("the plan is damaged"))?;
            let around = Circumstances { privileged: true, ..Circumstances::default() };
            Err(explain(&told, &reader, &plan.origins, around))
        }
        (None, None) => Err(Error::new("the process that makes it was killed")),
    }
}

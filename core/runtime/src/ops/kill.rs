//! `sampan kill [--all] ID [SIGNAL]`: to exactly the process that is the container's first one, or to all of them.
//! Takes no lock: it must work while a create hangs.

use std::os::fd::AsFd;

use super::{Result, doing, find, state_error};
use crate::pidfd;
use crate::root::Root;

pub fn run(root: &Root, id: &str, signal: i32, all: bool) -> Result<()> {
    let (_folder, state) = find(root, id)?;
    let init = state.init().map_err(doing(format!("{id}: cannot find its process")))?;
    let Some(init) = init else {
        // A client that asks for all wants nothing left; nothing is.
        return if all { Ok(()) } else { Err(state_error(id, "container not running")) };
    };
    match pidfd::send(init.as_fd(), signal) {
        Ok(()) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Err(state_error(id, "container not running")),
        Err(e) => Err(doing(format!("{id}: cannot send signal {signal}"))(e)),
    }
}

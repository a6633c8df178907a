//! A keel without a process of its own, for tests of what stands above it: a thread answers the same protocol from
//! the same tables. Its children are this process's, so nothing outlives it.

use crate::client::{Error, Keel};
use crate::hold::{Hold, reply};
use crate::wire;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use std::sync::{Arc, Mutex, PoisonError};

impl Keel {
    /// Ends when the last clone of the connection is dropped; children that run are then init's.
    pub fn in_process() -> Result<Keel, Error> {
        let failed = |(doing, errno)| Error::Call { doing, errno };
        let hold = Hold::new().map_err(failed)?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|errno| Error::Call { doing: "make a socket pair", errno })?;
        let hold = Arc::new(Mutex::new(hold));
        std::thread::spawn(move || answer(&hold, ours));
        Keel::greet(theirs)
    }
}

fn answer(hold: &Arc<Mutex<Hold>>, socket: OwnedFd) {
    while let Ok(Some((request, mut fds))) = wire::receive(socket.as_fd(), RecvFlags::empty()) {
        let handled = {
            let mut held = hold.lock().unwrap_or_else(PoisonError::into_inner);
            let handled = held.handle(&request, &mut fds);
            // One more connection: a thread of its own answers it.
            if let Some(socket) = held.connections.take(0) {
                let hold = hold.clone();
                std::thread::spawn(move || self::answer(&hold, socket));
            }
            handled
        };
        drop(fds);
        if reply(socket.as_fd(), &request, handled).is_err() {
            return;
        }
    }
}

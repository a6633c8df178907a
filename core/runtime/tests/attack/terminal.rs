//! The other end of `--console-socket`, as conmon and containerd hold it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// How long a container may be silent before its terminal is read no further.
const SILENCE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

pub struct Listener(UnixListener);

impl Listener {
    pub fn new(path: &Path) -> Listener {
        Listener(UnixListener::bind(path).unwrap())
    }

    /// The terminal that a runtime which has ended sent; `None` if it sent none.
    pub fn master(&self) -> Option<OwnedFd> {
        self.0.set_nonblocking(true).unwrap();
        let (stream, _) = self.0.accept().ok()?;
        let mut name = [0u8; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        recvmsg(&stream, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
    }
}

/// What is written there until its last writer is gone, or silent.
pub fn text(master: &OwnedFd) -> String {
    let mut all = Vec::new();
    let mut part = [0u8; 4096];
    while poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&SILENCE)).is_ok_and(|ready| ready > 0) {
        match rustix::io::read(master, &mut part) {
            Ok(n) if n > 0 => all.extend_from_slice(&part[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

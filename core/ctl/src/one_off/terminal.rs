//! A one-off's terminal in ours. Its master is ours alone; the container has the other side.
use crate::attach::terminal::{Raw, size};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// The master whose size is ours, and our own terminal as long as what is typed is for the one-off.
static HELD: Mutex<Option<(OwnedFd, Option<Raw>)>> = Mutex::new(None);

/// None: it was never made.
pub fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::io::retry_on_intr(|| rustix::net::recvmsg(socket, &mut bytes, &mut control, flags)).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    })
}

/// From now on what is typed goes there, and its size is ours.
pub fn begin(master: OwnedFd) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let raw = match held.take() {
        Some((_, raw)) => raw,
        None => Raw::new().ok().flatten(),
    };
    *held = Some((master, raw));
    drop(held);
    resize();
}

/// Where what is typed goes.
pub struct Typed;

impl Write for Typed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let master = held.as_ref().map(|(master, _)| master.try_clone());
        drop(held);
        File::from(master.ok_or(io::ErrorKind::BrokenPipe)??).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ours has another size.
pub fn resize() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let (Some((master, _)), Some(size)) = (&*held, size()) {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = tcsetwinsize(master, size);
    }
}

/// Ours is as it was.
pub fn leave() {
    drop(HELD.lock().unwrap_or_else(PoisonError::into_inner).take());
}

//! The pty's master: from the child to us, and from us to whoever listens on the console socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::error::{Error, Result};

/// Takes the master that the child sent. None: the child ended before, and its report says why.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let mut byte = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    match got {
        // A child that died with the socket unread resets it.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(e) => {
            return Err(Error::new("cannot take the terminal").field("process.terminal").call("recvmsg", e));
        }
        Ok(message) if message.bytes == 0 => return Ok(None),
        Ok(_) => {}
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return Ok(fds.next());
        }
    }
    Ok(None)
}

/// runc's protocol: one message with one descriptor, the pty's name as payload.
pub fn hand_over(path: &Path, master: &OwnedFd) -> Result<()> {
    let failed = |call| {
        move |e: std::io::Error| {
            let errno = rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO);
            Error::new(format!("cannot hand the terminal to the console socket {}", path.display()))
                .call(call, errno)
                .likely("nobody listens there: whoever passed --console-socket must")
        }
    };
    let socket = connect(path).map_err(failed("connect"))?;
    let fds = [master.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL)
        .map_err(|e| failed("sendmsg")(e.into()))?;
    Ok(())
}

/// A path that does not fit a socket address (107 bytes) goes by a descriptor of its folder.
fn connect(path: &Path) -> std::io::Result<UnixStream> {
    if path.as_os_str().len() <= 107 {
        return UnixStream::connect(path);
    }
    use std::os::fd::AsRawFd;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let socket = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

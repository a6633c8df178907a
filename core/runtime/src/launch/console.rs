//! The pty's master: from the child to us, and from us to whoever listens on the console socket.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg, socket_with,
};

use crate::error::{Errno, Error, Result};
use crate::launch::pipe::receive_fd;

/// Takes the master that the child sent. None: the child ended before, and its report says why.
pub fn receive(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    receive_fd(socket)
        .map_err(|e| Error::new("cannot take the terminal").field("process.terminal").call("recvmsg", e))
}

/// runc's protocol: one message with one descriptor, the pty's name as payload.
pub fn hand_over(path: &Path, master: &OwnedFd) -> Result<()> {
    let failed = |call| {
        move |e: Errno| {
            let likely = match e {
                Errno::AGAIN => "whoever listens there takes no connection: its queue has been full for 2 s",
                _ => "nobody listens there: whoever passed --console-socket must",
            };
            Error::new(format!("cannot hand the terminal to the console socket {}", path.display()))
                .call(call, e)
                .likely(likely)
        }
    };
    let socket = connect(path).map_err(failed("connect"))?;
    let fds = [master.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL)
        .map_err(failed("sendmsg"))?;
    Ok(())
}

/// How long whoever listens may leave a full queue full: connect(2) would wait for it without end.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A path that does not fit a socket address (107 bytes) goes by a descriptor of the socket.
fn connect(path: &Path) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // It bounds connect as well as send (unix(7), socket(7)).
    set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_WITHIN))?;
    if path.as_os_str().len() <= 107 {
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        return Ok(socket);
    }
    use std::os::fd::AsRawFd;
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let listener = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    let address = format!("/proc/self/fd/{}", listener.as_raw_fd());
    rustix::net::connect(&socket, &SocketAddrUnix::new(address.as_str())?)?;
    Ok(socket)
}

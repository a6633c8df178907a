//! A container's standard streams that somebody else has made: those of a one-off in its client's foreground.
use super::of_io;
use super::stdio::Stdio;
use rustix::fs::OFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use sampan_service::Problem;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

/// Gives the master of its terminal to whoever is at the other end of the socket that came in the place of the streams.
pub fn hand_over(given: &[OwnedFd], master: &OwnedFd) -> Result<(), Problem> {
    let [socket] = given else { return Err(Problem::Io("nobody is there for its terminal".into())) };
    let fds = [master.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(b"\n")], &mut control, SendFlags::NOSIGNAL);
    sent.map(drop).map_err(|errno| Problem::Io(format!("cannot give its terminal to the client: {errno}")))
}

/// `owner`: the container's user, as the host numbers it. /dev/stdout can be opened again by the user it belongs to.
pub fn stdio(given: &[OwnedFd], owner: (u32, u32)) -> Result<Stdio, Problem> {
    let [input, output, error] = match given {
        [input, output, error] => [input, output, error],
        // They are the terminal's, once the container has made it.
        [_socket] => {
            let null = |flags| sampan_runtime::kernel::stdio::null(flags).map_err(of_io);
            let (input, output) = (null(OFlags::RDONLY)?, null(OFlags::WRONLY)?);
            return Ok(Stdio { input, error: output.try_clone().map_err(of_io)?, output, reads: Vec::new() });
        }
        _ => return Err(Problem::Io(format!("{} standard streams came, not three", given.len()))),
    };
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
    let own = |fd: &OwnedFd| {
        let _ = rustix::fs::fchown(fd, Some(uid), Some(gid));
        fd.try_clone().map_err(of_io)
    };
    Ok(Stdio { input: own(input)?, output: own(output)?, error: own(error)?, reads: Vec::new() })
}

//! A container's standard streams that somebody else has made: those of a one-off in its client's foreground.
use super::of_io;
use super::stdio::Stdio;
use sampan_service::Problem;
use std::os::fd::OwnedFd;

/// `owner`: the container's user, as the host numbers it. /dev/stdout can be opened again by the user it belongs to.
pub fn stdio(given: &[OwnedFd], owner: (u32, u32)) -> Result<Stdio, Problem> {
    let [input, output, error] = given else {
        return Err(Problem::Io(format!("{} standard streams came, not three", given.len())));
    };
    let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
    let own = |fd: &OwnedFd| {
        let _ = rustix::fs::fchown(fd, Some(uid), Some(gid));
        fd.try_clone().map_err(of_io)
    };
    Ok(Stdio { input: own(input)?, output: own(output)?, error: own(error)?, reads: Vec::new() })
}

//! The client in whose foreground a one-off runs. Its standard streams are pipes of the client's: their other ends are fetched from
//! it (pidfd_getfd(2), Linux 5.6), so nothing of ours stands between the two, and whoever of sampand dies cuts nothing off.
//!
//! They are fetched in the launching process. A client may name any of its descriptors, and to look at one of a dead mount, or only to
//! close it (`flush` of a FUSE file), can last for ever.
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use sampan_api as api;
use sampan_runtime::kernel::pidfd::{self, Identity};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The process that has connected to the control socket.
#[derive(Debug, Clone)]
pub struct Connected {
    /// As we see it. The number may be another process's since.
    pub pid: i32,
    /// The process itself. None: the kernel does not say (before Linux 6.5), or it had ended already.
    pub pidfd: Option<Arc<OwnedFd>>,
}

/// A process that is there, or was when it was looked for.
#[derive(Debug, Clone)]
pub struct Process {
    pub identity: Identity,
    pub pidfd: Arc<OwnedFd>,
}

impl Process {
    /// Who has connected.
    pub fn of_peer(peer: &Connected) -> Result<Process, String> {
        let pid = peer.pid;
        let gone = || format!("the client, process {pid}, is gone");
        let failed = |error: std::io::Error| format!("cannot look at the client, process {pid}: {error}");
        let pidfd = match &peer.pidfd {
            Some(pidfd) => pidfd.clone(),
            // Before Linux 6.5 a number is all there is: if its process has ended since it connected, it may be another one's.
            None => Arc::new(pidfd::open(pid).map_err(failed)?.ok_or_else(gone)?),
        };
        let identity = pidfd::identify(pid, pidfd.as_fd());
        // As long as it is not reaped its number is its own, so what was read is about this process.
        pidfd::send(pidfd.as_fd(), 0).map_err(|_| gone())?;
        Ok(Process { identity: identity.map_err(failed)?, pidfd })
    }

    /// None: it has ended.
    pub fn find(identity: &Identity) -> Option<Process> {
        let pidfd = pidfd::find(identity).ok().flatten()?;
        Some(Process { identity: *identity, pidfd: Arc::new(pidfd) })
    }
}

/// The ends of a client's pipes that are the container's, by the client's numbers for them; or that of the socket by which a terminal
/// goes to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Streams {
    pid: i32,
    numbers: Vec<i32>,
    tty: bool,
}

/// What a descriptor of a client's has to be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    PipeToRead,
    PipeToWrite,
    Socket,
}

impl Streams {
    pub fn of(client: &api::Client, tty: bool) -> Streams {
        Streams { pid: client.pid, numbers: client.stdio.clone(), tty }
    }

    /// Each of them, from the process behind `client`. It may wait for as long as a file system lets it.
    pub fn fetch(&self, client: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, String> {
        let kinds: &[Kind] = match self.tty {
            true => &[Kind::Socket],
            false => &[Kind::PipeToRead, Kind::PipeToWrite, Kind::PipeToWrite],
        };
        if self.numbers.len() != kinds.len() {
            return Err(format!("the client gives {} descriptors, not {}", self.numbers.len(), kinds.len()));
        }
        let ends = self.numbers.iter().zip(kinds).map(|(number, kind)| end(client, *number, *kind));
        ends.collect::<Result<_, _>>().map_err(|why| {
            format!(
                "cannot take the container's standard streams from the client, process {}: {why}",
                self.pid
            )
        })
    }
}

fn end(client: BorrowedFd<'_>, number: i32, kind: Kind) -> Result<OwnedFd, String> {
    let fd = pidfd_getfd(client, number, PidfdGetfdFlags::empty()).map_err(|errno| match errno {
        Errno::SRCH => "it has ended".into(),
        Errno::PERM => "pidfd_getfd: not permitted (kernel.yama.ptrace_scope = 3 forbids it)".into(),
        errno => format!("pidfd_getfd: {errno}"),
    })?;
    let flags = rustix::fs::fcntl_getfl(&fd).map_err(|errno| format!("fcntl: {errno}"))?;
    // What is open as a path alone shows the type of that, and can be neither read nor written (O_PATH, open(2)).
    if flags.contains(OFlags::PATH) {
        return Err(format!("its descriptor {number} is a path (O_PATH)"));
    }
    let stat = rustix::fs::fstat(&fd).map_err(|errno| format!("fstat: {errno}"))?;
    let access = flags & OFlags::RWMODE;
    let is_so = match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (Kind::PipeToRead, FileType::Fifo) => access != OFlags::WRONLY,
        (Kind::PipeToWrite, FileType::Fifo) => access != OFlags::RDONLY,
        (Kind::Socket, kind) => kind == FileType::Socket,
        _ => false,
    };
    let wanted = match kind {
        Kind::PipeToRead => "a pipe to read from",
        Kind::PipeToWrite => "a pipe to write to",
        Kind::Socket => "a socket",
    };
    if is_so { Ok(fd) } else { Err(format!("its descriptor {number} is not {wanted}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use sampan_testkit::{Folder, need};
    use std::os::fd::AsRawFd;

    /// What is said of these descriptors of our own.
    fn fetched(fds: &[&dyn AsRawFd], tty: bool) -> Result<usize, String> {
        let pid = std::process::id().try_into().unwrap();
        let us = pidfd::open(pid).unwrap().unwrap();
        let numbers = fds.iter().map(|fd| fd.as_raw_fd()).collect();
        Streams { pid, numbers, tty }.fetch(us.as_fd()).map(|ends| ends.len())
    }

    #[test]
    fn each_descriptor_has_to_be_what_it_is_given_for() {
        let ((read, write), (other, path)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let path = {
            let at = format!("/proc/self/fd/{}", path.as_raw_fd());
            rustix::fs::open(at, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap()
        };
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let (socket, _end) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        assert_eq!(fetched(&[&read, &write, &write], false), Ok(3));
        assert_eq!(fetched(&[&socket], true), Ok(1));
        let refused: [(&[&dyn AsRawFd], bool, &str); 9] = [
            (&[&write, &write, &write], false, "not a pipe to read from"),
            (&[&read, &other, &write], false, "not a pipe to write to"),
            (&[&read, &write, &read], false, "not a pipe to write to"),
            (&[&path, &write, &write], false, "O_PATH"),
            (&[&read, &path, &write], false, "O_PATH"),
            (&[&file, &write, &write], false, "not a pipe to read from"),
            (&[&socket, &write, &write], false, "not a pipe to read from"),
            (&[&read], true, "not a socket"),
            (&[&read, &write], false, "2 descriptors, not 3"),
        ];
        for (number, (fds, tty, why)) in refused.into_iter().enumerate() {
            let error = fetched(fds, tty).expect_err(&format!("case {number}"));
            assert!(error.contains(why), "case {number}: {error}");
        }
    }

    /// The next process has this number, if nobody is faster.
    fn with_the_number_of(pid: i32) -> Option<std::process::Child> {
        for _ in 0..500 {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
            let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
            if i32::try_from(other.id()) == Ok(pid) {
                return Some(other);
            }
            other.kill().unwrap();
            other.wait().unwrap();
        }
        None
    }

    #[test]
    fn who_has_the_number_of_a_client_that_has_ended_is_not_taken_for_it() {
        if !need::programs(&["curl"], "curl") {
            return;
        }
        let folder = Folder::new();
        let path = folder.path("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut curl = std::process::Command::new("curl");
        let mut client = curl.args(["-s", "--unix-socket"]).arg(&path).arg("http://x/").spawn().unwrap();
        let (socket, _) = listener.accept().unwrap();
        let pid = client.id().try_into().unwrap();
        let peer = Connected { pid, pidfd: crate::fence::peer_pidfd(&socket).map(Arc::new) };
        assert_eq!(Process::of_peer(&peer).unwrap().identity.pid, pid);
        client.kill().unwrap();
        client.wait().unwrap();
        assert!(Process::of_peer(&peer).unwrap_err().contains("is gone"));
        let other = with_the_number_of(pid);
        if need::need("Linux 6.5, for SO_PEERPIDFD", peer.pidfd.is_some())
            && need::need("CONFIG_CHECKPOINT_RESTORE, to give a number again", other.is_some())
        {
            assert!(Process::of_peer(&peer).unwrap_err().contains("is gone"));
        }
        if let Some(mut other) = other {
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }
}

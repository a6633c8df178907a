//! The client in whose foreground a one-off runs. Its standard streams are pipes of the client's: their other ends are fetched from
//! it (pidfd_getfd(2), Linux 5.6), so nothing of ours stands between the two, and whoever of sampand dies cuts nothing off.
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use sampan_runtime::kernel::pidfd::{self, Identity};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A process that is there, or was when it was looked for.
#[derive(Debug, Clone)]
pub struct Process {
    pub identity: Identity,
    pub pidfd: Arc<OwnedFd>,
}

impl Process {
    pub fn open(pid: i32) -> Result<Process, String> {
        let failed = |error: std::io::Error| format!("cannot look at the client, process {pid}: {error}");
        let fd = pidfd::open(pid).map_err(failed)?;
        let pidfd = fd.ok_or_else(|| format!("the client, process {pid}, is gone"))?;
        let identity = pidfd::identify(pid, pidfd.as_fd()).map_err(failed)?;
        Ok(Process { identity, pidfd: Arc::new(pidfd) })
    }

    /// None: it has ended.
    pub fn find(identity: &Identity) -> Option<Process> {
        let pidfd = pidfd::find(identity).ok().flatten()?;
        Some(Process { identity: *identity, pidfd: Arc::new(pidfd) })
    }

    /// The ends of its pipes that are the container's; or that of the socket by which a terminal goes to it.
    pub fn stdio(&self, numbers: &[i32], tty: bool) -> Result<Vec<OwnedFd>, String> {
        let (count, kind) = if tty { (1, FileType::Socket) } else { (3, FileType::Fifo) };
        if numbers.len() != count {
            return Err(format!("the client gives {} descriptors, not {count}", numbers.len()));
        }
        numbers.iter().map(|number| self.end(*number, kind)).collect()
    }

    fn end(&self, number: i32, kind: FileType) -> Result<OwnedFd, String> {
        let failed = |why: String| {
            let pid = self.identity.pid;
            format!("cannot take the container's standard streams from the client, process {pid}: {why}")
        };
        let fd = pidfd_getfd(&self.pidfd, number, PidfdGetfdFlags::empty()).map_err(|errno| {
            failed(match errno {
                Errno::SRCH => "it has ended".into(),
                Errno::PERM => "pidfd_getfd: not permitted (kernel.yama.ptrace_scope = 3 forbids it)".into(),
                errno => format!("pidfd_getfd: {errno}"),
            })
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed(errno.to_string()))?;
        match FileType::from_raw_mode(stat.st_mode) == kind {
            true => Ok(fd),
            false => Err(failed(format!("its descriptor {number} is neither its pipe nor its socket"))),
        }
    }
}

//! A process, held by pidfd and never mistaken for another one.
//!
//! A pid alone is only a number: it is given again. An [`Identity`] is the pid, its start time, and the pidfd's inode
//! where that is unique (pidfs, since 6.9); a pidfd that was opened from an identity and agrees with it *is* the process,
//! for as long as it is open. Ended means: the pidfd is readable. That includes a zombie, which for us has stopped.
//! Deliberately absent: `kill(2)` by number, and reaping of anything that is not our child.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};
use serde::{Deserialize, Serialize};

use super::time;

/// USER_HZ is 100 on every architecture that we run on.
const NANOSECONDS_A_TICK: i64 = 10_000_000;

/// `fstatfs` of a pidfd since 6.9 (include/uapi/linux/magic.h). Before, all pidfds share one anonymous inode.
const PID_FS_MAGIC: u64 = 0x5049_4446;

/// What makes a process itself, across our own restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks after the host's boot: field 22 of /proc/PID/stat.
    pub start: u64,
    /// The pidfd's inode, where the kernel gives each process one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It has ended; nobody can say how (not our child, kernel before 6.15).
    Unknown,
}

impl Exit {
    /// As shells and runc count it: the code, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(number) => 128 + number,
            Exit::Unknown => 255,
        }
    }

    /// From the status word of wait(2).
    pub fn from_wait(status: i32) -> Exit {
        if libc::WIFEXITED(status) {
            Exit::Code(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Unknown
        }
    }
}

/// A pidfd for `pid`, whoever that is now. `None`: there is no such process.
pub fn open(pid: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Some(pid).filter(|p| *p > 0).and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The identity of the process behind a pidfd that we know to be `pid`'s (from clone3, or a child of ours).
pub fn identify(pid: i32, pidfd: BorrowedFd<'_>) -> io::Result<Identity> {
    Ok(Identity { pid, start: start_time(pid)?, inode: inode(pidfd)? })
}

/// A pidfd for exactly this process; `None` if it has been reaped, even if the number lives on.
pub fn find(identity: &Identity) -> io::Result<Option<OwnedFd>> {
    let Some(fd) = open(identity.pid)? else { return Ok(None) };
    let same = match (identity.inode, inode(fd.as_fd())?) {
        (Some(then), Some(now)) => then == now,
        // The stat is of the process behind fd: that one still exists, or the read fails.
        _ => match start_time(identity.pid) {
            Ok(start) => start == identity.start,
            Err(e) if gone(&e) => false,
            Err(e) => return Err(e),
        },
    };
    Ok(same.then_some(fd))
}

/// Has the process ended? A zombie has.
pub fn ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    wait(pidfd, Some(Duration::ZERO))
}

/// Waits until the process has ended, or for `limit`; true: it has.
pub fn wait(pidfd: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<bool> {
    let deadline = limit.map(|l| Instant::now() + l);
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let left =
            left.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: i64::from(l.subsec_nanos()) });
        let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Sends any signal, real-time ones too; 0 only asks whether one could be sent.
pub fn send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: pidfd_send_signal reads an fd and three scalars; a null siginfo asks the kernel to fill it in.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How an ended process ended, by whichever way knows: waitid for a child (it stays a zombie); for any other /proc as long
/// as it is a zombie, then, since 6.15, the pidfd itself. In this order: a zombie may be reaped between two looks.
pub fn exit(pidfd: BorrowedFd<'_>) -> Exit {
    waitid_status(pidfd)
        .or_else(|| zombie_status(pidfd))
        .or_else(|| info_status(pidfd))
        .unwrap_or(Exit::Unknown)
}

fn waitid_status(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), options).ok().flatten()?;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Exit::Code(code)),
        (None, Some(signal)) => Some(Exit::Signal(signal)),
        (None, None) => None,
    }
}

/// A file of exactly this process in /proc; an error once it is reaped.
pub fn read(pidfd: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u8>> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap_or_default();
    let text = fs::read(format!("/proc/{}/{name}", pid.trim()))?;
    // Until it is reaped its number is its own, so what was read before is about this process.
    send(pidfd, 0)?;
    Ok(text)
}

/// Field 52 of /proc/PID/stat, exit_code. Who may not trace the process reads 0 there, so that 0 says nothing.
fn zombie_status(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let stat = read(pidfd, "stat").ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next() != Some("Z") {
        return None;
    }
    let status: i32 = fields.nth(48)?.parse().ok()?;
    (status != 0).then(|| Exit::from_wait(status))
}

/// `struct pidfd_info`, first version (64 bytes), include/uapi/linux/pidfd.h.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = (3 << 30 | 64 << 16 | 0xff << 8 | 11) as libc::Ioctl;

fn info_status(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the request's size field says 64 bytes, the size of Info, which outlives the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| Exit::from_wait(info.exit_code))
}

/// Field 22 of /proc/PID/stat, found after the last `)`: a name may hold anything else. In the host's time, whatever time namespace
/// reads it.
pub fn start_time(pid: i32) -> io::Result<u64> {
    // One read: the kernel makes the whole text anew for each.  It has 52 numbers, 350 bytes as a rule.
    let mut stat = [0; 1536];
    let n = fs::File::open(format!("/proc/{pid}/stat"))?.read(&mut stat)?;
    let stat = String::from_utf8_lossy(stat.get(..n).unwrap_or_default());
    let start = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse::<u64>().ok());
    let host =
        |ticks: u64| ticks.saturating_add_signed((time::ahead() / NANOSECONDS_A_TICK).saturating_neg());
    start.map(host).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time"))
    })
}

fn inode(pidfd: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    if rustix::fs::fstatfs(pidfd)?.f_type as u64 != PID_FS_MAGIC {
        return Ok(None);
    }
    Ok(Some(rustix::fs::fstat(pidfd.as_fd())?.st_ino))
}

fn gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleep() -> (Child, Identity, OwnedFd) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let fd = open(child.id() as i32).unwrap().unwrap();
        let identity = identify(child.id() as i32, fd.as_fd()).unwrap();
        (child, identity, fd)
    }

    #[test]
    fn a_live_process_is_found_by_its_identity() {
        let (mut child, identity, _fd) = sleep();
        assert!(find(&identity).unwrap().is_some());
        assert!(find(&Identity { inode: None, ..identity }).unwrap().is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(find(&identity).unwrap().is_none());
    }

    #[test]
    fn the_same_number_with_another_start_is_somebody_else() {
        let (mut child, identity, _fd) = sleep();
        assert!(find(&Identity { start: identity.start - 1, inode: None, ..identity }).unwrap().is_none());
        if let Some(inode) = identity.inode {
            assert!(find(&Identity { inode: Some(inode + 1), ..identity }).unwrap().is_none());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_zombie_has_ended_and_keeps_its_status() {
        let (mut child, identity, fd) = sleep();
        assert!(!ended(fd.as_fd()).unwrap());
        send(fd.as_fd(), libc::SIGTERM).unwrap();
        assert!(wait(fd.as_fd(), Some(Duration::from_secs(5))).unwrap());
        let zombie = find(&identity).unwrap().unwrap();
        assert!(ended(zombie.as_fd()).unwrap());
        assert_eq!(exit(zombie.as_fd()), Exit::Signal(15));
        child.wait().unwrap();
        assert!(send(fd.as_fd(), libc::SIGTERM).is_err());
    }

    #[test]
    fn impossible_pids_are_nobody() {
        assert!(
            open(0).unwrap().is_none() && open(-1).unwrap().is_none() && open(i32::MAX).unwrap().is_none()
        );
    }

    #[test]
    fn a_zombie_of_somebody_else_shows_its_status() {
        // The shell's child prints its pid and ends; its parent has become a program that never looks.
        let mut shell = Command::new("sh")
            .args(["-c", "exec 3<&0; sh -c 'echo $$; read x; exit 7' <&3 & exec sleep 60 <&-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let fd = open(line.trim().parse().unwrap()).unwrap().unwrap();
        io::Write::write_all(shell.stdin.as_mut().unwrap(), b"\n").unwrap();
        assert!(wait(fd.as_fd(), Some(Duration::from_secs(5))).unwrap());
        assert_eq!((zombie_status(fd.as_fd()), exit(fd.as_fd())), (Some(Exit::Code(7)), Exit::Code(7)));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn the_status_of_a_process_that_is_not_our_child_comes_from_its_pidfd() {
        // The shell's child prints its pid, is reaped by the shell, and leaves only our pidfd.
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'echo $$; read x; exit 7'; read y"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let fd = open(line.trim().parse().unwrap()).unwrap().unwrap();
        io::Write::write_all(shell.stdin.as_mut().unwrap(), b"\n").unwrap();
        assert!(wait(fd.as_fd(), Some(Duration::from_secs(5))).unwrap());
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let by_pidfd = info_status(fd.as_fd());
        if by_pidfd.is_none() {
            sampan_testkit::need::need("kernel 6.15, whose PIDFD_GET_INFO tells an exit status", false);
            return;
        }
        assert_eq!(exit(fd.as_fd()), Exit::Code(7));
    }
}

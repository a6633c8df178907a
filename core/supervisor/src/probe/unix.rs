//! A Unix socket in the container. Its file system is the container's to arrange: the path is resolved by one openat2 that
//! cannot leave the container's root, and connected through the descriptor, never by the path again.

use super::{Answer, Helper, Target, tcp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_to, socket_with,
};
use sampan_runtime::kernel::lookup::open_in_root;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

pub async fn connect(target: &Target, helper: &Helper, path: &Path) -> Answer {
    let (pid, pidfd, inside) = (target.pid, Arc::clone(&target.pidfd), path.to_owned());
    helper
        .run(move || open_and_connect(pid, &pidfd, &inside))
        .await
        .map_err(|e| format!("connect to {}: {}", path.display(), tcp::plain(&e)))?;
    Ok((true, format!("{} accepts", path.display()).into_bytes()))
}

fn open_and_connect(pid: i32, pidfd: &OwnedFd, path: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(format!("/proc/{pid}/root"), flags | OFlags::DIRECTORY, Mode::empty())?;
    // The number was ours when it was opened if the process still lives now.
    let mut alive = [PollFd::new(pidfd, PollFlags::IN)];
    if poll(&mut alive, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
        return Err(io::Error::other("the container has ended"));
    }
    let file = open_in_root(&root, path, flags)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::Error::other("no socket"));
    }
    // Non-blocking: a full backlog is an answer (EAGAIN: it does not accept), not a wait.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect_to(&socket, &SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?)?;
    Ok(())
}

//! The socket on which a service says how it is. Each life has its own, made by whoever launches it: nothing that a former life
//! said is ever heard for the next one. The keel holds it, so that what stands in its queue outlives a worker.
use crate::release;
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{
    AddressFamily, RecvFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, recv, shutdown,
    socket_with, socketpair,
};
use sampan_bundle::notify;
use sampan_keel::Keel;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// What the keel knows it by.
pub fn key(service: &str) -> String {
    format!("notify/{service}")
}

/// The next message, with the descriptors that came with it, which are closed.
pub fn take(socket: &OwnedFd) -> io::Result<()> {
    release::hurried(|| recv(socket, &mut [0_u8; 1], RecvFlags::DONTWAIT))?;
    Ok(())
}

/// Leaves nothing in the queue of the one that the keel has, and lets nothing in: whoever closes it closes nothing of a stranger's.
/// Not on the loop.
fn empty(keel: &Keel, service: &str) -> io::Result<()> {
    let Some(socket) = keel.fetch(&key(service)).map_err(io::Error::other)? else { return Ok(()) };
    shutdown(&socket, Shutdown::Read)?;
    release::hurried(|| while recv(&socket, &mut [0_u8; 1], RecvFlags::DONTWAIT).is_ok() {});
    Ok(())
}

/// A new one in the place of any other. It is told who sends: the kernel says so, not the sender.
pub fn make(keel: &Keel, run_dir: &Path, service: &str) -> io::Result<OwnedFd> {
    let path = notify::folder(run_dir, service);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    // For every user of the container, which sees no more than this one folder. Nobody else gets as far as here.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&path, flags, Mode::empty())?;
    // An address has room for 107 bytes, and a run folder may have a longer name.
    let at = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), notify::SOCKET);
    match std::fs::remove_file(&at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    set_socket_passcred(&socket, true)?;
    bind(&socket, &SocketAddrUnix::new(at.as_str())?)?;
    std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o666))?;
    empty(keel, service)?;
    keel.keep(&key(service), Some(socket.as_fd())).map_err(io::Error::other)?;
    Ok(socket)
}

/// For a service that says so by a newline: the end that is its own. Datagrams, so that each write is one to look at and to take;
/// and nobody is hurt by an end that is closed, as whoever writes into a pipe would be. The folder stands for it: by that the
/// next launch knows that there is something to let go of.
pub fn pair(keel: &Keel, run_dir: &Path, service: &str) -> io::Result<OwnedFd> {
    forget(keel, run_dir, service);
    let folder = notify::folder(run_dir, service);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    set_socket_passcred(&ours, true)?;
    keel.keep(&key(service), Some(ours.as_fd())).map_err(io::Error::other)?;
    Ok(theirs)
}

/// Lets go of it.
pub fn forget(keel: &Keel, run_dir: &Path, service: &str) {
    if let Err(error) =
        empty(keel, service).and_then(|()| keel.keep(&key(service), None).map_err(io::Error::other))
    {
        tracing::error!(service, "its NOTIFY_SOCKET stays open: {error}");
    }
    let _ = std::fs::remove_dir_all(notify::folder(run_dir, service));
}

//! sd_notify(3): tells the service manager that started us how we are. Without one nothing is sent.
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the service manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Whether somebody listens.
pub fn is_listened_to() -> bool {
    std::env::var_os(SOCKET).is_some()
}

/// Whether this descriptor leads to systemd's journal (`JOURNAL_STREAM` of systemd.exec(5)).
pub fn is_in_journal(fd: BorrowedFd<'_>) -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(fd).is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
}

/// Sends a state, as `READY=1`, several separated by newlines. Nothing waits for it: a manager that does not read is no reason to stop.
pub fn send(state: &str) -> std::io::Result<()> {
    let Some(name) = std::env::var_os(SOCKET) else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let name = name.as_encoded_bytes();
    let address = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::new(
            std::str::from_utf8(name).map_err(std::io::Error::other)?,
        ))?,
    };
    socket.send_to_addr(state.as_bytes(), &address).map(drop)
}

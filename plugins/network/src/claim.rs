//! One owner per network namespace: the right to make bridges and write the table `inet sampan`.
//!
//! A second `sampand` beside us would take our links and rules for strays and remove them. The claim is a socket in the abstract
//! namespace, which is the network namespace's: it goes with the process, however that ends, and tells who holds it.

use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
};

const NAME: &str = "sampan/network";

#[derive(Debug)]
pub struct Claim {
    _socket: UnixListener,
}

impl Claim {
    pub fn take() -> Result<Claim, String> {
        let failed = |e: io::Error| format!("cannot claim the network: {e}");
        let address = SocketAddr::from_abstract_name(NAME).map_err(failed)?;
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Claim { _socket: socket }),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                let pid = holder().map_or_else(|| "unknown".into(), |pid| pid.to_string());
                Err(format!(
                    "another sampand (pid {pid}) manages bridge networks here; stop it, or use network_mode \"host\" or \"none\""
                ))
            }
            Err(e) => Err(failed(e)),
        }
    }
}

/// Nobody accepts what comes there: a blocking connect would wait for ever once the queue is full.
fn holder() -> Option<i32> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let asking = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    connect(asking.as_raw_fd(), &UnixAddr::new_abstract(NAME.as_bytes()).ok()?).ok()?;
    Some(getsockopt(&asking, PeerCredentials).ok()?.pid())
}

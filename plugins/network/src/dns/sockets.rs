//! The sockets of a network's name server: port 53 of the gateway's address, by the bridge alone.
//!
//! Bound to the bridge, they hear nothing that comes in by any other interface, whatever rules there are. A service may publish port
//! 53 of all addresses, and a held port is bound, too; so both are allowed to share the port for the moment of the bind.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, getsockname, listen, setsockopt, socket,
    sockopt,
};

use super::resolv_conf::PORT;
use crate::config::Protocol;
use crate::held;

const BACKLOG: i32 = 128;
/// Room for about a thousand questions: a burst, or what comes while a worker is dead.
const RECEIVE_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub struct Sockets {
    pub udp: OwnedFd,
    pub tcp: OwnedFd,
}

/// `ours`: sockets of our own that may have the port of other addresses.
pub fn open(gateway: IpAddr, bridge: &str, ours: &[&OwnedFd]) -> Result<Sockets, String> {
    let address = SocketAddr::new(gateway, PORT);
    let opened = held::share(ours, || {
        let udp = bound(SockType::Datagram, address, bridge).map_err(|e| (Protocol::Udp, e))?;
        // Where it is refused the usual size does, too.
        let _ = setsockopt(&udp, sockopt::RcvBufForce, &RECEIVE_BYTES);
        let tcp = bound(SockType::Stream, address, bridge).map_err(|e| (Protocol::Tcp, e))?;
        let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
        listen(&tcp, backlog).map_err(|e| (Protocol::Tcp, e))?;
        Ok(Sockets { udp, tcp })
    });
    opened.map_err(|(protocol, errno)| match errno {
        Errno::EADDRINUSE => {
            format!("{address}/{} is in use by {}", protocol.name(), held::owner(protocol, address))
        }
        errno => format!("cannot bind {address}/{}: {}", protocol.name(), errno.desc()),
    })
}

impl Sockets {
    /// For a network whose bridge is another one by now.
    pub fn move_to(&self, bridge: &str) -> Result<(), String> {
        let to = |fd| setsockopt(fd, sockopt::BindToDevice, &bridge.into());
        to(&self.udp)
            .and_then(|()| to(&self.tcp))
            .map_err(|e| format!("cannot bind to {bridge}: {}", e.desc()))
    }

    pub fn try_clone(&self) -> Result<Sockets, String> {
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| format!("cannot duplicate a socket: {e}"));
        Ok(Sockets { udp: copy(&self.udp)?, tcp: copy(&self.tcp)? })
    }
}

fn bound(kind: SockType, address: SocketAddr, bridge: &str) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::BindToDevice, &bridge.into())?;
    if family == AddressFamily::Inet6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    held::bind_beside_ours(&fd, address)?;
    Ok(fd)
}

/// That a socket is bound to.
pub fn address(fd: &OwnedFd) -> Option<IpAddr> {
    let name = getsockname::<SockaddrStorage>(fd.as_raw_fd()).ok()?;
    let v4 = name.as_sockaddr_in().map(|name| IpAddr::from(name.ip()));
    v4.or_else(|| name.as_sockaddr_in6().map(|name| IpAddr::from(name.ip())))
}

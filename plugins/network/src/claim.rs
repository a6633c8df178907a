//! One owner per network namespace: the right to make bridges and write the table `inet sampan`.
//!
//! A second `sampand` beside us would take our links and rules for strays and remove them. The claim is a socket in the abstract
//! namespace, which is the network namespace's: it goes with the process, however that ends, and tells who holds it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

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
                let holder = UnixStream::connect_addr(&address)
                    .ok()
                    .and_then(|s| getsockopt(&s, PeerCredentials).ok());
                let pid = holder.map_or_else(|| "unknown".into(), |c| c.pid().to_string());
                Err(format!(
                    "another sampand (pid {pid}) manages bridge networks here; stop it, or use network_mode \"host\" or \"none\""
                ))
            }
            Err(e) => Err(failed(e)),
        }
    }
}

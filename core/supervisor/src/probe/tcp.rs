//! A TCP connection that belongs to the container's network namespace. A socket stays in the namespace of the thread that
//! made it (socket(2) takes `current->nsproxy->net_ns` once), so a helper enters, makes one, and ends; the loop connects it
//! like any other.

use super::{Helper, Target};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use tokio::net::{TcpSocket, TcpStream};

/// Connects to the first of `addresses` that accepts; the first one's refusal is the error.
pub async fn connect(
    target: &Target,
    helper: &Helper,
    addresses: &[IpAddr],
    port: u16,
) -> Result<TcpStream, String> {
    let mut first = None;
    for address in addresses {
        let to = SocketAddr::new(*address, port);
        match one(target.netns.as_ref(), helper, to).await {
            Ok(stream) => return Ok(stream),
            Err(e) => first = first.or(Some(format!("connect to {to}: {}", plain(&e)))),
        }
    }
    Err(first.unwrap_or_else(|| "no address to connect to".to_owned()))
}

async fn one(netns: Option<&Arc<OwnedFd>>, helper: &Helper, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match netns {
        None => stream_socket(family)?,
        Some(netns) => {
            let netns = Arc::clone(netns);
            let inside = move || {
                move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
                stream_socket(family)
            };
            helper.run(inside).await?
        }
    };
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

fn stream_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// `connection refused`, without Rust's `(os error 111)`.
pub fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

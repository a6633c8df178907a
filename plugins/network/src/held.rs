//! Holding a port of the host: bound, not listening, so that no process can take it while a redirect leads elsewhere.
//!
//! The socket answers nobody. Should our rules be gone for a moment, a caller is refused and not kept waiting. When the port
//! is another's, the error says whose.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};

use crate::config::Protocol;
use crate::ports::Publication;

/// No SO_REUSEADDR: with it on both sides, another could bind and listen beside us.
pub fn hold(p: &Publication) -> Result<OwnedFd, String> {
    let address = SocketAddrV4::new(p.host_ip, p.published);
    bound(p.protocol, address).map_err(|errno| match errno {
        Errno::EADDRINUSE => format!("port {p} is in use by {}", owner(p.protocol, address)),
        Errno::EADDRNOTAVAIL => format!("port {p}: this host has no address {}", p.host_ip),
        errno => format!("port {p}: cannot bind: {}", errno.desc()),
    })
}

fn bound(protocol: Protocol, address: SocketAddrV4) -> Result<OwnedFd, Errno> {
    match protocol {
        Protocol::Tcp => {
            let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
            Ok(fd)
        }
        Protocol::Udp => UdpSocket::bind(address).map(OwnedFd::from).map_err(|e| errno(&e)),
    }
}

fn errno(e: &io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(0))
}

/// Who has a port, in words; found by the socket's inode, as `ss -p` does.
fn owner(protocol: Protocol, address: SocketAddrV4) -> String {
    let inodes: Vec<u64> = [protocol.name().to_owned(), format!("{}6", protocol.name())]
        .iter()
        .filter_map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok())
        .flat_map(|table| table.lines().filter_map(|line| inode_of(line, address)).collect::<Vec<_>>())
        .collect();
    if !inodes.is_empty() && inodes.iter().all(|i| *i == 0) {
        return "connections that are closing (TIME_WAIT); it is free in at most 60 s".into();
    }
    match inodes.iter().filter(|i| **i != 0).find_map(|inode| process_with(*inode)) {
        Some((pid, name)) => format!("{name} (pid {pid})"),
        None => "a process that cannot be seen from here".into(),
    }
}

/// The inode of a line of /proc/net/tcp or its like, if its local end is in the way of `address`.
fn inode_of(line: &str, address: SocketAddrV4) -> Option<u64> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, port) = words.next()?.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    // IPv4 in host order; an IPv6 socket is in the way if it is bound to all addresses (or to a mapped one).
    let bound = u32::from_str_radix(local.get(local.len().checked_sub(8)?..)?, 16).ok()?;
    let bound = Ipv4Addr::from(bound.to_ne_bytes());
    if !(bound.is_unspecified() || address.ip().is_unspecified() || bound == *address.ip()) {
        return None;
    }
    words.nth(7)?.parse().ok()
}

fn process_with(inode: u64) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok()).find_map(|pid| {
        let mut fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str())).then(|| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_has_the_port_is_named() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let published = other.local_addr().unwrap().port();
        let p =
            Publication { protocol: Protocol::Tcp, host_ip: Ipv4Addr::UNSPECIFIED, published, target: 80 };
        let said = hold(&p).unwrap_err();
        let ends = format!("(pid {})", std::process::id());
        assert!(said.starts_with(&format!("port {published}/tcp of all addresses is in use by ")), "{said}");
        assert!(said.ends_with(&ends), "{said}");
    }

    #[test]
    fn a_line_of_proc_net_is_matched_by_port_and_address() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let at = |a: &str| inode_of(line, a.parse().unwrap());
        assert_eq!(at("127.0.0.1:8080"), Some(4711));
        assert_eq!(at("0.0.0.0:8080"), Some(4711));
        assert_eq!(at("127.0.0.2:8080"), None);
        assert_eq!(at("127.0.0.1:8081"), None);
    }
}

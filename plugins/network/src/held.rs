//! Holding a port of the host: bound, not listening, so that no process can take it while a redirect leads elsewhere.
//!
//! The socket answers nobody. Should our rules be gone for a moment, a caller is refused and not kept waiting. When the port
//! is another's, the error says whose.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use crate::config::Protocol;
use crate::ipv6;
use crate::ports::Publication;

/// `ours`: sockets of our own that may have the same port of another address.
pub fn hold(p: &Publication, ours: &[&OwnedFd]) -> Result<OwnedFd, String> {
    // All addresses of both families are one socket's, where there is IPv6.
    let all = p.host_ip.is_unspecified() && ipv6::is_there();
    let ip = if all { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { p.host_ip };
    let address = SocketAddr::new(ip, p.published);
    let family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match p.protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let bound = share(ours, || {
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
        if ip.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &!all)?;
        }
        bind_beside_ours(&fd, address)?;
        Ok(fd)
    });
    bound.map_err(|errno| match errno {
        Errno::EADDRINUSE => format!("port {p} is in use by {}", owner(p.protocol, address)),
        Errno::EADDRNOTAVAIL => format!("port {p}: this host has no address {}", p.host_ip),
        errno => format!("port {p}: cannot bind: {}", errno.desc()),
    })
}

/// Does `work` while sockets of ours that have a port may share it with others of ours. With SO_REUSEADDR or SO_REUSEPORT on both
/// sides for longer, another process could bind and listen beside us.
pub fn share<T>(ours: &[&OwnedFd], work: impl FnOnce() -> T) -> T {
    let set = |on| {
        for fd in ours {
            let _ = may_share(fd, on);
        }
    };
    set(true);
    let done = work();
    set(false);
    done
}

/// The bind that `share` is for.
pub fn bind_beside_ours(fd: &OwnedFd, address: SocketAddr) -> Result<(), Errno> {
    may_share(fd, true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    may_share(fd, false)
}

/// SO_REUSEPORT is what listeners need, for sockets of one user alone.
fn may_share(fd: &OwnedFd, on: bool) -> Result<(), Errno> {
    setsockopt(fd, sockopt::ReuseAddr, &on)?;
    setsockopt(fd, sockopt::ReusePort, &on)
}

/// Who has a port, in words; found by the socket's inode, as `ss -p` does.
pub fn owner(protocol: Protocol, address: SocketAddr) -> String {
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
fn inode_of(line: &str, address: SocketAddr) -> Option<u64> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, port) = words.next()?.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    let bound = local_address(local)?;
    // An IPv6 socket that is bound to all addresses is so to those of IPv4, too.
    let all = |bound: IpAddr| bound.is_unspecified() && (bound.is_ipv6() || address.is_ipv4());
    if !(all(bound) || address.ip().is_unspecified() || bound == address.ip()) {
        return None;
    }
    words.nth(7)?.parse().ok()
}

/// Words of four bytes in the order of the host, in hexadecimal digits.
fn local_address(digits: &str) -> Option<IpAddr> {
    let word = |at| Some(u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if digits.len() == 8 {
        return Some(IpAddr::from(word(0)?));
    }
    let mut bytes = [0; 16];
    for (part, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
        part.copy_from_slice(&word(at)?);
    }
    Some(Ipv6Addr::from(bytes).to_canonical())
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
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_process_that_has_the_port_is_named() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let published = other.local_addr().unwrap().port();
        let p = Publication {
            protocol: Protocol::Tcp,
            host_ip: Ipv4Addr::UNSPECIFIED.into(),
            published,
            target: 80,
        };
        let said = hold(&p, &[]).unwrap_err();
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

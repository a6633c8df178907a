//! Sockets of services (`sockets`): opened before the first start, and kept by the keel over restarts of the service and the death
//! of the worker. Who connects while nobody accepts waits in the kernel.
use super::of_io;
use crate::release;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getpeername, getsockname, listen,
    socket_with, sockopt,
};
use sampan_config::schema::{Listen, Socket};
use sampan_keel::Keel;
use sampan_service::Problem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// The kernel cuts it down to net.core.somaxconn.
const WAITING_MAX: i32 = 65_535;

const PREFIX: &str = "socket/";

/// By what the keel knows a socket.
fn key(service: &str, listen: &Listen) -> String {
    format!("{PREFIX}{service}/{listen}")
}

/// All of a service's, in their order: those that the keel has, and those that are opened now. `warn`: of one that its service has
/// made useless.
pub fn open(
    keel: &Keel,
    service: &str,
    wanted: &[Listen],
    warn: impl Fn(String),
) -> Result<Vec<OwnedFd>, Problem> {
    let one = |listen: &Listen| {
        let key = key(service, listen);
        if let Some(kept) = keel.fetch(&key).map_err(of_io)? {
            match harm(&kept, listen) {
                None => return Ok(kept),
                Some(harm) => {
                    warn(format!("sockets: {listen} {harm}, and is opened anew"));
                    // What it was connected to is cut off.
                    let _ = sockopt::set_socket_linger(&kept, Some(Duration::ZERO));
                    close(keel, &key, kept).map_err(of_io)?;
                }
            }
        }
        let made = make(listen).map_err(|Refused { call, errno }| {
            let who = match errno {
                Errno::ADDRINUSE => "; ss -lnp shows by whom",
                _ => "",
            };
            let why = sampan_config::plain(&errno.into());
            Problem::Io(format!("sockets: cannot listen on {listen}: {call}: {why}{who}"))
        })?;
        keel.keep(&key, Some(made.as_fd())).map_err(of_io)?;
        Ok(made)
    };
    wanted.iter().map(one).collect()
}

/// Lets go of those of a service that are not wanted any more.
pub fn let_go_of_all_but(keel: &Keel, service: &str, wanted: &[Socket]) {
    match keel.list() {
        Ok(kept) => let_go(keel, &kept.keys, |of| (of == service).then_some(wanted)),
        Err(error) => tracing::error!(service, "its sockets stay open: {error}"),
    }
}

/// Of all that the keel has. The name of one at a path stays, as with systemd: no worker looks up a user's path.
/// `wanted`: those of a service; none where it is not asked about.
pub fn let_go<'w>(keel: &Keel, keys: &[String], wanted: impl Fn(&str) -> Option<&'w [Socket]>) {
    for key in keys {
        let Some((service, listen)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')) else {
            continue;
        };
        let (Ok(listen), Some(wanted)) = (listen.parse::<Listen>(), wanted(service)) else { continue };
        if wanted.iter().any(|socket| socket.listen == listen) {
            continue;
        }
        let closed = match keel.fetch(key) {
            Ok(Some(kept)) => close(keel, key, kept),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::error!(service, "{listen} stays open: {error}");
        }
    }
}

/// In the keel first, so that it never closes the last one: with that goes what waits in it, and the service may have made it linger.
fn close(keel: &Keel, key: &str, kept: OwnedFd) -> Result<(), sampan_keel::Error> {
    keel.keep(key, None)?;
    release::hurried(|| drop(kept));
    Ok(())
}

/// What a life has done to its socket, by which no later one could be reached: it is the service's own as much as ours.
fn harm(socket: &OwnedFd, wanted: &Listen) -> Option<&'static str> {
    let streams = !matches!(wanted, Listen::Udp(_));
    if streams && !sockopt::socket_acceptconn(socket).unwrap_or(false) {
        return Some("does not listen any more");
    }
    if !streams && getpeername(socket).is_ok_and(|peer| peer.is_some()) {
        return Some("hears one peer alone");
    }
    let is_at = getsockname(socket).is_ok_and(|at| match wanted {
        Listen::Tcp(address) | Listen::Udp(address) => {
            SocketAddr::try_from(at).is_ok_and(|at| at == *address)
        }
        Listen::Unix(path) => {
            SocketAddrUnix::try_from(at).is_ok_and(|at| at.path_bytes() == Some(path.as_os_str().as_bytes()))
        }
    });
    if !is_at {
        return Some("is at another address");
    }
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    let _ = poll(&mut polled, Some(&Timespec::default()));
    let is_shut = polled.iter().any(|one| one.revents().intersects(PollFlags::RDHUP | PollFlags::HUP));
    is_shut.then_some("is shut down")
}

/// Which call does not go.
struct Refused {
    call: &'static str,
    errno: Errno,
}

fn make(listen: &Listen) -> Result<OwnedFd, Refused> {
    match listen {
        Listen::Tcp(address) => at_address(*address, SocketType::STREAM),
        Listen::Udp(address) => at_address(*address, SocketType::DGRAM),
        Listen::Unix(path) => at_path(path),
    }
}

fn refused(call: &'static str) -> impl Fn(Errno) -> Refused {
    move |errno| Refused { call, errno }
}

fn at_address(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Refused> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).map_err(refused("socket"))?;
    if kind == SocketType::STREAM {
        // Connections of a former one that are at their end are no hindrance.
        sockopt::set_socket_reuseaddr(&socket, true).map_err(refused("setsockopt"))?;
    }
    bind(&socket, &address).map_err(refused("bind"))?;
    if kind == SocketType::STREAM {
        self::listen(&socket, WAITING_MAX).map_err(refused("listen"))?;
    }
    Ok(socket)
}

/// Everybody may connect, as with systemd: who may not is kept out by the folder's mode.
fn at_path(path: &Path) -> Result<OwnedFd, Refused> {
    let address = SocketAddrUnix::new(path).map_err(refused("bind"))?;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let ours = socket().map_err(refused("socket"))?;
    // One launch at a time, in a process with one thread.
    let own = rustix::process::umask(Mode::from_raw_mode(0o111));
    let bound = match bind(&ours, &address) {
        Err(Errno::ADDRINUSE) if is_left(path, socket().and_then(|probe| connect(&probe, &address))) => {
            rustix::fs::unlink(path).and_then(|()| bind(&ours, &address))
        }
        other => other,
    };
    rustix::process::umask(own);
    bound.map_err(refused("bind"))?;
    self::listen(&ours, WAITING_MAX).map_err(refused("listen"))?;
    Ok(ours)
}

/// A socket that nobody listens on any more. A file refuses connections, too.
fn is_left(path: &Path, connected: Result<(), Errno>) -> bool {
    let is_socket = rustix::fs::lstat(path).is_ok_and(|found| {
        rustix::fs::FileType::from_raw_mode(found.st_mode) == rustix::fs::FileType::Socket
    });
    is_socket && connected == Err(Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{Shutdown, connect_unspec, shutdown};
    use sampan_testkit::Folder;

    fn all(folder: &Folder) -> Vec<Listen> {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        vec![Listen::Tcp(free()), Listen::Udp(free()), Listen::Unix(folder.path("socket"))]
    }

    fn made(listen: &Listen) -> OwnedFd {
        make(listen).unwrap_or_else(|refused| panic!("{listen}: {}: {}", refused.call, refused.errno))
    }

    #[test]
    fn what_a_life_did_to_its_socket_is_seen() {
        let folder = Folder::new();
        for listen in all(&folder) {
            let socket = made(&listen);
            assert_eq!(harm(&socket, &listen), None, "{listen}");
            let _ = shutdown(&socket, Shutdown::Both);
            assert!(harm(&socket, &listen).is_some(), "{listen}");
            drop(socket);
            assert_eq!(harm(&made(&listen), &listen), None, "{listen}: opened anew");
        }
    }

    #[test]
    fn one_that_is_connected_is_none_to_listen_on() {
        let folder = Folder::new();
        let peer = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _hears = std::net::TcpListener::bind(peer).unwrap();
        for listen in all(&folder).into_iter().filter(|listen| !matches!(listen, Listen::Unix(_))) {
            let socket = made(&listen);
            let _ = connect_unspec(&socket);
            // A kernel may refuse it to one that has listened (6.18.44: EINVAL): that it hears nobody is harm enough.
            let connected = connect(&socket, &peer);
            assert!(connected.is_ok() || matches!(listen, Listen::Tcp(_)), "{listen}: {connected:?}");
            assert!(harm(&socket, &listen).is_some(), "{listen}");
        }
    }
}

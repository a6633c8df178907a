//! The host's resolv.conf: the servers that are asked what is not ours to know, and what of it services are told.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::net::if_::if_nametoindex;

pub const PORT: u16 = 53;
/// resolv.conf(5): more are not read.
const SERVERS_MAX: usize = 3;
/// Of a file that is a list of three servers.
const BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<SocketAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl ResolvConf {
    pub fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                // The last of them counts.
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        if conf.servers.is_empty() {
            // What the C library does then.
            conf.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        }
        conf
    }
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    let (address, interface) = text.split_once('%')?;
    let scope = interface.parse().ok().or_else(|| if_nametoindex(interface).ok())?;
    Some(SocketAddrV6::new(address.parse::<Ipv6Addr>().ok()?, PORT, 0, scope).into())
}

/// The file as it is now: read again whenever it is another one.
#[derive(Debug)]
pub struct Followed {
    path: PathBuf,
    /// What it was when it was read: time of change, inode, size.
    seen: Option<(i64, i64, u64, u64)>,
    conf: ResolvConf,
}

impl Followed {
    pub fn new(path: PathBuf) -> Followed {
        Followed { path, seen: None, conf: ResolvConf::parse("") }
    }

    pub fn now(&mut self) -> &ResolvConf {
        let found = fs::metadata(&self.path).ok().filter(|meta| meta.is_file() && meta.len() <= BYTES_MAX);
        let seen = found.map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.len()));
        if seen != self.seen {
            let text = if seen.is_some() {
                fs::read_to_string(&self.path).unwrap_or_default()
            } else {
                String::new()
            };
            (self.seen, self.conf) = (seen, ResolvConf::parse(&text));
        }
        &self.conf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_read() {
        let conf = ResolvConf::parse(
            "# a comment\nnameserver 192.0.2.1\nnameserver ::1\n;nameserver 192.0.2.9\nnameserver fe80::1%1\n\
             nameserver bad\nnameserver 192.0.2.4\ndomain old.example\nsearch a.example b.example\noptions ndots:2 edns0\noptions rotate\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[::1]:53", "[fe80::1%1]:53"]);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!(conf.options, ["ndots:2", "edns0", "rotate"]);
    }

    #[test]
    fn without_a_server_it_is_the_hosts_own() {
        assert_eq!(ResolvConf::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let folder = sampan_testkit::Folder::new();
        let path = folder.path("resolv.conf");
        let mut followed = Followed::new(path.clone());
        assert_eq!(followed.now().servers, ["127.0.0.1:53".parse().unwrap()]);
        for server in ["192.0.2.1", "192.0.2.2"] {
            // As DHCP clients do: another file in its place.
            fs::write(folder.path("new"), format!("nameserver {server}\n")).unwrap();
            fs::rename(folder.path("new"), &path).unwrap();
            assert_eq!(followed.now().servers, [SocketAddr::new(server.parse().unwrap(), PORT)]);
        }
    }
}

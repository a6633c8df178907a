//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a service: what stands in them, and where they are.
//!
//! They are files in a folder of ours below run_dir, one folder for each service, and are mounted read-only: what a service could write
//! there would be memory of the host's. Which of them can be mounted at all, core/bundle says in the service's table. A file is written
//! anew only if it says something else, and then under another name first: whoever has it mounted keeps what it had.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::{HostAddress, Service};
use crate::dns::resolv_conf::ResolvConf;

pub const HOSTS: &str = "/etc/hosts";
pub const HOSTNAME: &str = "/etc/hostname";
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// As a bind mount.
pub const OPTIONS: [&str; 6] = ["bind", "rprivate", "ro", "nosuid", "nodev", "noexec"];

/// What a service's own network gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    pub addresses: Vec<IpAddr>,
    /// Who answers for names; empty: nobody, and there is no way out.
    pub servers: Vec<IpAddr>,
    /// This host, as the service reaches it.
    pub gateway: Option<IpAddr>,
}

/// Of a service with a network of its own.
pub fn hosts(service: &str, wanted: &Service, own: &Own) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let names = names(service, wanted);
    if own.addresses.is_empty() {
        let _ = writeln!(text, "127.0.0.1\t{names}");
    }
    for address in &own.addresses {
        let _ = writeln!(text, "{address}\t{names}");
    }
    text + &extra(wanted, own.gateway)
}

/// Of a service on the host's network: the host's, and what it lacks.
pub fn hosts_of_host(service: &str, wanted: &Service, host: &str) -> String {
    let names = names(service, wanted);
    let mut text = host.trim_end().to_owned();
    let _ = write!(text, "\n127.0.0.1\t{names}\n");
    text + &extra(wanted, Some([127, 0, 0, 1].into()))
}

fn names(service: &str, wanted: &Service) -> String {
    match wanted.hostname.as_deref() {
        Some(hostname) if hostname != service => format!("{hostname} {service}"),
        _ => service.to_owned(),
    }
}

fn extra(wanted: &Service, gateway: Option<IpAddr>) -> String {
    let mut text = String::new();
    for host in &wanted.extra_hosts {
        let address = match host.address {
            HostAddress::Is(address) => Some(address),
            HostAddress::Gateway => gateway,
        };
        if let Some(address) = address {
            let _ = writeln!(text, "{address}\t{}", host.name);
        }
    }
    text
}

pub fn hostname(service: &str, wanted: &Service) -> String {
    format!("{}\n", wanted.hostname.as_deref().unwrap_or(service))
}

/// With a network of its own. None: it has nobody to ask.
pub fn resolv_conf(wanted: &Service, own: &Own, host: &ResolvConf) -> Option<String> {
    if own.servers.is_empty() {
        return None;
    }
    // A name without a dot is asked for as it is first: it is a service's, and no search domain learns of it.
    let hosts = host.options.iter().filter(|option| !option.starts_with("ndots:")).cloned();
    let options = or(&wanted.dns_opt, hosts.chain(["ndots:0".to_owned()]));
    Some(written(&own.servers, &or(&wanted.dns_search, host.search.iter().cloned()), &options))
}

/// On the host's network: its file, but for what the service says.
pub fn resolv_conf_of_host(wanted: &Service, host: &ResolvConf, text: &str) -> String {
    if wanted.dns.is_empty() && wanted.dns_search.is_empty() && wanted.dns_opt.is_empty() {
        return text.to_owned();
    }
    let servers = or(&wanted.dns, host.servers.iter().map(std::net::SocketAddr::ip));
    let search = or(&wanted.dns_search, host.search.iter().cloned());
    written(&servers, &search, &or(&wanted.dns_opt, host.options.iter().cloned()))
}

fn or<T: Clone>(said: &[T], default: impl Iterator<Item = T>) -> Vec<T> {
    if said.is_empty() { default.collect() } else { said.to_vec() }
}

fn written(servers: &[IpAddr], search: &[String], options: &[String]) -> String {
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    // A single dot is docker's word for none.
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

/// The folders of all services.
#[derive(Clone, Debug)]
pub struct Folders(PathBuf);

impl Folders {
    pub fn below(run_dir: &Path) -> Folders {
        Folders(run_dir.join("network"))
    }

    /// Writes `files` and gives their paths. `service` is a name, not a path.
    pub fn write(
        &self,
        service: &str,
        files: &[(&'static str, String)],
    ) -> Result<Vec<(&'static str, PathBuf)>, String> {
        let folder = self.0.join(service);
        let failed = |path: &Path, e: io::Error| format!("cannot write {}: {e}", path.display());
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|e| failed(&folder, e))?;
        let path_of = |inside: &str| folder.join(inside.rsplit('/').next().unwrap_or(inside));
        files
            .iter()
            .map(|(inside, text)| {
                let path = path_of(inside);
                write(&path, text).map_err(|e| failed(&path, e))?;
                Ok((*inside, path))
            })
            .collect()
    }

    /// Of services other than `live`.
    pub fn remove_all_but(&self, live: &[String]) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if let Some(service) = entry.file_name().to_str().filter(|name| live.iter().all(|l| l != name)) {
                self.remove(service);
            }
        }
    }

    pub fn remove(&self, service: &str) {
        let _ = fs::remove_dir_all(self.0.join(service));
        // Stays while there is another in it.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Everybody may read it, whoever's umask this is and whatever user a service has.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    fs::rename(&new, path)
}

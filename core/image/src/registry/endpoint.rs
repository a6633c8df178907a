//! Whom to ask for an image: mirrors of its registry, then the registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, PemItem, parse_pem};

use super::client::Client;
use super::{credentials, http};
use crate::error::{Error, Kind, Result};
use crate::reference::Reference;

/// Where the host keeps whom it trusts.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where docker and podman keep an authority of one registry.
const CERTS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// What the user says of registries.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `(registry, mirror)`, asked in this order before the registry. A mirror may have a path: `host:port/path`.
    pub mirrors: Vec<(String, String)>,
    /// Hosts that are asked without TLS.
    pub plain_http: Vec<String>,
    /// PEM files of authorities, besides the host's own.
    pub authorities: Vec<PathBuf>,
    pub patience: http::Patience,
}

/// One for each who may have the image.
pub fn clients(settings: &Settings, reference: &Reference) -> Result<Vec<Client>> {
    let mirrors = settings.mirrors.iter().filter(|(of, _)| of == reference.domain());
    let mirrors = mirrors.map(|(_, mirror)| mirror.as_str());
    mirrors.chain([reference.domain()]).map(|place| client(settings, reference, place)).collect()
}

fn client(settings: &Settings, reference: &Reference, place: &str) -> Result<Client> {
    let (host, path) =
        place.split_once('/').map_or((place, ""), |(host, path)| (host, path.trim_matches('/')));
    let repository =
        if path.is_empty() { reference.path().to_owned() } else { format!("{path}/{}", reference.path()) };
    let address = if host == "docker.io" { "registry-1.docker.io" } else { host };
    let credentials = credentials::find(&credentials::files(), host, reference)?;
    let plain = settings.plain_http.iter().any(|known| known == host);
    let authorities = Arc::new(authorities(settings, host)?);
    let scheme = match () {
        () if plain => http::Scheme::Plain,
        () if is_loopback(host) => http::Scheme::Either,
        () => http::Scheme::Tls,
    };
    Ok(Client::new(
        place.to_owned(),
        address,
        repository,
        scheme,
        authorities,
        credentials,
        settings.patience,
    ))
}

/// Nobody is between us and it.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn authorities(settings: &Settings, host: &str) -> Result<Vec<Certificate<'static>>> {
    let bundle = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = bundle.or_else(|| BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()));
    let mut files: Vec<PathBuf> = bundle.into_iter().collect();
    for folder in CERTS {
        let entries = fs::read_dir(Path::new(folder).join(host)).into_iter().flatten().flatten();
        files.extend(entries.map(|e| e.path()).filter(|path| path.extension().is_some_and(|e| e == "crt")));
    }
    let mut found = Vec::new();
    for path in files.iter().chain(&settings.authorities) {
        let text = fs::read(path).map_err(|e| Error::io("read the certificates in", path, e))?;
        let before = found.len();
        // A bundle may have one that nobody understands.
        for item in parse_pem(&text).flatten() {
            if let PemItem::Certificate(certificate) = item {
                found.push(certificate);
            }
        }
        if found.len() == before {
            let doing = format!("cannot use {}", path.display());
            return Err(Error::new(Kind::Usage, doing, "there is no certificate in it (PEM)"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_what_no_other_machine_can_be() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "127.0.0.1.example", "10.0.0.1:5000", "[fe80::1]", "docker.io"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}

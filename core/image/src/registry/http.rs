//! One request, with time limits, and what a failure of it means.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::error::{Error, Kind};

const CONNECT: Duration = Duration::from_secs(15);
/// Until the answer begins, and between two pieces of it.
const SILENCE: Duration = Duration::from_secs(30);
const REDIRECTS: u32 = 6;
/// Slower than this is as good as dead: somebody keeps us busy.
const WINDOW: Duration = Duration::from_secs(30);
const WINDOW_BYTES: u64 = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Tls,
    /// Of this machine: with TLS if it has that.
    Either,
    Plain,
}

pub fn agent(authorities: &Arc<Vec<Certificate<'static>>>, tls_only: bool) -> Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::clone(authorities)))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        // A registry with TLS sends nobody to a place without.
        .https_only(tls_only)
        .max_redirects(REDIRECTS)
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .user_agent(concat!("sampan-image/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .tls_config(tls)
        .build()
        .new_agent()
}

/// Which failures may pass.
pub fn failed(host: &str, error: &ureq::Error) -> Error {
    use ureq::Error as E;
    let temporary = |why: String| Error::new(Kind::Temporary, format!("cannot ask {host}"), why);
    match error {
        E::HostNotFound => temporary("there is no host of that name".into()),
        E::TooManyRedirects | E::RedirectFailed => {
            Error::new(Kind::BadImage, format!("cannot ask {host}"), "it redirects without end")
        }
        E::Timeout(_) => temporary("it does not answer in time".into()),
        E::RequireHttpsOnly(to) => {
            let why = format!("it redirects to {to}, which has no TLS");
            Error::new(Kind::BadImage, format!("cannot ask {host}"), why)
        }
        // It would be the same one another time.
        other if other.to_string().contains("certificate") => {
            let text = other.to_string();
            Error::new(Kind::Denied, format!("cannot trust {host}"), &text).hint(tls_hint(&text))
        }
        E::Io(e) => temporary(e.to_string()).hint(tls_hint(&e.to_string())),
        other => temporary(other.to_string()).hint(tls_hint(&other.to_string())),
    }
}

fn tls_hint(text: &str) -> &'static str {
    if text.contains("UnknownIssuer") || text.contains("CaUsedAsEndEntity") {
        return "--ca FILE names an authority to trust, as does /etc/containers/certs.d/HOST/ca.crt";
    }
    if text.contains("InvalidContentType") || text.contains("corrupt message") {
        return "does it speak TLS? --plain-http HOST asks without";
    }
    ""
}

/// What a status says, if it is no success.
pub fn refused(host: &str, response: Response<Body>, what: &str) -> Error {
    let status = response.status();
    let doing = format!("{host} does not give {what}");
    let said = reason(response);
    let why = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
    match status.as_u16() {
        401 | 403 => Error::new(Kind::Denied, doing, why)
            .hint("`podman login` or `docker login` there; their files are read"),
        404 => Error::new(Kind::NotFound, doing, why),
        408 | 425 | 429 | 500..=599 => Error::new(Kind::Temporary, doing, why),
        _ => Error::new(Kind::BadImage, doing, why),
    }
}

/// The first of the registry's own words, as far as they are fit to be shown.
fn reason(response: Response<Body>) -> String {
    let text = response.into_body().into_with_config().limit(64 << 10).read_to_vec().unwrap_or_default();
    let document: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let error = document.pointer("/errors/0");
    let words = error.and_then(|e| e.get("message").or(e.get("code"))).and_then(|m| m.as_str());
    words.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A body that must not trickle.
pub struct Paced<R> {
    reader: R,
    since: Instant,
    bytes: u64,
}

impl<R> Paced<R> {
    pub fn new(reader: R) -> Paced<R> {
        Paced { reader, since: Instant::now(), bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.bytes += n as u64;
        if self.since.elapsed() > WINDOW {
            if n > 0 && self.bytes < WINDOW_BYTES {
                let why = format!("it sent {} bytes in {} s", self.bytes, WINDOW.as_secs());
                return Err(Error::new(Kind::Temporary, "the registry is too slow", why).into());
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(n)
    }
}

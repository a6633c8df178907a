//! One request, with time limits, and what a failure of it means.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::error::{Error, Kind, Result};

const CONNECT: Duration = Duration::from_secs(15);
/// Until the answer begins, and between two pieces of it.
const SILENCE: Duration = Duration::from_secs(30);
/// Of the reason for a refusal.
const REASON_BYTES: u64 = 64 << 10;
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

/// How long a registry may take to send what is small: a manifest, a token, the reason for a refusal.
#[derive(Debug, Clone, Copy)]
pub struct Patience(pub Duration);

impl Default for Patience {
    fn default() -> Patience {
        Patience(Duration::from_secs(60))
    }
}

/// Who asks, and how long it waits for an answer.
#[derive(Debug)]
pub struct Http {
    pub agent: Agent,
    patience: Patience,
}

impl Http {
    pub fn new(authorities: &Arc<Vec<Certificate<'static>>>, tls_only: bool, patience: Patience) -> Http {
        Http { agent: agent(authorities, tls_only), patience }
    }

    /// All of a body that is small. It comes as a whole within our patience, at whatever pace.
    pub fn small(&self, host: &str, response: Response<Body>, what: &str, max: u64) -> Result<Vec<u8>> {
        let Patience(within) = self.patience;
        let start = Instant::now();
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let (mut text, mut piece) = (Vec::new(), [0; 8 << 10]);
        loop {
            let n = reader.read(&mut piece).map_err(|e| failed(host, &ureq::Error::from(e)))?;
            if n == 0 {
                return Ok(text);
            }
            text.extend_from_slice(piece.get(..n).unwrap_or_default());
            if text.len() as u64 > max {
                let why = match max >> 20 {
                    0 => format!("it is larger than {} KiB", max >> 10),
                    mib => format!("it is larger than {mib} MiB"),
                };
                return Err(Error::bad(format!("cannot use {what} of {host}"), why));
            }
            if start.elapsed() > within {
                let why = format!("only {} bytes of {what} came in {within:?}", text.len());
                return Err(Error::new(Kind::Temporary, format!("{host} is too slow"), why));
            }
        }
    }

    /// What a status says, if it is no success.
    pub fn refused(&self, host: &str, response: Response<Body>, what: &str) -> Error {
        let status = response.status();
        let doing = format!("{host} does not give {what}");
        let said = self.reason(host, response);
        let why = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
        match status.as_u16() {
            401 | 403 => Error::new(Kind::Denied, doing, why)
                .hint("`podman login` or `docker login` there; their files are read"),
            404 => Error::new(Kind::NotFound, doing, why),
            408 | 425 | 429 | 500..=599 => Error::new(Kind::Temporary, doing, why),
            _ => Error::new(Kind::BadImage, doing, why),
        }
    }

    /// The first of the registry's own words, as far as they are fit to be shown. The status alone is enough.
    fn reason(&self, host: &str, response: Response<Body>) -> String {
        let text = self.small(host, response, "the reason", REASON_BYTES).unwrap_or_default();
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let error = document.pointer("/errors/0");
        let words = error.and_then(|e| e.get("message").or(e.get("code"))).and_then(|m| m.as_str());
        words.unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
    }
}

fn agent(authorities: &Arc<Vec<Certificate<'static>>>, tls_only: bool) -> Agent {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::clone(authorities)))
        .unversioned_rustls_crypto_provider(provider)
        .build();
    Agent::config_builder()
        .http_status_as_error(false)
        // A registry with TLS sends nobody to a place without.
        .https_only(tls_only)
        // Followed in redirect.rs.
        .max_redirects(0)
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
        E::TooManyRedirects => {
            Error::new(Kind::BadImage, format!("cannot ask {host}"), "it redirects without end")
        }
        E::BadUri(to) => {
            let why = format!("it leads to {to:?}, which is no address");
            Error::new(Kind::BadImage, format!("cannot ask {host}"), why)
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

/// A body that must not trickle. Counted is the time in which it is waited for, and not that in which nobody reads it, as while
/// its layer waits for another one.
pub struct Paced<R> {
    reader: R,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl<R> Paced<R> {
    pub fn new(reader: R) -> Paced<R> {
        Paced { reader, window: WINDOW, waited: Duration::ZERO, bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let n = self.reader.read(buffer)?;
        self.waited += start.elapsed();
        self.bytes += n as u64;
        if self.waited > self.window {
            if n > 0 && self.bytes < WINDOW_BYTES {
                let why = format!("it sent {} bytes in {} s", self.bytes, self.waited.as_secs());
                return Err(Error::new(Kind::Temporary, "the registry is too slow", why).into());
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    /// A byte at a time, after this long.
    struct After(Duration);

    impl Read for After {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            sleep(self.0);
            buffer.fill(0);
            Ok(buffer.len().min(1))
        }
    }

    fn paced(after: Duration) -> Paced<After> {
        Paced { window: Duration::from_millis(100), ..Paced::new(After(after)) }
    }

    #[test]
    fn who_trickles_is_too_slow_and_who_is_not_asked_is_not() {
        let mut trickles = paced(Duration::from_millis(60));
        assert_eq!(trickles.read(&mut [0; 9]).unwrap(), 1);
        let error = trickles.read(&mut [0; 9]).unwrap_err().to_string();
        assert!(error.contains("too slow") && error.contains("it sent 2 bytes"), "{error}");

        let mut ready = paced(Duration::ZERO);
        for _ in 0..3 {
            sleep(Duration::from_millis(110));
            assert_eq!(ready.read(&mut [0; 9]).unwrap(), 1);
        }
    }
}

//! One registry, as it is asked for one repository.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::Body;
use ureq::http::Response;
use ureq::tls::Certificate;

use super::auth;
use super::challenge::Challenge;
use super::credentials::Credentials;
use super::http::{self, Http, Paced, Patience, Scheme};
use super::redirect;
use crate::documents::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::error::{Error, Kind, Result};
use crate::limits::DOCUMENT_BYTES;
use crate::progress::Progress;

const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// However long a registry says to wait.
const PAUSE_MAX: Duration = Duration::from_secs(30);

pub struct Client {
    /// As the user wrote it.
    name: String,
    address: String,
    repository: String,
    scheme: Scheme,
    http: Http,
    credentials: Option<Credentials>,
    state: Mutex<State>,
}

#[derive(Default, Clone)]
struct State {
    /// `Authorization`, as the last challenge wanted it.
    authorization: Option<String>,
    /// What was found of [`Scheme::Either`].
    is_tls: Option<bool>,
}

impl Client {
    pub fn new(
        name: String,
        address: &str,
        repository: String,
        scheme: Scheme,
        authorities: Arc<Vec<Certificate<'static>>>,
        credentials: Option<Credentials>,
        patience: Patience,
    ) -> Client {
        let http = Http::new(&authorities, scheme == Scheme::Tls, patience);
        let state = Mutex::default();
        Client { name, address: address.to_owned(), repository, scheme, http, credentials, state }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// By tag or digest; and its media type.
    pub fn manifest(&self, wanted: &str, progress: &dyn Progress) -> Result<(Vec<u8>, String)> {
        let accept = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST].join(", ");
        let path = format!("manifests/{wanted}");
        let mut attempt = 0;
        loop {
            attempt += 1;
            let got =
                self.get(&path, &[("Accept", &accept)]).and_then(|response| self.text(response, wanted));
            match got {
                Err((error, pause)) if error.kind() == Kind::Temporary && attempt < ATTEMPTS => {
                    progress.note(&format!("{error}; tried again"));
                    std::thread::sleep(pause.unwrap_or(FIRST_PAUSE * 2u32.pow(attempt - 1)).min(PAUSE_MAX));
                }
                other => return other.map_err(|(error, _)| error),
            }
        }
    }

    fn text(
        &self,
        response: Response<Body>,
        wanted: &str,
    ) -> Result<(Vec<u8>, String), (Error, Option<Duration>)> {
        if !response.status().is_success() {
            let pause = retry_after(&response);
            let what = format!("{}:{wanted}", self.repository);
            return Err((self.http.refused(&self.name, response, &what), pause));
        }
        let media_type = header(&response, "content-type").unwrap_or_default().to_owned();
        let text = self.http.small(&self.name, response, "the manifest", DOCUMENT_BYTES);
        Ok((text.map_err(|e| (e, None))?, media_type))
    }

    /// The blob's bytes from `offset` on.
    pub fn blob(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let range = format!("bytes={offset}-");
        let ranges = [("Range", range.as_str())];
        let headers = if offset > 0 { &ranges[..] } else { &[] };
        let response = self.get(&format!("blobs/{}", blob.digest), headers).map_err(|(error, _)| error)?;
        let what = || format!("the blob {}", blob.digest.short());
        let status = response.status().as_u16();
        if !matches!(status, 200 | 206) {
            let pause = retry_after(&response).unwrap_or_default().min(PAUSE_MAX);
            let error = self.http.refused(&self.name, response, &what());
            std::thread::sleep(pause);
            return Err(error);
        }
        let comes = match status {
            206 if header(&response, "content-range")
                .is_some_and(|r| r.starts_with(&format!("bytes {offset}-"))) =>
            {
                blob.size.saturating_sub(offset)
            }
            206 => {
                return Err(Error::bad(
                    format!("cannot get {}", what()),
                    "the registry sent another part of it",
                ));
            }
            _ => blob.size,
        };
        let length = header(&response, "content-length").and_then(|length| length.parse::<u64>().ok());
        if length.is_some_and(|length| length != comes) {
            let why =
                format!("{} bytes come, and by the manifest it must be {comes}", length.unwrap_or_default());
            return Err(Error::bad(format!("cannot use {}", what()), why));
        }
        let mut reader = Paced::new(response.into_body().into_with_config().limit(u64::MAX).reader());
        if status == 200 && offset > 0 {
            // It sends all of it, whatever it is asked for.
            let skipped = std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink());
            skipped.map_err(|e| crate::error::from_reader(e, Kind::Temporary, "the blob was cut off"))?;
        }
        Ok(Box::new(reader))
    }

    /// The answer, after a token was got if one is wanted.
    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<Body>, (Error, Option<Duration>)> {
        let is_tls = self.is_tls().map_err(|e| (e, None))?;
        let url = format!("{}/v2/{}/{path}", self.base(is_tls), self.repository);
        let ask = || {
            let authorization = self.state().authorization;
            redirect::get(&self.http.agent, &url, &[], headers, authorization.as_deref())
                .map_err(|e| (http::failed(&self.name, &e), None))
        };
        let response = ask()?;
        if response.status() != 401 {
            return Ok(response);
        }
        let values = response.headers().get_all("www-authenticate").iter().filter_map(|v| v.to_str().ok());
        let Some(challenge) = Challenge::choose(values) else { return Ok(response) };
        let answer =
            auth::answer(&self.http, &challenge, self.credentials.as_ref(), &self.repository, is_tls);
        match answer.map_err(|e| (e, None))? {
            Some(authorization) => {
                self.set(|state| state.authorization = Some(authorization));
                ask()
            }
            None => Ok(response),
        }
    }

    fn base(&self, is_tls: bool) -> String {
        format!("{}://{}", if is_tls { "https" } else { "http" }, self.address)
    }

    fn is_tls(&self) -> Result<bool> {
        match (self.scheme, self.state().is_tls) {
            (Scheme::Tls, _) => Ok(true),
            (Scheme::Plain, _) => Ok(false),
            (Scheme::Either, Some(known)) => Ok(known),
            (Scheme::Either, None) => {
                let found = match self.http.agent.get(format!("{}/v2/", self.base(true))).call() {
                    Ok(_) => true,
                    // It has TLS, and a certificate of somebody whom we do not know.
                    Err(e) if e.to_string().contains("certificate") => {
                        return Err(http::failed(&self.name, &e));
                    }
                    Err(_) => false,
                };
                self.set(|state| state.is_tls = Some(found));
                Ok(found)
            }
        }
    }
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

/// In seconds; dates are nobody's.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    header(response, "retry-after")?.parse().ok().map(Duration::from_secs)
}

//! Registries: an image by its name, over the distribution protocol.
//!
//! The HTTP client is `ureq` with rustls: blocking, as everything here is, and a quarter of what `oci-client` (140 crates, an
//! event loop, no mirrors and no way to go on in the middle of a blob) would bring.

mod auth;
mod challenge;
mod client;
mod credentials;
mod endpoint;
mod http;
mod redirect;

use std::io::Read;

pub use credentials::Credentials;
pub use endpoint::Settings;
pub use http::Patience;

use self::client::Client;
use crate::digest::Digest;
use crate::documents::{Descriptor, Document};
use crate::error::{Error, Kind, Result};
use crate::get::{Getter, Source};
use crate::reference::Reference;

/// An image that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    pub name: String,
    pub digest: Digest,
}

/// Of an image for several platforms, this one's.
const DEPTH_MAX: u32 = 2;

/// Asks the registry, or a mirror of it, for the image; what is here already is not fetched again.
pub fn pull(getter: &Getter<'_>, settings: &Settings, reference: &Reference) -> Result<Pulled> {
    let doing = || format!("cannot pull {reference}");
    let clients = endpoint::clients(settings, reference).map_err(|e| e.within(doing()))?;
    let mut failed: Option<Error> = None;
    for (index, client) in clients.iter().enumerate() {
        match manifest(getter, client, reference) {
            Ok(bytes) => {
                let from = Fallback { clients: clients.get(index..).unwrap_or_default() };
                let name = reference.to_string();
                let digest = getter
                    .image(&from, &bytes, std::slice::from_ref(&name))
                    .map_err(|e| e.within(doing()))?;
                return Ok(Pulled { name, digest });
            }
            Err(error) => {
                if index + 1 < clients.len() {
                    getter.progress.note(&format!("{}: {error}; the next one is asked", client.name()));
                }
                failed = Some(error);
            }
        }
    }
    let none = || Error::new(Kind::Usage, "there is no registry to ask", "no mirror and no host");
    Err(failed.unwrap_or_else(none).within(doing()))
}

/// The manifest's bytes, and nothing else than was asked for.
fn manifest(getter: &Getter<'_>, client: &Client, reference: &Reference) -> Result<Vec<u8>> {
    let mut wanted = reference.wanted().to_owned();
    for _ in 0..DEPTH_MAX {
        let (bytes, media_type) = client.manifest(&wanted, getter.progress)?;
        if let Ok(digest) = Digest::parse(&wanted) {
            let mut hasher = digest.hasher();
            hasher.update(&bytes);
            let found = hasher.finish();
            if found != digest {
                let why = format!("the registry sent one with {found}");
                return Err(Error::bad(format!("the manifest {digest} is not what its digest says"), why));
            }
        }
        match Document::parse(&bytes, &media_type)? {
            Document::Manifest(_) => return Ok(bytes),
            Document::Index(index) => wanted = index.choose(getter.platform)?.digest.to_string(),
        }
    }
    Err(Error::bad("cannot read the index", "indexes in indexes, without end"))
}

/// Blobs from where the manifest came, and where that fails from those behind it.
struct Fallback<'a> {
    clients: &'a [Client],
}

impl Source for Fallback<'_> {
    fn open(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>> {
        let mut failed = None;
        for client in self.clients {
            match client.blob(blob, offset) {
                Ok(reader) => return Ok(reader),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| Error::bad("there is no registry to ask", "no mirror and no host")))
    }
}

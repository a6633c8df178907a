//! Images: from a registry or an archive into a store on disk, and from there as the root of a container.
//!
//! ```text
//!   registry, archive, folder, stdin -> blobs (checked as they stream) -> layers, unpacked -> overlay
//! ```
//! The program `sampan-image` is this library with a command line. sampand and sampan read the store through it
//! ([`Store::find`], [`Store::layers`], [`ImageConfig`]) and leave networking to the program.

#![forbid(unsafe_code)]

pub mod error;
pub mod limits;
pub mod digest;
pub mod reference;
pub mod documents;
pub mod config;
pub mod progress;
pub mod pipe;
mod writeback;
pub mod tar;
pub mod store;
pub mod unpack;
pub mod get;
pub mod root;
pub mod registry;
pub mod import;
pub mod export;

pub use config::{ConfigDocument, Healthcheck, ImageConfig};
pub use digest::Digest;
pub use documents::Platform;
pub use error::{Error, Kind, Result};
pub use limits::Limits;
pub use reference::Reference;
pub use store::{Image, Store};

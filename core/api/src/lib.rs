//! What `sampand` and its clients say to each other: plain types, no behaviour, one version.
//!
//! The transport is HTTP/1.1 with JSON bodies over a Unix stream socket, so `curl --unix-socket` is a full client.
//! Streams (events, logs) are lines: one JSON object or one log line each, until the client goes or, without
//! `follow`, until there is no more. Every path begins with [`PREFIX`]; a field may be added, never reused.
//!
//! Which paths there are, what they take and what they answer: `tests/openapi/routes.rs`, and docs/api.md, which is made of it.
//!
//! An error is a status of 4xx or 5xx with [`Failure`].
//!
//! A command may carry a number of the client's own ([`REQUEST_ID`]). A client whose connection broke off sends it again with
//! the same number: what was begun under a worker that died is then not done twice, but answered with `interrupted`.
#![forbid(unsafe_code)]

pub mod attach;
pub mod run;
pub mod stores;
pub mod types;
pub use run::*;
pub use stores::*;
pub use types::*;

/// The header of a request's number: 1 to 64 letters and digits that the client chose at random.
pub const REQUEST_ID: &str = "request-id";

/// Version of this interface: the first part of every path.
pub const PREFIX: &str = "/v1";

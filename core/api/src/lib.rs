//! What `sampand` and its clients say to each other: plain types, no behaviour, one version.
//!
//! The transport is HTTP/1.1 with JSON bodies over a Unix stream socket, so `curl --unix-socket` is a full client.
//! Streams (events, logs) are lines: one JSON object or one log line each, until the client goes or, without
//! `follow`, until there is no more. Every path begins with [`PREFIX`]; a field may be added, never reused.
//!
//! | method and path | body -> reply |
//! |---|---|
//! | `GET /v1/version` | [`Version`] |
//! | `GET /v1/loop` | [`Loop`] |
//! | `GET /v1/metrics` | text of OpenMetrics (docs/metrics.md) |
//! | `GET /v1/services?filter=label=K=V&filter=state=S` | `[`[`Status`]`]`, those for which every key has one of its values |
//! | `GET /v1/services/NAME` | [`Inspect`] |
//! | `GET /v1/services/NAME/why` | [`Why`] |
//! | `GET /v1/services/NAME/processes` | `[`[`Process`]`]` |
//! | `GET /v1/services/NAME/wait?condition=running&timeout_ms=N` | [`Done`], when the [`Condition`] holds |
//! | `GET /v1/usage?service=A&service=B` | `[`[`Usage`]`]` of those that live |
//! | `GET /v1/graph` | `[`[`Needs`]`]` |
//! | `GET /v1/volumes` | `[`[`Volume`]`]` |
//! | `DELETE /v1/volumes/NAME` | [`Volume`], when it and all in it is gone |
//! | `GET /v1/secrets` | `[`[`Secret`]`]` |
//! | `GET /v1/networks` | `[`[`Network`]`]` |
//! | `GET /v1/networks/NAME` | [`Network`] |
//! | `POST /v1/services/NAME/{start,stop,restart}` | [`Act`] -> [`Done`] |
//! | `POST /v1/services/NAME/kill` | [`Kill`] -> [`Done`] |
//! | `POST /v1/services/NAME/{pause,unpause}` | [`Done`] |
//! | `POST /v1/services/NAME/update` | [`Update`] -> [`Done`] |
//! | `POST /v1/services/NAME/attach` | frames, after an upgrade of the connection ([`attach`]) |
//! | `POST /v1/services/NAME/reload` | [`Done`], when the service has said that it is ready again, or need not |
//! | `POST /v1/services/NAME/run` | [`Run`] -> [`Done`] of the one-off, when it has started or it is clear that it will not |
//! | `POST /v1/up` | [`Up`] -> [`Done`] |
//! | `POST /v1/apply` | [`Apply`] -> [`Applied`] |
//! | `POST /v1/down` | [`Done`], sent when the last container is gone |
//! | `GET /v1/events?since=SEQ&follow=BOOL` | lines of [`Transition`] or [`Gap`] |
//! | `GET /v1/logs?service=A&service=B&follow=BOOL&tail=N` | lines `SERVICE TIME STREAM F|P TEXT` |
//! | `GET /v1/config?service=NAME&json=BOOL` | text, or JSON |
//! | `GET /v1/plugins` | `[`[`PluginStatus`]`]` |
//! | `POST /v1/plugins/NAME/control` | any JSON -> any JSON, or a stream where the plugin returns one |
//! | `POST /v1/plugins/NAME/reset` | [`PluginReset`] |
//!
//! An error is a status of 4xx or 5xx with [`Failure`].
//!
//! A command may carry a number of the client's own ([`REQUEST_ID`]). A client whose connection broke off sends it again with
//! the same number: what was begun under a worker that died is then not done twice, but answered with `interrupted`.
#![forbid(unsafe_code)]

pub mod attach;
pub mod run;
pub mod types;
pub use run::*;
pub use types::*;

/// The header of a request's number: 1 to 64 letters and digits that the client chose at random.
pub const REQUEST_ID: &str = "request-id";

/// Version of this interface: the first part of every path.
pub const PREFIX: &str = "/v1";

//! What clients ask of the worker. `serve` turns HTTP into these and waits; the loop answers each exactly once, at once
//! or when what was asked for has come true. A request whose client has gone is carried out all the same.
use crate::metrics;
use crate::usage;
use sampan_api as api;
use std::os::fd::OwnedFd;
use tokio::sync::{broadcast, oneshot};

/// Where the answer to a request goes.
pub type Answer<T> = oneshot::Sender<Result<T, api::Failure>>;

/// What has happened and, with `live`, what will.
#[derive(Debug)]
pub struct EventStream {
    /// Set if `since` is older than the oldest kept.
    pub gap: Option<api::Gap>,
    pub past: Vec<api::Transition>,
    /// Everything after `past`, without a hole; a receiver that lags learns of it.
    pub live: broadcast::Receiver<api::Transition>,
}

/// What a plugin's `control` gave.
#[derive(Debug)]
pub struct ControlReply {
    pub body: serde_json::Value,
    /// A descriptor to be streamed to the client until its end.
    pub stream: Option<OwnedFd>,
}

#[derive(Debug)]
pub enum Request {
    Version(Answer<api::Version>),
    Loop(Answer<api::Loop>),
    Metrics(Answer<metrics::Facts>),
    Services(Answer<Vec<api::Status>>),
    Service {
        name: String,
        answer: Answer<api::Inspect>,
    },
    Why {
        name: String,
        answer: Answer<api::Why>,
    },
    Start {
        name: String,
        detach: bool,
        answer: Answer<api::Done>,
    },
    Stop {
        name: String,
        detach: bool,
        answer: Answer<api::Done>,
    },
    Restart {
        name: String,
        detach: bool,
        answer: Answer<api::Done>,
    },
    Kill {
        name: String,
        signal: i32,
        answer: Answer<api::Done>,
    },
    Pause {
        name: String,
        /// False: unpause.
        frozen: bool,
        answer: Answer<api::Done>,
    },
    Up {
        up: api::Up,
        answer: Answer<api::Done>,
    },
    /// Stops everything and ends sampand; answered when the last container is gone.
    Down(Answer<api::Done>),
    /// Reads the config again; with an error, or for a dry run, nothing changes.
    Apply {
        dry_run: bool,
        answer: Answer<api::Applied>,
    },
    Wait {
        name: String,
        condition: api::Condition,
        timeout_ms: Option<u64>,
        answer: Answer<api::Done>,
    },
    /// None named: all that live.
    Lives {
        services: Vec<String>,
        answer: Answer<usage::Lives>,
    },
    Graph(Answer<Vec<api::Needs>>),
    Events {
        since: Option<u64>,
        answer: Answer<EventStream>,
    },
    /// A pipe of lines `SERVICE TIME STREAM F|P TEXT`; none named: all.
    Logs {
        services: Vec<String>,
        follow: bool,
        tail: Option<u64>,
        answer: Answer<OwnedFd>,
    },
    /// The config as it holds, each key with where it comes from.
    Config {
        service: Option<String>,
        json: bool,
        answer: Answer<String>,
    },
    Plugins(Answer<Vec<api::PluginStatus>>),
    ResetPlugin {
        name: String,
        answer: Answer<api::PluginReset>,
    },
    Control {
        plugin: String,
        body: serde_json::Value,
        answer: Answer<ControlReply>,
    },
}

/// A refusal in the API's form.
pub fn failure(code: &str, error: impl Into<String>) -> api::Failure {
    api::Failure { error: error.into(), code: code.into(), detail: None }
}

/// What is asked for while sampand ends.
pub fn stopping() -> api::Failure {
    failure("stopping", "sampand is stopping")
}

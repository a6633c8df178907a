//! What clients ask of the worker. `serve` turns HTTP into these and waits; the loop answers each exactly once, at once
//! or when what was asked for has come true. A request whose client has gone is carried out all the same.
use crate::metrics;
use crate::one_off::client::Connected;
use crate::relay::Attached;
use crate::usage;
use sampan_api as api;
use sampan_config::near::nearest;
use std::os::fd::OwnedFd;
use std::sync::Arc;
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

/// Shared by all that serves a connection: as long as there is another one, something of an answer may wait to be read.
#[derive(Debug, Clone, Default)]
pub struct Connection(Arc<()>);

impl Connection {
    /// Whoever holds this is the last one.
    pub fn is_closed(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
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
    /// A one-off with the settings of `of`, for the process `peer`.
    Run {
        of: String,
        run: Box<api::Run>,
        peer: Option<Connected>,
        answer: Answer<api::Done>,
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
    /// Limits of the present life.
    Update {
        name: String,
        update: api::Update,
        answer: Answer<api::Done>,
    },
    /// The service is to read its configuration again.
    Reload {
        name: String,
        answer: Answer<api::Done>,
    },
    Up {
        up: api::Up,
        answer: Answer<api::Done>,
    },
    /// Stops everything and ends sampand; answered when the last container is gone.
    /// sampand ends, and not before whoever asks has read all of the answer, unless that takes too long.
    Down {
        answer: Answer<api::Done>,
        connection: Connection,
    },
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
    Volumes(Answer<Vec<api::Volume>>),
    RemoveVolume {
        name: String,
        answer: Answer<api::Volume>,
    },
    Secrets(Answer<Vec<api::Secret>>),
    Networks(Answer<Vec<api::Network>>),
    Events {
        since: Option<u64>,
        answer: Answer<EventStream>,
    },
    /// To be told what the service writes, and to type to it.
    Attach {
        name: String,
        answer: Answer<Attached>,
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

/// There is nothing of that name; the nearest one, or all of them.
pub fn no_such(kind: &str, name: &str, names: &[&str]) -> api::Failure {
    /// As many are read at a glance.
    const SHOWN: usize = 20;
    let hint = match (nearest(name, names.iter().copied()), names.len()) {
        (_, 0) => "there is none".to_owned(),
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, count) if count > SHOWN => {
            format!("there are {count}: {}, ..", names.get(..SHOWN).unwrap_or_default().join(", "))
        }
        (None, _) => format!("there are: {}", names.join(", ")),
    };
    failure(&format!("no-such-{kind}"), format!("no {kind} {name:?}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::no_such;

    #[test]
    fn the_nearest_name_is_offered_or_all_as_long_as_they_can_be_read() {
        let said = |name: &str, names: &[&str]| no_such("service", name, names).error;
        assert_eq!(said("wbe", &["db", "web"]), "no service \"wbe\"; did you mean `web`?");
        assert_eq!(said("cache", &["db", "web"]), "no service \"cache\"; there are: db, web");
        assert_eq!(said("web", &[]), "no service \"web\"; there is none");
        let many: Vec<String> = (0..1000).map(|n| format!("worker-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(said("x", &many).starts_with("no service \"x\"; there are 1000: worker-0, "));
        assert!(said("x", &many).len() < 400);
        assert_eq!(no_such("volume", "a", &[]).code, "no-such-volume");
    }
}

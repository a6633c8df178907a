//! What sources and jobs send to the loop.
use crate::life::Created;
use crate::probe::Report;
use crate::request::{Answer, Request};
use crate::sd_notify::message::Dropped;
use crate::settings::Event;
use sampan_api as api;
use sampan_config::Loaded;
use sampan_config::schema::Resources;
use sampan_keel::Order;
use sampan_service::Problem;
use std::sync::Arc;
use tokio::sync::mpsc;

pub type Sender = mpsc::UnboundedSender<Message>;

#[derive(Debug)]
pub enum Message {
    /// An event of one service, from a job or a timer.
    Service {
        name: Arc<str>,
        event: Event,
    },
    /// A service's image is here, or cannot be: the answer to the fetch of this number.
    Fetched {
        name: Arc<str>,
        number: u64,
        result: Result<(), String>,
    },
    /// The answer to `Action::Create`.
    Created {
        name: Arc<str>,
        generation: u64,
        result: Result<Box<Created>, Problem>,
    },
    /// The answer to `Action::Start`.
    Started {
        name: Arc<str>,
        generation: u64,
        result: Result<(), Problem>,
    },
    /// What was left of a service without an entry is removed.
    Discarded {
        name: String,
    },
    /// The client in whose foreground a one-off runs is gone.
    ClientLeft {
        name: Arc<str>,
    },
    /// The pidfd of a main process is readable.
    Exited {
        name: Arc<str>,
        generation: u64,
    },
    Probed(Report),
    /// There is something on the socket by which a service says how it is.
    Notified {
        name: Arc<str>,
        generation: u64,
    },
    /// The message that was heard last is taken.
    Taken {
        name: Arc<str>,
        generation: u64,
        /// What was not done of it.
        dropped: Vec<Dropped>,
    },
    /// Whether a service has said nothing for too long is to be looked at.
    Watchdog {
        name: Arc<str>,
        generation: u64,
    },
    Request(Request),
    Order(Order),
    /// config.toml was read.
    Config {
        asker: Asker,
        result: Result<Box<Loaded>, String>,
    },
    /// The answer to a pause or unpause.
    Froze(Box<Froze>),
    /// What became of a reload.
    Reloaded(Box<Reloaded>),
    /// A job's time has come, or somebody has set the clock.
    Clock,
    /// The answer to an update of limits.
    Updated(Box<Updated>),
    /// The start gate may say something else now.
    Gate,
    /// `shutdown_timeout` is over.
    Hurry,
    /// What is not stopped by now does not stop.
    GiveUp,
}

impl Message {
    /// One word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Message::Service { .. } => "service",
            Message::Fetched { .. } => "fetched",
            Message::Created { .. } => "created",
            Message::Started { .. } => "started",
            Message::Discarded { .. } => "discarded",
            Message::ClientLeft { .. } => "client-left",
            Message::Exited { .. } => "exited",
            Message::Probed(_) => "probed",
            Message::Notified { .. } => "notified",
            Message::Taken { .. } => "taken",
            Message::Watchdog { .. } => "watchdog",
            Message::Request(_) => "request",
            Message::Order(_) => "order",
            Message::Config { .. } => "config",
            Message::Froze(_) => "froze",
            Message::Reloaded(_) => "reloaded",
            Message::Clock => "clock",
            Message::Updated(_) => "updated",
            Message::Gate => "gate",
            Message::Hurry => "hurry",
            Message::GiveUp => "give-up",
        }
    }
}

/// Who asked for config.toml to be read and applied.
#[derive(Debug)]
pub enum Asker {
    Signal,
    Apply(Answer<api::Applied>),
    /// What would change.
    DryRun(Answer<api::Applied>),
    Up(api::Up, Answer<api::Done>),
}

/// What became of new limits.
#[derive(Debug)]
pub struct Updated {
    pub name: Arc<str>,
    pub generation: u64,
    pub resources: Box<Resources>,
    /// With warnings.
    pub result: Result<Vec<String>, String>,
    pub answer: Answer<api::Done>,
}

/// What became of a freeze or a thaw.
#[derive(Debug)]
pub struct Froze {
    pub name: Arc<str>,
    pub generation: u64,
    pub frozen: bool,
    pub result: Result<(), String>,
    pub answer: Answer<api::Done>,
}

/// A service was told to read its configuration again.
#[derive(Debug)]
pub struct Reloaded {
    pub name: Arc<str>,
    pub result: Result<(), String>,
    pub answer: Answer<api::Done>,
}

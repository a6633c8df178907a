//! Why things happen: each cause is a value with data, and its text is what `sampanctl why` prints and what the journal
//! keeps. `parse` stands beside each `Display` and reads back exactly what that wrote.

use std::fmt;

/// The word of a shutdown, as the reason of a stop and as what a service rests for.
pub(crate) const SHUTDOWN: &str = "sampand stops";

/// Who wants the service up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Up {
    Boot,
    Hand,
    Config,
    /// Another service needs it.
    Dependant(String),
    /// It begins by time, and now it is. Nobody's wish: what is not wanted up does not come up for it.
    Time,
}

/// Who wants the service down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    /// Nobody has asked for it yet (`autostart = false`).
    Idle,
    Hand,
    /// It left the config.
    Removed,
    /// The client in whose foreground it ran is gone.
    Client,
}

/// Who wants it stopped and started again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Restart {
    Hand,
    Config,
    /// `depends_on.S.restart`: S was restarted by hand.
    Dependency(String),
    /// `depends_on.S.bind`: S is up no more. It comes back when S does.
    Bound(String),
    /// It was stopped by a shutdown that did not come to its end.
    Interrupted,
}

/// Why a life is being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Down(Down),
    Restart(Restart),
    /// The supervisor ends. That is no wish about the service: what is wanted of it stays, and the next supervisor goes by it.
    Shutdown,
    /// The last probe's output.
    Unhealthy(String),
    StartTimeout,
    /// It runs, but its start failed (poststart hook, a plugin's `started` gate).
    Problem(Problem),
}

/// What can go wrong on the way up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// The bundle cannot be made from this config: no use in trying again before it changes.
    Config(String),
    Hook {
        kind: String,
        text: String,
    },
    Veto {
        plugin: String,
        text: String,
    },
    Exec(String),
    Io(String),
}

/// What a start waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WaitFor {
    /// Not looked at yet.
    Turn,
    Dependency {
        service: String,
        condition: Condition,
    },
    Plugin(String),
    StartSlot,
    /// `restart_storm`: the host-wide bucket is empty.
    Storm,
}

/// `depends_on.S.condition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Condition {
    Started,
    Ready,
    Healthy,
    CompletedSuccessfully,
}

impl Condition {
    pub const ALL: [Condition; 4] =
        [Condition::Started, Condition::Ready, Condition::Healthy, Condition::CompletedSuccessfully];

    /// The word after `service_` in the config.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Healthy => "healthy",
            Condition::CompletedSuccessfully => "completed_successfully",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Condition> {
        let word = word.strip_prefix("service_").unwrap_or(word);
        Condition::ALL.into_iter().find(|c| c.word() == word)
    }
}

impl fmt::Display for Up {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Up::Boot => f.write_str("sampand started"),
            Up::Hand => f.write_str("started by hand"),
            Up::Config => f.write_str("new in the config"),
            Up::Dependant(name) => write!(f, "needed by {name}"),
            Up::Time => f.write_str("its time has come"),
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Down::Idle => "not asked for",
            Down::Hand => "stopped by hand",
            Down::Removed => "removed from the config",
            Down::Client => "its client is gone",
        })
    }
}

impl Down {
    #[must_use]
    pub fn parse(text: &str) -> Option<Down> {
        [Down::Idle, Down::Hand, Down::Removed, Down::Client].into_iter().find(|d| d.to_string() == text)
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Restart::Hand => f.write_str("restarted by hand"),
            Restart::Config => f.write_str("the config changed"),
            Restart::Dependency(name) => write!(f, "restarted with {name}"),
            Restart::Bound(name) => write!(f, "stopped with {name}"),
            Restart::Interrupted => f.write_str("the shutdown was interrupted"),
        }
    }
}

impl Restart {
    #[must_use]
    pub fn parse(text: &str) -> Option<Restart> {
        match text {
            "restarted by hand" => Some(Restart::Hand),
            "the config changed" => Some(Restart::Config),
            "the shutdown was interrupted" => Some(Restart::Interrupted),
            _ => {
                let name = |before: &str| text.strip_prefix(before).map(str::to_owned);
                let dependency = name("restarted with ").map(Restart::Dependency);
                dependency.or_else(|| name("stopped with ").map(Restart::Bound))
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Down(down) => down.fmt(f),
            Why::Restart(restart) => restart.fmt(f),
            Why::Shutdown => f.write_str(SHUTDOWN),
            Why::Unhealthy(output) => write!(f, "unhealthy: {output}"),
            Why::StartTimeout => f.write_str("start timed out"),
            Why::Problem(problem) => problem.fmt(f),
        }
    }
}

impl Why {
    #[must_use]
    pub fn parse(text: &str) -> Option<Why> {
        match text {
            "start timed out" => return Some(Why::StartTimeout),
            SHUTDOWN => return Some(Why::Shutdown),
            // Of a version that stopped what had an OOM kill in it.
            "out of memory" => return Some(Why::Problem(Problem::Io(text.to_owned()))),
            _ => {}
        }
        if let Some(output) = text.strip_prefix("unhealthy: ") {
            return Some(Why::Unhealthy(output.to_owned()));
        }
        Down::parse(text)
            .map(Why::Down)
            .or_else(|| Restart::parse(text).map(Why::Restart))
            .or_else(|| Problem::parse(text).map(Why::Problem))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Config(text) => write!(f, "config: {text}"),
            Problem::Hook { kind, text } => write!(f, "{kind} hook: {text}"),
            Problem::Veto { plugin, text } => write!(f, "{plugin} veto: {text}"),
            Problem::Exec(text) => write!(f, "exec: {text}"),
            Problem::Io(text) => write!(f, "io: {text}"),
        }
    }
}

impl Problem {
    /// Names of hooks and plugins hold neither space nor colon.
    #[must_use]
    pub fn parse(text: &str) -> Option<Problem> {
        let (head, text) = text.split_once(": ")?;
        let text = text.to_owned();
        match head.split_once(' ') {
            Some((kind, "hook")) => Some(Problem::Hook { kind: kind.to_owned(), text }),
            Some((plugin, "veto")) => Some(Problem::Veto { plugin: plugin.to_owned(), text }),
            Some(_) => None,
            None if head == "config" => Some(Problem::Config(text)),
            None if head == "exec" => Some(Problem::Exec(text)),
            None if head == "io" => Some(Problem::Io(text)),
            None => None,
        }
    }

    /// The short form of `ps`: `createRuntime hook`.
    #[must_use]
    pub fn short(&self) -> String {
        match self {
            Problem::Config(_) => "config".to_owned(),
            Problem::Hook { kind, .. } => format!("{kind} hook"),
            Problem::Veto { plugin, .. } => format!("{plugin} veto"),
            Problem::Exec(_) => "exec".to_owned(),
            Problem::Io(_) => "start".to_owned(),
        }
    }
}

impl fmt::Display for WaitFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitFor::Turn => f.write_str("turn"),
            WaitFor::Dependency { service, condition } => write!(f, "{service} {}", condition.word()),
            WaitFor::Plugin(name) => write!(f, "plugin {name}"),
            WaitFor::StartSlot => f.write_str("start slot"),
            WaitFor::Storm => f.write_str("restart storm"),
        }
    }
}

impl WaitFor {
    /// The fixed words come first: `start slot` is no service, since no condition is called `slot`.
    #[must_use]
    pub fn parse(text: &str) -> Option<WaitFor> {
        match text {
            "turn" => return Some(WaitFor::Turn),
            "start slot" => return Some(WaitFor::StartSlot),
            "restart storm" => return Some(WaitFor::Storm),
            _ => {}
        }
        let (head, tail) = text.split_once(' ')?;
        if let Some(condition) = Condition::ALL.into_iter().find(|c| c.word() == tail) {
            return Some(WaitFor::Dependency { service: head.to_owned(), condition });
        }
        (head == "plugin").then(|| WaitFor::Plugin(tail.to_owned()))
    }
}

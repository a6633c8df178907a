//! The facts about a service as plain keys and texts, for the journal: `to_record` and `from_record` side by side. Numbers are decimal,
//! causes are the texts of `cause` and `state`; a record that cannot be read names the key at fault.

use crate::cause::{Down, SHUTDOWN, WaitFor, Why};
use crate::exit::Exit;
use crate::service::{Counts, Facts, Job, Wanted};
use crate::state::{CleanupPhase, End, Failure, Health, Phase, Rest, State};
use crate::time::Ms;
use std::fmt;
use std::str::FromStr;

/// Keys in writing order. The state's own data come under the names of its fields.
pub type Record = Vec<(&'static str, String)>;

/// The key whose value is missing or unreadable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub key: &'static str,
    pub value: Option<String>,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "record of a service: `{}` cannot be {value:?}", self.key),
            None => write!(f, "record of a service: `{}` is missing", self.key),
        }
    }
}

impl std::error::Error for Unreadable {}

impl Facts {
    #[must_use]
    pub fn to_record(&self) -> Record {
        let mut out: Record = vec![("state", self.state.name().to_owned())];
        write_state(&self.state, &mut out);
        out.push(("wanted", self.wanted.to_string()));
        if let Some(job) = self.job {
            out.push(("job", job.word().to_owned()));
        }
        out.push(("generation", self.generation.to_string()));
        out.push(("ran", self.ran.to_string()));
        out.push(("restarts", self.restarts.to_string()));
        out.push(("attempts", self.attempts.to_string()));
        if let Some(exit) = self.last_exit {
            out.push(("last_exit", exit.to_string()));
        }
        if self.earlier.restarts > 0 {
            out.push(("earlier_restarts", self.earlier.restarts.to_string()));
        }
        if let Some(exit) = self.earlier.last_exit {
            out.push(("earlier_exit", exit.to_string()));
        }
        if self.kept {
            out.push(("kept", "true".to_owned()));
        }
        out.push(("cause", self.cause.clone()));
        out
    }

    /// `get` looks a key up in the record, whatever the journal keeps it in.
    pub fn from_record<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Facts, Unreadable> {
        let fields = Fields(&get);
        let state = read_state(&fields)?;
        let generation = fields.number("generation")?;
        Ok(Facts {
            wanted: fields.need("wanted", |text| wanted_beside(text, &state))?,
            state,
            job: fields.maybe("job", Job::parse)?,
            generation,
            // A version before this one told the exit of every life.
            ran: fields.maybe("ran", |text| text.parse().ok())?.unwrap_or(generation),
            restarts: fields.number("restarts")?,
            attempts: fields.number("attempts")?,
            last_exit: fields.maybe("last_exit", Exit::parse)?,
            earlier: Counts {
                // A version before this one counted all runs together.
                restarts: fields.maybe("earlier_restarts", |text| text.parse().ok())?.unwrap_or(0),
                last_exit: fields.maybe("earlier_exit", Exit::parse)?,
            },
            kept: fields.flag("kept"),
            cause: get("cause").unwrap_or_default().to_owned(),
        })
    }
}

/// A version before this one put a shutdown in the place of what was wanted before it. Where the state still says what that
/// was, it holds; else the service had been running, that is, wanted.
fn wanted_beside(text: &str, state: &State) -> Option<Wanted> {
    match state {
        _ if text != SHUTDOWN => Wanted::parse(text),
        State::Stopped { why: Rest::Down(down) } => Some(Wanted::Down(*down)),
        _ => Some(Wanted::Up),
    }
}

fn write_state(state: &State, out: &mut Record) {
    let mut put = |key, value: &dyn fmt::Display| out.push((key, value.to_string()));
    match state {
        State::Stopped { why } => put("why", why),
        State::Waiting { since, on } => {
            put("since", &since.0);
            put("on", on);
        }
        State::Creating { since, deadline } | State::Created { since, deadline } => {
            put("since", &since.0);
            if let Some(at) = deadline {
                put("deadline", &at.0);
            }
        }
        State::Starting { since, deadline, health } => {
            put("since", &since.0);
            put("health", health);
            if let Some(at) = deadline {
                put("deadline", &at.0);
            }
        }
        State::Running { since, health, adopted, steady_at } => {
            put("since", &since.0);
            put("health", health);
            if *adopted {
                put("adopted", &true);
            }
            if let Some(at) = steady_at {
                put("steady_at", &at.0);
            }
        }
        State::Stopping { since, why, phase } => {
            put("since", &since.0);
            put("why", why);
            write_phase(phase, &mut put);
        }
        State::Lingering { since, end, remains } => {
            put("since", &since.0);
            put("end", end);
            write_remains(remains, &mut put);
        }
        State::Backoff { since, until, attempt } => {
            put("since", &since.0);
            put("until", &until.0);
            put("attempt", attempt);
        }
        State::Failed { why } => put("why", why),
    }
}

type Put<'p> = dyn FnMut(&'static str, &dyn fmt::Display) + 'p;

fn write_phase(phase: &Phase, put: &mut Put<'_>) {
    match phase {
        Phase::Launching { deadline } => {
            put("phase", &"launching");
            put("deadline", &deadline.0);
        }
        Phase::Draining { deadline } => {
            put("phase", &"draining");
            put("deadline", &deadline.0);
        }
        Phase::Signalled { at, deadline } => {
            put("phase", &"signalled");
            put("at", &at.0);
            put("deadline", &deadline.0);
        }
        Phase::Killed { again } => {
            put("phase", &"killed");
            put("deadline", &again.0);
        }
    }
}

fn write_remains(remains: &CleanupPhase, put: &mut Put<'_>) {
    match remains {
        CleanupPhase::Answer { empty, exit } => {
            put("remains", &"answer");
            put("empty", empty);
            put("exit", exit);
        }
        CleanupPhase::Processes { again } => {
            put("remains", &"processes");
            put("deadline", &again.0);
        }
        CleanupPhase::Cleaning => put("remains", &"cleaning"),
        CleanupPhase::Uncleaned { at } => {
            put("remains", &"uncleaned");
            put("deadline", &at.0);
        }
    }
}

fn read_state<'a, G: Fn(&str) -> Option<&'a str>>(fields: &Fields<'_, G>) -> Result<State, Unreadable> {
    let name = fields.need("state", |s| Some(s.to_owned()))?;
    Ok(match name.as_str() {
        "stopped" => State::Stopped { why: fields.need("why", Rest::parse)? },
        "waiting" => State::Waiting { since: fields.at("since")?, on: fields.need("on", WaitFor::parse)? },
        "creating" => State::Creating { since: fields.at("since")?, deadline: fields.maybe("deadline", ms)? },
        "created" => State::Created { since: fields.at("since")?, deadline: fields.maybe("deadline", ms)? },
        "starting" => State::Starting {
            since: fields.at("since")?,
            deadline: fields.maybe("deadline", ms)?,
            health: fields.need("health", Health::parse)?,
        },
        "running" => State::Running {
            since: fields.at("since")?,
            health: fields.need("health", Health::parse)?,
            adopted: fields.flag("adopted"),
            steady_at: fields.maybe("steady_at", ms)?,
        },
        "stopping" => State::Stopping {
            since: fields.at("since")?,
            why: fields.need("why", Why::parse)?,
            phase: read_phase(fields)?,
        },
        "lingering" => State::Lingering {
            since: fields.at("since")?,
            end: fields.need("end", End::parse)?,
            remains: read_remains(fields)?,
        },
        "backoff" => State::Backoff {
            since: fields.at("since")?,
            until: fields.at("until")?,
            attempt: fields.number("attempt")?,
        },
        "failed" => State::Failed { why: fields.need("why", Failure::parse)? },
        _ => return Err(Unreadable { key: "state", value: Some(name) }),
    })
}

fn read_phase<'a, G: Fn(&str) -> Option<&'a str>>(fields: &Fields<'_, G>) -> Result<Phase, Unreadable> {
    let word = fields.need("phase", |s| Some(s.to_owned()))?;
    let deadline = fields.at("deadline")?;
    match word.as_str() {
        "launching" => Ok(Phase::Launching { deadline }),
        "draining" => Ok(Phase::Draining { deadline }),
        "signalled" => Ok(Phase::Signalled { at: fields.at("at")?, deadline }),
        "killed" => Ok(Phase::Killed { again: deadline }),
        _ => Err(Unreadable { key: "phase", value: Some(word) }),
    }
}

fn read_remains<'a, G: Fn(&str) -> Option<&'a str>>(
    fields: &Fields<'_, G>,
) -> Result<CleanupPhase, Unreadable> {
    let word = fields.need("remains", |s| Some(s.to_owned()))?;
    match word.as_str() {
        "answer" => {
            let exit = fields.maybe("exit", Exit::parse)?.unwrap_or(Exit::UNKNOWN);
            Ok(CleanupPhase::Answer { empty: fields.flag("empty"), exit })
        }
        "processes" => Ok(CleanupPhase::Processes { again: fields.at("deadline")? }),
        "cleaning" => Ok(CleanupPhase::Cleaning),
        "uncleaned" => Ok(CleanupPhase::Uncleaned { at: fields.at("deadline")? }),
        _ => Err(Unreadable { key: "remains", value: Some(word) }),
    }
}

fn ms(text: &str) -> Option<Ms> {
    text.parse().ok().map(Ms)
}

struct Fields<'g, G>(&'g G);

impl<'a, G: Fn(&str) -> Option<&'a str>> Fields<'_, G> {
    fn maybe<T>(&self, key: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, Unreadable> {
        let Some(text) = (self.0)(key) else { return Ok(None) };
        read(text).map(Some).ok_or_else(|| Unreadable { key, value: Some(text.to_owned()) })
    }

    fn need<T>(&self, key: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, Unreadable> {
        self.maybe(key, read)?.ok_or(Unreadable { key, value: None })
    }

    fn number<T: FromStr>(&self, key: &'static str) -> Result<T, Unreadable> {
        self.need(key, |text| text.parse().ok())
    }

    fn at(&self, key: &'static str) -> Result<Ms, Unreadable> {
        self.need(key, ms)
    }

    fn flag(&self, key: &'static str) -> bool {
        (self.0)(key) == Some("true")
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wanted::Up => f.write_str("up"),
            Wanted::Down(down) => down.fmt(f),
        }
    }
}

impl Wanted {
    #[must_use]
    pub fn parse(text: &str) -> Option<Wanted> {
        if text == "up" { Some(Wanted::Up) } else { Down::parse(text).map(Wanted::Down) }
    }
}

impl Job {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Job::Create => "create",
            Job::Start => "start",
            Job::Drain => "drain",
            Job::Cleanup => "cleanup",
        }
    }

    #[must_use]
    pub fn parse(word: &str) -> Option<Job> {
        [Job::Create, Job::Start, Job::Drain, Job::Cleanup].into_iter().find(|j| j.word() == word)
    }
}

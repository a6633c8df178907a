//! What can happen to a service. Wishes and the start gate's answers are about the service; [`Life`] is about one life of
//! it and carries its generation, so that the late word of a dead life can never move the next one.

use crate::cause::{Down, Problem, Restart, SHUTDOWN, Up, WaitFor};
use crate::exit::{Exit, SignalName};
use crate::policy::Policy;
use crate::time::Span;
use std::fmt;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub enum Event<C = Policy> {
    Up(Up),
    Down(Down),
    Restart(Restart),
    /// The supervisor ends: its life ends too, and none follows. What is wanted stays. Who sends it sends no wish to start after it.
    Shutdown,
    /// No more grace: a second Ctrl-C, the end of `shutdown_timeout`.
    Hurry,
    /// `sampanctl kill`: to the main process; what is wanted stays.
    Kill(i32),
    /// The config changed in what works live.
    Live(C),
    /// The config changed in what needs a new life; the old one ends by its old rules. Also: it was removed and is back.
    Replaced(C),
    /// The start gate: not yet. May come again with another reason.
    Blocked(WaitFor),
    /// The start gate: go. The slot is held until `ReleaseStart`.
    Granted,
    Life {
        generation: u64,
        life: Life,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Life {
    Created,
    CreateFailed(Problem),
    Started,
    StartFailed(Problem),
    Health(Verdict),
    /// It says that it is ready.
    Ready,
    /// Its start takes so long from now, if that is longer than it has.
    Extend(Duration),
    /// Its watchdog was missed: what a check that finds it unhealthy would say.
    Silent(String),
    Drained,
    /// `empty`: no process was left in the cgroup when the status was read.
    Exited {
        exit: Exit,
        empty: bool,
    },
    /// The kill of all of its processes is done; `empty`: none is left.
    Killed {
        empty: bool,
    },
    CleanedUp,
    CleanupFailed(Problem),
    Timer,
    Adopted(Found),
}

/// A change of health, counted by `health::Tally`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Healthy,
    /// What the last probe said.
    Unhealthy(String),
}

/// What a new worker finds of a service that the journal says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The main process lives. `started`: it has passed the start barrier (OCI status running).
    Alive { started: bool },
    /// Its status could be read (or could not: `Status::Unknown`). `started`: it had passed the start barrier.
    Exited { exit: Exit, started: bool, empty: bool },
    /// The record has its end, and there is no process any more that could tell it again.
    Over { started: bool, empty: bool },
    /// No trace of a main process.
    Gone { empty: bool },
}

impl Found {
    /// Whether its program is known to have begun.
    pub fn started(self) -> bool {
        match self {
            Found::Alive { started } | Found::Exited { started, .. } | Found::Over { started, .. } => started,
            Found::Gone { .. } => false,
        }
    }

    /// Whether nothing of it is left in its group.
    pub fn is_empty(self) -> bool {
        match self {
            Found::Alive { .. } => false,
            Found::Exited { empty, .. } | Found::Over { empty, .. } | Found::Gone { empty } => empty,
        }
    }
}

impl<C> Event<C> {
    #[must_use]
    pub fn life(generation: u64, life: Life) -> Event<C> {
        Event::Life { generation, life }
    }
}

/// The cause in the journal's record of the transition.
impl<C> fmt::Display for Event<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Up(up) => up.fmt(f),
            Event::Down(down) => down.fmt(f),
            Event::Restart(restart) => restart.fmt(f),
            Event::Shutdown => f.write_str(SHUTDOWN),
            Event::Hurry => f.write_str("hurry"),
            Event::Kill(signal) => write!(f, "{} by hand", SignalName(*signal)),
            Event::Live(_) => f.write_str("the config changed"),
            Event::Replaced(_) => f.write_str("the config changed"),
            Event::Blocked(on) => write!(f, "waits for {on}"),
            Event::Granted => f.write_str("its turn to start"),
            Event::Life { life, .. } => life.fmt(f),
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Life::Created => f.write_str("created"),
            Life::CreateFailed(problem) => write!(f, "create failed: {problem}"),
            Life::Started => f.write_str("started"),
            Life::StartFailed(problem) => write!(f, "start failed: {problem}"),
            Life::Health(Verdict::Healthy) => f.write_str("healthy"),
            Life::Health(Verdict::Unhealthy(output)) => write!(f, "unhealthy: {output}"),
            Life::Ready => f.write_str("it says that it is ready"),
            Life::Extend(span) => write!(f, "its start takes {} more", Span(*span)),
            Life::Silent(text) => write!(f, "unhealthy: {text}"),
            Life::Drained => f.write_str("drained"),
            Life::Exited { exit, .. } => write!(f, "exit {exit}"),
            Life::Killed { empty: true } => f.write_str("no process left"),
            Life::Killed { empty: false } => f.write_str("killed, and not all are gone"),
            Life::CleanedUp => f.write_str("cleaned up"),
            Life::CleanupFailed(problem) => write!(f, "cleaning up failed: {problem}"),
            Life::Timer => f.write_str("time is up"),
            Life::Adopted(Found::Alive { .. }) => f.write_str("sampand came back: alive"),
            Life::Adopted(Found::Exited { exit, .. }) => write!(f, "sampand came back: exit {exit}"),
            Life::Adopted(Found::Over { .. }) => f.write_str("sampand came back: it had ended"),
            Life::Adopted(Found::Gone { .. }) => f.write_str("sampand came back: gone"),
        }
    }
}

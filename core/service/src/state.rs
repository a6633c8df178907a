//! Where a service is, with the data that belongs to being there and no other. A service has at most one timer, and
//! [`State::deadline`] is when: nothing else arms one. What is *wanted* stands beside it, in `Service`.
//!
//! ```text
//!   stopped ---> waiting ---> creating ---> created ---> starting ---> running
//!      ^          ^   ^            \            \            \           |
//!      |          |   |             +------------+----- stopping <-------+   asked for, unhealthy, timed out
//!      |          | backoff                                |             |
//!      |          |   ^                                    v             v   the main process is gone
//!      +----------+---+------------------------------- lingering <-------+
//!      |                                                   |
//!    failed <----------------------------------------------+       the policy, or its limit
//! ```

use crate::cause::{Down, Problem, SHUTDOWN, WaitFor, Why};
use crate::exit::Exit;
use crate::time::{Ms, Span};
use std::fmt;

/// The word of what begins by time.
const SCHEDULED: &str = "waits for its time";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Stopped {
        why: Rest,
    },
    /// Wants a start slot, or what must come before it.
    Waiting {
        since: Ms,
        on: WaitFor,
    },
    /// Plugins' `create`, bundle, clone3, hooks, `attach`. The executor owes Created or CreateFailed.
    Creating {
        since: Ms,
        deadline: Option<Ms>,
    },
    /// The container exists and its start was ordered. The executor owes Started or StartFailed.
    Created {
        since: Ms,
        deadline: Option<Ms>,
    },
    /// The program runs and is not ready yet.
    Starting {
        since: Ms,
        deadline: Option<Ms>,
        health: Health,
    },
    /// Ready. `steady_at`: then the row of attempts begins anew; none if there is none.
    Running {
        since: Ms,
        health: Health,
        adopted: bool,
        steady_at: Option<Ms>,
    },
    Stopping {
        since: Ms,
        why: Why,
        phase: Phase,
    },
    /// The main process is gone, what it leaves is not.
    Lingering {
        since: Ms,
        end: End,
        remains: CleanupPhase,
    },
    /// `since`: when the wait began; `attempt`: the number in a row that comes after it.
    Backoff {
        since: Ms,
        until: Ms,
        attempt: u32,
    },
    Failed {
        why: Failure,
    },
}

/// Why nothing runs and nothing should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// A job that is done: it ended by itself, successfully.
    Finished,
    /// It begins by time ([`Begins::ByTime`](crate::policy::Begins)), and has not yet.
    Scheduled,
    /// The supervisor ends. A worker that finds this starts the service again: if the shutdown still goes on, it says so.
    Shutdown,
    Down(Down),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// There is no check.
    None,
    /// No verdict yet.
    Starting,
    Healthy,
    Unhealthy,
}

/// How far a stop is. Every phase has a deadline, so that every stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A create or start is under way: a signal before execve would be lost (PID 1 of a namespace ignores what it has no
    /// handler for), so its answer is awaited.
    Launching {
        deadline: Ms,
    },
    /// Plugins' `stop`, `pre_stop` steps.
    Draining {
        deadline: Ms,
    },
    Signalled {
        at: Ms,
        deadline: Ms,
    },
    /// cgroup.kill was written; once more at `again`.
    Killed {
        again: Ms,
    },
}

/// What is left of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPhase {
    /// The answer to a create, start or drain is still owed: cleaning up now would race it. It says too whether `exit` is the
    /// program's.
    Answer { empty: bool, exit: Exit },
    /// Processes, killed; once more at `again`.
    Processes { again: Ms },
    /// Plugins' `detach`, poststop hooks, folders. The executor owes CleanedUp or CleanupFailed.
    Cleaning,
    /// Cleaning up failed; tried again at `at`. No new life before it succeeds.
    Uncleaned { at: Ms },
}

/// How a life ended; with what is wanted and the policy it decides what comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exit(Exit),
    /// It never began.
    Problem(Problem),
    /// We stopped it.
    Asked(Why),
    /// The supervisor died in the middle of its launch: no fault of the service.
    Interrupted,
}

/// Why it will not be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Exit(Exit),
    Attempts(u32),
    Problem(Problem),
    Unhealthy,
    StartTimeout,
    Oom,
}

impl State {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Stopped { .. } => "stopped",
            State::Waiting { .. } => "waiting",
            State::Creating { .. } => "creating",
            State::Created { .. } => "created",
            State::Starting { .. } => "starting",
            State::Running { .. } => "running",
            State::Stopping { .. } => "stopping",
            State::Lingering { .. } => "lingering",
            State::Backoff { .. } => "backoff",
            State::Failed { .. } => "failed",
        }
    }

    /// When the service's one timer is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Ms> {
        match self {
            State::Stopped { .. } | State::Waiting { .. } | State::Failed { .. } => None,
            State::Creating { deadline, .. }
            | State::Created { deadline, .. }
            | State::Starting { deadline, .. } => *deadline,
            State::Running { steady_at, .. } => *steady_at,
            State::Stopping { phase, .. } => Some(match phase {
                Phase::Launching { deadline }
                | Phase::Draining { deadline }
                | Phase::Signalled { deadline, .. } => *deadline,
                Phase::Killed { again } => *again,
            }),
            State::Lingering { remains, .. } => match remains {
                CleanupPhase::Processes { again } => Some(*again),
                CleanupPhase::Uncleaned { at } => Some(*at),
                CleanupPhase::Answer { .. } | CleanupPhase::Cleaning => None,
            },
            State::Backoff { until, .. } => Some(*until),
        }
    }

    /// A container, or parts of one, may exist.
    #[must_use]
    pub fn has_life(&self) -> bool {
        match self {
            State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Lingering { .. } => true,
            State::Stopped { .. } | State::Waiting { .. } | State::Backoff { .. } | State::Failed { .. } => {
                false
            }
        }
    }

    /// It runs, or is about to, and nobody has told it to end.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self {
            State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. }
            | State::Running { .. } => true,
            State::Stopping { .. }
            | State::Lingering { .. }
            | State::Stopped { .. }
            | State::Waiting { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => false,
        }
    }

    /// On the way up, or stopped on it: its create or start is under way.
    #[must_use]
    pub fn is_launching(&self) -> bool {
        match self {
            State::Creating { .. } | State::Created { .. } => true,
            State::Stopping { phase, .. } => matches!(phase, Phase::Launching { .. }),
            _ => false,
        }
    }

    /// Cleaning up has failed, and is tried again for as long as it fails.
    #[must_use]
    pub fn is_uncleaned(&self) -> bool {
        matches!(self, State::Lingering { remains: CleanupPhase::Uncleaned { .. }, .. })
    }

    /// Nothing runs, and nothing will without a new wish.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        matches!(self, State::Stopped { .. } | State::Failed { .. })
    }

    #[must_use]
    pub fn health(&self) -> Health {
        match self {
            State::Starting { health, .. } | State::Running { health, .. } => *health,
            _ => Health::None,
        }
    }

    /// The program runs and is to be probed.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        match self {
            State::Starting { health, .. } | State::Running { health, .. } => *health != Health::None,
            _ => false,
        }
    }

    /// As `ps` shows it: `running 3m`, `backoff 4.2s left`, `failed exit 3`.
    #[must_use]
    pub fn show(&self, now: Ms) -> Show<'_> {
        Show { state: self, now, processes: None }
    }
}

/// [`State::show`]; `processes` is what the cgroup counts, if the caller looked.
#[derive(Clone, Copy, Debug)]
pub struct Show<'a> {
    pub state: &'a State,
    pub now: Ms,
    pub processes: Option<u64>,
}

impl fmt::Display for Show<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ago = |since: &Ms| Span(self.now.since(*since));
        match self.state {
            State::Stopped { .. }
            | State::Creating { .. }
            | State::Created { .. }
            | State::Starting { .. } => f.write_str(self.state.name()),
            State::Waiting { on, .. } => write!(f, "waiting {on}"),
            State::Running { since, adopted, .. } => {
                write!(f, "running {}{}", ago(since), if *adopted { " (adopted)" } else { "" })
            }
            State::Stopping { since, phase, .. } => match phase {
                Phase::Signalled { at, deadline } => {
                    write!(f, "stopping {} of {}", ago(at), Span(deadline.since(*at)))
                }
                Phase::Launching { .. } | Phase::Draining { .. } | Phase::Killed { .. } => {
                    write!(f, "stopping {}", ago(since))
                }
            },
            State::Lingering { remains: CleanupPhase::Processes { .. }, .. } => match self.processes {
                Some(1) => f.write_str("lingering 1 process"),
                Some(n) => write!(f, "lingering {n} processes"),
                None => f.write_str("lingering"),
            },
            State::Lingering { .. } => f.write_str("lingering, cleaning up"),
            State::Backoff { until, .. } => write!(f, "backoff {} left", Span(until.since(self.now))),
            State::Failed { why } => write!(f, "failed {}", why.short()),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Health::None => "-",
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        })
    }
}

impl Health {
    #[must_use]
    pub fn parse(text: &str) -> Option<Health> {
        [Health::None, Health::Starting, Health::Healthy, Health::Unhealthy]
            .into_iter()
            .find(|h| h.to_string() == text)
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rest::Finished => f.write_str("finished"),
            Rest::Scheduled => f.write_str(SCHEDULED),
            Rest::Shutdown => f.write_str(SHUTDOWN),
            Rest::Down(down) => down.fmt(f),
        }
    }
}

impl Rest {
    #[must_use]
    pub fn parse(text: &str) -> Option<Rest> {
        match text {
            "finished" => Some(Rest::Finished),
            SCHEDULED => Some(Rest::Scheduled),
            SHUTDOWN => Some(Rest::Shutdown),
            _ => Down::parse(text).map(Rest::Down),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exit(exit) => write!(f, "exit {exit}"),
            End::Problem(problem) => write!(f, "no start: {problem}"),
            End::Asked(why) => write!(f, "asked: {why}"),
            End::Interrupted => f.write_str("interrupted launch"),
        }
    }
}

impl End {
    /// For people: a wish needs no word before it.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            End::Asked(why) => why.to_string(),
            End::Exit(_) | End::Problem(_) | End::Interrupted => self.to_string(),
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<End> {
        if text == "interrupted launch" {
            return Some(End::Interrupted);
        }
        if let Some(exit) = text.strip_prefix("exit ") {
            return Exit::parse(exit).map(End::Exit);
        }
        if let Some(problem) = text.strip_prefix("no start: ") {
            return Problem::parse(problem).map(End::Problem);
        }
        text.strip_prefix("asked: ").and_then(Why::parse).map(End::Asked)
    }
}

/// A life that was stopped because its start failed ended by that failure.
impl From<Why> for End {
    fn from(why: Why) -> End {
        match why {
            Why::Problem(problem) => End::Problem(problem),
            why => End::Asked(why),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Problem(problem) => problem.fmt(f),
            _ => f.write_str(&self.short()),
        }
    }
}

impl Failure {
    #[must_use]
    pub fn short(&self) -> String {
        match self {
            Failure::Exit(exit) => format!("exit {exit}"),
            Failure::Attempts(1) => "1 attempt".to_owned(),
            Failure::Attempts(n) => format!("{n} attempts"),
            Failure::Problem(problem) => problem.short(),
            Failure::Unhealthy => "unhealthy".to_owned(),
            Failure::StartTimeout => "start timed out".to_owned(),
            Failure::Oom => "out of memory".to_owned(),
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Failure> {
        match text {
            "unhealthy" => return Some(Failure::Unhealthy),
            "start timed out" => return Some(Failure::StartTimeout),
            "out of memory" => return Some(Failure::Oom),
            _ => {}
        }
        if let Some(exit) = text.strip_prefix("exit ") {
            return Exit::parse(exit).map(Failure::Exit);
        }
        match text.split_once(' ') {
            Some((n, "attempt" | "attempts")) => n.parse().ok().map(Failure::Attempts),
            _ => Problem::parse(text).map(Failure::Problem),
        }
    }
}

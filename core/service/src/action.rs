//! What the machine asks of the executor, to be done in the order given and after the transition is on record.
//! `Create`, `Start`, `Drain`, `Cleanup` and `KillCgroup` are answered once (see the crate's page); the rest is done at once.

use crate::time::Ms;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Plugins' `create`, bundle, launch up to OCI state created, `attach`. Of the service's present generation.
    Create,
    /// Plugins' `start`, release the barrier, poststart hooks, `started`.
    Start,
    /// Plugins' `stop` and `pre_stop` steps, within their own deadlines.
    Drain,
    /// To the main process; a stop signal is followed by SIGCONT.
    Signal(i32),
    /// Every process of the service, whatever there is of it.
    KillCgroup,
    /// Before a stop: a frozen process hears no signal, and whoever froze it (`sampan pause`, a hand) need not tell us.
    Thaw,
    /// `detach`, remove the container, poststop hooks, `removed`. `keep`: a new life follows; namespaces, cgroup and
    /// descriptors that it can use again may stay.
    Cleanup {
        keep: bool,
    },
    /// No new life after all: let go of what a `Cleanup { keep: true }` kept.
    DropKept,
    /// The one timer of this service; replaces the one before.
    Arm {
        at: Ms,
    },
    Disarm,
    HealthBegin,
    HealthEnd,
    /// Enter the start gate; it answers Blocked (any number of times) and Granted (once).
    RequestStart,
    /// Leave it, or give the slot back.
    ReleaseStart,
    /// What others may depend on has changed: look again at who waits.
    Announce,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Create => f.write_str("create"),
            Action::Start => f.write_str("start"),
            Action::Drain => f.write_str("drain"),
            Action::Signal(signal) => write!(f, "signal {}", crate::exit::SignalName(*signal)),
            Action::KillCgroup => f.write_str("kill cgroup"),
            Action::Thaw => f.write_str("thaw"),
            Action::Cleanup { keep: true } => f.write_str("cleanup, keep"),
            Action::Cleanup { keep: false } => f.write_str("cleanup"),
            Action::DropKept => f.write_str("drop kept"),
            Action::Arm { at } => write!(f, "arm {}", at.0),
            Action::Disarm => f.write_str("disarm"),
            Action::HealthBegin => f.write_str("health begin"),
            Action::HealthEnd => f.write_str("health end"),
            Action::RequestStart => f.write_str("request start"),
            Action::ReleaseStart => f.write_str("release start"),
            Action::Announce => f.write_str("announce"),
        }
    }
}

//! `make sabotage`: in a test build one invariant is broken at a time, and a test must notice. In every other build
//! nothing is ever broken, and the compiler leaves these questions out.

/// What can be broken. The word is that of `SAMPAN_SABOTAGE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// What is left of a life goes on, and the next one begins beside it.
    DoubleStart,
    /// An exit that nobody saw is told as success.
    UnknownIsZero,
    /// A dependency is stopped before what needs it.
    StopOrder,
    /// What was kept for a next life stays though that has another config.
    KeptPort,
    /// The config that was applied last is not what the next life gets.
    LostConfig,
    /// A shutdown changes what is wanted of a service.
    ShutdownOnRecord,
    /// A worker that follows during a shutdown does not know of it.
    ShutdownForgotten,
    /// A life begins while a kill of the last one is under way.
    LateKill,
    /// A timer that has fired counts as one that will.
    LostTimer,
    /// A job that is done runs again.
    DoneAgain,
    /// A frozen service is told to stop, and hears nothing.
    Frozen,
    /// Transitions do not come into the journal.
    LostRecord,
    /// A life's descriptor is never closed.
    LeakedDescriptor,
}

impl Invariant {
    pub const ALL: [Invariant; 13] = [
        Invariant::DoubleStart,
        Invariant::UnknownIsZero,
        Invariant::StopOrder,
        Invariant::KeptPort,
        Invariant::LostConfig,
        Invariant::ShutdownOnRecord,
        Invariant::ShutdownForgotten,
        Invariant::LateKill,
        Invariant::LostTimer,
        Invariant::DoneAgain,
        Invariant::Frozen,
        Invariant::LostRecord,
        Invariant::LeakedDescriptor,
    ];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Invariant::DoubleStart => "double-start",
            Invariant::UnknownIsZero => "unknown-is-zero",
            Invariant::StopOrder => "stop-order",
            Invariant::KeptPort => "kept-port",
            Invariant::LostConfig => "lost-config",
            Invariant::ShutdownOnRecord => "shutdown-on-record",
            Invariant::ShutdownForgotten => "shutdown-forgotten",
            Invariant::LateKill => "late-kill",
            Invariant::LostTimer => "lost-timer",
            Invariant::DoneAgain => "done-again",
            Invariant::Frozen => "frozen",
            Invariant::LostRecord => "lost-record",
            Invariant::LeakedDescriptor => "leaked-descriptor",
        }
    }
}

#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn broken(_: Invariant) -> bool {
    false
}

#[cfg(feature = "sabotage")]
#[must_use]
pub fn broken(what: Invariant) -> bool {
    static ASKED: std::sync::OnceLock<Option<Invariant>> = std::sync::OnceLock::new();
    // A test's own switch, absent from every other build: it is asked for once and is the same for the whole process.
    #[allow(clippy::disallowed_methods)]
    let asked = ASKED.get_or_init(|| {
        let word = std::env::var("SAMPAN_SABOTAGE").ok()?;
        Invariant::ALL.into_iter().find(|invariant| invariant.word() == word)
    });
    *asked == Some(what)
}

//! One example of every state and of every event: what `every_pair` multiplies.

use sampan_service::cause::{Down, Problem, Restart, Up, WaitFor, Why};
use sampan_service::event::{Found, Life, Verdict};
use sampan_service::policy::{Begins, HealthPolicy, OnFailure, Readiness, RestartPolicy};
use sampan_service::state::{CleanupPhase, End, Failure, Health, Phase, Rest};
use sampan_service::{Condition, Event, Exit, Facts, Job, Ms, Policy, Service, State, Wanted};
use std::time::Duration;

pub const NOW: Ms = Ms(1_000_000);

pub fn policy() -> Policy {
    Policy {
        health: Some(HealthPolicy { on_failure: OnFailure::Restart, stop_grace: None }),
        readiness: Readiness::Healthy,
        ..Policy::default()
    }
}

pub fn service(state: State) -> Service {
    let job = match &state {
        State::Creating { .. } => Some(Job::Create),
        State::Created { .. } => Some(Job::Start),
        State::Stopping { phase: Phase::Launching { .. }, .. } => Some(Job::Create),
        State::Stopping { phase: Phase::Draining { .. }, .. } => Some(Job::Drain),
        State::Lingering { remains: CleanupPhase::Answer { .. }, .. } => Some(Job::Start),
        State::Lingering { remains: CleanupPhase::Cleaning, .. } => Some(Job::Cleanup),
        _ => None,
    };
    let wanted = match &state {
        State::Stopped { why: Rest::Down(down) } => Wanted::Down(*down),
        State::Stopping { why: Why::Down(down), .. } => Wanted::Down(*down),
        _ => Wanted::Up,
    };
    // The example's start has been answered where it can have been.
    let ran = if matches!(job, Some(Job::Create | Job::Start)) { 6 } else { 7 };
    let facts =
        Facts { state, job, wanted, generation: 7, ran, attempts: 2, restarts: 9, ..Facts::default() };
    Service::with(policy(), facts)
}

/// Jobs that begin by time, where they rest.
pub fn by_time() -> Vec<(&'static str, Service)> {
    let job = Policy { begins: Begins::ByTime, restart: RestartPolicy::No, ..policy() };
    let rests = [
        ("stopped, by time", State::Stopped { why: Rest::Scheduled }),
        ("stopped, by time, finished", State::Stopped { why: Rest::Finished }),
        ("stopped, by time, by hand", State::Stopped { why: Rest::Down(Down::Hand) }),
        ("failed, by time", State::Failed { why: Failure::Exit(Exit::code(3)) }),
    ];
    let with_policy = |state| Service::with(job.clone(), (*service(state)).clone());
    rests.into_iter().map(|(name, state)| (name, with_policy(state))).collect()
}

/// With the name that the table uses.
pub fn states() -> Vec<(&'static str, State)> {
    let since = Ms(990_000);
    let deadline = Some(Ms(1_080_000));
    let past = Ms(999_000);
    let why = Why::Down(Down::Hand);
    let end = End::Exit(Exit::code(3));
    let on = WaitFor::Dependency { service: "db".to_owned(), condition: Condition::Healthy };
    let stopping = |phase| State::Stopping { since, why: why.clone(), phase };
    let lingering = |remains| State::Lingering { since, end: end.clone(), remains };
    let running = |health, adopted, steady_at| State::Running { since, health, adopted, steady_at };
    vec![
        ("stopped", State::Stopped { why: Rest::Down(Down::Hand) }),
        ("stopped, finished", State::Stopped { why: Rest::Finished }),
        ("stopped, shutdown", State::Stopped { why: Rest::Shutdown }),
        ("waiting", State::Waiting { since, on }),
        ("creating", State::Creating { since, deadline }),
        ("created", State::Created { since, deadline }),
        ("starting", State::Starting { since, deadline, health: Health::Starting }),
        ("running", running(Health::Healthy, false, Some(past))),
        ("running, adopted", running(Health::Starting, true, None)),
        ("stopping{launching}", stopping(Phase::Launching { deadline: past })),
        ("stopping{draining}", stopping(Phase::Draining { deadline: past })),
        ("stopping{signalled}", stopping(Phase::Signalled { at: since, deadline: past })),
        ("stopping{killed}", stopping(Phase::Killed { again: past })),
        (
            "stopping for health",
            State::Stopping {
                since,
                why: Why::Unhealthy("500".to_owned()),
                phase: Phase::Signalled { at: since, deadline: past },
            },
        ),
        (
            "stopping for shutdown",
            State::Stopping {
                since,
                why: Why::Shutdown,
                phase: Phase::Signalled { at: since, deadline: past },
            },
        ),
        ("lingering{answer}", lingering(CleanupPhase::Answer { empty: false, exit: Exit::code(3) })),
        ("lingering{processes}", lingering(CleanupPhase::Processes { again: past })),
        ("lingering{cleaning}", lingering(CleanupPhase::Cleaning)),
        ("lingering{uncleaned}", lingering(CleanupPhase::Uncleaned { at: past })),
        (
            "lingering for shutdown",
            State::Lingering { since, end: End::Asked(Why::Shutdown), remains: CleanupPhase::Cleaning },
        ),
        ("backoff", State::Backoff { since, until: past, attempt: 2 }),
        ("failed", State::Failed { why: Failure::Exit(Exit::code(3)) }),
    ]
}

pub fn problem() -> Problem {
    Problem::Hook { kind: "createRuntime".to_owned(), text: "exit 1".to_owned() }
}

pub fn changed() -> Policy {
    Policy { stop_grace: Duration::from_secs(33), ..policy() }
}

pub fn events() -> Vec<(&'static str, Event)> {
    let life = |life| Event::life(7, life);
    let exit = Exit::signal(9);
    vec![
        ("up, boot", Event::Up(Up::Boot)),
        ("up, hand", Event::Up(Up::Hand)),
        ("up, config", Event::Up(Up::Config)),
        ("up, dependant", Event::Up(Up::Dependant("web".to_owned()))),
        ("up, time", Event::Up(Up::Time)),
        ("down, hand", Event::Down(Down::Hand)),
        ("down, removed", Event::Down(Down::Removed)),
        ("shutdown", Event::Shutdown),
        ("restart, hand", Event::Restart(Restart::Hand)),
        ("restart, config", Event::Restart(Restart::Config)),
        ("restart, dependency", Event::Restart(Restart::Dependency("db".to_owned()))),
        ("restart, bound", Event::Restart(Restart::Bound("db".to_owned()))),
        ("hurry", Event::Hurry),
        ("kill", Event::Kill(10)),
        ("live", Event::Live(Policy { health: None, ..changed() })),
        ("replaced", Event::Replaced(changed())),
        ("blocked", Event::Blocked(WaitFor::StartSlot)),
        ("granted", Event::Granted),
        ("created", life(Life::Created)),
        ("create failed", life(Life::CreateFailed(problem()))),
        ("started", life(Life::Started)),
        ("start failed", life(Life::StartFailed(problem()))),
        ("healthy", life(Life::Health(Verdict::Healthy))),
        ("unhealthy", life(Life::Health(Verdict::Unhealthy("500".to_owned())))),
        ("ready", life(Life::Ready)),
        ("extended", life(Life::Extend(Duration::from_secs(300)))),
        ("silent", life(Life::Silent("no WATCHDOG=1 in 10s".to_owned()))),
        ("drained", life(Life::Drained)),
        ("exited, empty", life(Life::Exited { exit, empty: true })),
        ("exited", life(Life::Exited { exit, empty: false })),
        ("killed, empty", life(Life::Killed { empty: true })),
        ("killed", life(Life::Killed { empty: false })),
        ("cleaned up", life(Life::CleanedUp)),
        ("cleanup failed", life(Life::CleanupFailed(Problem::Io("busy".to_owned())))),
        ("timer", life(Life::Timer)),
        ("adopted, alive", life(Life::Adopted(Found::Alive { started: true }))),
        ("adopted, at the barrier", life(Life::Adopted(Found::Alive { started: false }))),
        ("adopted, exited", life(Life::Adopted(Found::Exited { exit, started: true, empty: true }))),
        ("adopted, over", life(Life::Adopted(Found::Over { started: true, empty: true }))),
        ("adopted, gone", life(Life::Adopted(Found::Gone { empty: true }))),
        ("adopted, leftovers", life(Life::Adopted(Found::Gone { empty: false }))),
        ("of a former life", Event::life(6, Life::Exited { exit, empty: true })),
    ]
}

//! What is written down can be read. That a worker may die anywhere is `simulate`'s.

use crate::samples::{self, states};
use proptest::prelude::*;
use sampan_service::cause::{Condition, Down, Problem, Restart, WaitFor, Why};
use sampan_service::state::{CleanupPhase, End, Failure, Health, Phase, Rest};
use sampan_service::{Counts, Exit, Facts, Job, Ms, State, Status, Wanted};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_reads_back_as_the_service(service in facts()) {
        let record = service.to_record();
        let get = |key: &str| record.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
        prop_assert_eq!(Facts::from_record(get), Ok(service));
    }
}

#[test]
fn a_record_that_cannot_be_read_names_the_key() {
    for (_, state) in states() {
        let record = samples::service(state).to_record();
        for (bad, _) in &record {
            let get = |key: &str| match record.iter().find(|(k, _)| *k == key) {
                Some((k, _)) if k == bad => Some("?"),
                found => found.map(|(_, v)| v.as_str()),
            };
            match Facts::from_record(get) {
                Err(error) => assert_eq!(error.key, *bad),
                // Flags are true or not; a cause is any text.
                Ok(_) => assert!(["adopted", "empty", "kept", "cause"].contains(bad), "{bad}"),
            }
        }
    }
}

fn facts() -> impl Strategy<Value = Facts> {
    let job = prop::option::of(prop::sample::select(vec![Job::Create, Job::Start, Job::Drain, Job::Cleanup]));
    let wanted = prop_oneof![Just(Wanted::Up), down().prop_map(Wanted::Down)];
    let counts = || (any::<u64>(), prop::option::of(exit()));
    (state(), job, wanted, any::<(u64, u64, u32, bool)>(), (counts(), counts()), ".*").prop_map(
        |(state, job, wanted, (generation, ran, attempts, kept), (counts, earlier), cause)| Facts {
            state,
            job,
            wanted,
            generation,
            ran,
            restarts: counts.0,
            attempts,
            kept,
            last_exit: counts.1,
            earlier: Counts { restarts: earlier.0, last_exit: earlier.1 },
            cause,
        },
    )
}

fn ms() -> impl Strategy<Value = Ms> {
    any::<u64>().prop_map(Ms)
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9][a-z0-9_.-]{0,12}x"
}

fn exit() -> impl Strategy<Value = Exit> {
    let status = prop_oneof![
        (0..256i32).prop_map(Status::Code),
        (1..65i32).prop_map(Status::Signal),
        Just(Status::Unknown)
    ];
    (status, any::<bool>()).prop_map(|(status, oom)| Exit { status, oom })
}

fn down() -> impl Strategy<Value = Down> {
    prop::sample::select(vec![Down::Idle, Down::Hand, Down::Removed, Down::Client])
}

fn problem() -> impl Strategy<Value = Problem> {
    prop_oneof![
        any::<String>().prop_map(Problem::Config),
        (name(), any::<String>()).prop_map(|(kind, text)| Problem::Hook { kind, text }),
        (name(), any::<String>()).prop_map(|(plugin, text)| Problem::Veto { plugin, text }),
        any::<String>().prop_map(Problem::Exec),
        any::<String>().prop_map(Problem::Io),
    ]
}

fn why() -> impl Strategy<Value = Why> {
    let restart = prop_oneof![
        Just(Restart::Hand),
        Just(Restart::Config),
        Just(Restart::Interrupted),
        name().prop_map(Restart::Dependency),
        name().prop_map(Restart::Bound)
    ];
    prop_oneof![
        down().prop_map(Why::Down),
        restart.prop_map(Why::Restart),
        Just(Why::Shutdown),
        any::<String>().prop_map(Why::Unhealthy),
        Just(Why::StartTimeout),
        problem().prop_map(Why::Problem),
    ]
}

fn state() -> impl Strategy<Value = State> {
    let deadline = || prop::option::of(ms());
    let health =
        || prop::sample::select(vec![Health::None, Health::Starting, Health::Healthy, Health::Unhealthy]);
    let condition = prop::sample::select(Condition::ALL.to_vec());
    let on = prop_oneof![
        Just(WaitFor::Turn),
        Just(WaitFor::StartSlot),
        Just(WaitFor::Storm),
        name().prop_map(WaitFor::Plugin),
        (name(), condition).prop_map(|(service, condition)| WaitFor::Dependency { service, condition }),
    ];
    let phase = prop_oneof![
        ms().prop_map(|deadline| Phase::Launching { deadline }),
        ms().prop_map(|deadline| Phase::Draining { deadline }),
        (ms(), ms()).prop_map(|(at, deadline)| Phase::Signalled { at, deadline }),
        ms().prop_map(|again| Phase::Killed { again }),
    ];
    let remains = prop_oneof![
        (any::<bool>(), exit()).prop_map(|(empty, exit)| CleanupPhase::Answer { empty, exit }),
        ms().prop_map(|again| CleanupPhase::Processes { again }),
        Just(CleanupPhase::Cleaning),
        ms().prop_map(|at| CleanupPhase::Uncleaned { at }),
    ];
    let end = prop_oneof![
        exit().prop_map(End::Exit),
        problem().prop_map(End::Problem),
        why().prop_map(End::Asked),
        Just(End::Interrupted)
    ];
    let failure = prop_oneof![
        exit().prop_map(Failure::Exit),
        any::<u32>().prop_map(Failure::Attempts),
        problem().prop_map(Failure::Problem),
        Just(Failure::Unhealthy),
        Just(Failure::StartTimeout),
        Just(Failure::Oom),
    ];
    let rest = prop_oneof![
        Just(Rest::Finished),
        Just(Rest::Scheduled),
        Just(Rest::Shutdown),
        down().prop_map(Rest::Down)
    ];
    prop_oneof![
        rest.prop_map(|why| State::Stopped { why }),
        (ms(), on).prop_map(|(since, on)| State::Waiting { since, on }),
        (ms(), deadline()).prop_map(|(since, deadline)| State::Creating { since, deadline }),
        (ms(), deadline()).prop_map(|(since, deadline)| State::Created { since, deadline }),
        (ms(), deadline(), health()).prop_map(|(since, deadline, health)| State::Starting {
            since,
            deadline,
            health
        }),
        (ms(), health(), any::<bool>(), deadline()).prop_map(|(since, health, adopted, steady_at)| {
            State::Running { since, health, adopted, steady_at }
        }),
        (ms(), why(), phase).prop_map(|(since, why, phase)| State::Stopping { since, why, phase }),
        (ms(), end, remains).prop_map(|(since, end, remains)| State::Lingering { since, end, remains }),
        (ms(), ms(), any::<u32>()).prop_map(|(since, until, attempt)| State::Backoff {
            since,
            until,
            attempt
        }),
        failure.prop_map(|why| State::Failed { why }),
    ]
}

#[test]
fn a_new_run_counts_anew_and_the_totals_stay() {
    let exit = Some(Exit { status: Status::Code(3), oom: false });
    let first = Facts { restarts: 2, last_exit: exit, attempts: 2, ..Facts::default() };
    let second = first.in_a_new_run();
    assert_eq!((second.restarts, second.last_exit, second.attempts), (0, None, 2));
    assert_eq!(second.totals(), Counts { restarts: 2, last_exit: exit });
    let third = Facts { restarts: 1, ..second }.in_a_new_run();
    assert_eq!(third.totals(), Counts { restarts: 3, last_exit: exit });
}

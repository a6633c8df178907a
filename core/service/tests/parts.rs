//! The pure parts around the machine: restart policy, gate for starts, tally of health checks, and what is wanted of each service.

use sampan_service::cause::WaitFor;
use sampan_service::desired::{self, Change, Desired};
use sampan_service::policy::{Answer, RestartPolicy};
use sampan_service::{Bucket, Event, Exit, Gate, Health, Ms, Policy, Rules, Status, Tally};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn waits_double_up_to_the_cap_and_jitter_only_lengthens() {
    let policy = Policy::default();
    let waits = |jitter_share| (1..=12).map(|n| policy.wait(n, jitter_share).as_millis()).collect::<Vec<_>>();
    let plain = [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000];
    assert_eq!(waits(0), plain);
    assert_eq!(waits(u32::MAX), plain.map(|n| n * 5 / 4));
    assert_eq!(policy.wait(u32::MAX, 0), Duration::from_secs(60));
    assert_eq!(Policy { delay: Duration::ZERO, ..policy }.wait(9, u32::MAX), Duration::ZERO);
}

#[test]
fn the_policy_decides_after_each_kind_of_end() {
    let policy = |restart| Policy { restart, attempts_max: 3, ..Policy::default() };
    let (ok, bad) = (Some(Exit::code(0)), Some(Exit::code(3)));
    for (restart, exit, attempts, expected) in [
        (RestartPolicy::No, ok, 0, Answer::Rest),
        (RestartPolicy::No, bad, 0, Answer::Fail),
        (RestartPolicy::No, None, 0, Answer::Fail),
        (RestartPolicy::OnFailure, ok, 0, Answer::Rest),
        (RestartPolicy::OnFailure, bad, 2, Answer::Again),
        (RestartPolicy::OnFailure, bad, 3, Answer::TooMany),
        (RestartPolicy::OnFailure, Some(Exit::UNKNOWN), 0, Answer::Again),
        (RestartPolicy::Always, ok, 0, Answer::Again),
        (RestartPolicy::UnlessStopped, ok, 3, Answer::TooMany),
    ] {
        assert_eq!(policy(restart).answer(exit, attempts), expected, "{restart:?} {exit:?} {attempts}");
    }
}

#[test]
fn listed_statuses_go_before_the_policy() {
    let policy = Policy {
        restart: RestartPolicy::OnFailure,
        success: vec![Status::Code(0), Status::Signal(15)],
        prevent: vec![Status::Code(42)],
        force: vec![Status::Code(43)],
        ..Policy::default()
    };
    assert_eq!(policy.answer(Some(Exit::signal(15)), 0), Answer::Rest);
    assert_eq!(policy.answer(Some(Exit::code(42)), 0), Answer::Fail);
    let no = Policy { restart: RestartPolicy::No, ..policy };
    assert_eq!(no.answer(Some(Exit::code(43)), 0), Answer::Again);
}

#[test]
fn a_bucket_gives_its_burst_then_one_at_a_time() {
    let mut bucket = Bucket::new(3, ms(300), Ms(0)).unwrap();
    assert_eq!([0; 4].map(|at| bucket.take(Ms(at))), [true, true, true, false]);
    assert_eq!(bucket.next(), Ms(100));
    assert!(!bucket.take(Ms(99)));
    assert!(bucket.take(Ms(100)));
    assert!(!bucket.take(Ms(100)));
    assert!(bucket.take(Ms(10_000)), "full again");
    assert_eq!(Bucket::new(0, ms(300), Ms(0)), None);
    assert_eq!(Bucket::new(3, ms(0), Ms(0)), None);
}

fn shown(events: &[(String, Event)]) -> String {
    events.iter().map(|(name, event)| format!("{name}: {event}")).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_gate_grants_slots_first_come_first_served() {
    let mut gate = Gate::new(2, None);
    ["c", "b", "a"].iter().for_each(|name| gate.request(name, false));
    assert_eq!(
        shown(&gate.turn(Ms(0), |_| None)),
        "c: its turn to start; b: its turn to start; a: waits for start slot"
    );
    assert_eq!(shown(&gate.turn(Ms(0), |_| None)), "", "nothing is said twice");
    gate.release("c");
    assert_eq!(shown(&gate.turn(Ms(0), |_| None)), "a: its turn to start");
    assert!(gate.is_idle());
}

#[test]
fn of_a_thousand_that_wait_for_a_slot_only_those_are_looked_at_who_may_get_one() {
    let mut gate = Gate::new(2, None);
    (0..1000).for_each(|n| gate.request(&format!("s{n}"), false));
    let asked = std::cell::Cell::new(0);
    let turn = |gate: &mut Gate| {
        asked.set(0);
        let told = gate.turn::<()>(Ms(0), |_| {
            asked.set(asked.get() + 1);
            None
        });
        (told.len(), asked.get())
    };
    assert_eq!(turn(&mut gate), (1000, 1000), "each is told why it waits");
    assert_eq!(turn(&mut gate), (0, 0));
    gate.release("s0");
    assert_eq!(turn(&mut gate), (1, 1));
}

#[test]
fn a_launch_that_takes_long_gives_its_slot_back_and_goes_on() {
    let mut gate = Gate::new(1, None);
    ["stuck", "web", "db"].iter().for_each(|name| gate.request(name, false));
    let first = shown(&gate.turn(Ms(100), |_| None));
    assert_eq!(first, "stuck: its turn to start; web: waits for start slot; db: waits for start slot");
    assert_eq!(gate.wake_at(), Some(Ms(5100)), "somebody waits for the slot");
    assert_eq!(shown(&gate.turn(Ms(5099), |_| None)), "");
    assert_eq!(shown(&gate.turn(Ms(5100), |_| None)), "web: its turn to start");
    assert_eq!(gate.wake_at(), Some(Ms(10_100)));
    // Its end comes when the slot is not its own any more: nobody else's is given back.
    gate.release("stuck");
    assert_eq!(shown(&gate.turn(Ms(5200), |_| None)), "");
    gate.release("web");
    assert_eq!(shown(&gate.turn(Ms(5200), |_| None)), "db: its turn to start");
    assert_eq!(gate.wake_at(), None, "nobody waits");
}

#[test]
fn a_service_that_waits_for_a_dependency_takes_no_slot_and_no_turn() {
    let mut gate = Gate::new(1, None);
    ["web", "db"].iter().for_each(|name| gate.request(name, false));
    let needs = |name: &str| (name == "web").then(|| WaitFor::Plugin("audit".to_owned()));
    assert_eq!(shown(&gate.turn(Ms(0), needs)), "web: waits for plugin audit; db: its turn to start");
    assert_eq!(shown(&gate.turn(Ms(0), |_| None)), "web: waits for start slot");
    gate.release("web");
    gate.release("db");
    assert_eq!(shown(&gate.turn(Ms(0), |_| None)), "", "it left the gate");
}

#[test]
fn a_storm_of_restarts_is_delayed_and_first_starts_are_not() {
    let mut gate = Gate::new(100, Bucket::new(2, ms(200), Ms(0)));
    ["a", "b", "c"].iter().for_each(|name| gate.request(name, true));
    gate.request("new", false);
    let first = shown(&gate.turn(Ms(0), |_| None));
    assert_eq!(
        first,
        "a: its turn to start; b: its turn to start; c: waits for restart storm; new: its turn to start"
    );
    assert_eq!(gate.wake_at(), Some(Ms(100)));
    assert_eq!(shown(&gate.turn(Ms(100), |_| None)), "c: its turn to start");
    assert_eq!(gate.wake_at(), None);
}

/// Probe results from time 0, each with the moment of its probe, and what is said.
fn verdicts(rules: &Rules, health: Health, results: &[bool]) -> String {
    let mut tally = Tally::new(rules, health, Ms(0));
    let mut said = Vec::new();
    for ok in results {
        let at = tally.next_at;
        let verdict = tally.count(rules, *ok, "500", at);
        let verdict = verdict.map_or(String::new(), |v| format!(" {v:?}"));
        said.push(format!("{}s{verdict}", at.0 / 1000));
    }
    said.join(", ")
}

#[test]
fn failures_in_the_start_period_do_not_count_and_the_first_success_ends_it() {
    let rules = Rules { start_period: Duration::from_secs(3), ..Rules::default() };
    assert_eq!(
        verdicts(&rules, Health::Starting, &[false, false, true, false, false, false, false]),
        "0s, 1s, 2s Healthy, 32s, 62s, 92s Unhealthy(\"500\"), 122s"
    );
    assert_eq!(
        verdicts(&rules, Health::Starting, &[false; 7]),
        "0s, 1s, 2s, 3s, 33s, 63s Unhealthy(\"500\"), 93s"
    );
}

#[test]
fn a_success_in_between_resets_the_count_and_both_thresholds_hold() {
    let rules = Rules { retries: 2, success_threshold: 2, ..Rules::default() };
    assert_eq!(
        verdicts(&rules, Health::Healthy, &[false, true, false, false, true, true]),
        "30s, 60s, 90s, 120s Unhealthy(\"500\"), 150s, 180s Healthy"
    );
}

#[test]
fn boot_starts_what_is_wanted_and_always_overrules_a_stop_by_hand() {
    let always = Policy { restart: RestartPolicy::Always, ..Policy::default() };
    let unless = Policy::default();
    let services = BTreeMap::from([
        ("a".to_owned(), Desired { config: &always, autostart: true }),
        ("b".to_owned(), Desired { config: &unless, autostart: true }),
        ("c".to_owned(), Desired { config: &unless, autostart: false }),
        ("d".to_owned(), Desired { config: &unless, autostart: true }),
    ]);
    let held = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
    assert_eq!(
        shown(&desired::boot(&services, &held, ["d", "c", "b", "a"])),
        "d: sampand started; a: sampand started"
    );
}

#[test]
fn an_apply_removes_dependants_first_and_then_changes_dependencies_first() {
    let policy = Policy::default();
    let wanted = || Desired { config: &policy, autostart: true };
    let services: BTreeMap<String, Desired<'_, Policy>> =
        ["db", "app", "web", "idle", "held"].map(|name| (name.to_owned(), wanted())).into();
    let changes = BTreeMap::from(
        [
            ("db", Change::Restart),
            ("app", Change::Live),
            ("web", Change::New),
            ("idle", Change::Nothing),
            ("held", Change::New),
            ("x", Change::Removed),
            ("y", Change::Removed),
        ]
        .map(|(name, change)| (name.to_owned(), change)),
    );
    let held = BTreeSet::from(["held".to_owned()]);
    let old = ["x", "y", "db", "app"];
    let new = ["db", "app", "held", "idle", "web"];
    assert_eq!(
        shown(&desired::reload(&services, &changes, &held, old.into_iter(), new.into_iter())),
        "y: removed from the config; x: removed from the config; db: the config changed; \
         app: the config changed; web: new in the config"
    );
}

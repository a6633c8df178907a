//! Services that say themselves how they are: readiness, a start that takes longer, the watchdog.

use crate::stories::{Story, end};
use sampan_service::event::Verdict;
use sampan_service::policy::{HealthPolicy, OnFailure, Readiness, RestartPolicy};
use sampan_service::state::Health;
use sampan_service::{Exit, Life, Policy, State};
use std::time::Duration;

/// It may take longer than `start_timeout` if it says so in time, and no shorter time than it has.
#[test]
fn one_that_notifies_is_ready_when_it_says_so() {
    let mut story = Story::new(Policy { readiness: Readiness::Notified, ..Policy::default() });
    story.up().pass(60_000).life(Life::Extend(Duration::from_secs(300)));
    story.life(Life::Extend(Duration::ZERO)).pass(299_000).life(Life::Ready).life(Life::Ready);
    insta::assert_snapshot!(story.text, @r"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    started => starting [release start, announce] (started)
    its start takes 5m more => starting [arm 360000] (its start takes 5m more)
    its start takes 0s more => starting [] (its start takes 5m more)
    it says that it is ready => running 5m [disarm, announce] (it says that it is ready)
    it says that it is ready => running 5m [] (it says that it is ready)
    ");
}

#[test]
fn one_that_never_says_that_it_is_ready_is_ended_in_time() {
    let mut story = Story::new(Policy { readiness: Readiness::Notified, ..Policy::default() });
    story.up().life(Life::Health(Verdict::Healthy));
    assert!(matches!(story.service.state, State::Starting { .. }));
    story.pass(90_000).life(Life::Drained).exit(Exit::code(0));
    assert_eq!(story.service.state.show(story.now).to_string(), "backoff 0.1s left");
}

/// With a health check and without.
#[test]
fn a_missed_watchdog_is_an_unhealthy_service() {
    let missed = [Life::Silent("no WATCHDOG=1 in 10s".to_owned()), Life::Drained];
    let no = Policy { restart: RestartPolicy::No, ..Policy::default() };
    assert_eq!(end(no.clone(), &missed, Exit::code(0)), "failed unhealthy");
    assert_eq!(end(Policy::default(), &missed, Exit::code(0)), "backoff 0.1s left");
    let health = |on_failure| Some(HealthPolicy { on_failure, stop_grace: None });
    let stop = Policy { health: health(OnFailure::Stop), ..Policy::default() };
    assert_eq!(end(stop, &missed, Exit::code(0)), "failed unhealthy");
    let mut story = Story::new(Policy { health: health(OnFailure::None), ..no });
    story.up().life(missed[0].clone());
    assert_eq!(story.service.state.health(), Health::Unhealthy);
    story.life(Life::Health(Verdict::Healthy));
    assert_eq!(story.service.state.health(), Health::Healthy);
}

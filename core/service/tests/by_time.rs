//! Jobs that begin by time (`schedule`), told as stories.

use crate::stories::Story;
use sampan_service::cause::{Down, Up};
use sampan_service::policy::{Begins, RestartPolicy};
use sampan_service::state::Rest;
use sampan_service::{Event, Exit, Life, Policy, State, Wanted};

fn nightly() -> Policy {
    Policy { begins: Begins::ByTime, restart: RestartPolicy::No, ..Policy::default() }
}

#[test]
fn a_job_by_time_runs_when_its_time_has_come_and_no_run_is_doubled() {
    let mut story = Story::new(nightly());
    story.tell(Event::Up(Up::Boot)).tell(Event::Up(Up::Time)).tell(Event::Granted).life(Life::Created);
    story.tell(Event::Up(Up::Time)).life(Life::Started).tell(Event::Up(Up::Time)).exit(Exit::code(0));
    story.tell(Event::Up(Up::Time)).tell(Event::Granted).life(Life::Created).life(Life::Started);
    story.exit(Exit::code(3)).tell(Event::Up(Up::Time));
    insta::assert_snapshot!(story.text, @r#"
    sampand started => stopped [] (sampand started)
    its time has come => waiting turn [request start, announce] (its time has come)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    its time has come => created [] (created)
    started => running 0s [disarm, release start, announce] (started)
    its time has come => running 0s [] (started)
    exit 0 => lingering, cleaning up [cleanup, announce] (exit 0)
    cleaned up => stopped [announce] (exit 0)
    its time has come => waiting turn [request start, announce] (its time has come)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    started => running 0s [disarm, release start, announce] (started)
    exit 3 => lingering, cleaning up [cleanup, announce] (exit 3)
    cleaned up => failed exit 3 [announce] (exit 3)
    its time has come => waiting turn [request start, announce] (its time has come)
    "#);
}

#[test]
fn a_job_by_time_that_is_stopped_by_hand_waits_for_a_hand() {
    let mut story = Story::new(nightly());
    story.tell(Event::Up(Up::Boot)).tell(Event::Down(Down::Hand)).tell(Event::Up(Up::Time));
    assert!(!story.service.waits_for_time());
    // `up` puts it back on its calendar; `start` runs it.
    story.tell(Event::Up(Up::Config));
    assert!(story.service.waits_for_time());
    story.tell(Event::Down(Down::Hand)).tell(Event::Up(Up::Hand));
    insta::assert_snapshot!(story.text, @r#"
    sampand started => stopped [] (sampand started)
    stopped by hand => stopped [] (stopped by hand)
    its time has come => stopped [] (stopped by hand)
    new in the config => stopped [] (new in the config)
    stopped by hand => stopped [] (stopped by hand)
    started by hand => waiting turn [request start, announce] (started by hand)
    "#);
}

#[test]
fn what_becomes_a_job_by_time_begins_by_time_and_what_is_none_any_more_does_not_begin() {
    let mut story = Story::new(Policy::default());
    story.up().tell(Event::Replaced(nightly())).life(Life::Drained).exit(Exit::signal(15));
    assert_eq!(story.service.state, State::Stopped { why: Rest::Scheduled });
    story.tell(Event::Live(Policy { begins: Begins::AtOnce, ..nightly() })).tell(Event::Up(Up::Time));
    assert_eq!(story.service.wanted, Wanted::Down(Down::Idle));
    story.tell(Event::Live(nightly())).tell(Event::Up(Up::Config));
    assert!(story.service.waits_for_time());
    insta::assert_snapshot!(story.text, @r#"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    started => running 0s [disarm, release start, announce] (started)
    the config changed => stopping 0s [thaw, drain, arm 10000, announce] (the config changed)
    drained => stopping 0s of 10s [signal SIGTERM] (drained)
    exit 143 SIGTERM => lingering, cleaning up [cleanup, disarm] (exit 143 SIGTERM)
    cleaned up => stopped [announce] (the config changed)
    the config changed => stopped [] (the config changed)
    its time has come => stopped [] (the config changed)
    the config changed => stopped [] (the config changed)
    new in the config => stopped [] (new in the config)
    "#);
}

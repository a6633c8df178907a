//! Lives told from end to end: events in, actions and `ps` out. One line per event.

use crate::samples;
use sampan_service::Status;
use sampan_service::cause::{Down, Problem, Restart, Up, WaitFor, Why};
use sampan_service::event::{Found, Verdict};
use sampan_service::policy::{HealthPolicy, OnFailure, OnOom, Readiness, RestartPolicy};
use sampan_service::state::{CleanupPhase, End, Failure, Health, Rest, Show};
use sampan_service::{Condition, Event, Exit, Facts, Life, Ms, Now, Policy, Service, State, Wanted, step};
use std::fmt::Write;
use std::time::Duration;

/// A service and its clock. Timers fire when time passes; jobs are answered by hand.
pub struct Story {
    pub service: Service,
    pub now: Ms,
    pub text: String,
}

impl Story {
    pub fn new(policy: Policy) -> Story {
        Story { service: Service::new(policy), now: Ms(0), text: String::new() }
    }

    pub fn tell(&mut self, event: Event) -> &mut Story {
        let actions = step(&mut self.service, &event, Now::new(self.now, 0));
        let actions = actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let state = self.service.state.show(self.now).to_string();
        writeln!(self.text, "{event} => {state} [{actions}] ({})", self.service.cause).unwrap();
        self
    }

    pub fn life(&mut self, life: Life) -> &mut Story {
        let generation = self.service.generation;
        self.tell(Event::life(generation, life))
    }

    pub fn up(&mut self) -> &mut Story {
        self.tell(Event::Up(Up::Hand)).tell(Event::Granted).life(Life::Created).life(Life::Started)
    }

    pub fn exit(&mut self, exit: Exit) -> &mut Story {
        self.life(Life::Exited { exit, empty: true }).life(Life::CleanedUp)
    }

    pub fn pass(&mut self, ms: u64) -> &mut Story {
        self.now.0 += ms;
        if self.service.state.deadline().is_some_and(|at| at <= self.now) {
            self.life(Life::Timer);
        }
        self
    }
}

#[test]
fn a_service_that_crashes_comes_back_after_its_wait() {
    let mut story = Story::new(Policy::default());
    story.up().exit(Exit::signal(11)).pass(100).tell(Event::Granted).life(Life::Created).life(Life::Started);
    story.pass(10_000);
    insta::assert_snapshot!(story.text, @r"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    started => running 0s [disarm, release start, announce] (started)
    exit 139 SIGSEGV => lingering, cleaning up [cleanup, keep, announce] (exit 139 SIGSEGV)
    cleaned up => backoff 0.1s left [arm 100] (exit 139 SIGSEGV)
    time is up => waiting turn [request start] (restart 1 in a row)
    its turn to start => creating [create, arm 90100] (its turn to start)
    created => created [start] (created)
    started => running 0s [arm 10100, release start, announce] (started)
    time is up => running 10s [] (steady)
    ");
    assert_eq!((story.service.restarts, story.service.attempts), (1, 0));
}

#[test]
fn a_stop_drains_signals_kills_and_cleans_up() {
    let mut story = Story::new(Policy::default());
    story.up().tell(Event::Down(Down::Hand)).life(Life::Drained).pass(3_000).pass(7_000);
    story
        .life(Life::Exited { exit: Exit::signal(9), empty: false })
        .life(Life::Killed { empty: true })
        .life(Life::CleanedUp);
    insta::assert_snapshot!(story.text, @r"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    started => running 0s [disarm, release start, announce] (started)
    stopped by hand => stopping 0s [thaw, drain, arm 10000, announce] (stopped by hand)
    drained => stopping 0s of 10s [signal SIGTERM] (drained)
    time is up => stopping 10s [kill cgroup, arm 20000] (the grace period is over)
    exit 137 SIGKILL => lingering [] (exit 137 SIGKILL)
    no process left => lingering, cleaning up [cleanup, disarm] (no process left)
    cleaned up => stopped [announce] (stopped by hand)
    ");
}

#[test]
fn a_stop_in_the_middle_of_a_create_waits_for_its_answer() {
    let mut story = Story::new(Policy::default());
    story.tell(Event::Up(Up::Hand)).tell(Event::Granted).tell(Event::Down(Down::Hand)).life(Life::Created);
    story.exit(Exit::signal(9));
    insta::assert_snapshot!(story.text, @r"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    stopped by hand => stopping 0s [arm 10000, release start] (stopped by hand)
    created => stopping 0s [kill cgroup] (created)
    exit 137 SIGKILL => lingering, cleaning up [cleanup, disarm] (exit 137 SIGKILL)
    cleaned up => stopped [announce] (stopped by hand)
    ");
}

#[test]
fn a_start_that_fails_says_why_whichever_word_comes_first() {
    let problem = || Problem::Exec("/bin/nope: no such file".to_owned());
    let policy = Policy { restart: RestartPolicy::No, ..Policy::default() };
    let mut failed_first = Story::new(policy.clone());
    failed_first.tell(Event::Up(Up::Hand)).tell(Event::Granted).life(Life::Created);
    failed_first.life(Life::StartFailed(problem())).exit(Exit::code(127));
    let mut exit_first = Story::new(policy);
    exit_first.tell(Event::Up(Up::Hand)).tell(Event::Granted).life(Life::Created);
    exit_first.life(Life::Exited { exit: Exit::code(127), empty: true }).life(Life::StartFailed(problem()));
    exit_first.life(Life::CleanedUp);
    assert_eq!(failed_first.service.state, exit_first.service.state);
    // 127 is ours: the program never ran.
    assert_eq!((failed_first.service.last_exit, exit_first.service.last_exit), (None, None));
    insta::assert_snapshot!(exit_first.text, @r"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    exit 127 => lingering, cleaning up [disarm, release start] (exit 127)
    start failed: exec: /bin/nope: no such file => lingering, cleaning up [cleanup] (start failed: exec: /bin/nope: no such file)
    cleaned up => failed exec [announce] (no start: exec: /bin/nope: no such file)
    ");
}

/// Whichever word comes first, a stop between them or not: the program's exit is told, and no other.
#[test]
fn what_never_ran_has_no_last_exit() {
    let begun = || {
        let mut story = Story::new(Policy { restart: RestartPolicy::No, ..Policy::default() });
        story.tell(Event::Up(Up::Hand)).tell(Event::Granted);
        story
    };
    let exited = |code| Life::Exited { exit: Exit::code(code), empty: true };
    let stop = || Event::Down(Down::Hand);
    let told = |story: &mut Story| story.life(Life::CleanedUp).service.last_exit;

    let mut before_its_start = begun();
    before_its_start.life(Life::Created).life(exited(3)).life(Life::Started);
    assert_eq!(told(&mut before_its_start), Some(Exit::code(3)));
    let mut stopped_first = begun();
    stopped_first.life(Life::Created).tell(stop()).life(exited(4)).life(Life::Started);
    assert_eq!(told(&mut stopped_first), Some(Exit::code(4)));
    let mut never_started = begun();
    never_started.tell(stop()).life(Life::Created).life(exited(137));
    assert_eq!(told(&mut never_started), None);
    let mut ended_while_made = begun();
    ended_while_made.life(exited(125)).life(Life::CreateFailed(Problem::Io("no".to_owned())));
    assert_eq!(told(&mut ended_while_made), None);
    let adopted = |started| {
        let mut story = begun();
        let found = Found::Exited { exit: Exit::code(5), started, empty: true };
        story.life(Life::Created).life(Life::Adopted(found));
        told(&mut story)
    };
    assert_eq!((adopted(true), adopted(false)), (Some(Exit::code(5)), None));
    // The worker died after it had seen the end, and before the answer of the launch.
    let seen_before = |started| {
        let mut story = begun();
        let found = Found::Exited { exit: Exit::code(6), started, empty: true };
        story.life(Life::Created).life(exited(6)).life(Life::Adopted(found));
        told(&mut story)
    };
    assert_eq!((seen_before(true), seen_before(false)), (Some(Exit::code(6)), None));
}

#[test]
fn an_unhealthy_service_is_stopped_and_started_again() {
    let health =
        Some(HealthPolicy { on_failure: OnFailure::Restart, stop_grace: Some(Duration::from_secs(2)) });
    let mut story = Story::new(Policy { health, readiness: Readiness::Healthy, ..Policy::default() });
    story
        .up()
        .life(Life::Health(Verdict::Healthy))
        .life(Life::Health(Verdict::Unhealthy("HTTP 500".to_owned())));
    story.life(Life::Drained).exit(Exit::code(0));
    insta::assert_snapshot!(story.text, @r"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    started => starting [health begin, release start, announce] (started)
    healthy => running 0s [disarm, announce] (healthy)
    unhealthy: HTTP 500 => stopping 0s [health end, thaw, drain, arm 2000, announce] (unhealthy: HTTP 500)
    drained => stopping 0s of 2s [signal SIGTERM] (drained)
    exit 0 => lingering, cleaning up [cleanup, keep, disarm] (exit 0)
    cleaned up => backoff 0.1s left [arm 100] (unhealthy: HTTP 500)
    ");
}

/// Ready when healthy: until then `start_timeout` goes on, over whatever the check says when that changes nothing.
#[test]
fn one_that_does_not_become_healthy_is_not_ready_in_time() {
    let health = Some(HealthPolicy { on_failure: OnFailure::None, stop_grace: None });
    let mut story = Story::new(Policy { health, readiness: Readiness::Healthy, ..Policy::default() });
    story.up().life(Life::Health(Verdict::Unhealthy("500".to_owned())));
    assert!(matches!(story.service.state, State::Starting { .. }));
    story.pass(90_000).life(Life::Drained).exit(Exit::code(0));
    assert_eq!(story.service.state.show(story.now).to_string(), "backoff 0.1s left");
}

/// `up`, then `life`s, then the exit: what remains.
pub fn end(policy: Policy, lives: &[Life], exit: Exit) -> String {
    let mut story = Story::new(policy);
    story.up();
    for life in lives {
        story.life(life.clone());
    }
    story.exit(exit);
    story.service.state.show(story.now).to_string()
}

#[test]
fn how_lives_end() {
    let restart = |restart| Policy { restart, ..Policy::default() };
    let health = |on_failure| Some(HealthPolicy { on_failure, stop_grace: None });
    let unhealthy = [Life::Health(Verdict::Unhealthy("500".to_owned()))];
    let no = RestartPolicy::No;
    let listed = |list: &str| {
        let mut policy = restart(RestartPolicy::OnFailure);
        let statuses = vec![Status::Signal(15)];
        match list {
            "success 15" => policy.success = statuses,
            "prevent 15" => policy.prevent = statuses,
            _ => policy.force = statuses,
        }
        policy
    };
    let stops =
        |restart| Policy { restart, oom: OnOom::Fail, force: vec![Status::Signal(9)], ..Policy::default() };
    for (policy, lives, exit, expected) in [
        (
            stops(RestartPolicy::Always),
            &[][..],
            Exit { oom: true, ..Exit::signal(9) },
            "failed out of memory",
        ),
        (stops(RestartPolicy::Always), &[], Exit { oom: true, ..Exit::code(0) }, "failed out of memory"),
        (stops(RestartPolicy::Always), &[], Exit::signal(9), "backoff 0.1s left"),
        (restart(no), &[], Exit::code(0), "stopped"),
        (restart(no), &[], Exit::code(3), "failed exit 3"),
        (restart(no), &[], Exit::UNKNOWN, "failed exit unknown"),
        (restart(no), &[], Exit { oom: true, ..Exit::signal(9) }, "failed out of memory"),
        (restart(RestartPolicy::OnFailure), &[], Exit::code(0), "stopped"),
        (restart(RestartPolicy::OnFailure), &[], Exit::code(1), "backoff 0.1s left"),
        (restart(RestartPolicy::Always), &[], Exit::code(0), "backoff 0.1s left"),
        (listed("success 15"), &[], Exit::signal(15), "stopped"),
        (listed("success 15"), &[], Exit::code(0), "backoff 0.1s left"),
        (listed("prevent 15"), &[], Exit::signal(15), "failed exit 143 SIGTERM"),
        (listed("prevent 15"), &[], Exit::code(1), "backoff 0.1s left"),
        (listed("force 15"), &[], Exit::signal(15), "backoff 0.1s left"),
        (listed("force 15"), &[], Exit::code(0), "stopped"),
        (Policy { delay: Duration::ZERO, ..Policy::default() }, &[], Exit::code(0), "waiting turn"),
        (
            Policy { health: health(OnFailure::Stop), ..Policy::default() },
            &unhealthy,
            Exit::code(0),
            "failed unhealthy",
        ),
        (
            Policy { health: health(OnFailure::Kill), ..Policy::default() },
            &unhealthy,
            Exit::signal(9),
            "backoff 0.1s left",
        ),
        // The kernel's victim was a child: the job itself has done what it was to do.
        (restart(no), &[], Exit { oom: true, ..Exit::code(0) }, "stopped"),
        (restart(RestartPolicy::OnFailure), &[], Exit { oom: true, ..Exit::code(0) }, "stopped"),
        (restart(RestartPolicy::OnFailure), &[], Exit { oom: true, ..Exit::signal(9) }, "backoff 0.1s left"),
    ] {
        // A polite stop drains first.
        let drained = [lives, &[Life::Drained]].concat();
        assert_eq!(end(policy.clone(), &drained, exit), expected, "{policy:?} {lives:?} {exit}");
    }
}

#[test]
fn attempts_in_a_row_run_out() {
    let mut story = Story::new(Policy { attempts_max: 2, ..Policy::default() });
    story.up().exit(Exit::code(1));
    for _ in 0..2 {
        story.pass(60_000).tell(Event::Granted).life(Life::Created).life(Life::Started).exit(Exit::code(1));
    }
    assert_eq!(story.service.state.show(story.now).to_string(), "failed 2 attempts");
    story.tell(Event::Up(Up::Hand));
    assert_eq!(story.service.attempts, 0, "a start by hand begins anew");
}

#[test]
fn a_restart_by_hand_is_neither_counted_nor_delayed() {
    let mut story = Story::new(Policy::default());
    story.up().tell(Event::Restart(Restart::Hand)).life(Life::Drained).exit(Exit::code(0));
    assert!(matches!(story.service.state, State::Waiting { .. }));
    assert_eq!(story.service.restarts, 0);
}

#[test]
fn a_change_that_needs_a_new_life_stops_the_old_one_by_its_old_rules() {
    let mut story = Story::new(Policy::default());
    story.up().tell(Event::Replaced(Policy { stop_signal: 2, ..Policy::default() }));
    story.pass(5).life(Life::Drained);
    assert!(story.text.trim_end().ends_with("[signal SIGTERM, arm 10005] (drained)"), "{}", story.text);
    story.exit(Exit::code(0));
    assert_eq!(story.service.config().stop_signal, 2);
    assert!(matches!(story.service.state, State::Waiting { .. }));
}

#[test]
fn a_new_worker_signals_again_what_it_cannot_know_was_signalled() {
    let mut story = Story::new(Policy::default());
    story.up().tell(Event::Down(Down::Hand)).life(Life::Drained).pass(4_000);
    story.life(Life::Adopted(Found::Alive { started: true }));
    assert!(
        story.text.trim_end().ends_with("=> stopping 4s of 10s [thaw, signal SIGTERM, arm 10000] (drained)")
    );
}

#[test]
fn hurry_ends_the_grace() {
    let mut story = Story::new(Policy::default());
    story.up().tell(Event::Shutdown).pass(5).tell(Event::Hurry);
    assert!(story.text.trim_end().ends_with("[kill cgroup, arm 10005] (hurry)"), "{}", story.text);
    let State::Stopping { why, .. } = &story.service.state else { panic!() };
    assert_eq!(*why, Why::Shutdown);
}

#[test]
fn what_ps_shows() {
    let (since, at) = (Ms(1_000), Ms(5_500));
    let running = |adopted| State::Running { since, health: Health::None, adopted, steady_at: None };
    let lingering = |remains| State::Lingering { since, end: End::Interrupted, remains };
    let failed = |why| State::Failed { why };
    for (state, now, expected) in [
        (running(false), 181_000, "running 3m"),
        (running(true), 1_000 + 50 * 3_600_000, "running 2d (adopted)"),
        (State::Waiting { since, on: WaitFor::Plugin("audit".to_owned()) }, 0, "waiting plugin audit"),
        (State::Backoff { since, until: at, attempt: 4 }, 1_300, "backoff 4.2s left"),
        (State::Backoff { since, until: at, attempt: 4 }, 9_000, "backoff 0s left"),
        (lingering(CleanupPhase::Processes { again: at }), 0, "lingering 2 processes"),
        (lingering(CleanupPhase::Cleaning), 0, "lingering, cleaning up"),
        (failed(Failure::Attempts(5)), 0, "failed 5 attempts"),
        (
            failed(Failure::Problem(Problem::Hook {
                kind: "createRuntime".to_owned(),
                text: "exit 1".to_owned(),
            })),
            0,
            "failed createRuntime hook",
        ),
    ] {
        let show = Show { processes: Some(2), ..state.show(Ms(now)) };
        assert_eq!(show.to_string(), expected);
    }
}

#[test]
fn a_stop_without_grace_ends_also_when_all_of_it_happens_in_one_instant() {
    let mut story = Story::new(Policy { stop_grace: Duration::ZERO, ..Policy::default() });
    story.up().tell(Event::Down(Down::Hand));
    // The timer for the drain and the one for the signal are due at the same instant, and a timer fires once.
    story.life(Life::Timer);
    assert!(
        story.text.trim_end().ends_with("[signal SIGTERM, arm 0] (draining took too long)"),
        "{}",
        story.text
    );
    story.life(Life::Timer);
    assert!(
        story.text.trim_end().ends_with("[kill cgroup, arm 10000] (the grace period is over)"),
        "{}",
        story.text
    );
}

#[test]
fn a_config_that_changes_during_the_clean_up_has_nothing_of_what_was_kept_for_the_old_one() {
    let mut story = Story::new(Policy::default());
    story.up().life(Life::Exited { exit: Exit::code(1), empty: true });
    assert!(story.text.trim_end().ends_with("[cleanup, keep, announce] (exit 1)"), "{}", story.text);
    story.tell(Event::Replaced(Policy { stop_signal: 2, ..Policy::default() })).life(Life::CleanedUp);
    assert!(
        story.text.trim_end().ends_with("[drop kept, request start] (the config changed)"),
        "{}",
        story.text
    );
}

#[test]
fn a_job_that_is_done_stays_done_until_asked() {
    let job = Policy { restart: RestartPolicy::No, ..Policy::default() };
    let changed = || Event::Replaced(Policy { stop_signal: 2, ..job.clone() });
    let mut done = Story::new(job.clone());
    done.up().exit(Exit::code(0)).tell(changed());
    assert_eq!(done.service.state, State::Stopped { why: Rest::Finished });
    assert_eq!(done.service.config().stop_signal, 2, "what is asked for later has the new config");
    let mut ending = Story::new(job.clone());
    ending.up().life(Life::Exited { exit: Exit::code(0), empty: true }).tell(changed()).life(Life::CleanedUp);
    assert_eq!(ending.service.state, State::Stopped { why: Rest::Finished });
    let mut failing = Story::new(job.clone());
    failing.up().exit(Exit::code(1)).tell(changed());
    assert!(
        matches!(failing.service.state, State::Waiting { .. }),
        "what failed is tried with the new config"
    );
    done.tell(Event::Up(Up::Hand));
    assert!(matches!(done.service.state, State::Waiting { .. }));
}

#[test]
fn no_life_begins_while_a_kill_of_the_last_one_is_under_way() {
    let mut story = Story::new(Policy::default());
    story.up().tell(Event::Restart(Restart::Hand)).life(Life::Drained).tell(Event::Hurry);
    story.exit(Exit::signal(9));
    assert!(matches!(story.service.state, State::Waiting { .. }));
    assert!(!story.text.lines().last().unwrap().contains("request start"), "{}", story.text);
    story.life(Life::Killed { empty: true });
    assert!(
        story.text.trim_end().ends_with("=> waiting turn [request start] (restarted by hand)"),
        "{}",
        story.text
    );
}

/// What a version before this one wrote during a shutdown.
#[test]
fn a_shutdown_on_an_old_record_is_read_as_what_was_wanted_before_it() {
    let wanted = |state: State| {
        let mut record = samples::service(state).to_record();
        let at = record.iter().position(|(key, _)| *key == "wanted").unwrap();
        record[at].1 = "sampand stops".to_owned();
        let get = |key: &str| record.iter().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
        Facts::from_record(get).unwrap().wanted
    };
    for (name, state) in samples::states() {
        let expected = match &state {
            State::Stopped { why: Rest::Down(down) } => Wanted::Down(*down),
            _ => Wanted::Up,
        };
        assert_eq!(wanted(state), expected, "{name}");
    }
}

#[test]
fn what_is_bound_stops_with_it_and_waits_for_it() {
    let mut story = Story::new(Policy::default());
    let db = || Event::Restart(Restart::Bound("db".to_owned()));
    story.up().tell(db()).life(Life::Drained).tell(db()).exit(Exit::code(0)).tell(db());
    let condition = Condition::Started;
    story.tell(Event::Blocked(WaitFor::Dependency { service: "db".to_owned(), condition }));
    insta::assert_snapshot!(story.text, @r"
    started by hand => waiting turn [request start, announce] (started by hand)
    its turn to start => creating [create, arm 90000] (its turn to start)
    created => created [start] (created)
    started => running 0s [disarm, release start, announce] (started)
    stopped with db => stopping 0s [thaw, drain, arm 10000, announce] (stopped with db)
    drained => stopping 0s of 10s [signal SIGTERM] (drained)
    stopped with db => stopping 0s of 10s [] (drained)
    exit 0 => lingering, cleaning up [cleanup, keep, disarm] (exit 0)
    cleaned up => waiting turn [request start] (stopped with db)
    stopped with db => waiting turn [] (stopped with db)
    waits for db started => waiting db started [] (waits for db started)
    ");
    assert_eq!((story.service.restarts, story.service.wanted), (0, Wanted::Up));
}

//! `schedule`: jobs by time.
use super::World;
use super::world::kill;
use sampan_api as api;
use std::time::{Duration, Instant};

const JOB: &str = "restart = \"no\"\ncommand = [\"/bin/true\"]\n";
/// Not while a test runs.
const YEARLY: &str = "schedule = \"*-01-01 00:00:01\"\n";

fn runs(world: &World, name: &str) -> u64 {
    world.inspect(name).status.generation
}

fn row(world: &World, name: &str) -> (String, String, bool) {
    let status = world.inspect(name).status;
    (status.state, status.text, status.next_run.is_some())
}

/// For so long that a job of every second would have run.
fn a_while() {
    std::thread::sleep(Duration::from_millis(2_500));
}

#[test]
fn a_job_runs_when_its_time_has_come_and_never_twice_at_once() {
    let mut world = world!(
        "[services.tick]\n{JOB}schedule = \"*:*:0/2\"\n\
         [services.long]\nrestart = \"on-failure\"\ncommand = [\"/bin/sleep\", \"1000\"]\nschedule = \"*:*:*\"\n\
         [services.yearly]\n{JOB}{YEARLY}depends_on = [\"db\"]\n\
         [services.over]\n{JOB}schedule = \"2026-01-01\"\n\
         [services.db]\nautostart = false\ncommand = [\"/bin/sleep\", \"1000\"]\n\
         [services.waits]\n{JOB}schedule = \"*:*:*\"\ndepends_on = [\"other\"]\n\
         [services.other]\nautostart = false\ncommand = [\"/bin/sleep\", \"1000\"]\n"
    );
    world.start();
    world.until("it runs by time again and again", |world| runs(world, "tick") >= 3);
    world.until("and rests", |world| {
        let (state, text, next) = row(world, "tick");
        state == "stopped" && text.starts_with("done, next ") && next
    });
    world.until_state("long", "running");
    world.until("what a job needs comes up with it", |world| runs(world, "waits") >= 1);
    a_while();
    assert_eq!(runs(&world, "long"), 1, "a run that goes on is not doubled");
    assert_eq!((runs(&world, "yearly"), runs(&world, "db")), (0, 0), "not before its time");
    let (state, text, next) = row(&world, "yearly");
    assert_eq!((state.as_str(), next), ("stopped", true));
    assert!(text.starts_with("stopped, next ") && text.ends_with("00:00:01"), "{text}");
    assert!(world.ok(&["why", "tick"]).contains("its time has come"));
    assert!(world.ok(&["why", "yearly"]).contains("waits for its time (schedule). Its next run is at "));
    let over = world.ok(&["why", "over"]);
    assert!(
        over.contains("does not run by itself any more") && !over.contains("waits for its time"),
        "{over}"
    );
    // By hand at once, with what it needs.
    world.ok(&["start", "yearly"]);
    world.until("by hand", |world| row(world, "yearly").0 == "stopped" && runs(world, "yearly") == 1);
    assert_eq!(runs(&world, "db"), 1);
    assert!(row(&world, "yearly").2, "and its time still comes");
}

#[test]
fn a_stop_by_hand_takes_a_job_off_its_calendar_until_up_or_start() {
    let tick = format!("[services.tick]\n{JOB}schedule = \"*:*:*\"\n");
    let mut world = world!("{tick}");
    world.start();
    world.until("it runs", |world| runs(world, "tick") >= 1);
    world.ok(&["stop", "tick"]);
    let stopped = runs(&world, "tick");
    a_while();
    assert_eq!((runs(&world, "tick"), row(&world, "tick").2), (stopped, false));
    assert!(!row(&world, "tick").1.contains("next"));
    // Also over sampand's end.
    assert_eq!(world.interrupt(), Some(0));
    world.start();
    a_while();
    assert_eq!((runs(&world, "tick"), row(&world, "tick").2), (0, false));
    // `up` waits for no run: that it waits for its time is all there is to wait for.
    let yearly = format!("[services.tick]\n{JOB}{YEARLY}");
    world.configure(&yearly);
    world.ok(&["up", "--wait"]);
    assert!(row(&world, "tick").2 && runs(&world, "tick") == 0);
    world.configure(&tick);
    world.ok(&["apply"]);
    world.until("it runs by its new calendar", |world| runs(world, "tick") >= 1);
    // Without one it does not run, and with one again it does.
    world.configure(&format!("[services.tick]\n{JOB}"));
    world.ok(&["apply"]);
    world.until_state("tick", "stopped");
    let off = runs(&world, "tick");
    a_while();
    assert_eq!((runs(&world, "tick"), world.inspect("tick").status.next_run), (off, None));
    world.configure(&tick);
    world.ok(&["apply"]);
    world.until("it is back on its calendar", |world| runs(world, "tick") > off);
}

#[test]
fn a_run_that_was_missed_is_caught_up_once() {
    let mut world = world!("[services.yearly]\n{JOB}{YEARLY}[services.new]\n{JOB}{YEARLY}");
    let file = world.dir().join("state/desired.json");
    let heeded = |world: &World| -> serde_json::Value {
        let text = std::fs::read_to_string(world.dir().join("state/desired.json")).unwrap_or_default();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        all["services"]["yearly"]["schedule"].clone()
    };
    world.start();
    world.until("it is noted", |world| heeded(world)["until"].is_i64());
    let began = heeded(&world)["until"].as_i64().unwrap();
    assert_eq!(world.interrupt(), Some(0));
    // As if sampand had been down for two years.
    let text = std::fs::read_to_string(&file).unwrap();
    let mut all: serde_json::Value = serde_json::from_str(&text).unwrap();
    all["services"]["yearly"]["schedule"]["until"] = (began - 2 * 366 * 86_400).into();
    all["services"]["new"]["schedule"]["until"] = (began - 2 * 366 * 86_400).into();
    // Of another calendar nothing was missed.
    all["services"]["new"]["schedule"]["calendar"] = "*-01-01 00:00:00".into();
    std::fs::write(&file, all.to_string()).unwrap();
    world.start();
    world.until("it is caught up", |world| runs(world, "yearly") == 1 && row(world, "yearly").0 == "stopped");
    world.until("that is noted", |world| heeded(world)["until"].as_i64() >= Some(began));
    a_while();
    assert_eq!((runs(&world, "yearly"), runs(&world, "new")), (1, 0), "once for all that was missed");
    // A worker that follows has missed nothing.
    kill(world.worker().unwrap(), libc::SIGKILL);
    world.until("another worker", |world| {
        world.get::<api::Version>("/v1/version").is_ok_and(|v| v.worker_lives == 2)
    });
    assert!(row(&world, "yearly").2);
    assert_eq!(world.interrupt(), Some(0));
    world.start();
    a_while();
    assert_eq!((runs(&world, "yearly"), runs(&world, "new")), (0, 0), "nor has another sampand");
}

/// Sets the clock back by a microsecond and then forth by one, which the kernel tells to whoever asked to hear of it: it does
/// where whole seconds are not 0, as in the first step. False: this machine does not let us.
fn set_clock_by_nothing() -> bool {
    let step = |seconds, micros| {
        // SAFETY: plain numbers in a structure of which zero is a value.
        let mut by: libc::timex = unsafe { std::mem::zeroed() };
        by.modes = libc::ADJ_SETOFFSET;
        by.time = libc::timeval { tv_sec: seconds, tv_usec: micros };
        // SAFETY: it reads and writes `by`, which is ours.
        unsafe { libc::clock_adjtime(libc::CLOCK_REALTIME, &raw mut by) >= 0 }
    };
    step(-1, 999_999) && step(0, 1)
}

#[test]
fn nothing_wakes_up_before_its_time_but_by_a_clock_that_is_set() {
    let mut world = world!("[services.yearly]\n{JOB}{YEARLY}");
    world.start();
    world.until("it waits", |world| row(world, "yearly").2);
    // Asking is a turn too.
    let turns = || world.get::<api::Loop>("/v1/loop").unwrap().turns;
    let mut quiet = false;
    let end = Instant::now() + super::world::LONG;
    while !quiet && Instant::now() < end {
        let before = turns();
        a_while();
        quiet = turns() <= before + 1;
    }
    assert!(quiet, "something wakes the loop up again and again");
    let before = turns();
    if !sampan_testkit::need::need("the right to set the clock", set_clock_by_nothing()) {
        return;
    }
    a_while();
    assert!(turns() > before + 1, "the clock was set and nobody looked");
    assert!(row(&world, "yearly").2);
}

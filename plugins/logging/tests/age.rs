//! `max_age`: lines stay so long, and not much longer, also of a service that says no more.
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use logging::config::{Driver, Settings};
use logging::follow::{self, Wanted};
use logging::segments::{Number, Segments, list};
use logging::spool::Spool;

use crate::crash::start_with;
use crate::world::{Fifo, Folder, lines, soon, written};

const AGE: Duration = Duration::from_secs(2);
/// The clock of files.
const COARSE: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(30);

#[test]
fn lines_stay_for_max_age_and_a_silent_service_loses_its_old_ones() {
    for driver in Driver::ALL {
        let dir = Folder::new();
        let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
        let settings = Settings { driver, max_age: Some(AGE), ..Settings::default() };
        let engine = start_with(&logs, Spool::create().unwrap(), settings, [Some(out.read_end()), None]);
        let wanted = Wanted { follow: true, ..Wanted::default() };
        let mut follow = lines(follow::start(logs.clone(), engine.notifier(), wanted).unwrap());
        for text in ["first", "second"] {
            let begin = Instant::now();
            writeln!(&out.container, "{text}").unwrap();
            assert_eq!(follow.next().unwrap(), format!("web stdout F {text}"));
            let there = || written(&logs, "web", "stdout") == format!("{text}\n").as_bytes();
            assert!(there(), "{driver:?}: what was before it is gone, and nothing else");
            soon("it is gone", LONG, || !there());
            assert!(
                begin.elapsed() >= AGE - COARSE,
                "{driver:?}: {text} was there for {:?}",
                begin.elapsed()
            );
            assert_eq!(written(&logs, "web", "stdout"), b"");
            assert_eq!(list(&logs.join("web")).unwrap().len(), 1, "the one that is written stays");
        }
        engine.detach("web").blocking_recv().unwrap();
        drop(engine);
        assert_eq!(follow.next(), None, "a reader that kept up is told of no gap");
    }
}

/// A worker that follows another takes the ages from the files.
#[test]
fn what_an_earlier_engine_wrote_grows_old_too() {
    let dir = Folder::new();
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let engine =
        start_with(&logs, Spool::create().unwrap(), Settings::default(), [Some(out.read_end()), None]);
    writeln!(&out.container, "old").unwrap();
    engine.detach("web").blocking_recv().unwrap();
    drop(engine);
    assert_eq!(written(&logs, "web", "stdout"), b"old\n");
    let settings = Settings { max_age: Some(AGE), ..Settings::default() };
    let _engine = start_with(&logs, Spool::create().unwrap(), settings, [Some(out.read_end()), None]);
    soon("it is gone", LONG, || written(&logs, "web", "stdout").is_empty());
}

/// What went wrong: a service that leaves a line unfinished (a prompt, a bar of progress) kept its log for ever, and the thread awake.
#[test]
fn an_unfinished_line_keeps_nothing_for_longer() {
    let dir = Folder::new();
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let settings = Settings { max_age: Some(AGE), ..Settings::default() };
    let _engine = start_with(&logs, Spool::create().unwrap(), settings, [Some(out.read_end()), None]);
    write!(&out.container, "old\nhalf a line").unwrap();
    soon("its first part is there", LONG, || written(&logs, "web", "stdout") == b"old\nhalf a line");
    soon("it is gone", LONG, || written(&logs, "web", "stdout").is_empty());
    // On a busy machine the turn that saw to it may still go on, and be put to sleep in the middle.
    let mut before = wakings();
    soon("the thread has nothing more to do", LONG, || {
        std::thread::sleep(Duration::from_millis(200));
        let last = std::mem::replace(&mut before, wakings());
        last == before
    });
    std::thread::sleep(AGE + Duration::from_millis(500));
    assert!(wakings() <= before + 1, "nothing is to be done: {before}, {}", wakings());
    writeln!(&out.container, ", and its rest").unwrap();
    soon("the rest is there", LONG, || written(&logs, "web", "stdout") == b", and its rest\n");
}

#[test]
fn a_line_that_is_just_being_written_is_not_torn_over_two_files() {
    let dir = Folder::new();
    let mut segments = Segments::open(&dir.0, Driver::Local, &Arc::default()).unwrap();
    let max = Duration::from_millis(10);
    segments.append(b"2026-12-01T08:00:00.000000000Z stdout P half\n").unwrap();
    let path = segments.path();
    let modified = |time| File::options().append(true).open(&path).unwrap().set_modified(time);
    std::thread::sleep(max + COARSE);
    // Seen from here it is written all the time, however busy the machine is.
    modified(SystemTime::now() + LONG).unwrap();
    let next = segments.expire(max, true).unwrap();
    assert!(next.is_some_and(|next| next > max), "a later look: {next:?}");
    assert_eq!(segments.count(), 1);
    modified(SystemTime::now() - Duration::from_secs(2)).unwrap();
    assert_eq!(segments.expire(max, true).unwrap(), None, "all is gone, there is nothing to do");
    assert_eq!((segments.number(), segments.count()), (Number(2), 1));
}

/// How often the logging thread has gone to sleep.
fn wakings() -> u32 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut its = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    let status = its.find(|status| status.starts_with("Name:\tsp-logging\n")).expect("a thread of that name");
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

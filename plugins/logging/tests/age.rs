//! `max_age`: lines stay so long, and not much longer, also of a service that says no more.
use std::io::Write;
use std::time::{Duration, Instant};

use logging::config::{Driver, Settings};
use logging::follow::{self, Wanted};
use logging::segments::list;
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

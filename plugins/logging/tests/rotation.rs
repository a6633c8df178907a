//! Segments: how many, how large, where they may begin, and that a follower sees each line once.
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logging::config::{Driver, Settings};
use logging::engine::{Attachment, Engine};
use logging::follow::{self, Wanted};
use logging::record::parse;
use logging::segments::{list, path};
use logging::spool::Spool;
use sampan_plugin::types::Container;

use crate::world::{Fifo, Folder, lines, segment, soon, written};

fn engine(dir: &Path) -> Engine {
    Engine::start(dir.to_owned(), Spool::create().unwrap(), Box::new(|_, _, _| ())).unwrap()
}

fn attach(engine: &Engine, settings: Settings, out: &Fifo) {
    let pipes = [Some(Arc::new(out.read_end())), None];
    let attachment =
        Attachment { service: "web".into(), container: Container(1), settings, ring: None, pipes };
    engine.attach(attachment).blocking_recv().unwrap().unwrap();
}

#[test]
fn segments_have_their_size_and_number_and_begin_with_a_line() {
    for driver in Driver::ALL {
        let dir = Folder::new();
        let (engine, out) = (engine(&dir.0), Fifo::new(&dir.0, "out"));
        let settings = Settings {
            driver,
            max_size: 64 << 10,
            max_file: 3,
            max_line: 16 << 10,
            compress: false,
            ..Settings::default()
        };
        attach(&engine, settings, &out);
        let line = [b"x".repeat(40 << 10), b"\n".to_vec()].concat();
        (0..40).for_each(|_| (&out.container).write_all(&line).unwrap());
        (0..5000).for_each(|n| writeln!(&out.container, "short {n}").unwrap());
        engine.detach("web").blocking_recv().unwrap();
        let all = list(&dir.0.join("web")).unwrap();
        assert_eq!(all.len(), 3, "{driver:?}");
        for (n, (number, driver)) in all.iter().copied().enumerate() {
            let bytes = segment(&path(&dir.0.join("web"), number, driver)).unwrap();
            assert!(bytes.len() <= 64 << 10, "{} bytes", bytes.len());
            assert!(n + 1 == all.len() || bytes.len() > 20 << 10, "{} bytes", bytes.len());
            let last = bytes.strip_suffix(b"\n").unwrap().rsplit(|b| *b == b'\n').next().unwrap();
            assert!(parse(driver, last).unwrap().end, "a segment ends within a line");
        }
        let text = String::from_utf8(written(&dir.0, "web", "stdout")).unwrap();
        assert!(text.ends_with("short 4998\nshort 4999\n"));
    }
}

#[test]
fn a_follower_sees_every_line_once_over_fifty_rotations() {
    const LINES: usize = 40_000;
    let dir = Folder::new();
    let (engine, out) = (engine(&dir.0), Fifo::new(&dir.0, "out"));
    // Retention is out of the way: here it is about the reader.
    attach(&engine, Settings { max_size: 48 << 10, max_file: 10_000, ..Settings::default() }, &out);
    let wanted = Wanted { follow: true, tail: Some(0), ..Wanted::default() };
    let mut follow = lines(follow::start(dir.0.clone(), engine.notifier(), wanted).unwrap());
    let writer = std::thread::spawn(move || {
        let mut all = Vec::new();
        (0..LINES).for_each(|n| writeln!(all, "line {n}").unwrap());
        (&out.container).write_all(&all).unwrap();
        out
    });
    for n in 0..LINES {
        assert_eq!(follow.next().unwrap(), format!("web stdout F line {n}"));
    }
    drop(writer.join().unwrap());
    assert!(list(&dir.0.join("web")).unwrap().len() > 40);
    engine.detach("web").blocking_recv().unwrap();
    drop(engine);
    assert_eq!(follow.next(), None, "and nothing else");
}

#[test]
fn a_reader_that_leaves_ends_its_thread_without_a_line_being_logged() {
    let dir = Folder::new();
    let engine = engine(&dir.0);
    let pipe = follow::start(dir.0.clone(), engine.notifier(), Wanted { follow: true, ..Wanted::default() })
        .unwrap();
    soon("a sleeper", Duration::from_secs(5), || engine.notifier().sleepers() == 1);
    drop(pipe);
    soon("its end", Duration::from_secs(5), || engine.notifier().sleepers() == 0);
}

#[test]
fn a_follower_that_was_overtaken_says_by_how_much() {
    const LINES: usize = 50_000;
    let dir = Folder::new();
    let (engine, out) = (engine(&dir.0), Fifo::new(&dir.0, "out"));
    attach(&engine, Settings { max_size: 64 << 10, max_file: 2, ..Settings::default() }, &out);
    writeln!(&out.container, "first").unwrap();
    soon("a segment", Duration::from_secs(5), || !written(&dir.0, "web", "stdout").is_empty());
    let wanted = Wanted { follow: true, ..Wanted::default() };
    let mut follow = lines(follow::start(dir.0.clone(), engine.notifier(), wanted).unwrap());
    assert_eq!(follow.next().unwrap(), "web stdout F first");
    // Nobody reads: its pipe is full long before the end.
    (0..LINES).for_each(|n| writeln!(&out.container, "line {n}").unwrap());
    engine.detach("web").blocking_recv().unwrap();
    let record = |text: &str| "2026-11-25T01:36:53.123456789Z stdout F ".len() + text.len() + 1;
    let mut expected: usize = (0..LINES).map(|n| record(&format!("line {n}"))).sum();
    let mut gaps = 0;
    loop {
        let line = follow.next().unwrap();
        let text = line.strip_prefix("web stdout F ").unwrap();
        match text.strip_prefix("gap: ") {
            None => expected -= record(text),
            Some(gap) => {
                let bytes = gap.strip_suffix(" bytes of this log were rotated away unread").unwrap();
                expected -= bytes.parse::<usize>().unwrap();
                gaps += 1;
            }
        }
        if text == format!("line {}", LINES - 1) {
            break;
        }
    }
    assert_eq!((expected, gaps > 0), (0, true), "each byte was read, or said not to have been");
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody() {
    let dir = Folder::new();
    let (engine, out) = (engine(&dir.0), Fifo::new(&dir.0, "out"));
    attach(&engine, Settings { max_size: 64 << 10, max_file: 2, ..Settings::default() }, &out);
    let pipe = follow::start(dir.0.clone(), engine.notifier(), Wanted { follow: true, ..Wanted::default() })
        .unwrap();
    (0..50_000).for_each(|n| writeln!(&out.container, "line {n}").unwrap());
    engine.detach("web").blocking_recv().unwrap();
    assert!(written(&dir.0, "web", "stdout").ends_with(b"line 49999\n"));
    drop(pipe);
}

/// What went wrong: its unfinished line was written with the default settings, and all segments but five went with it.
#[test]
fn a_service_that_left_in_a_crash_keeps_its_segments() {
    const RECORD: &str = "2026-12-01T08:00:00.000000000Z stdout F line\n";
    let dir = Folder::new();
    let (logs, out) = (dir.0.join("logs"), Fifo::new(&dir.0, "out"));
    let spool = Spool::create().unwrap();
    let kept = spool.fd().try_clone_to_owned().unwrap();
    let settings = Settings { max_file: 100, compress: false, ..Settings::default() };
    let engine = crate::crash::start_with(&logs, spool, settings, [Some(out.read_end()), None]);
    write!(&out.container, "unfinished").unwrap();
    soon("it is read", Duration::from_secs(10), || rustix::io::ioctl_fionread(&out.container) == Ok(0));
    // Before it is written for its silence.
    drop(engine);
    // Of the segments of such a log the last may be as large as its max_size said.
    for n in 1..=8 {
        let lines = if n == 8 { RECORD.repeat(500_000) } else { RECORD.to_owned() };
        fs::write(logs.join(format!("web/000000000{n}.log")), lines).unwrap();
    }
    let engine = Engine::start(logs.clone(), Spool::adopt(kept).unwrap(), Box::new(|_, _, _| ())).unwrap();
    engine.retain(Vec::new()).blocking_recv().unwrap();
    drop(engine);
    let names: Vec<_> = (1..=8).map(|n| format!("000000000{n}.log")).collect();
    assert_eq!(crate::packed::names(&logs.join("web")), names);
    let last = fs::read(logs.join("web/0000000008.log")).unwrap();
    assert!(last.ends_with(b" stdout P unfinished\n"));
}

//! `rate_limit`: what comes faster is dropped, counted and said, and holds up nobody.
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use logging::config::{Driver, Settings};
use logging::spool::Spool;

use crate::crash::{child, start_with};
use crate::world::{Fifo, Folder, kept_and_dropped, records, soon};

const RATE: u64 = 64 << 10;
const LONG: Duration = Duration::from_secs(30);

fn settings(driver: Driver) -> Settings {
    Settings { driver, rate_limit: Some(RATE), ..Settings::default() }
}

fn write_lines(mut to: &File, lines: u64) {
    let all: String = (0..lines).map(|n| format!("line {n} {}\n", "x".repeat(80))).collect();
    to.write_all(all.as_bytes()).unwrap();
}

/// The bytes of lines that are in the log.
fn bytes(logs: &Path) -> u64 {
    let lines = records(logs, "web").into_iter().filter(|(_, _, text)| text.starts_with("line "));
    lines.map(|(_, _, text)| text.len() as u64 + 1).sum()
}

#[test]
fn what_comes_faster_is_dropped_and_said() {
    const LINES: u64 = 50_000;
    for driver in Driver::ALL {
        let dir = Folder::new();
        let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
        let begin = Instant::now();
        let engine =
            start_with(&logs, Spool::create().unwrap(), settings(driver), [Some(out.read_end()), None]);
        write_lines(&out.container, LINES);
        engine.detach("web").blocking_recv().unwrap();
        let longest = 200;
        let most = (RATE as f64 * (1.0 + begin.elapsed().as_secs_f64())) as u64 + longest;
        let (kept, dropped) = kept_and_dropped(&logs);
        assert_eq!(kept + dropped, LINES, "{driver:?}: {kept} kept, {dropped} said to be dropped");
        assert!((RATE / 2..=most).contains(&bytes(&logs)), "{driver:?}: {} bytes of {most}", bytes(&logs));
        let remarks =
            records(&logs, "web").iter().filter(|(_, _, text)| text.starts_with("dropped ")).count();
        assert!(remarks as f64 <= begin.elapsed().as_secs_f64() + 2.0, "{remarks}: one a second at most");
    }
}

#[test]
fn it_is_said_by_itself_and_the_next_lines_are_written() {
    let dir = Folder::new();
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let engine =
        start_with(&logs, Spool::create().unwrap(), settings(Driver::Local), [Some(out.read_end()), None]);
    write_lines(&out.container, 3000);
    soon("all is counted", LONG, || {
        let (kept, dropped) = kept_and_dropped(&logs);
        kept + dropped == 3000 && dropped > 0
    });
    writeln!(&out.container, "again").unwrap();
    soon("the line", LONG, || records(&logs, "web").last().unwrap().2 == "again");
    engine.detach("web").blocking_recv().unwrap();
}

/// One that is slower than the rate loses nothing.
#[test]
fn what_comes_slower_is_written() {
    let dir = Folder::new();
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let engine =
        start_with(&logs, Spool::create().unwrap(), settings(Driver::Local), [Some(out.read_end()), None]);
    for _ in 0..30 {
        write_lines(&out.container, 10);
        std::thread::sleep(Duration::from_millis(20));
    }
    engine.detach("web").blocking_recv().unwrap();
    assert_eq!(kept_and_dropped(&logs), (300, 0));
}

#[test]
fn kills_lose_no_count() {
    const KILLS: u64 = 20;
    let dir = Folder::new();
    let (out, err, logs) = (Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err"), dir.0.join("logs"));
    let pipes = [out.read_end(), err.read_end()];
    let first = Spool::create().unwrap();
    let spool = first.fd().try_clone_to_owned().unwrap();
    drop(first);
    for n in 0..KILLS {
        let mut child = child(&logs, &spool, settings(Driver::Local), [&pipes[0], &pipes[1]]);
        let to = out.container.try_clone().unwrap();
        let writer = std::thread::spawn(move || write_lines(&to, 2000));
        std::thread::sleep(Duration::from_micros(n * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        // The pipe may be full: the next one empties it.
        let mut next = self::child(&logs, &spool, settings(Driver::Local), [&pipes[0], &pipes[1]]);
        writer.join().unwrap();
        next.kill().unwrap();
        next.wait().unwrap();
    }
    let engine = start_with(&logs, Spool::adopt(spool).unwrap(), settings(Driver::Local), pipes.map(Some));
    engine.detach("web").blocking_recv().unwrap();
    let (kept, dropped) = kept_and_dropped(&logs);
    assert_eq!((kept + dropped, dropped > 0), (KILLS * 2000, true), "{kept} kept, {dropped} dropped");
}

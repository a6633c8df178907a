//! A full disk: an own tmpfs of 1 MiB, in a mount namespace of one thread.
use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logging::config::{Driver, OnFull, Settings};
use logging::engine::{Attachment, Engine};
use logging::follow::{self, Wanted};
use logging::segments::{Number, list, path};
use logging::spool::{Spool, Transfer};
use sampan_plugin::types::Container;

use crate::crash::{self, child, start_with};
use crate::world::{Fifo, Folder, kept_and_dropped, lines, records, soon};

/// The thread gets a mount namespace of its own, which the logging thread inherits.
fn on_a_small_disk(test: impl FnOnce(&std::path::Path) + Send + 'static) {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: needs root, for a mount namespace");
        return;
    }
    std::thread::spawn(|| {
        let dir = Folder::new();
        let text = std::ffi::CString::new(dir.0.to_str().unwrap()).unwrap();
        // SAFETY: NUL-terminated texts; only this thread changes its namespace (CLONE_FS is implied by NEWNS).
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "{}", std::io::Error::last_os_error());
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(
                libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()),
                0
            );
            let size = c"size=1m".as_ptr().cast();
            assert_eq!(libc::mount(c"tmpfs".as_ptr(), text.as_ptr(), c"tmpfs".as_ptr(), 0, size), 0);
        }
        test(&dir.0);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::umount2(text.as_ptr(), libc::MNT_DETACH) }, 0);
    })
    .join()
    .unwrap();
}

/// As a file system makes itself read-only after an error. Nothing may be open on it for writing.
fn remount(disk: &std::path::Path, read_only: bool) {
    let text = std::ffi::CString::new(disk.to_str().unwrap()).unwrap();
    let flags = libc::MS_REMOUNT | if read_only { libc::MS_RDONLY } else { 0 };
    // SAFETY: NUL-terminated texts.
    let done = unsafe {
        libc::mount(c"tmpfs".as_ptr(), text.as_ptr(), c"tmpfs".as_ptr(), flags, c"size=1m".as_ptr().cast())
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The disk, filled with what others have, and how it is emptied again.
struct Hog(std::path::PathBuf);

impl Hog {
    fn take_all(disk: &std::path::Path) -> Hog {
        let path = disk.join("hog");
        let mut hog = fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        while hog.write(&[0; 4096]).is_ok() {}
        Hog(path)
    }

    fn go(self) {
        fs::remove_file(self.0).unwrap();
    }
}

/// One segment, so that retention takes nothing.
fn one_segment() -> Settings {
    Settings { max_size: 8 << 20, ..Settings::default() }
}

const LINES: u64 = 4000;

fn write_lines(mut to: &fs::File) {
    to.write_all(all_lines().as_bytes()).unwrap();
}

#[test]
fn a_life_that_ends_on_a_full_disk_has_said_what_was_dropped() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let (out, err) = (Fifo::new(&elsewhere.0, "out"), Fifo::new(&elsewhere.0, "err"));
        let pipes = [Some(out.read_end()), Some(err.read_end())];
        let engine = start_with(&logs, Spool::create().unwrap(), one_segment(), pipes);
        writeln!(&out.container, "first").unwrap();
        soon("a line", Duration::from_secs(5), || kept_and_dropped(&logs) == (1, 0));
        let hog = Hog::take_all(disk);
        write_lines(&out.container);
        write_lines(&err.container);
        engine.detach("web").blocking_recv().unwrap();
        // There is room for the remarks in the block that the last record is in.
        let (kept, dropped) = kept_and_dropped(&logs);
        assert_eq!((kept + dropped, dropped > 0), (2 * LINES + 1, true), "kept {kept}, dropped {dropped}");
        hog.go();
    });
}

#[test]
fn where_there_is_no_room_for_the_remark_either_it_comes_when_there_is() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let out = Fifo::new(&elsewhere.0, "out");
        // The log has no block yet.
        let engine = start_with(&logs, Spool::create().unwrap(), one_segment(), [Some(out.read_end()), None]);
        let hog = Hog::take_all(disk);
        write_lines(&out.container);
        engine.detach("web").blocking_recv().unwrap();
        assert_eq!(kept_and_dropped(&logs), (0, 0));
        hog.go();
        soon("the remark", Duration::from_secs(5), || kept_and_dropped(&logs) == (0, LINES));
        soon("the end of the service", Duration::from_secs(5), || {
            engine.status().blocking_recv().unwrap().is_empty()
        });
    });
}

fn all_lines() -> String {
    (0..LINES).map(|n| format!("line {n} {}\n", "x".repeat(60))).collect()
}

/// All that `write_lines` wrote, each line whole and once.
fn assert_all_is_there(logs: &std::path::Path) {
    let found = String::from_utf8(crate::world::written(logs, "web", "stdout")).unwrap();
    let expected = all_lines();
    let pairs = found.lines().zip(expected.lines());
    let differs = pairs.enumerate().find(|(_, (found, expected))| found != expected);
    assert!(found == expected, "{} bytes of {}, {differs:?}", found.len(), expected.len());
    assert_eq!(kept_and_dropped(logs), (LINES, 0));
}

#[test]
fn with_on_full_block_a_service_waits_for_room_and_nothing_is_dropped() {
    for driver in Driver::ALL {
        on_a_small_disk(move |disk| {
            let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
            let out = Fifo::new(&elsewhere.0, "out");
            let settings = Settings { driver, on_full: OnFull::Block, ..one_segment() };
            let pipes = [Some(out.read_end()), None];
            let engine = start_with(&logs, Spool::create().unwrap(), settings, pipes);
            let hog = Hog::take_all(disk);
            let to = out.container.try_clone().unwrap();
            let writer = std::thread::spawn(move || write_lines(&to));
            std::thread::sleep(Duration::from_millis(2500));
            assert!(!writer.is_finished(), "the container waits");
            assert_eq!(kept_and_dropped(&logs), (0, 0));
            hog.go();
            writer.join().unwrap();
            soon("all lines", Duration::from_secs(10), || kept_and_dropped(&logs) == (LINES, 0));
            assert_all_is_there(&logs);
            let status = engine.status().blocking_recv().unwrap()["web"];
            assert_eq!((status.lines, status.dropped), (LINES, 0));
        });
    }
}

#[test]
fn a_service_that_ends_while_it_waits_for_room_is_counted() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let out = Fifo::new(&elsewhere.0, "out");
        let settings = Settings { on_full: OnFull::Block, ..one_segment() };
        let engine = start_with(&logs, Spool::create().unwrap(), settings, [Some(out.read_end()), None]);
        let hog = Hog::take_all(disk);
        let to = out.container.try_clone().unwrap();
        let writer = std::thread::spawn(move || write_lines(&to));
        std::thread::sleep(Duration::from_millis(300));
        while !writer.is_finished() {
            engine.detach("web").blocking_recv().unwrap();
            let pipes = [Some(Arc::new(out.read_end())), None];
            let attachment =
                Attachment { service: "web".into(), container: Container(1), settings, ring: None, pipes };
            engine.attach(attachment).blocking_recv().unwrap().unwrap();
        }
        writer.join().unwrap();
        engine.detach("web").blocking_recv().unwrap();
        hog.go();
        soon("all is counted", Duration::from_secs(10), || {
            let (kept, dropped) = kept_and_dropped(&logs);
            kept + dropped == LINES && dropped > 0
        });
    });
}

#[test]
fn kills_while_it_waits_for_room_lose_and_double_nothing() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let (out, err) = (Fifo::new(&elsewhere.0, "out"), Fifo::new(&elsewhere.0, "err"));
        let pipes = [out.read_end(), err.read_end()];
        let settings = Settings { on_full: OnFull::Block, max_line: 64 << 10, ..one_segment() };
        let first = Spool::create().unwrap();
        let spool = first.fd().try_clone_to_owned().unwrap();
        drop(first);
        let to = out.container.try_clone().unwrap();
        let writer = std::thread::spawn(move || write_lines(&to));
        for n in 0..12 {
            let hog = Hog::take_all(disk);
            let mut child = child(&logs, &spool, settings, [&pipes[0], &pipes[1]]);
            std::thread::sleep(Duration::from_millis(n * 17 % 90));
            let room = (n % 3 == 1).then(|| hog.go());
            std::thread::sleep(Duration::from_micros(n * 900));
            child.kill().unwrap();
            child.wait().unwrap();
            if room.is_none() {
                fs::remove_file(disk.join("hog")).unwrap();
            }
        }
        let engine = start_with(&logs, Spool::adopt(spool).unwrap(), settings, pipes.map(Some));
        writer.join().unwrap();
        engine.detach("web").blocking_recv().unwrap();
        assert_all_is_there(&logs);
    });
}

/// A line that does not end, and is as long as the spool has room for.
#[test]
fn an_endless_line_waits_for_room_too() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let out = Fifo::new(&elsewhere.0, "out");
        for max_line in [1024, 64 << 10] {
            let settings = Settings { on_full: OnFull::Block, max_line, ..one_segment() };
            let engine = start_with(&logs, Spool::create().unwrap(), settings, [Some(out.read_end()), None]);
            let hog = Hog::take_all(disk);
            let to = out.container.try_clone().unwrap();
            let writer = std::thread::spawn(move || (&to).write_all(&vec![b'x'; 200_000]).unwrap());
            std::thread::sleep(Duration::from_millis(1500));
            assert!(!writer.is_finished());
            hog.go();
            writer.join().unwrap();
            soon("all of it", Duration::from_secs(10), || {
                crate::world::written(&logs, "web", "stdout").len() == 200_000
            });
            engine.detach("web").blocking_recv().unwrap();
            drop(engine);
            fs::remove_dir_all(&logs).unwrap();
        }
    });
}

#[test]
fn kills_on_a_full_disk_lose_no_count() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let (out, err) = (Fifo::new(&elsewhere.0, "out"), Fifo::new(&elsewhere.0, "err"));
        let pipes = [out.read_end(), err.read_end()];
        let first = Spool::create().unwrap();
        let spool = first.fd().try_clone_to_owned().unwrap();
        drop(first);
        let mut written = 0;
        for round in 0..12 {
            let mut child = child(&logs, &spool, one_segment(), [&pipes[0], &pipes[1]]);
            let hog = Hog::take_all(disk);
            std::thread::scope(|scope| {
                let writer = scope.spawn(|| write_lines(&out.container));
                std::thread::sleep(Duration::from_millis(3 * round));
                child.kill().unwrap();
                child.wait().unwrap();
                let mut next = crash::child(&logs, &spool, one_segment(), [&pipes[0], &pipes[1]]);
                writer.join().unwrap();
                // Whatever is in the pipe is read, on a disk that is full.
                while poll_in(&pipes[0]) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                next.kill().unwrap();
                next.wait().unwrap();
            });
            hog.go();
            written += LINES;
        }
        // The service has gone with the last worker: nobody attaches it again.
        let engine =
            Engine::start(logs.clone(), Spool::adopt(spool).unwrap(), Box::new(|_, _, _| ())).unwrap();
        engine.retain(Vec::new()).blocking_recv().unwrap();
        let (kept, dropped) = kept_and_dropped(&logs);
        assert_eq!((kept + dropped, dropped > 0), (written, true), "kept {kept}, dropped {dropped}");
    });
}

/// What nobody can count any more, the next worker may have no room to say either, nor the one after it; and there may be no life any more.
#[test]
fn what_is_unknown_is_said_when_there_is_room_whoever_dies_until_then() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let out = Fifo::new(&elsewhere.0, "out");
        fs::create_dir_all(logs.join("web")).unwrap();
        let hog = Hog::take_all(disk);
        let spool = Spool::create().unwrap();
        let kept = spool.fd().try_clone_to_owned().unwrap();
        let engine = Engine::start(logs.clone(), spool, Box::new(|_, _, _| ())).unwrap();
        engine.lost("web", None).blocking_recv().unwrap().unwrap();
        drop(engine);
        let pipes = [Some(out.read_end()), None];
        let spool = Spool::adopt(kept.try_clone().unwrap()).unwrap();
        let block = Settings { on_full: OnFull::Block, ..one_segment() };
        let engine = start_with(&logs, spool, block, pipes);
        writeln!(&out.container, "first").unwrap();
        engine.detach("web").blocking_recv().unwrap();
        drop(engine);
        let engine =
            Engine::start(logs.clone(), Spool::adopt(kept).unwrap(), Box::new(|_, _, _| ())).unwrap();
        engine.retain(Vec::new()).blocking_recv().unwrap();
        let texts = || records(&logs, "web").into_iter().map(|(_, _, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(), Vec::<String>::new());
        hog.go();
        soon("both are said", Duration::from_secs(5), || texts().len() == 2);
        let said = texts().concat();
        assert!(said.contains("lines may be missing") && said.contains("dropped lines=1 "), "{said}");
        soon("the end of the service", Duration::from_secs(5), || {
            engine.status().blocking_recv().unwrap().is_empty()
        });
    });
}

/// Spool and pipe outlive the worker. What it had taken off the pipe and not written, it had taken for good.
#[test]
fn a_worker_that_dies_on_a_disk_that_went_read_only_stops_no_service_and_loses_no_count() {
    for interrupted in [false, true] {
        on_a_small_disk(move |disk| {
            let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
            let out = Fifo::new(&elsewhere.0, "out");
            let pipe = out.read_end();
            let first = Spool::create().unwrap();
            let spool = first.fd().try_clone_to_owned().unwrap();
            let again = || [Some(pipe.try_clone().unwrap()), None];
            let engine = start_with(&logs, first, one_segment(), again());
            write!(&out.container, "first\nunfin").unwrap();
            soon("a line", Duration::from_secs(5), || kept_and_dropped(&logs) == (1, 0));
            drop(engine);
            let mut written = 1;
            if interrupted {
                writeln!(&out.container, "ished").unwrap();
                written += 1;
                interrupt(spool.try_clone().unwrap(), &pipe, fs::metadata(segment(&logs)).unwrap().len());
            }
            remount(disk, true);
            let engine =
                start_with(&logs, Spool::adopt(spool.try_clone().unwrap()).unwrap(), one_segment(), again());
            // More than the pipe has room for: whoever does not read holds the service up.
            std::thread::scope(|scope| {
                let writer = scope.spawn(|| write_lines(&out.container));
                soon("a service that goes on", Duration::from_secs(5), || writer.is_finished());
            });
            written += LINES;
            soon("an empty pipe", Duration::from_secs(5), || !poll_in(&pipe));
            // Nor is anything forgotten by a worker that comes when the service has gone.
            engine.detach("web").blocking_recv().unwrap();
            drop(engine);
            let engine =
                Engine::start(logs.clone(), Spool::adopt(spool).unwrap(), Box::new(|_, _, _| ())).unwrap();
            engine.retain(Vec::new()).blocking_recv().unwrap();
            assert_eq!(kept_and_dropped(&logs), (1, 0));
            remount(disk, false);
            soon("the remark", Duration::from_secs(5), || kept_and_dropped(&logs) == (1, written - 1));
            soon("the end of the service", Duration::from_secs(5), || {
                engine.status().blocking_recv().unwrap().is_empty()
            });
            assert_eq!(
                list(&logs.join("web")).unwrap(),
                [(Number(1), Driver::Local)],
                "nothing else was done to it"
            );
        });
    }
}

fn segment(logs: &std::path::Path) -> std::path::PathBuf {
    path(&logs.join("web"), Number(1), Driver::Local)
}

/// As far as a worker comes that dies before it writes.
fn interrupt(spool: std::os::fd::OwnedFd, pipe: &std::os::fd::OwnedFd, bytes: u64) {
    let mut spool = Spool::adopt(spool).unwrap();
    let slot = spool.find("web", 0).unwrap();
    let (segment, settings) = (Number(1), one_segment());
    spool.arm(&Transfer { slot, segment, bytes, time: 0, flush: false, allowed: None, settings, gap: None });
    spool.take(std::os::fd::AsFd::as_fd(pipe), usize::MAX).unwrap();
}

#[test]
fn a_service_that_starts_where_no_log_can_be_made_is_told_so() {
    on_a_small_disk(|disk| {
        let (elsewhere, logs) = (Folder::new(), disk.join("logs"));
        let out = Fifo::new(&elsewhere.0, "out");
        remount(disk, true);
        let engine = Engine::start(logs.clone(), Spool::create().unwrap(), Box::new(|_, _, _| ())).unwrap();
        let attachment = || Attachment {
            ring: None,
            service: "web".into(),
            container: Container(1),
            settings: one_segment(),
            pipes: [Some(out.read_end().into()), None],
        };
        engine.attach(attachment()).blocking_recv().unwrap().unwrap_err();
        remount(disk, false);
        engine.attach(attachment()).blocking_recv().unwrap().unwrap();
        writeln!(&out.container, "first").unwrap();
        soon("a line", Duration::from_secs(5), || kept_and_dropped(&logs) == (1, 0));
    });
}

fn poll_in(pipe: &std::os::fd::OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
}

#[test]
fn a_log_that_somebody_removes_is_made_anew_and_says_so() {
    for folder in [false, true] {
        let dir = Folder::new();
        let out = Fifo::new(&dir.0, "out");
        let logs = dir.0.join("logs");
        let engine =
            start_with(&logs, Spool::create().unwrap(), Settings::default(), [Some(out.read_end()), None]);
        writeln!(&out.container, "before").unwrap();
        soon("a line", Duration::from_secs(5), || records(&logs, "web").len() == 1);
        let wanted = Wanted { follow: true, ..Wanted::default() };
        let mut follow = lines(follow::start(logs.clone(), engine.notifier(), wanted).unwrap());
        assert_eq!(follow.next().unwrap(), "web stdout F before");
        match folder {
            true => fs::remove_dir_all(&logs).unwrap(),
            false => fs::remove_file(path(&logs.join("web"), Number(1), Driver::Local)).unwrap(),
        }
        // A service that goes on printing finds it out within seconds, and those that print seldom before they print.
        let begin = Instant::now();
        let mut n = 0;
        while records(&logs, "web").is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(5));
            writeln!(&out.container, "after {n}").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            n += 1;
        }
        engine.detach("web").blocking_recv().unwrap();
        let all = records(&logs, "web");
        assert_eq!(
            all[0].2,
            "log removed: 0000000001.log is gone, this one is new; lines of the last second may be missing"
        );
        assert_eq!(all.last().unwrap().2, format!("after {}", n - 1));
        assert_eq!(list(&logs.join("web")).unwrap(), [(Number(2), Driver::Local)]);
        // Who follows goes on with the new one.
        assert!(follow.any(|line| line == format!("web stdout F after {}", n - 1)));
    }
}

/// The next life begins with a number that the one before had already passed.
#[test]
fn who_follows_goes_on_where_a_log_was_removed_between_two_lives() {
    for all_of_it in [true, false] {
        let dir = Folder::new();
        let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
        let settings = Settings { max_size: 4096, ..Settings::default() };
        let attachment = || Attachment {
            ring: None,
            service: "web".into(),
            container: Container(1),
            settings,
            pipes: [Some(out.read_end().into()), None],
        };
        let engine = Engine::start(logs.clone(), Spool::create().unwrap(), Box::new(|_, _, _| ())).unwrap();
        engine.attach(attachment()).blocking_recv().unwrap().unwrap();
        for n in 0..100 {
            writeln!(&out.container, "before {n} {}", "x".repeat(60)).unwrap();
        }
        engine.detach("web").blocking_recv().unwrap();
        let last = list(&logs.join("web")).unwrap().back().unwrap().0;
        assert!(last > Number(2));
        let (told, heard) = std::sync::mpsc::channel();
        let wanted = Wanted { follow: true, ..Wanted::default() };
        let reader = lines(follow::start(logs.clone(), engine.notifier(), wanted).unwrap());
        std::thread::spawn(move || reader.for_each(|line| drop(told.send(line))));
        let next = || heard.recv_timeout(Duration::from_secs(5)).ok();
        let before: Vec<String> = (0..100).filter_map(|_| next()).collect();
        assert!(before.iter().all(|line| line.starts_with("web stdout F before ")), "{before:?}");
        match all_of_it {
            true => fs::remove_dir_all(logs.join("web")).unwrap(),
            false => fs::remove_file(path(&logs.join("web"), last, Driver::Local)).unwrap(),
        }
        // Others write meanwhile, and who follows looks around.
        engine.notifier().notify();
        std::thread::sleep(Duration::from_millis(50));
        engine.attach(attachment()).blocking_recv().unwrap().unwrap();
        let mut after = Vec::new();
        for n in 0..100 {
            writeln!(&out.container, "after {n} {}", "x".repeat(60)).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        while let Some(line) = next() {
            let is_last = line.starts_with("web stdout F after 99 ");
            after.push(line);
            if is_last {
                break;
            }
        }
        assert_eq!(
            after.first().map(String::as_str),
            Some("web stdout F gap: an unknown part of this log was rotated away unread")
        );
        assert!(after[1..].iter().all(|line| line.starts_with("web stdout F after ")), "{after:?}");
        let heard = after.len() - 1;
        assert!(if all_of_it { heard == 100 } else { heard > 50 }, "{heard} lines");
    }
}

#[test]
fn after_a_pause_no_line_goes_into_a_log_that_was_removed() {
    let dir = Folder::new();
    let (out, logs) = (Fifo::new(&dir.0, "out"), dir.0.join("logs"));
    let engine =
        start_with(&logs, Spool::create().unwrap(), Settings::default(), [Some(out.read_end()), None]);
    writeln!(&out.container, "before").unwrap();
    soon("a line", Duration::from_secs(5), || records(&logs, "web").len() == 1);
    fs::remove_dir_all(&logs).unwrap();
    std::thread::sleep(logging::engine::LOOK_EVERY);
    writeln!(&out.container, "after").unwrap();
    engine.detach("web").blocking_recv().unwrap();
    let all: Vec<String> = records(&logs, "web").into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(all[1..], ["after"], "{all:?}");
}

#[test]
fn a_full_disk_drops_counts_says_so_and_goes_on() {
    on_a_small_disk(|disk| {
        let elsewhere = Folder::new();
        let logs = disk.join("logs");
        let engine = Engine::start(logs.clone(), Spool::create().unwrap(), Box::new(|_, _, _| ())).unwrap();
        let out = Fifo::new(&elsewhere.0, "out");
        let settings = Settings { max_size: 64 << 10, max_file: 5, ..Settings::default() };
        let pipes = [Some(Arc::new(out.read_end())), None];
        let attachment =
            Attachment { service: "web".into(), container: Container(1), settings, ring: None, pipes };
        engine.attach(attachment).blocking_recv().unwrap().unwrap();
        fs::write(disk.join("hog"), vec![0; 760 << 10]).unwrap();
        let hog = fs::OpenOptions::new().append(true).open(disk.join("hog")).unwrap();
        // First the oldest segments go: lines are still written when the disk is smaller than 5 x 64 KiB.
        (0..4000).for_each(|n| writeln!(&out.container, "early {n} {}", "x".repeat(60)).unwrap());
        soon("the last early line", Duration::from_secs(5), || {
            records(&logs, "web").last().is_some_and(|(_, _, text)| text.starts_with("early 3999 "))
        });
        let status = engine.status().blocking_recv().unwrap()["web"];
        assert_eq!((status.dropped, status.lines), (0, 4000));
        // Now somebody takes the rest as soon as it is free.
        let dir = logs.join("web");
        while (&hog).write(&[0; 4096]).is_ok() {}
        let before = records(&logs, "web");
        for n in 0..4000 {
            writeln!(&out.container, "late {n} {}", "x".repeat(60)).unwrap();
            if n % 50 == 0 {
                std::thread::sleep(Duration::from_millis(1));
                while (&hog).write(&[0; 4096]).is_ok() {}
            }
        }
        soon("all lines", Duration::from_secs(5), || {
            engine.status().blocking_recv().unwrap()["web"].lines == 8000
        });
        let status = engine.status().blocking_recv().unwrap()["web"];
        assert!(status.dropped > 1000 && status.write_errors > 0, "{status:?}");
        assert!(list(&dir).unwrap().len() <= 2 && !before.is_empty());
        fs::remove_file(disk.join("hog")).unwrap();
        drop(hog);
        let said = |text: &str| text.starts_with("dropped lines=");
        soon("the remark, by itself", Duration::from_secs(3), || {
            records(&logs, "web").last().is_some_and(|(_, _, text)| said(text))
        });
        writeln!(&out.container, "again").unwrap();
        engine.detach("web").blocking_recv().unwrap();
        let all = records(&logs, "web");
        let remarked: u64 = all
            .iter()
            .filter(|(_, _, text)| said(text))
            .map(|(_, _, text)| {
                text["dropped lines=".len()..].split(' ').next().unwrap().parse::<u64>().unwrap()
            })
            .sum();
        assert_eq!(remarked, status.dropped, "what was dropped and what was said to have been");
        assert_eq!(all.last().unwrap().2, "again");
    });
}

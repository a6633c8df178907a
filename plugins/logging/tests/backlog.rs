//! `mode = "non-blocking"`: what is slow holds up nobody; each line is in the log, or is counted where it is missing.
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logging::config::{Buffer, Driver, Drops, OnFull, Settings};
use logging::engine::Engine;
use logging::ring::Ring;
use logging::spool::Spool;
use sampan_testkit::need;

use crate::crash::{child_with_ring, start_with, start_with_ring};
use crate::journal::Listener;
use crate::world::{Fifo, Folder, records, soon};

const LONG: Duration = Duration::from_secs(30);

pub fn settings(bytes: u64, drops: Drops) -> Settings {
    let buffer = Some(Buffer { bytes, drops });
    Settings { buffer, max_size: 64 << 20, ..Settings::default() }
}

fn line(n: u64) -> String {
    format!("{n:07} {}\n", "x".repeat(91))
}

fn write_lines(mut to: &File, from: u64, until: u64) {
    let mut block = String::new();
    for n in from..until {
        block += &line(n);
        if block.len() > 60_000 || n + 1 == until {
            to.write_all(block.as_bytes()).unwrap();
            block.clear();
        }
    }
}

/// Numbered lines of one stream, in order; where some are missing a record says how many, and how many bytes.
#[derive(Default)]
struct Numbers {
    next: u64,
    open: String,
    kept: u64,
    dropped: u64,
    kept_bytes: u64,
    dropped_bytes: u64,
}

impl Numbers {
    fn add(&mut self, end: bool, text: &str) {
        if let Some(said) = text.strip_prefix("dropped lines=") {
            let mut numbers = said.split([' ', '=']).filter_map(|word| word.parse::<u64>().ok());
            let (lines, bytes) = (numbers.next().unwrap(), numbers.next().unwrap());
            (self.dropped, self.next) = (self.dropped + lines, self.next + lines);
            self.dropped_bytes += bytes;
            // Of a line that was in the log in part.
            self.kept_bytes += self.open.len() as u64;
            return self.open.clear();
        }
        self.open += text;
        if end {
            let line = std::mem::take(&mut self.open);
            let number: u64 = line.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(
                number, self.next,
                "after {} kept and {} dropped: {line:.60}",
                self.kept, self.dropped
            );
            (self.kept, self.next) = (self.kept + 1, self.next + 1);
            self.kept_bytes += line.len() as u64 + 1;
        }
    }

    fn of(logs: &Path, stream: &str) -> Numbers {
        let mut numbers = Numbers::default();
        for (of, end, text) in records(logs, "web") {
            if of == stream {
                numbers.add(end, &text);
            }
        }
        numbers
    }
}

/// An ext4 of its own, in a mount namespace of one thread, where writing waits while it is frozen.
pub struct Disk {
    pub mount: PathBuf,
    pub folder: Folder,
}

/// Written or counted as dropped.
fn lines(engine: &Engine) -> u64 {
    engine.status().blocking_recv().unwrap()["web"].lines
}

fn run(command: &str, args: &[&std::ffi::OsStr]) {
    let done = Command::new(command).args(args).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Disk {
    fn new() -> Disk {
        let folder = Folder::new();
        let (image, mount) = (folder.0.join("image"), folder.0.join("disk"));
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        std::fs::create_dir(&mount).unwrap();
        run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m0".as_ref(), image.as_os_str()]);
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_os_str(), mount.as_os_str()]);
        Disk { mount, folder }
    }

    pub fn freeze(&self) {
        run("fsfreeze", &["-f".as_ref(), self.mount.as_os_str()]);
    }

    /// What others have on it.
    fn fill(&self) -> PathBuf {
        let hog = self.mount.join("hog");
        let mut file = File::create(&hog).unwrap();
        while file.write(&[0; 4096]).is_ok() {}
        hog
    }

    pub fn thaw(&self) {
        run("fsfreeze", &["-u".as_ref(), self.mount.as_os_str()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.mount).output();
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        let _ = std::fs::remove_dir_all(&self.folder.0);
    }
}

pub fn on_a_disk(test: impl FnOnce(&Disk) + Send + 'static) {
    let packages = "e2fsprogs, util-linux";
    if !need::root() || !need::programs(&["mkfs.ext4", "fsfreeze", "mount"], packages) {
        return;
    }
    let run = || {
        // SAFETY: no pointers; only this thread changes its namespace.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0, "{}", std::io::Error::last_os_error());
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let none = std::ptr::null();
            assert_eq!(libc::mount(none, c"/".as_ptr(), none, private, none.cast()), 0);
        }
        test(&Disk::new());
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn a_disk_that_does_not_write_holds_up_nobody_and_what_is_missing_is_said_where_it_is() {
    const LINES: u64 = 100_000;
    for drops in [Drops::Oldest, Drops::Newest] {
        on_a_disk(move |disk| {
            let (out, logs) = (Fifo::new(&disk.folder.0, "out"), disk.mount.join("logs"));
            let pipes = [Some(out.read_end()), None];
            let engine = start_with(&logs, Spool::create().unwrap(), settings(1 << 20, drops), pipes);
            write_lines(&out.container, 0, 10);
            soon("ten lines", LONG, || lines(&engine) == 10);
            disk.freeze();
            let begin = Instant::now();
            write_lines(&out.container, 10, LINES);
            let took = begin.elapsed();
            assert!(took < Duration::from_secs(5), "{drops:?}: 10 MB took {took:?}");
            assert_eq!(records(&logs, "web").len(), 10, "{drops:?}: the disk does not write");
            disk.thaw();
            engine.detach("web").blocking_recv().unwrap();
            let all = Numbers::of(&logs, "stdout");
            assert_eq!((all.next, all.open.as_str()), (LINES, ""), "{drops:?}");
            let bytes: u64 = (0..LINES).map(|n| line(n).len() as u64).sum();
            assert_eq!(all.kept_bytes + all.dropped_bytes, bytes, "{drops:?}");
            // The buffer, and what the disk had taken or was about to: two reads.
            assert!((9_000..13_000).contains(&all.kept), "{drops:?}: {} kept", all.kept);
            let (last, _) = (records(&logs, "web").pop().unwrap().2, 0);
            match drops {
                Drops::Oldest => assert_eq!(last, line(LINES - 1).trim_end()),
                Drops::Newest => assert!(last.starts_with("dropped lines="), "{last}"),
            }
        });
    }
}

/// The same service in the other mode: else the test above shows nothing.
#[test]
fn a_service_that_may_wait_waits_for_such_a_disk() {
    on_a_disk(|disk| {
        let (out, logs) = (Fifo::new(&disk.folder.0, "out"), disk.mount.join("logs"));
        let pipes = [Some(out.read_end()), None];
        let engine = start_with(&logs, Spool::create().unwrap(), Settings::default(), pipes);
        disk.freeze();
        let to = out.container.try_clone().unwrap();
        let writer = std::thread::spawn(move || write_lines(&to, 0, 10_000));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!writer.is_finished());
        disk.thaw();
        writer.join().unwrap();
        engine.detach("web").blocking_recv().unwrap();
        let all = Numbers::of(&logs, "stdout");
        assert_eq!((all.kept, all.dropped), (10_000, 0));
    });
}

/// What was read while the disk did not write has the time when it was read, and both streams are in that order.
#[test]
fn a_line_that_waited_has_the_time_when_it_was_printed() {
    on_a_disk(|disk| {
        let (out, err) = (Fifo::new(&disk.folder.0, "out"), Fifo::new(&disk.folder.0, "err"));
        let logs = disk.mount.join("logs");
        let pipes = [Some(out.read_end()), Some(err.read_end())];
        let settings = settings(1 << 20, Drops::Oldest);
        let engine = start_with(&logs, Spool::create().unwrap(), settings, pipes);
        disk.freeze();
        for n in 0..40 {
            writeln!(if n % 2 == 0 { &out.container } else { &err.container }, "{n}").unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let printed = logging::time::text(logging::time::now());
        std::thread::sleep(Duration::from_millis(500));
        disk.thaw();
        engine.detach("web").blocking_recv().unwrap();
        let text: Vec<String> = records(&logs, "web").into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(text, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
        let log = std::fs::read(logs.join("web/0000000001.log")).unwrap();
        let times: Vec<&[u8]> = log.split(|byte| *byte == b'\n').filter_map(|line| line.get(..30)).collect();
        assert!(times.is_sorted() && times.windows(2).filter(|two| two[0] != two[1]).count() >= 38);
        assert!(times.last().unwrap() <= &&printed[..], "{:?}", std::str::from_utf8(times.last().unwrap()));
    });
}

#[test]
fn a_journal_that_does_not_read_holds_up_nobody() {
    const LINES: u64 = 100_000;
    for (drops, on_full) in
        [(Drops::Oldest, OnFull::Block), (Drops::Newest, OnFull::Block), (Drops::Oldest, OnFull::Drop)]
    {
        let dir = Folder::new();
        let listener = Listener::new(&dir.0.join("socket"));
        let out = Fifo::new(&dir.0, "out");
        let settings = Settings { driver: Driver::Journald, on_full, ..settings(1 << 20, drops) };
        let (logs, pipes) = (dir.0.join("logs"), [Some(out.read_end()), None]);
        let engine = start_with(&logs, Spool::create().unwrap(), settings, pipes);
        let begin = Instant::now();
        write_lines(&out.container, 0, LINES);
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(5), "{drops:?}: 10 MB took {took:?}");
        let mut all = Numbers::default();
        while all.next < LINES {
            let entry = listener.next();
            all.add(true, std::str::from_utf8(&entry["MESSAGE"]).unwrap());
        }
        assert!(all.dropped > LINES / 2, "{} dropped", all.dropped);
        let least = if on_full == OnFull::Block { 9_000 } else { 1 };
        assert!((least..30_000).contains(&all.kept), "{drops:?}, {on_full:?}: {} kept", all.kept);
        assert_eq!(engine.status().blocking_recv().unwrap()["web"].dropped, all.dropped);
        engine.detach("web").blocking_recv().unwrap();
    }
}

fn numbered(n: u64) -> String {
    let long = if n.is_multiple_of(97) { 3000 } else { (n * 7919 % 180) as usize };
    format!("{n} {}\n", "y".repeat(long))
}

/// Pieces that end anywhere. Returns how many lines.
fn write_pieces(mut to: File, lines: u64, seed: u64, pause: Duration) -> u64 {
    let (mut pending, mut rng) = (Vec::new(), seed);
    for n in 0..lines {
        pending.extend(numbered(n).into_bytes());
        while pending.len() > 8000 || n + 1 == lines && !pending.is_empty() {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let part = ((rng >> 33) as usize % 8000 + 1).min(pending.len());
            to.write_all(&pending[..part]).unwrap();
            pending.drain(..part);
            std::thread::sleep(pause);
        }
    }
    lines
}

fn kept(ring: &Ring) -> OwnedFd {
    ring.keep(|fd| fd.try_clone_to_owned().unwrap())
}

/// Killed again and again while both streams are written: nothing is missing but what the log says, nothing is there twice.
fn kills(settings: Settings, kills: u64, pause: Duration) -> [Numbers; 2] {
    const LINES: u64 = 40_000;
    let dir = Folder::new();
    let (logs, fifos) = (dir.0.join("logs"), [Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err")]);
    let pipes = [fifos[0].read_end(), fifos[1].read_end()];
    let spool = Spool::create().unwrap().fd().try_clone_to_owned().unwrap();
    let ring = kept(&Ring::create(settings.buffer.unwrap()).unwrap());
    let writers = [0, 1].map(|n: usize| {
        let to = fifos[n].container.try_clone().unwrap();
        std::thread::spawn(move || write_pieces(to, LINES, n as u64, pause))
    });
    let (mut rng, mut with_rest) = (1u64, 0);
    for n in 0..kills {
        let mut child = child_with_ring(&logs, &spool, settings, Some(&ring), [&pipes[0], &pipes[1]]);
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
        std::thread::sleep(Duration::from_micros((rng >> 33) % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        with_rest += u64::from(!Ring::adopt(ring.try_clone().unwrap()).unwrap().is_empty());
    }
    assert!(with_rest > 0, "no kill found anything in the ring: this test shows nothing");
    let ring = Arc::new(Ring::adopt(ring).unwrap());
    let pipes = pipes.map(Some);
    let engine = start_with_ring(&logs, Spool::adopt(spool).unwrap(), settings, Some(ring.clone()), pipes);
    writers.into_iter().for_each(|writer| assert_eq!(writer.join().unwrap(), LINES));
    engine.detach("web").blocking_recv().unwrap();
    assert!(ring.is_empty());
    let bytes: u64 = (0..LINES).map(|n| numbered(n).len() as u64).sum();
    ["stdout", "stderr"].map(|stream| {
        let all = Numbers::of(&logs, stream);
        println!(
            "{stream}: {} kept, {} dropped; {with_rest} of {kills} kills had a rest",
            all.kept, all.dropped
        );
        assert_eq!((all.next, all.kept_bytes + all.dropped_bytes), (LINES, bytes), "{stream}");
        all
    })
}

#[test]
fn kills_lose_nothing_that_was_not_dropped() {
    let settings = Settings {
        max_size: 256 << 10,
        max_file: 10_000,
        max_line: 1024,
        ..settings(8 << 20, Drops::Oldest)
    };
    let all = kills(settings, 60, Duration::from_micros(300));
    assert!(all.iter().all(|numbers| numbers.dropped == 0), "there was room for all");
}

#[test]
fn kills_lose_no_count_of_what_was() {
    for drops in [Drops::Oldest, Drops::Newest] {
        let settings =
            Settings { max_size: 256 << 10, max_file: 10_000, max_line: 1024, ..settings(16 << 10, drops) };
        let all = kills(settings, 60, Duration::ZERO);
        assert!(all.iter().all(|numbers| numbers.dropped > 0), "{drops:?}: nothing was dropped");
    }
}

/// As many as came are whole or counted, also where one alone is more than the buffer.
#[test]
fn a_line_that_is_longer_than_the_buffer() {
    for drops in [Drops::Oldest, Drops::Newest] {
        on_a_disk(move |disk| {
            let (out, logs) = (Fifo::new(&disk.folder.0, "out"), disk.mount.join("logs"));
            let pipes = [Some(out.read_end()), None];
            let engine = start_with(&logs, Spool::create().unwrap(), settings(4096, drops), pipes);
            disk.freeze();
            // One is written, which waits for the disk.
            writeln!(&out.container, "0 first").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            for n in 1..4 {
                writeln!(&out.container, "{n} {}", "x".repeat(20_000)).unwrap();
            }
            writeln!(&out.container, "4 last").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            disk.thaw();
            soon("the end of the log", LONG, || lines(&engine) == 5);
            // With nothing in its way such a line is in the log, in parts.
            writeln!(&out.container, "5 {}", "x".repeat(3000)).unwrap();
            engine.detach("web").blocking_recv().unwrap();
            let all = Numbers::of(&logs, "stdout");
            assert_eq!((all.next, all.open.as_str()), (6, ""), "{drops:?}");
            let kept = if drops == Drops::Oldest { 3 } else { 2 };
            assert!(
                all.kept >= kept && all.dropped >= 3 && all.dropped_bytes > 60_000,
                "{drops:?}: {} kept",
                all.kept
            );
        });
    }
}

/// Nobody comes back for what is in it: it is written all the same.
#[test]
fn what_a_service_has_left_that_is_gone_is_written() {
    let dir = Folder::new();
    let (logs, out) = (dir.0.join("logs"), Fifo::new(&dir.0, "out"));
    let ring = Ring::create(Buffer { bytes: 1 << 20, drops: Drops::Oldest }).unwrap();
    write_lines(&out.container, 0, 500);
    ring.fill(0, std::os::fd::AsFd::as_fd(&out.read_end())).unwrap();
    let rings = [("web".to_owned(), Arc::new(ring))].into();
    let spool = Spool::create().unwrap();
    let engine = Engine::go_on(logs.clone(), spool, rings, Box::new(|_, _, _| ())).unwrap();
    engine.retain(Vec::new()).blocking_recv().unwrap();
    assert_eq!(Numbers::of(&logs, "stdout").kept, 500);
}

/// sampand ends, and the services run on: what was read is in the log.
#[test]
fn the_end_of_the_plugin_leaves_nothing_in_the_buffer() {
    let dir = Folder::new();
    let (logs, out) = (dir.0.join("logs"), Fifo::new(&dir.0, "out"));
    let settings = settings(8 << 20, Drops::Oldest);
    let ring = Arc::new(Ring::create(settings.buffer.unwrap()).unwrap());
    let pipes = [Some(out.read_end()), None];
    let engine = start_with_ring(&logs, Spool::create().unwrap(), settings, Some(ring.clone()), pipes);
    write_lines(&out.container, 0, 20_000);
    drop(engine);
    assert!(ring.is_empty());
    let all = Numbers::of(&logs, "stdout");
    assert!(all.kept > 18_000 && all.dropped == 0, "{} kept", all.kept);
}

/// `on_full = "block"` means here that what was read waits; the service does not. Nor does a kill lose the count, wherever that is.
#[test]
fn a_full_disk_holds_up_nobody_either() {
    const LINES: u64 = 50_000;
    for drops in [Drops::Oldest, Drops::Newest] {
        on_a_disk(move |disk| {
            let (out, err) = (Fifo::new(&disk.folder.0, "out"), Fifo::new(&disk.folder.0, "err"));
            let (logs, pipes) = (disk.mount.join("logs"), [out.read_end(), err.read_end()]);
            let settings = Settings { on_full: OnFull::Block, ..settings(64 << 10, drops) };
            let spool = Spool::create().unwrap().fd().try_clone_to_owned().unwrap();
            let ring = kept(&Ring::create(settings.buffer.unwrap()).unwrap());
            let hog = disk.fill();
            for n in 0..10 {
                let mut child = child_with_ring(&logs, &spool, settings, Some(&ring), [&pipes[0], &pipes[1]]);
                let begin = Instant::now();
                write_lines(&out.container, n * LINES / 10, (n + 1) * LINES / 10);
                assert!(begin.elapsed() < Duration::from_secs(5), "{drops:?}: {:?}", begin.elapsed());
                child.kill().unwrap();
                child.wait().unwrap();
            }
            std::fs::remove_file(hog).unwrap();
            let ring = Some(Arc::new(Ring::adopt(ring).unwrap()));
            let spool = Spool::adopt(spool).unwrap();
            let engine = start_with_ring(&logs, spool, settings, ring, pipes.map(Some));
            engine.detach("web").blocking_recv().unwrap();
            let all = Numbers::of(&logs, "stdout");
            let bytes: u64 = (0..LINES).map(|n| line(n).len() as u64).sum();
            assert_eq!((all.next, all.kept_bytes + all.dropped_bytes), (LINES, bytes), "{drops:?}");
            assert!((600..3000).contains(&all.kept), "{drops:?}: {} kept", all.kept);
        });
    }
}

/// What the ring has lost before what finds no room is written down with that.
#[test]
fn what_was_dropped_before_lines_that_wait_is_said_with_them() {
    const LINES: u64 = 3000;
    on_a_disk(|disk| {
        let (out, err) = (Fifo::new(&disk.folder.0, "out"), Fifo::new(&disk.folder.0, "err"));
        let (logs, pipes) = (disk.mount.join("logs"), [out.read_end(), err.read_end()]);
        let settings = Settings { on_full: OnFull::Block, ..settings(64 << 10, Drops::Oldest) };
        let spool = Spool::create().unwrap().fd().try_clone_to_owned().unwrap();
        let ring = kept(&Ring::create(settings.buffer.unwrap()).unwrap());
        let hog = disk.fill();
        let live = || {
            let mut child = child_with_ring(&logs, &spool, settings, Some(&ring), [&pipes[0], &pipes[1]]);
            std::thread::sleep(Duration::from_millis(300));
            child.kill().unwrap();
            child.wait().unwrap();
        };
        let (begin, rest) = (line(0)[..20].to_owned(), line(0)[20..].to_owned());
        (&out.container).write_all(begin.as_bytes()).unwrap();
        live();
        // That is in the spool. What follows comes faster than anybody takes it.
        let look = Ring::adopt(ring.try_clone().unwrap()).unwrap();
        let fill = || while look.fill(0, std::os::fd::AsFd::as_fd(&pipes[0])).is_ok() {};
        (&out.container).write_all(rest.as_bytes()).unwrap();
        for n in (1..LINES).step_by(100) {
            fill();
            write_lines(&out.container, n, (n + 100).min(LINES));
        }
        fill();
        drop(look);
        live();
        std::fs::remove_file(hog).unwrap();
        let ring = Some(Arc::new(Ring::adopt(ring.try_clone().unwrap()).unwrap()));
        let spool = Spool::adopt(spool.try_clone().unwrap()).unwrap();
        let engine = start_with_ring(&logs, spool, settings, ring, pipes.map(Some));
        engine.detach("web").blocking_recv().unwrap();
        let all = Numbers::of(&logs, "stdout");
        assert_eq!((all.next, all.open.as_str()), (LINES, ""));
        let bytes: u64 = (0..LINES).map(|n| line(n).len() as u64).sum();
        assert!(all.dropped > LINES / 2 && all.kept_bytes + all.dropped_bytes == bytes, "{} kept", all.kept);
    });
}

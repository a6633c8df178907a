//! `kill -9` while logging. A child (this test binary again) has the logging thread; we hold what the keel would: the pipe and
//! the spool. After each kill the next child goes on; at the end nothing is missing and nothing is there twice.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logging::config::{Driver, Settings};
use logging::engine::{Attachment, Engine, Places};
use logging::journal::Journal;
use logging::record::Rest;
use logging::ring::Ring;
use logging::segments::{Number, list};
use logging::spool::{Spool, State, Transfer};
use sampan_plugin::types::Container;

use crate::world::{Fifo, Folder, records, written};

const ROLE: &str = "SAMPAN_TEST_LOGGER";

fn settings(driver: Driver) -> Settings {
    Settings { driver, max_size: 256 << 10, max_file: 10_000, max_line: 1024, ..Settings::default() }
}

fn start(dir: &Path, spool: Spool, driver: Driver, pipes: [Option<OwnedFd>; 2]) -> Engine {
    start_with(dir, spool, settings(driver), pipes)
}

pub fn start_with(dir: &Path, spool: Spool, settings: Settings, pipes: [Option<OwnedFd>; 2]) -> Engine {
    let ring = settings.buffer.map(|buffer| Arc::new(Ring::create(buffer).unwrap()));
    start_with_ring(dir, spool, settings, ring, pipes)
}

pub fn start_with_ring(
    dir: &Path,
    spool: Spool,
    settings: Settings,
    ring: Option<Arc<Ring>>,
    pipes: [Option<OwnedFd>; 2],
) -> Engine {
    let journal = Arc::new(Journal::new(dir.with_file_name("socket")));
    let places = Places { dir: dir.to_owned(), journal };
    let rings = ring.iter().map(|ring| ("web".to_owned(), ring.clone())).collect();
    let engine = Engine::go_on(places, spool, rings, Box::new(|_, _, _| ())).unwrap();
    let pipes = pipes.map(|pipe| pipe.map(Arc::new));
    let attachment = Attachment { service: "web".into(), container: Container(1), settings, ring, pipes };
    engine.attach(attachment).blocking_recv().unwrap().unwrap();
    engine
}

/// Not a test of its own: what the child runs.
#[test]
fn logger() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let mut words = role.splitn(5, ' ');
    let mut fd = || match words.next().unwrap().parse::<RawFd>().unwrap() {
        -1 => None,
        // SAFETY: inherited from the test that started us, and owned by nobody else here.
        fd => Some(unsafe { OwnedFd::from_raw_fd(fd) }),
    };
    let (spool, ring, out, err) = (fd().unwrap(), fd(), fd(), fd());
    let ring = ring.map(|ring| Arc::new(Ring::adopt(ring).unwrap()));
    let (settings, dir): (Settings, PathBuf) = serde_json::from_str(words.next().unwrap()).unwrap();
    let engine = start_with_ring(&dir, Spool::adopt(spool).unwrap(), settings, ring, [out, err]);
    println!("attached");
    std::thread::sleep(Duration::from_secs(60));
    drop(engine);
}

/// A logger of its own that is attached.
pub fn child(dir: &Path, spool: &OwnedFd, settings: Settings, pipes: [&OwnedFd; 2]) -> Child {
    child_with_ring(dir, spool, settings, None, pipes)
}

pub fn child_with_ring(
    dir: &Path,
    spool: &OwnedFd,
    settings: Settings,
    ring: Option<&OwnedFd>,
    pipes: [&OwnedFd; 2],
) -> Child {
    let ring = ring.map_or(-1, AsRawFd::as_raw_fd);
    let mut child =
        spawn(dir, [spool.as_raw_fd(), ring, pipes[0].as_raw_fd(), pipes[1].as_raw_fd()], settings);
    let mut said = Vec::new();
    let out = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while !said.ends_with(b"attached\n") && out.read(&mut byte).unwrap() == 1 {
        said.push(byte[0]);
    }
    assert!(said.ends_with(b"attached\n"), "{}", String::from_utf8_lossy(&said));
    child
}

fn spawn(dir: &Path, fds: [RawFd; 4], settings: Settings) -> Child {
    let rest = serde_json::to_string(&(settings, dir)).unwrap();
    let role = format!("{} {} {} {} {rest}", fds[0], fds[1], fds[2], fds[3]);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::logger", "--exact", "--nocapture"]).env(ROLE, role).stdout(Stdio::piped());
    // SAFETY: fcntl is async-signal-safe; the descriptors are open in the child, copied by fork.
    unsafe {
        command.pre_exec(move || {
            fds.iter().for_each(|fd| {
                libc::fcntl(*fd, libc::F_SETFD, 0);
            });
            Ok(())
        });
    }
    command.spawn().unwrap()
}

/// Numbered lines of changing length, some longer than max_line, in writes that end anywhere.
fn line(n: u64) -> Vec<u8> {
    let long = if n.is_multiple_of(97) { 3000 } else { (n * 7919 % 180) as usize };
    format!("{n} {}\n", "x".repeat(long)).into_bytes()
}

fn write_numbers(mut to: File, stop: Arc<AtomicBool>, seed: u64) -> u64 {
    let (mut n, mut pending, mut rng) = (0, Vec::new(), seed);
    loop {
        while pending.len() < 8192 {
            pending.extend(line(n));
            n += 1;
        }
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let part = (rng >> 33) as usize % 8000 + 1;
        to.write_all(&pending[..part]).unwrap();
        pending.drain(..part);
        if rng.is_multiple_of(16) {
            std::thread::sleep(Duration::from_micros(300));
        }
        if stop.load(Ordering::Relaxed) {
            to.write_all(&pending).unwrap();
            return n;
        }
    }
}

fn kills(driver: Driver, kills: u64) {
    let dir = Folder::new();
    let logs = dir.0.join("logs");
    let fifos = [Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err")];
    let pipes = [fifos[0].read_end(), fifos[1].read_end()];
    let first = Spool::create().unwrap();
    let spool = first.fd().try_clone_to_owned().unwrap();
    drop(first);
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = fifos
        .iter()
        .enumerate()
        .map(|(n, fifo)| {
            let (to, stop) = (fifo.container.try_clone().unwrap(), stop.clone());
            std::thread::spawn(move || write_numbers(to, stop, n as u64))
        })
        .collect();
    let (mut interrupted, mut rng) = (0, 1u64);
    for n in 0..kills {
        let mut child = child(&logs, &spool, settings(driver), [&pipes[0], &pipes[1]]);
        rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
        std::thread::sleep(Duration::from_micros((rng >> 33) % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut look = Spool::adopt(spool.try_clone().unwrap()).unwrap();
        interrupted += u64::from(look.pending().unwrap().is_some());
    }
    stop.store(true, Ordering::Relaxed);
    // The writers may be in a full pipe: the last logger, in this process, empties it.
    let spool = Spool::adopt(spool).unwrap();
    let engine = start(&logs, spool, driver, pipes.map(Some));
    let counts: Vec<u64> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    engine.detach("web").blocking_recv().unwrap();
    for (stream, count) in ["stdout", "stderr"].into_iter().zip(counts) {
        let expected: Vec<u8> = (0..count).flat_map(line).collect();
        let found = written(&logs, "web", stream);
        let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
        let around = |bytes: &[u8]| {
            String::from_utf8_lossy(
                &bytes[same.saturating_sub(60).min(bytes.len())..(same + 60).min(bytes.len())],
            )
            .into_owned()
        };
        assert!(
            found == expected,
            "{stream}: {} bytes of {}; first difference at {same}: {:?} instead of {:?}",
            found.len(),
            expected.len(),
            around(&found),
            around(&expected)
        );
        println!("{driver:?} {stream}: {count} lines, {} bytes", found.len());
    }
    println!(
        "{interrupted} of {kills} kills interrupted a transfer; {} segments",
        list(&logs.join("web")).unwrap().len()
    );
    assert!(interrupted > 0, "no kill hit a transfer: this test shows nothing");
}

#[test]
fn a_hundred_kills_lose_and_double_nothing() {
    kills(Driver::Local, 100);
}

#[test]
fn nor_do_they_with_json_files() {
    kills(Driver::JsonFile, 25);
}

// ---- each point where it can die, one by one -------------------------------------------------------------------------

struct Stage {
    dir: Folder,
    fifo: Fifo,
    pipe: OwnedFd,
    spool: Spool,
    slot: usize,
}

/// A line is held, a segment has one record; "two\nthree" is in the pipe.
fn stage() -> Stage {
    let dir = Folder::new();
    let fifo = Fifo::new(&dir.0, "out");
    let pipe = fifo.read_end();
    let spool = Spool::create().unwrap();
    let kept = spool.fd().try_clone_to_owned().unwrap();
    let engine = start(&dir.0, spool, Driver::Local, [Some(pipe.try_clone().unwrap()), None]);
    (&fifo.container).write_all(b"one\nhe").unwrap();
    crate::world::soon("one", Duration::from_secs(5), || records(&dir.0, "web").len() == 1);
    drop(engine);
    (&fifo.container).write_all(b"ld\nthree").unwrap();
    let spool = Spool::adopt(kept).unwrap();
    let slot = spool.find("web", 0).unwrap();
    assert_eq!(spool.tail(slot), b"he");
    Stage { dir, fifo, pipe, spool, slot }
}

impl Stage {
    fn segment(&self) -> PathBuf {
        self.dir.0.join("web/0000000001.log")
    }

    fn arm(&mut self) {
        let bytes = fs::metadata(self.segment()).unwrap().len();
        let (segment, settings) = (Number(1), settings(Driver::Local));
        self.spool.arm(&Transfer {
            slot: self.slot,
            segment,
            bytes,
            time: 0,
            flush: false,
            allowed: None,
            settings,
            gap: None,
        });
    }

    fn append(&self, text: &[u8]) {
        fs::OpenOptions::new().append(true).open(self.segment()).unwrap().write_all(text).unwrap();
    }

    /// The worker is gone; the next one finds the spool as it is now.
    fn die(self) {
        let kept = self.spool.fd().try_clone_to_owned().unwrap();
        drop(self.spool);
        let engine = start(&self.dir.0, Spool::adopt(kept).unwrap(), Driver::Local, [Some(self.pipe), None]);
        engine.detach("web").blocking_recv().unwrap();
        let all: Vec<(bool, String)> =
            records(&self.dir.0, "web").into_iter().map(|(_, end, text)| (end, text)).collect();
        let expected =
            [(true, "one"), (true, "held"), (false, "three")].map(|(end, text)| (end, text.to_owned()));
        assert_eq!(all, expected);
        drop(self.fifo);
    }
}

#[test]
fn killed_before_anything() {
    stage().die();
}

#[test]
fn killed_when_armed() {
    let mut stage = stage();
    stage.arm();
    stage.die();
}

#[test]
fn killed_after_the_read() {
    let mut stage = stage();
    stage.arm();
    assert_eq!(stage.spool.take(std::os::fd::AsFd::as_fd(&stage.pipe), usize::MAX), Ok(8));
    stage.die();
}

#[test]
fn killed_within_the_write() {
    let mut stage = stage();
    stage.arm();
    stage.spool.take(std::os::fd::AsFd::as_fd(&stage.pipe), usize::MAX).unwrap();
    stage.append(b"2026-11-25T01:36:53.12345");
    stage.die();
}

#[test]
fn killed_after_the_write_and_a_rotation() {
    let mut stage = stage();
    stage.arm();
    stage.spool.take(std::os::fd::AsFd::as_fd(&stage.pipe), usize::MAX).unwrap();
    stage.append(b"2026-11-25T01:36:53.123456789Z stdout F held\n");
    fs::write(stage.dir.0.join("web/0000000002.log"), b"2026-11-25T01:36:53.123456789Z stdout F held\n")
        .unwrap();
    stage.die();
}

#[test]
fn killed_after_the_commit() {
    let mut stage = stage();
    stage.arm();
    stage.spool.take(std::os::fd::AsFd::as_fd(&stage.pipe), usize::MAX).unwrap();
    stage.append(b"2026-11-25T01:36:53.123456789Z stdout F held\n");
    let slot = stage.slot;
    stage.spool.commit(slot, Rest { tail: false, from: 3 }, State::default()).unwrap();
    // As if it had not come to the rewind.
    let at = rustix::fs::SeekFrom::Current(8);
    rustix::fs::seek(stage.spool.fd(), at).unwrap();
    stage.die();
}

//! A service that writes any bytes in any pieces at any speed, with each driver and `on_full`, while the worker is killed: nothing is
//! missing, and nothing is there twice but in the journal, where up to 64 KiB may be.
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logging::config::{Driver, OnFull, Settings};
use logging::spool::{READ_BYTES_MAX, Spool};

use crate::crash::{child, start_with};
use crate::journal::Listener;
use crate::world::{Fifo, Folder, written};

const KILLS: u64 = 12;
const BYTES: usize = 2 << 20;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Numbered lines of any bytes: many empty or short ones, some of several parts.
fn bytes(seed: u64, kinds: u64) -> Vec<u8> {
    let (mut random, mut all, mut n) = (Random(seed), Vec::new(), 0usize);
    while all.len() < BYTES {
        let most = if n % 200 == 0 { 150_000 } else { [1, 10, 300, 3000][n % 4] };
        write!(&mut all, "{seed}:{n} ").unwrap();
        all.extend((0..random.below(most)).map(|_| random.below(kinds) as u8).filter(|byte| *byte != b'\n'));
        all.push(b'\n');
        n += 1;
    }
    all
}

fn write_in_pieces(mut to: File, all: &[u8], seed: u64) {
    let (mut random, mut rest) = (Random(seed), all);
    while !rest.is_empty() {
        let most = [3, 5000, 70_000][random.below(3) as usize];
        let (piece, later) = rest.split_at(rest.len().min(1 + random.below(most) as usize));
        to.write_all(piece).unwrap();
        rest = later;
        if random.below(20) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(3000)));
        }
    }
}

/// What the journal has of a stream, put together: each entry is the next, or one of the last 64 KiB again.
#[derive(Default)]
struct Heard {
    at: usize,
    most: usize,
}

impl Heard {
    fn hear(&mut self, text: &[u8], all: &[u8]) {
        let is_at = |at: usize| all[at..].starts_with(text);
        let earliest = self.most.saturating_sub(READ_BYTES_MAX);
        let at =
            if is_at(self.at) { Some(self.at) } else { (earliest..self.most).rev().find(|at| is_at(*at)) };
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]);
        self.at = at.unwrap_or_else(|| panic!("not after byte {}: {shown:?}", self.at)) + text.len();
        self.most = self.most.max(self.at);
    }
}

fn listen(listener: Listener, all: Arc<[Vec<u8>; 2]>) {
    let mut heard = [Heard::default(), Heard::default()];
    let mut random = Random(7);
    while !(0..2).all(|n| heard[n].most == all[n].len()) {
        let mut entry = listener.next();
        let mut text = entry.remove("MESSAGE").unwrap();
        assert!(!text.starts_with(b"dropped "), "{}", String::from_utf8_lossy(&text));
        if !entry.contains_key("CONTAINER_PARTIAL_MESSAGE") {
            text.push(b'\n');
        }
        let n = usize::from(entry["SAMPAN_STREAM"] == b"stderr");
        heard[n].hear(&text, &all[n]);
        if random.below(2000) == 0 {
            std::thread::sleep(Duration::from_millis(random.below(60)));
        }
    }
}

fn attack(dir: &Path, settings: Settings) {
    let logs = dir.join("logs");
    let listener = Listener::new(&dir.join("socket"));
    // What is not UTF-8 is replaced in json-file, as docker does.
    let kinds = if settings.driver == Driver::JsonFile { 128 } else { 256 };
    let all = Arc::new([bytes(1, kinds), bytes(2, kinds)]);
    let journald = settings.driver == Driver::Journald;
    let listens = journald.then(|| {
        let all = all.clone();
        std::thread::spawn(move || listen(listener, all))
    });
    let fifos = [Fifo::new(dir, "out"), Fifo::new(dir, "err")];
    let pipes = [fifos[0].read_end(), fifos[1].read_end()];
    let spool = Spool::create().unwrap().fd().try_clone_to_owned().unwrap();
    let writers = [0, 1].map(|n| {
        let (to, all) = (fifos[n].container.try_clone().unwrap(), all.clone());
        std::thread::spawn(move || write_in_pieces(to, &all[n], n as u64))
    });
    let mut random = Random(3);
    for _ in 0..KILLS {
        let mut child = child(&logs, &spool, settings, [&pipes[0], &pipes[1]]);
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let engine = start_with(&logs, Spool::adopt(spool).unwrap(), settings, pipes.map(Some));
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    engine.detach("web").blocking_recv().unwrap();
    match listens {
        Some(listens) => listens.join().unwrap(),
        None => {
            for (stream, all) in ["stdout", "stderr"].into_iter().zip(&*all) {
                let found = written(&logs, "web", stream);
                let same = found.iter().zip(all).take_while(|(a, b)| a == b).count();
                assert!(
                    found == *all,
                    "{settings:?} {stream}: {} of {}, same up to {same}",
                    found.len(),
                    all.len()
                );
            }
        }
    }
}

fn each_mode(driver: Driver) {
    for on_full in [OnFull::Drop, OnFull::Block] {
        for max_line in [1024, 64 << 10] {
            let dir = Folder::new();
            let settings = Settings {
                driver,
                on_full,
                max_line,
                max_size: 256 << 10,
                max_file: 10_000,
                ..Settings::default()
            };
            attack(&dir.0, settings);
        }
    }
}

#[test]
fn any_bytes_are_in_the_log_of_local() {
    each_mode(Driver::Local);
}

#[test]
fn any_bytes_are_in_the_log_of_json_file() {
    each_mode(Driver::JsonFile);
}

#[test]
fn any_bytes_are_in_the_journal() {
    each_mode(Driver::Journald);
}

/// As a power failure leaves it on some file systems: longer than any record.
#[test]
fn zeros_at_the_end_of_a_segment_are_cut_off() {
    const RECORD: &[u8] = b"2026-12-01T08:00:00.000000000Z stdout F first\n";
    for zeros in [1, 4096, 3 << 20] {
        let dir = Folder::new();
        let (logs, out) = (dir.0.join("logs"), Fifo::new(&dir.0, "out"));
        std::fs::create_dir_all(logs.join("web")).unwrap();
        let segment = logs.join("web/0000000001.log");
        std::fs::write(&segment, [RECORD, &vec![0; zeros]].concat()).unwrap();
        let pipes = [Some(out.read_end()), None];
        let engine = start_with(&logs, Spool::create().unwrap(), Settings::default(), pipes);
        writeln!(&out.container, "second").unwrap();
        engine.detach("web").blocking_recv().unwrap();
        assert_eq!(written(&logs, "web", "stdout"), b"first\nsecond\n", "{zeros}");
        assert!(!std::fs::read(&segment).unwrap().contains(&0), "{zeros}");
    }
}

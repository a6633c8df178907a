//! The ring alone, against a model: what comes out of it is what went in, but for whole lines that it says are missing.
use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use logging::config::{Buffer, Drops, Settings};
use logging::engine::Engine;
use logging::ring::Ring;
use logging::segments::Number;
use logging::spool::{Gap, Spool, Transfer};
use proptest::prelude::*;

use crate::world::{Fifo, Folder, written};

fn buffer(bytes: u64, drops: Drops) -> Buffer {
    Buffer { bytes, drops }
}

fn kept(ring: &Ring) -> OwnedFd {
    ring.keep(|fd| fd.try_clone_to_owned().unwrap())
}

/// As the logging thread does it.
struct Taker {
    spool: Spool,
    slots: [usize; 2],
}

impl Taker {
    fn new() -> Taker {
        let mut spool = Spool::create().unwrap();
        let slots = [0, 1].map(|stream| spool.claim("web", stream).unwrap());
        Taker { spool, slots }
    }

    fn arm(&mut self, stream: usize) {
        self.spool.arm(&Transfer {
            slot: self.slots[stream],
            segment: Number(0),
            bytes: 0,
            time: 1,
            flush: false,
            allowed: None,
            settings: Settings::default(),
            gap: Some(Gap::default()),
        });
    }

    fn take(&mut self, ring: &Ring, most: usize) -> Option<(usize, Gap, Vec<u8>)> {
        let front = ring.front()?;
        let stream = front.stream;
        self.arm(stream);
        let (taken, gap) = front.take(&mut self.spool, most);
        let bytes = self.spool.data().to_vec();
        assert_eq!(taken, bytes.len());
        self.spool.disarm(self.slots[stream]).unwrap();
        Some((stream, gap, bytes))
    }
}

/// What has come out of one stream, as a log would have it.
#[derive(Default)]
struct Log {
    /// Whole lines; None where some are missing.
    lines: Vec<Option<String>>,
    open: Vec<u8>,
    lost: (u64, u64),
    kept_bytes: u64,
}

impl Log {
    fn add(&mut self, gap: &Gap, bytes: &[u8]) {
        if gap.cut {
            self.lost.1 += self.open.len() as u64;
            self.open.clear();
        }
        if !gap.loss.is_empty() {
            assert!(self.open.is_empty(), "a line is torn: {:?}", String::from_utf8_lossy(&self.open));
            self.lines.push(None);
            self.lost = (self.lost.0 + gap.loss.lines, self.lost.1 + gap.loss.bytes);
        }
        for byte in bytes {
            match byte {
                b'\n' => {
                    self.kept_bytes += self.open.len() as u64 + 1;
                    self.lines.push(Some(String::from_utf8(std::mem::take(&mut self.open)).unwrap()));
                }
                byte => self.open.push(*byte),
            }
        }
    }
}

struct World {
    ring: Ring,
    taker: Taker,
    pipes: [(std::io::PipeReader, std::io::PipeWriter); 2],
    /// What was written, and is not in the ring yet.
    waiting: [VecDeque<u8>; 2],
    logs: [Log; 2],
}

impl World {
    fn new(buffer: Buffer) -> World {
        let pipes = [0, 1].map(|_| std::io::pipe().unwrap());
        let (ring, taker) = (Ring::create(buffer).unwrap(), Taker::new());
        World { ring, taker, pipes, waiting: Default::default(), logs: Default::default() }
    }

    fn write(&mut self, stream: usize, bytes: &[u8]) {
        self.waiting[stream].extend(bytes);
    }

    /// So much of what waits is read.
    fn fill(&mut self, stream: usize, most: usize) {
        let some: Vec<u8> = self.waiting[stream].drain(..most.min(self.waiting[stream].len())).collect();
        self.pipes[stream].1.write_all(&some).unwrap();
        let mut left = some.len();
        while left > 0 {
            left -= self.ring.fill(stream, self.pipes[stream].0.as_fd()).unwrap();
        }
    }

    fn take(&mut self, most: usize) -> bool {
        let Some((stream, gap, bytes)) = self.taker.take(&self.ring, most) else { return false };
        self.logs[stream].add(&gap, &bytes);
        true
    }

    fn crash(&mut self) {
        self.ring = Ring::adopt(kept(&self.ring)).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Fill(usize, usize),
    Take(usize),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..2, prop_oneof![6 => 0usize..200, 1 => 3000usize..9000]).prop_map(|(s, n)| Step::Write(s, n)),
        4 => (0usize..2, 1usize..5000).prop_map(|(s, n)| Step::Fill(s, n)),
        2 => (1usize..6000).prop_map(Step::Take),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..300)
}

fn check(drops: Drops, bytes: u64, steps: &[Step]) {
    let mut world = World::new(buffer(bytes, drops));
    let mut written: [Vec<String>; 2] = Default::default();
    for step in steps {
        match *step {
            Step::Write(stream, length) => {
                let line = format!("{} {}", written[stream].len(), "x".repeat(length));
                world.write(stream, format!("{line}\n").as_bytes());
                written[stream].push(line);
            }
            Step::Fill(stream, most) => world.fill(stream, most),
            Step::Take(most) => drop(world.take(most)),
            Step::Crash => world.crash(),
        }
    }
    // To the end, without any hurry.
    for stream in [0, 1] {
        while !world.waiting[stream].is_empty() {
            while world.take(4096) {}
            world.fill(stream, 2000);
        }
    }
    while world.take(4096) {}
    assert!(world.ring.is_empty());
    for (stream, log) in world.logs.iter().enumerate() {
        assert!(log.open.is_empty());
        let mut expected = written[stream].iter();
        let mut missing = 0;
        for line in &log.lines {
            match line {
                Some(line) => {
                    let skipped = expected.by_ref().take_while(|of| *of != line).count() as u64;
                    assert!(
                        skipped == 0 || missing > 0,
                        "{skipped} lines are missing before {line:.20}, and nothing says so"
                    );
                    missing = 0;
                }
                None => missing += 1,
            }
        }
        let count = log.lines.iter().flatten().count() as u64 + log.lost.0;
        let all: u64 = written[stream].iter().map(|line| line.len() as u64 + 1).sum();
        assert_eq!((count, log.kept_bytes + log.lost.1), (written[stream].len() as u64, all), "lines, bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whole_lines_in_order_and_each_missing_one_is_counted(steps in steps(), newest in any::<bool>(), bytes in 4096u64..40_000) {
        check(if newest { Drops::Newest } else { Drops::Oldest }, bytes, &steps);
    }
}

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| format!("line {n:04}\n")).collect()
}

/// What is in it: the lines of the first stream, and what is said to be missing before each piece.
fn all(world: &mut World) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    while let Some((_, gap, bytes)) = world.taker.take(&world.ring, 1 << 16) {
        all.push((gap.loss.lines, String::from_utf8(bytes).unwrap()));
    }
    all
}

#[test]
fn the_oldest_or_the_newest_go() {
    for drops in [Drops::Oldest, Drops::Newest] {
        let mut world = World::new(buffer(4096, drops));
        for n in 0..10 {
            world.write(0, lines(100 * n, 100 * (n + 1)).as_bytes());
            world.fill(0, 1000);
        }
        let found = all(&mut world);
        let (first, last) = (found.first().unwrap().0, found.last().unwrap().0);
        let text: String = found.into_iter().map(|(_, text)| text).collect();
        let kept = text.lines().count() as u64;
        // Of ten bytes each; the reads that brought them take some as well.
        assert!((390..410).contains(&kept), "{drops:?}: {kept}");
        let (missing, expected) = match drops {
            Drops::Oldest => (first, lines(1000 - kept as usize, 1000)),
            Drops::Newest => (last, lines(0, kept as usize)),
        };
        assert!(text == expected && missing + kept == 1000, "{drops:?}: {kept} kept, {missing} missing");
        world.write(0, lines(1000, 1010).as_bytes());
        world.fill(0, 1000);
        assert_eq!(all(&mut world), [(0, lines(1000, 1010))]);
    }
}

/// The worker is killed between the two commits: what the spool has is not in the ring any more, and the other way round.
#[test]
fn what_is_taken_is_in_one_of_the_two() {
    let mut world = World::new(buffer(4096, Drops::Oldest));
    world.write(0, lines(0, 10).as_bytes());
    world.fill(0, 1000);
    let before = kept(&world.ring);
    let mut state = vec![0; 4096];
    let mut copy = |file: &OwnedFd, write: bool| {
        let mut at = 0;
        while at < state.len() {
            at += match write {
                true => rustix::io::pwrite(file, &state[at..], at as u64).unwrap(),
                false => rustix::io::pread(file, &mut state[at..], at as u64).unwrap(),
            };
        }
    };
    // The words as they were before, but for the state that was prepared: it is the same at every take.
    let front = world.ring.front().unwrap();
    world.taker.arm(front.stream);
    copy(&before, false);
    front.take(&mut world.taker.spool, 1 << 16);
    let mut commit = [0; 8];
    commit.copy_from_slice(&state[24..32]);
    rustix::io::pwrite(&before, &commit, 24).unwrap();
    let spool = world.taker.spool.fd().try_clone_to_owned().unwrap();
    let mut spool = Spool::adopt(spool).unwrap();
    let pending = spool.pending().unwrap().unwrap();
    assert_eq!((spool.data(), pending.gap), (lines(0, 10).as_bytes(), Some(Gap::default())));
    let ring = Arc::new(Ring::adopt(kept(&world.ring)).unwrap());
    assert!(!ring.is_empty(), "the commit of the ring is what is missing");
    let dir = Folder::new();
    let rings = [("web".to_owned(), ring.clone())].into();
    drop(Engine::go_on(dir.0.clone(), spool, rings, Box::new(|_, _, _| ())).unwrap());
    assert!(ring.is_empty());
    assert_eq!(String::from_utf8(written(&dir.0, "web", "stdout")).unwrap(), lines(0, 10));
    // Before the spool has it, it is in the ring alone.
    let mut world = World::new(buffer(4096, Drops::Oldest));
    world.write(0, lines(0, 10).as_bytes());
    world.fill(0, 1000);
    world.taker.arm(0);
    let mut spool = Spool::adopt(world.taker.spool.fd().try_clone_to_owned().unwrap()).unwrap();
    assert_eq!(spool.pending().unwrap().unwrap().gap, Some(Gap::default()));
    assert_eq!((spool.data(), spool.ring_commit()), (&b""[..], None));
    assert_eq!(all(&mut world), [(0, lines(0, 10))]);
}

/// It was killed between the call that took it off the pipe and the commit.
#[test]
fn what_was_read_and_not_committed_is_there() {
    for drops in [Drops::Oldest, Drops::Newest] {
        let mut world = World::new(buffer(4096, drops));
        world.write(0, lines(0, 10).as_bytes());
        world.fill(0, 1000);
        // It looks once more, and finds nothing: that arms the next one.
        let nothing = world.ring.fill(0, world.pipes[0].0.as_fd());
        assert!(nothing.is_err(), "{nothing:?}");
        let file = kept(&world.ring);
        world.pipes[0].1.write_all(lines(10, 20).as_bytes()).unwrap();
        let flags = rustix::pipe::SpliceFlags::NONBLOCK;
        rustix::pipe::splice(world.pipes[0].0.as_fd(), None, &file, None, 1 << 16, flags).unwrap();
        world.crash();
        let found: String = all(&mut world).into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, lines(0, 20), "{drops:?}");
        world.crash();
        assert!(world.ring.is_empty());
    }
}

#[test]
fn another_file_is_no_ring() {
    let empty = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let spool = Spool::create().unwrap().fd().try_clone_to_owned().unwrap();
    for fd in [empty, spool] {
        let error = Ring::adopt(fd).err().unwrap().to_string();
        assert_eq!(error, "what was kept is no ring of this version");
    }
}

#[test]
fn a_ring_is_read_to_its_end_however_small_its_pieces_are() {
    const PIECES: usize = 70_000;
    let dir = Folder::new();
    let ring = Arc::new(Ring::create(buffer(16 << 20, Drops::Oldest)).unwrap());
    let fifos = [Fifo::new(&dir.0, "out"), Fifo::new(&dir.0, "err")];
    let pipes = [fifos[0].read_end(), fifos[1].read_end()];
    // Those of one stream behind each other would be one piece.
    for n in (0..PIECES).map(|n| n % 2) {
        (&fifos[n].container).write_all(b"x\n").unwrap();
        assert_eq!(ring.fill(n, pipes[n].as_fd()).unwrap(), 2);
    }
    let rings = [("web".to_owned(), ring.clone())].into();
    let logs = dir.0.join("logs");
    let engine =
        Engine::go_on(logs.clone(), Spool::create().unwrap(), rings, Box::new(|_, _, _| ())).unwrap();
    engine.retain(Vec::new()).blocking_recv().unwrap();
    assert!(ring.is_empty());
    let written = ["stdout", "stderr"].map(|stream| written(&logs, "web", stream).len());
    assert_eq!(written, [PIECES; 2]);
}

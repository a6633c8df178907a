//! Where bytes are between a pipe and a segment: a memfd that the keel keeps, so that `kill -9` of the worker loses nothing.
//!
//! ```text
//!  offset 0   Head    what is being done: which slot, which segment, its length before
//!         4K  Slots   one per stream: name, and which of its two halves is true
//!         ..  data    64 KiB, what was taken off a pipe last
//!         ..  halves  2 x 64 KiB per slot: the tail of an unfinished line (pages exist only where written)
//!
//!  arm (Head, then `armed` = n)  ->  splice  ->  append to the segment  ->  other half, then slot.commit = n  ->  rewind
//! ```
//! After a crash `armed` without its `commit` means: cut the segment to the length in Head and do it again. How much had left
//! the pipe is not for us to write down, we might die before: splice(2) moves the position of the memfd's open file, which the
//! keel shares, in the same call. So the three questions have one answer each at every instant: was it armed (one store), how
//! much was taken (the kernel's position), was it done (one store, which also says which half is the tail).
#![allow(unsafe_code)]
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use rustix::io::Errno;

use crate::config::{Driver, LINE_BYTES_MAX, OnFull, Settings};
use crate::memory::{self, Memory, Words};
use crate::record::Rest;
use crate::segments::Number;

/// The first bytes of a spool, version included: another layout is another magic.
const MAGIC: u64 = u64::from_le_bytes(*b"sp-logs3");
const SLOTS_MAX: usize = 2048;
pub const NAME_BYTES_MAX: usize = 192;
/// Of one read: 64 KiB stay in L2; 1 MiB reads were four times slower.
pub const READ_BYTES_MAX: usize = 64 * 1024;
const HALF_BYTES: usize = LINE_BYTES_MAX as usize;

const SLOTS_AT: usize = 4096;
const DATA_AT: usize = SLOTS_AT + SLOTS_MAX * size_of::<Slot>();
const HALVES_AT: usize = DATA_AT + READ_BYTES_MAX;
const BYTES: usize = HALVES_AT + SLOTS_MAX * 2 * HALF_BYTES;

#[repr(C)]
struct Head {
    magic: AtomicU64,
    /// Slots ever used: no others need a look.
    slots: AtomicU64,
    armed: AtomicU64,
    slot: AtomicU64,
    segment: AtomicU64,
    bytes: AtomicU64,
    time: AtomicU64,
    flush: AtomicU64,
    driver: AtomicU64,
    max_size: AtomicU64,
    max_line: AtomicU64,
    /// 0: all of it, else one more than the bytes.
    allowed: AtomicU64,
    blocks: AtomicU64,
    /// Not 0: the data is not what was spliced, but comes out of a ring.
    of_ring: AtomicU64,
    /// 0 until the data is here: then that commit of the ring without it.
    ring_commit: AtomicU64,
    /// Bytes of data out of a ring, what is missing before it, and whether the line before lost its end.
    ring_bytes: AtomicU64,
    ring_lost: [AtomicU64; 4],
    ring_cut: AtomicU64,
}

/// A part of this line is in the segment already.
const MID: u64 = 1;
/// Of what was lost: see `Loss`.
const UNKNOWN: u64 = 2;

#[repr(C)]
struct Half {
    bytes: AtomicU64,
    /// `MID`, `UNKNOWN`.
    flags: AtomicU64,
    /// The time of that part.
    time: AtomicU64,
    /// What was dropped of this stream and not yet said to have been: see `Loss`.
    lost: [AtomicU64; 4],
}

#[repr(C)]
struct Slot {
    /// `armed` of the last transfer done, times 2, plus which half is true.
    commit: AtomicU64,
    /// Bytes of the name; 0 = free.
    used: AtomicU64,
    stream: AtomicU64,
    halves: [Half; 2],
    name: [AtomicU8; NAME_BYTES_MAX],
}

/// What is about to be done with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    pub slot: usize,
    pub segment: Number,
    pub bytes: u64,
    pub time: u64,
    pub flush: bool,
    /// So many bytes of it may be written, the rest is dropped. None: all of it.
    pub allowed: Option<u64>,
    pub settings: Settings,
    /// What is missing before the data. None: that came off the pipe itself, where nothing is ever missing.
    pub gap: Option<Gap>,
}

/// Records that could not be written, of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    pub lines: u64,
    pub bytes: u64,
    /// The times of the first and of the last of them.
    pub from: u64,
    pub to: u64,
    /// And others of which nobody knows how many: whoever read and counted them is dead.
    pub unknown: bool,
}

impl Loss {
    pub fn is_empty(&self) -> bool {
        (self.lines, self.bytes, self.unknown) == (0, 0, false)
    }

    pub fn add(&mut self, lines: u64, bytes: u64, time: u64) {
        if self.is_empty() {
            self.from = time;
        }
        self.lines += lines;
        self.bytes += bytes;
        self.to = time;
    }

    /// And what was lost after it.
    pub fn extend(&mut self, later: &Loss) {
        if !later.is_empty() {
            self.add(later.lines, later.bytes, later.from);
            (self.to, self.unknown) = (later.to, self.unknown || later.unknown);
        }
    }
}

/// What a ring has dropped before the data: whole lines. `cut`: one of them had begun before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    pub loss: Loss,
    pub cut: bool,
}

/// What goes from one transfer to the next beside the bytes of an unfinished line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// A part of the line is in the segment already, with this time.
    pub mid: bool,
    pub time: u64,
    pub loss: Loss,
}

/// An unfinished line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carry {
    pub bytes: usize,
    pub state: State,
}

impl Carry {
    /// Neither anything to be written nor anything to be said.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0 && self.state.loss.is_empty()
    }
}

pub struct Spool {
    memory: Memory,
    /// Bytes of data.
    taken: usize,
    armed: u64,
}

// SAFETY: atomics alone.
unsafe impl Words for Head {}
// SAFETY: atomics alone.
unsafe impl Words for Slot {}

impl Spool {
    pub fn create() -> io::Result<Spool> {
        let mut memory = Memory::create("sampan-logging-spool", DATA_AT, BYTES)?;
        memory.seek(DATA_AT)?;
        let spool = Spool { memory, taken: 0, armed: 0 };
        spool.head().magic.store(MAGIC, Ordering::Release);
        Ok(spool)
    }

    /// The one of an earlier worker.
    pub fn adopt(fd: OwnedFd) -> io::Result<Spool> {
        let memory = Memory::adopt(fd, DATA_AT, BYTES)?;
        let other = || io::Error::other("what was kept is no spool of this version");
        let mut spool = Spool { memory: memory.ok_or_else(other)?, taken: 0, armed: 0 };
        if spool.head().magic.load(Ordering::Acquire) != MAGIC {
            return Err(other());
        }
        spool.taken = spool.memory.position()?.saturating_sub(DATA_AT).min(READ_BYTES_MAX);
        spool.armed = spool.head().armed.load(Ordering::Acquire);
        Ok(spool)
    }

    /// For the keel: it must share the open file, not open it anew.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memory.fd()
    }

    // ---- one transfer ----------------------------------------------------------------------------------------------------

    /// From here to `commit`, a crash means that `transfer` is done again.
    pub fn arm(&mut self, transfer: &Transfer) {
        let head = self.head();
        head.slot.store(transfer.slot as u64, Ordering::Relaxed);
        head.segment.store(transfer.segment.0, Ordering::Relaxed);
        head.bytes.store(transfer.bytes, Ordering::Relaxed);
        head.time.store(transfer.time, Ordering::Relaxed);
        head.flush.store(transfer.flush.into(), Ordering::Relaxed);
        let driver = match transfer.settings.driver {
            Driver::Local => 0,
            Driver::JsonFile => 1,
            Driver::Journald => 2,
        };
        head.driver.store(driver, Ordering::Relaxed);
        head.max_size.store(transfer.settings.max_size, Ordering::Relaxed);
        head.max_line.store(transfer.settings.max_line, Ordering::Relaxed);
        let allowed = transfer.allowed.map_or(0, |bytes| bytes.saturating_add(1));
        head.allowed.store(allowed, Ordering::Relaxed);
        head.blocks.store((transfer.settings.on_full == OnFull::Block).into(), Ordering::Relaxed);
        head.of_ring.store(transfer.gap.is_some().into(), Ordering::Relaxed);
        head.ring_commit.store(0, Ordering::Relaxed);
        let next = self.armed + 1;
        // Our own death is no reordering of memory, but the compiler's order has to be this one.
        head.armed.store(next, Ordering::Release);
        self.armed = next;
    }

    /// Takes what there is off the pipe, `most` bytes at most: 0 at its end, `Errno::AGAIN` if it is empty.
    pub fn take(&mut self, pipe: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        self.taken = memory::take(pipe, self.memory.fd(), most.min(READ_BYTES_MAX))?;
        Ok(self.taken)
    }

    /// Out of a ring, `READ_BYTES_MAX` at most in one transfer.
    pub fn push(&mut self, bytes: &[u8]) {
        self.memory.write(DATA_AT + self.taken, bytes);
        self.taken += bytes.len();
    }

    /// From now on what was pushed is here, and not in the ring: see ring/mod.rs.
    pub fn has_taken(&mut self, gap: Gap, commit: u64) {
        let head = self.head();
        let Loss { lines, bytes, from, to, unknown: _ } = gap.loss;
        for (field, value) in head.ring_lost.iter().zip([lines, bytes, from, to]) {
            field.store(value, Ordering::Relaxed);
        }
        head.ring_cut.store(gap.cut.into(), Ordering::Relaxed);
        head.ring_bytes.store(self.taken as u64, Ordering::Relaxed);
        head.ring_commit.store(commit, Ordering::Release);
    }

    /// The time of what was taken, so that doing it again writes the same bytes.
    pub fn set_time(&mut self, time: u64) {
        self.head().time.store(time, Ordering::Release);
    }

    pub fn data(&self) -> &[u8] {
        self.memory.bytes(DATA_AT, self.taken)
    }

    /// The transfer is done; `rest` of the tail and the data is the new tail.
    pub fn commit(&mut self, slot: usize, rest: Rest, state: State) -> io::Result<()> {
        let gone = if rest.tail { 0 } else { self.carry(slot).bytes };
        self.keep(slot, gone, rest.from, state)
    }

    /// The transfer is done: it was one of the tail alone, of which the first `gone` bytes are not needed any more.
    pub fn commit_of_tail(&mut self, slot: usize, gone: usize, state: State) -> io::Result<()> {
        self.keep(slot, gone, self.taken, state)
    }

    fn keep(&mut self, slot: usize, gone: usize, from: usize, state: State) -> io::Result<()> {
        let old = self.active(slot);
        let new = 1 - old;
        let had = self.carry(slot).bytes;
        let gone = gone.min(had);
        let (kept, from) = (had - gone, from.min(self.taken));
        let fresh = self.taken - from;
        if kept + fresh > HALF_BYTES || slot >= SLOTS_MAX {
            return Err(io::Error::other("an unfinished line is longer than the spool has room for"));
        }
        let to = half_at(slot, new);
        self.memory.copy(half_at(slot, old) + gone, to, kept);
        self.memory.copy(DATA_AT + from, to + kept, fresh);
        let half = &self.slot(slot).halves[new];
        half.bytes.store((kept + fresh) as u64, Ordering::Relaxed);
        let Loss { lines, bytes, from, to, unknown } = state.loss;
        let flag = |is: bool, flag: u64| if is { flag } else { 0 };
        half.flags.store(flag(state.mid, MID) | flag(unknown, UNKNOWN), Ordering::Relaxed);
        half.time.store(state.time, Ordering::Relaxed);
        for (field, value) in half.lost.iter().zip([lines, bytes, from, to]) {
            field.store(value, Ordering::Relaxed);
        }
        self.slot(slot).commit.store(self.armed << 1 | new as u64, Ordering::Release);
        self.rewind()
    }

    /// Between two transfers: of this stream something is missing before what comes next, and nobody knows how much.
    pub fn note_unknown(&mut self, slot: usize, time: u64) -> io::Result<()> {
        let mut state = self.carry(slot).state;
        state.loss.extend(&Loss { from: time, to: time, unknown: true, ..Loss::default() });
        self.keep(slot, 0, 0, state)
    }

    /// Nothing was to be done.
    pub fn disarm(&mut self, slot: usize) -> io::Result<()> {
        self.slot(slot).commit.store(self.armed << 1 | self.active(slot) as u64, Ordering::Release);
        self.rewind()
    }

    fn rewind(&mut self) -> io::Result<()> {
        if self.taken > 0 {
            self.memory.seek(DATA_AT)?;
            self.taken = 0;
        }
        Ok(())
    }

    /// After a crash: the transfer that was not done to its end.
    pub fn pending(&mut self) -> io::Result<Option<Transfer>> {
        let head = self.head();
        let load = |field: &AtomicU64| field.load(Ordering::Acquire);
        let slot = load(&head.slot) as usize;
        if self.armed == 0 || slot >= SLOTS_MAX || load(&self.slot(slot).commit) >> 1 == self.armed {
            self.rewind()?;
            return Ok(None);
        }
        let settings = Settings {
            driver: match load(&head.driver) {
                1 => Driver::JsonFile,
                2 => Driver::Journald,
                _ => Driver::Local,
            },
            max_size: load(&head.max_size),
            // Nothing is removed before a transfer is done.
            max_file: u32::MAX,
            max_line: load(&head.max_line).min(LINE_BYTES_MAX),
            on_full: if load(&head.blocks) == 1 { OnFull::Block } else { OnFull::Drop },
            ..Settings::default()
        };
        let (segment, bytes) = (Number(load(&head.segment)), load(&head.bytes));
        let (time, flush) = (load(&head.time), load(&head.flush) == 1);
        let allowed = load(&head.allowed).checked_sub(1);
        let has_data = load(&head.ring_commit) != 0;
        let gap = (load(&head.of_ring) == 1).then(|| {
            let [lines, bytes, from, to] = head.ring_lost.each_ref().map(load);
            Gap { loss: Loss { lines, bytes, from, to, unknown: false }, cut: load(&head.ring_cut) == 1 }
        });
        let gap = gap.map(|gap| if has_data { gap } else { Gap::default() });
        if gap.is_some() {
            let bytes = if has_data { load(&head.ring_bytes) } else { 0 };
            self.taken = (bytes as usize).min(READ_BYTES_MAX);
        }
        Ok(Some(Transfer { slot, segment, bytes, time, flush, allowed, settings, gap }))
    }

    /// The commit of the ring that the pending transfer has its data from, if it has some.
    pub fn ring_commit(&self) -> Option<u64> {
        let load = |field: &AtomicU64| field.load(Ordering::Acquire);
        let commit = load(&self.head().ring_commit);
        (load(&self.head().of_ring) == 1 && commit != 0).then_some(commit)
    }

    // ---- slots -------------------------------------------------------------------------------------------------------

    /// The slot of a stream, with its tail if it had one before a crash.
    pub fn claim(&mut self, service: &str, stream: usize) -> io::Result<usize> {
        if let Some(slot) = self.find(service, stream) {
            return Ok(slot);
        }
        if service.is_empty() || service.len() > NAME_BYTES_MAX {
            return Err(io::Error::other(format!("a name has 1 to {NAME_BYTES_MAX} bytes")));
        }
        let used = self.head().slots.load(Ordering::Relaxed) as usize;
        let free = (0..used.min(SLOTS_MAX)).find(|n| self.slot(*n).used.load(Ordering::Relaxed) == 0);
        let n = match free {
            Some(n) => n,
            None if used < SLOTS_MAX => used,
            None => return Err(io::Error::other(format!("more than {SLOTS_MAX} streams"))),
        };
        let slot = self.slot(n);
        let half = &slot.halves[self.active(n)];
        for field in [&half.bytes, &half.flags, &half.time].into_iter().chain(&half.lost) {
            field.store(0, Ordering::Relaxed);
        }
        for (to, from) in slot.name.iter().zip(service.as_bytes()) {
            to.store(*from, Ordering::Relaxed);
        }
        slot.stream.store(stream as u64, Ordering::Relaxed);
        slot.used.store(service.len() as u64, Ordering::Release);
        self.head().slots.fetch_max(n as u64 + 1, Ordering::Release);
        Ok(n)
    }

    pub fn find(&self, service: &str, stream: usize) -> Option<usize> {
        self.claimed().find(|(_, name, of)| name == service && *of == stream).map(|(slot, ..)| slot)
    }

    pub fn claimed(&self) -> impl Iterator<Item = (usize, String, usize)> + '_ {
        let used = self.head().slots.load(Ordering::Acquire) as usize;
        (0..used.min(SLOTS_MAX)).filter_map(|n| self.owner(n).map(|(name, stream)| (n, name, stream)))
    }

    pub fn owner(&self, slot: usize) -> Option<(String, usize)> {
        let slot = self.slot(slot);
        let bytes = slot.used.load(Ordering::Acquire) as usize;
        let name: Vec<u8> = slot.name.iter().take(bytes).map(|byte| byte.load(Ordering::Relaxed)).collect();
        let name = String::from_utf8(name).ok().filter(|name| !name.is_empty())?;
        Some((name, slot.stream.load(Ordering::Relaxed) as usize & 1))
    }

    /// Its tail and its loss are forgotten: write both first.
    pub fn release(&mut self, slot: usize) {
        self.slot(slot).used.store(0, Ordering::Release);
        self.memory.forget(half_at(slot, 0), 2 * HALF_BYTES);
    }

    /// So much may be taken that all of it can be kept.
    pub fn room(&self, slot: usize) -> usize {
        HALF_BYTES - self.carry(slot).bytes
    }

    /// The tail is more than an unfinished line: it is what a full disk had no room for.
    pub fn waits(&self, slot: usize, max_line: u64) -> bool {
        let tail = self.tail(slot);
        tail.len() as u64 > max_line || memchr::memchr(b'\n', tail).is_some()
    }

    pub fn carry(&self, slot: usize) -> Carry {
        let half = &self.slot(slot).halves[self.active(slot)];
        let load = |field: &AtomicU64| field.load(Ordering::Relaxed);
        let [lines, bytes, from, to] = half.lost.each_ref().map(load);
        let flags = load(&half.flags);
        let loss = Loss { lines, bytes, from, to, unknown: flags & UNKNOWN != 0 };
        let state = State { mid: flags & MID != 0, time: load(&half.time), loss };
        Carry { bytes: (load(&half.bytes) as usize).min(HALF_BYTES), state }
    }

    pub fn tail(&self, slot: usize) -> &[u8] {
        self.memory.bytes(half_at(slot, self.active(slot)), self.carry(slot).bytes)
    }

    fn active(&self, slot: usize) -> usize {
        (self.slot(slot).commit.load(Ordering::Relaxed) & 1) as usize
    }

    fn slot(&self, slot: usize) -> &Slot {
        assert!(slot < SLOTS_MAX);
        self.memory.words(SLOTS_AT + slot * size_of::<Slot>())
    }

    fn head(&self) -> &Head {
        self.memory.words(0)
    }
}

fn half_at(slot: usize, half: usize) -> usize {
    HALVES_AT + (slot * 2 + half) * HALF_BYTES
}

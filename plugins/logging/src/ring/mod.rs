//! `mode = "non-blocking"`: where lines wait for a disk or a journal that is slow, so that the service does not.
//!
//! ```text
//!  pipe --splice, reader thread--> ring: [chunk][chunk][chunk] --copy, logging thread--> spool --> segment, journal
//!                                        tail, oldest     head                          (as from a pipe)
//!  offset 0  words   what it is, `commit`, two states of which it says the true one, what is being filled
//!        4K  chunks  a header and what one read brought, never torn over the end: there is room for one more read behind it
//! ```
//! A thread of its own empties the pipes, and does nothing else: no disk is ever waited for there. When there are more bytes than
//! `max_buffer_size`, whole lines go, the oldest or those that come, into a count that stands where they are missing. The logging thread
//! takes from the ring what it would have taken from the pipe: all that a full disk, a kill or a slow journal mean is as in blocking mode.
//! A larger pipe instead (F_SETPIPE_SZ) would be full of a page for each small write, and nothing can be taken off its front by line;
//! an empty ring begins at its first page again, so that one that is never behind has few pages and stays in the cache.
//!
//! The keel keeps it as it keeps the spool, for the same promise: at every instant a byte is in the pipe, the ring, the spool or the log.
//! How much came in is the position of the open file, which splice(2) moves in the same call; a state becomes true by one store. From ring
//! to spool there are two: the new state is written, the spool says that it has the bytes and which commit of the ring belongs to that, and
//! then the ring commits. Who finds the second without the third does the third.
mod chunk;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::EventfdFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::config::{Buffer, Drops};
use crate::memory::{self, Memory};
use crate::spool::{Gap, READ_BYTES_MAX, Spool};
use crate::time;
use chunk::{Chunk, HEADER_BYTES_MAX, STATE_WORDS, State, header_bytes};

/// Version included.
const MAGIC: u64 = u64::from_le_bytes(*b"sp-ring1");
const CHUNKS_AT: usize = 4096;
/// Lines that were read so shortly one after the other have one time where they are behind: they are written together.
const TOGETHER_NS: u64 = 1_000_000;

// The words.
const IS: usize = 0;
const SIZE: usize = 1;
const DROPS: usize = 2;
/// Commits so far, times 2, plus which state is true.
const COMMIT: usize = 3;
/// Which of all reads is being made, whose that is, and whether it leaves room for a gap in its header.
const FILLS: usize = 4;
const STREAM: usize = 5;
const GAP: usize = 6;
const STATES: usize = 8;

pub struct Ring {
    /// While a read is made; the logging thread does not wait for that.
    filler: Mutex<Filler>,
    inner: Mutex<Inner>,
    /// Readable while there is something in it.
    event: OwnedFd,
}

struct Filler {
    /// The same open file as that of the memory.
    file: OwnedFd,
    position: usize,
}

struct Inner {
    memory: Memory,
    buffer: Buffer,
    is_signalled: bool,
}

/// The oldest that is there, of one stream: while this lives nothing else becomes of the ring.
pub struct Front<'a> {
    ring: MutexGuard<'a, Inner>,
    /// As it is when this is gone.
    state: State,
    pub stream: usize,
    pub time: u64,
    gap: Gap,
}

impl Ring {
    pub fn create(buffer: Buffer) -> io::Result<Ring> {
        let memory = Memory::create("sampan-logging-ring", CHUNKS_AT, file_bytes(buffer.bytes))?;
        let drops = u64::from(buffer.drops == Drops::Newest);
        let inner = Inner { memory, buffer, is_signalled: false };
        inner.word(SIZE).store(buffer.bytes, Ordering::Relaxed);
        inner.word(DROPS).store(drops, Ordering::Relaxed);
        inner.word(IS).store(MAGIC, Ordering::Release);
        Ring::of(inner)
    }

    /// That of an earlier worker.
    pub fn adopt(fd: OwnedFd) -> io::Result<Ring> {
        let other = || io::Error::other("what was kept is no ring of this version");
        let size = rustix::fs::fstat(&fd)?.st_size as usize;
        let kept = if size > CHUNKS_AT { Memory::adopt(fd, CHUNKS_AT, size)? } else { None };
        let memory = kept.ok_or_else(other)?;
        let word = |n: usize| memory.words::<AtomicU64>(8 * n).load(Ordering::Acquire);
        let (bytes, newest) = (word(SIZE), word(DROPS) == 1);
        if word(IS) != MAGIC || file_bytes(bytes) != size {
            return Err(other());
        }
        let buffer = Buffer { bytes, drops: if newest { Drops::Newest } else { Drops::Oldest } };
        let mut inner = Inner { memory, buffer, is_signalled: false };
        inner.finish_filling()?;
        Ring::of(inner)
    }

    fn of(inner: Inner) -> io::Result<Ring> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let file = inner.memory.fd().try_clone_to_owned()?;
        let filler = Filler { file, position: inner.memory.position()? };
        let ring = Ring { filler: Mutex::new(filler), inner: Mutex::new(inner), event };
        ring.signal(&mut ring.inner());
        Ok(ring)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the keel.
    pub fn keep<T>(&self, keep: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        keep(self.inner().memory.fd())
    }

    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    pub fn buffer(&self) -> Buffer {
        self.inner().buffer
    }

    /// Neither lines nor a count of some.
    pub fn is_empty(&self) -> bool {
        !self.inner().state().has_something()
    }

    fn signal(&self, inner: &mut Inner) {
        if !inner.is_signalled && inner.state().has_something() {
            inner.is_signalled = true;
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Takes what there is off the pipe, and drops what is too much: 0 at its end, `Errno::AGAIN` if it is empty.
    pub fn fill(&self, stream: usize, pipe: BorrowedFd<'_>) -> Result<usize, Errno> {
        let mut filler = self.filler.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.inner().begin_filling(stream, &mut filler)?;
        let taken = memory::take(pipe, filler.file.as_fd(), most)?;
        filler.position += taken;
        let mut inner = self.inner();
        inner.accept(stream, taken, time::now());
        self.signal(&mut inner);
        Ok(taken)
    }

    /// None: there is nothing.
    pub fn front(&self) -> Option<Front<'_>> {
        let mut ring = self.inner();
        let mut state = ring.state();
        let Some((stream, time, gap)) = ring.front(&mut state) else {
            if std::mem::take(&mut ring.is_signalled) {
                let _ = rustix::io::read(&self.event, &mut [0; 8]);
            }
            return None;
        };
        Some(Front { ring, state, stream, time, gap })
    }

    /// After a crash: what the spool has by this commit is not here any more.
    pub fn finish_taking(&self, commit: u64) {
        let inner = self.inner();
        if commit >> 1 > inner.commits() {
            inner.word(COMMIT).store(commit, Ordering::Release);
        }
    }
}

impl Front<'_> {
    /// Moves `most` bytes at most, and what is missing before them, to the spool, which is armed for that.
    pub fn take(mut self, spool: &mut Spool, most: usize) -> (usize, Gap) {
        let taken = self.ring.gather(&mut self.state, self.stream, most, |bytes| spool.push(bytes));
        let commit = self.ring.prepare(&self.state);
        spool.has_taken(self.gap, commit);
        self.ring.word(COMMIT).store(commit, Ordering::Release);
        (taken, self.gap)
    }
}

impl State {
    fn has_something(&self) -> bool {
        !self.is_empty() || self.with_gap().is_some()
    }
}

/// Positions after which the ring begins again.
fn span(bytes: u64) -> u64 {
    bytes.next_multiple_of(8) + (READ_BYTES_MAX + HEADER_BYTES_MAX) as u64
}

fn file_bytes(bytes: u64) -> usize {
    CHUNKS_AT + span(bytes) as usize + READ_BYTES_MAX + HEADER_BYTES_MAX
}

impl Inner {
    fn word(&self, n: usize) -> &AtomicU64 {
        self.memory.words(8 * n)
    }

    fn commits(&self) -> u64 {
        self.word(COMMIT).load(Ordering::Relaxed) >> 1
    }

    fn state(&self) -> State {
        let at = STATES + STATE_WORDS * (self.word(COMMIT).load(Ordering::Acquire) & 1) as usize;
        State::of(std::array::from_fn(|n| self.word(at + n).load(Ordering::Relaxed)))
    }

    /// It is true when COMMIT is what this returns.
    fn prepare(&self, state: &State) -> u64 {
        let old = self.word(COMMIT).load(Ordering::Relaxed);
        let half = 1 - (old & 1);
        for (n, word) in state.words().into_iter().enumerate() {
            self.word(STATES + STATE_WORDS * half as usize + n).store(word, Ordering::Relaxed);
        }
        ((old >> 1) + 1) << 1 | half
    }

    fn commit(&self, state: &State) {
        let commit = self.prepare(state);
        self.word(COMMIT).store(commit, Ordering::Release);
    }

    fn span(&self) -> u64 {
        span(self.buffer.bytes)
    }

    /// Where this position is in the memory.
    fn at(&self, position: u64) -> usize {
        CHUNKS_AT + (position % self.span()) as usize
    }

    /// The position of the chunk behind.
    fn behind(&self, position: u64, size: usize) -> u64 {
        (position + size as u64).min((position / self.span() + 1) * self.span())
    }

    fn chunk(&self, position: u64) -> Chunk {
        Chunk::of(self.memory.bytes(self.at(position), HEADER_BYTES_MAX))
    }

    /// Those of its bytes that are not gone.
    fn rest(&self, position: u64, chunk: &Chunk, front: u64) -> &[u8] {
        let gone = chunk.skip.max(front as usize).min(chunk.bytes);
        self.memory.bytes(self.at(position) + chunk.header_bytes() + gone, chunk.bytes - gone)
    }

    fn pass(&self, state: &mut State, chunk: &Chunk) {
        (state.tail, state.front) = (self.behind(state.tail, chunk.size()), 0);
        state.used -= chunk.size() as u64;
    }
}

// ---- out of it ----------------------------------------------------------------------------------------------------------------------

impl Inner {
    /// The stream, the time and the gap of what comes next, and the state without what is dropped before it.
    fn front(&self, state: &mut State) -> Option<(usize, u64, Gap)> {
        while !state.is_empty() {
            let chunk = self.chunk(state.tail);
            let edge = &mut state.edges[chunk.stream];
            let mut gap = Gap::default();
            if self.buffer.drops == Drops::Oldest {
                let rest = self.rest(state.tail, &chunk, state.front);
                let lost = edge.lose_rest(rest, chunk.time);
                if lost == rest.len() {
                    self.pass(state, &chunk);
                    continue;
                }
                state.front += lost as u64;
                gap = edge.take_gap();
            } else if state.front == 0 {
                gap = chunk.gap.unwrap_or_default();
            }
            return Some((chunk.stream, chunk.time, gap));
        }
        let stream = state.with_gap()?;
        let gap = state.edges[stream].take_gap();
        Some((stream, gap.loss.to, gap))
    }

    /// What was read together, of this stream alone.
    fn gather(&self, state: &mut State, stream: usize, most: usize, mut push: impl FnMut(&[u8])) -> usize {
        let (mut taken, mut since) = (0, None);
        while !state.is_empty() && taken < most {
            let chunk = self.chunk(state.tail);
            let begins = *since.get_or_insert(chunk.time);
            let is_later = chunk.time.abs_diff(begins) > TOGETHER_NS || chunk.gap.is_some();
            if chunk.stream != stream || taken > 0 && is_later {
                break;
            }
            let rest = self.rest(state.tail, &chunk, state.front);
            let bytes = &rest[..rest.len().min(most - taken)];
            push(bytes);
            taken += bytes.len();
            if self.buffer.drops == Drops::Oldest {
                state.edges[stream].pass(bytes);
            }
            if bytes.len() < rest.len() {
                state.front = (chunk.bytes - (rest.len() - bytes.len())) as u64;
            } else {
                self.pass(state, &chunk);
            }
        }
        taken
    }
}

// ---- into it ------------------------------------------------------------------------------------------------------------------------

impl Inner {
    /// From here to `accept` what is taken off the pipe is behind the head. How much may be.
    fn begin_filling(&mut self, stream: usize, filler: &mut Filler) -> Result<usize, Errno> {
        // The last one may have found nothing: what it was armed for is not true of this head, position and header.
        self.word(FILLS).store(0, Ordering::Release);
        let mut state = self.state();
        let begin = state.head.next_multiple_of(self.span());
        if state.is_empty() && state.head != begin {
            (state.head, state.tail) = (begin, begin);
            self.commit(&state);
        }
        let edge = &state.edges[stream];
        let newest = self.buffer.drops == Drops::Newest;
        let may_have_gap = newest && (edge.cut || edge.gap != Gap::default());
        let at = self.at(state.head) + header_bytes(may_have_gap);
        if filler.position != at {
            rustix::fs::seek(&filler.file, SeekFrom::Start(at as u64))?;
            filler.position = at;
        }
        self.word(STREAM).store(stream as u64, Ordering::Relaxed);
        self.word(GAP).store(may_have_gap.into(), Ordering::Relaxed);
        self.word(FILLS).store(state.fills + 1, Ordering::Release);
        Ok(READ_BYTES_MAX.min(self.buffer.bytes as usize - HEADER_BYTES_MAX) & !7)
    }

    /// Of the chunk that is being filled.
    fn header_bytes(&self) -> usize {
        header_bytes(self.word(GAP).load(Ordering::Relaxed) == 1)
    }

    /// After a crash: what was taken and not accepted.
    fn finish_filling(&mut self) -> io::Result<()> {
        let stream = (self.word(STREAM).load(Ordering::Relaxed) & 1) as usize;
        let state = self.state();
        if self.word(FILLS).load(Ordering::Acquire) == state.fills + 1 {
            let at = self.at(state.head) + self.header_bytes();
            let taken = self.memory.position()?.saturating_sub(at);
            self.accept(stream, taken.min(READ_BYTES_MAX), time::now());
        }
        Ok(())
    }

    /// They are at their place.
    fn accept(&mut self, stream: usize, bytes: usize, time: u64) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state();
        state.fills += 1;
        let chunk = Chunk { stream, time, skip: 0, bytes, gap: None };
        match self.buffer.drops {
            Drops::Oldest => self.accept_all(&mut state, chunk),
            Drops::Newest => self.accept_some(&mut state, chunk),
        }
        self.commit(&state);
    }

    fn accept_all(&mut self, state: &mut State, chunk: Chunk) {
        self.add(state, &chunk);
        while state.used > self.buffer.bytes {
            let oldest = self.chunk(state.tail);
            let rest = self.rest(state.tail, &oldest, state.front);
            state.edges[oldest.stream].lose(rest, oldest.time);
            self.pass(state, &oldest);
        }
    }

    fn accept_some(&mut self, state: &mut State, mut chunk: Chunk) {
        let header = self.header_bytes();
        let bytes = self.memory.bytes(self.at(state.head) + header, chunk.bytes);
        let room = self.buffer.bytes.saturating_sub(state.used) as usize;
        let room = (room.saturating_sub(header) & !7).min(bytes.len());
        let mut edge = state.edges[chunk.stream];
        chunk.skip = edge.lose_rest(bytes, chunk.time);
        let fits = if room == bytes.len() {
            room
        } else {
            memchr::memrchr(b'\n', &bytes[..room]).map_or(0, |at| at + 1)
        };
        chunk.bytes = fits.max(chunk.skip);
        let rest = &bytes[chunk.bytes..];
        if chunk.bytes > chunk.skip {
            chunk.gap = (header == HEADER_BYTES_MAX).then(|| edge.take_gap());
            edge.pass(&bytes[chunk.skip..chunk.bytes]);
        }
        edge.lose(rest, chunk.time);
        state.edges[chunk.stream] = edge;
        if chunk.bytes > chunk.skip {
            self.add(state, &chunk);
        }
    }

    fn add(&mut self, state: &mut State, chunk: &Chunk) {
        let (header, bytes) = chunk.header();
        self.memory.write(self.at(state.head), &header[..bytes]);
        state.head = self.behind(state.head, chunk.size());
        state.used += chunk.size() as u64;
    }
}

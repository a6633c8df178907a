//! What is in a ring: chunks, and the state that one store replaces as a whole.
use crate::spool::{Gap, Loss};

/// Of each chunk: a word that says what it is, and when it was read.
const HEADER_BYTES: usize = 16;
/// Of one behind a gap, what is missing there beside that.
const GAP_BYTES: usize = 32;
pub(super) const HEADER_BYTES_MAX: usize = HEADER_BYTES + GAP_BYTES;

const LENGTH_BITS: u32 = 24;
const LENGTH: u64 = (1 << LENGTH_BITS) - 1;
const STREAM: u64 = 1 << 48;
const BEHIND_A_GAP: u64 = 1 << 49;
/// The gap took the end of a line whose beginning is before it.
const CUT: u64 = 1 << 50;

/// What came with one read: `skip` bytes that were dropped, then what is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub stream: usize,
    pub time: u64,
    pub skip: usize,
    /// With those that are skipped.
    pub bytes: usize,
    /// What is missing before it.
    pub gap: Option<Gap>,
}

impl Chunk {
    pub fn header_bytes(&self) -> usize {
        header_bytes(self.gap.is_some())
    }

    /// With its header.
    pub fn size(&self) -> usize {
        self.header_bytes() + self.bytes.next_multiple_of(8)
    }

    /// And how many bytes of it count.
    pub fn header(&self) -> ([u8; HEADER_BYTES_MAX], usize) {
        let mut what = self.bytes as u64 | (self.skip as u64) << LENGTH_BITS;
        what |= if self.stream == 0 { 0 } else { STREAM };
        let Gap { loss, cut } = self.gap.unwrap_or_default();
        for (is, flag) in [(self.gap.is_some(), BEHIND_A_GAP), (cut, CUT)] {
            what |= if is { flag } else { 0 };
        }
        let mut header = [0; HEADER_BYTES_MAX];
        let words = [what, self.time, loss.lines, loss.bytes, loss.from, loss.to];
        for (to, word) in header.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        (header, self.header_bytes())
    }

    pub fn of(header: &[u8]) -> Chunk {
        let mut words = [0; HEADER_BYTES_MAX / 8];
        for (word, from) in words.iter_mut().zip(header.chunks_exact(8)) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(from);
            *word = u64::from_ne_bytes(bytes);
        }
        let [what, time, lines, bytes, from, to] = words;
        let loss = Loss { lines, bytes, from, to, unknown: false };
        let gap = Gap { loss, cut: what & CUT != 0 };
        Chunk {
            stream: usize::from(what & STREAM != 0),
            time,
            skip: (what >> LENGTH_BITS & LENGTH) as usize,
            bytes: (what & LENGTH) as usize,
            gap: (what & BEHIND_A_GAP != 0).then_some(gap),
        }
    }
}

pub(super) fn header_bytes(is_behind_a_gap: bool) -> usize {
    if is_behind_a_gap { HEADER_BYTES_MAX } else { HEADER_BYTES }
}

/// One stream at the end where the ring drops: where it is read with `drop = "oldest"`, where it is filled with "newest".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edge {
    /// The next byte is not the first one of its line.
    pub begun: bool,
    /// The beginning of its line was dropped, and the rest will be.
    pub cut: bool,
    /// What was dropped here and is not handed on.
    pub gap: Gap,
}

impl Edge {
    /// What was dropped, and goes with the next chunk.
    pub fn take_gap(&mut self) -> Gap {
        std::mem::take(&mut self.gap)
    }

    /// These are dropped.
    pub fn lose(&mut self, bytes: &[u8], time: u64) {
        let Some(last) = bytes.last() else { return };
        self.gap.cut |= std::mem::take(&mut self.begun);
        self.gap.loss.add(memchr::memchr_iter(b'\n', bytes).count() as u64, bytes.len() as u64, time);
        self.cut = *last != b'\n';
    }

    /// Drops the rest of a line whose beginning was dropped: how much of `bytes` that is.
    pub fn lose_rest(&mut self, bytes: &[u8], time: u64) -> usize {
        if !self.cut {
            return 0;
        }
        let rest = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        self.lose(&bytes[..rest], time);
        rest
    }

    /// These go past.
    pub fn pass(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.begun = *last != b'\n';
        }
    }
}

/// Positions grow for ever; where a position is in the ring is its remainder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Where the next chunk comes.
    pub head: u64,
    /// The oldest chunk, and how many of its bytes are gone.
    pub tail: u64,
    pub front: u64,
    /// Bytes of all chunks, headers included.
    pub used: u64,
    /// Reads that brought something.
    pub fills: u64,
    pub edges: [Edge; 2],
}

const EDGE_WORDS: usize = 5;
const OWN_WORDS: usize = 5;
pub(super) const STATE_WORDS: usize = OWN_WORDS + 2 * EDGE_WORDS;

impl State {
    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// A stream of which something is missing behind all chunks.
    pub fn with_gap(&self) -> Option<usize> {
        self.edges.iter().position(|edge| edge.gap != Gap::default())
    }

    pub fn words(&self) -> [u64; STATE_WORDS] {
        let mut words = [0; STATE_WORDS];
        let own = [self.head, self.tail, self.front, self.used, self.fills];
        words[..OWN_WORDS].copy_from_slice(&own);
        for (to, edge) in words[OWN_WORDS..].chunks_exact_mut(EDGE_WORDS).zip(&self.edges) {
            let Gap { loss, cut } = edge.gap;
            let flags = u64::from(edge.begun) | u64::from(edge.cut) << 1 | u64::from(cut) << 2;
            to.copy_from_slice(&[flags, loss.lines, loss.bytes, loss.from, loss.to]);
        }
        words
    }

    pub fn of(words: [u64; STATE_WORDS]) -> State {
        let mut edges = [Edge::default(); 2];
        for (edge, from) in edges.iter_mut().zip(words[OWN_WORDS..].chunks_exact(EDGE_WORDS)) {
            let &[flags, lines, bytes, from, to] = from else { continue };
            let loss = Loss { lines, bytes, from, to, unknown: false };
            let gap = Gap { loss, cut: flags & 4 != 0 };
            *edge = Edge { begun: flags & 1 != 0, cut: flags & 2 != 0, gap };
        }
        let [head, tail, front, used, fills, ..] = words;
        State { head, tail, front, used, fills, edges }
    }
}

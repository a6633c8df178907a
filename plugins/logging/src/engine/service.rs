//! What is written of one service: records into its segments, or into the count of what was dropped.
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sampan_plugin::prelude::*;

use super::backlog::Backlog;
use super::entries::Offers;
use super::limit::Limiter;
use super::packer::Job;
use super::{AGAIN, Figures, LOOK_EVERY, OUT_BYTES};
use crate::config::{Driver, OnFull, Settings};
use crate::journal::Journal;
use crate::record::{OVERHEAD_BYTES_MAX, Pieces, RecordWriter, Rest, STREAMS, parse};
use crate::segments::{Number, Segments};
use crate::spool::{Carry, Loss, Spool, State, Transfer};
use crate::time;

/// An unfinished line is held for so long.
pub(super) const SILENCE: Duration = Duration::from_secs(1);
/// The age of segments is looked at this often at most.
const SHORT: Duration = Duration::from_millis(100);
/// A segment may grow so far over max_size while a line is unfinished: it is not torn over two segments.
const OVERTIME_BYTES: u64 = 1 << 20;

/// What is said where nobody knows what is missing.
const UNKNOWN: &str = "lines may be missing before this: every process of sampand was killed at once";

#[derive(Default)]
pub(super) struct Stream {
    pub pipe: Option<Arc<OwnedFd>>,
    pub slot: Option<usize>,
    /// A part of an unfinished line is in the segment.
    mid: bool,
    /// Since when an unfinished line is held.
    pub held: Option<Instant>,
    pub timed: bool,
    /// Its pipe is not looked at: see `Service::is_blocked`.
    pub paused: bool,
    /// As in the spool.
    pub loss: Loss,
}

impl Stream {
    /// As an earlier transfer, or an earlier process, has left it.
    pub fn take_up(&mut self, slot: usize, carry: Carry) {
        self.slot = Some(slot);
        self.mid = carry.state.mid;
        self.held = (carry.bytes > 0).then(Instant::now);
        self.loss = carry.state.loss;
    }
}

/// How far a service is with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    No,
    /// It was detached, and some of what it has written waits for the journal.
    Begun,
    /// All was read. It goes when its log says what was dropped.
    AllRead,
}

pub(super) type Answer = Box<dyn FnOnce() + Send>;

pub(super) struct Service {
    pub name: String,
    pub container: Container,
    pub settings: Settings,
    pub segments: Segments,
    /// In the place of segments where the driver says so.
    pub journal: Arc<Journal>,
    pub streams: [Stream; 2],
    pub figures: Figures,
    pub reported: Figures,
    /// The disk is full, or no segment can be opened: not tried again before.
    pub full_until: Option<Instant>,
    /// The disk had no room, and what was read waits for it in the spool: nothing more is read.
    pub is_blocked: bool,
    pub offers: Offers,
    /// In the place of its pipes where it must not wait.
    pub backlog: Option<Backlog>,
    /// What is written now was read then.
    pub reads_what_came_at: Option<u64>,
    pub end: End,
    /// Who waits for its end.
    pub waiting: Vec<Answer>,
    /// A timer for the age of its segments runs.
    pub aging: bool,
    last_time: u64,
    /// When the segment was looked for.
    looked: Option<Instant>,
    limiter: Limiter,
    /// Segments before this one are compressed, or about to be.
    packed: Number,
}

impl Service {
    pub fn new(
        name: String,
        container: Container,
        settings: Settings,
        segments: Segments,
        journal: Arc<Journal>,
    ) -> Service {
        let last_time = segments.last_time();
        let is_missing = settings.driver != Driver::Journald && !segments.is_open();
        let full_until = is_missing.then(|| Instant::now() + AGAIN);
        Service {
            name,
            container,
            settings,
            segments,
            journal,
            streams: Default::default(),
            figures: Figures::default(),
            reported: Figures::default(),
            full_until,
            is_blocked: false,
            offers: Offers::default(),
            backlog: None,
            reads_what_came_at: None,
            end: End::No,
            waiting: Vec::new(),
            aging: false,
            last_time,
            looked: None,
            limiter: Limiter::new(Instant::now()),
            packed: Number(0),
        }
    }

    /// Its log is at another place from now on, which nothing has failed at.
    pub fn move_to(&mut self, segments: Segments) {
        self.last_time = self.last_time.max(segments.last_time());
        (self.segments, self.full_until) = (segments, None);
    }

    /// The streams that the spool knows of.
    pub fn take_up(&mut self, spool: &Spool) {
        for (n, stream) in self.streams.iter_mut().enumerate() {
            if let Some(slot) = spool.find(&self.name, n) {
                stream.take_up(slot, spool.carry(slot));
            }
        }
    }

    /// What can be compressed since the last time. To be asked for between transfers: one that is armed may need the segments that
    /// it has left.
    pub fn next_to_pack(&mut self) -> Option<Job> {
        let before = self.segments.number();
        let is_new = self.settings.compress && self.segments.count() > 1 && before > self.packed;
        is_new.then(|| {
            self.packed = before;
            Job { dir: self.segments.dir().to_owned(), before }
        })
    }

    /// The streams of which something was dropped that the log does not say.
    pub fn with_loss(&self) -> Vec<usize> {
        (0..2).filter(|n| !self.streams[*n].loss.is_empty()).collect()
    }

    /// Whether a time will come when a segment is too old.
    pub fn ages(&self) -> bool {
        self.settings.max_age.is_some() && (self.segments.bytes() > 0 || self.segments.count() > 1)
    }

    /// Removes and leaves what is too old; how long until the next look.
    pub fn expire(&mut self) -> Option<Duration> {
        let max = self.settings.max_age?;
        if self.full_until.is_some() {
            return Some(AGAIN);
        }
        let unfinished = self.streams.iter().any(|stream| stream.mid);
        match self.segments.expire(max, unfinished) {
            Ok(next) => next.map(|next| next.max(SHORT)),
            Err(error) => {
                self.figures.write_errors += 1;
                tracing::debug!(service = self.name, %error, "cannot look after the age of its log");
                Some(AGAIN)
            }
        }
    }

    /// Never backwards within the log of a service.
    pub fn now(&mut self) -> u64 {
        self.last_time = self.last_time.max(self.reads_what_came_at.unwrap_or_else(time::now));
        self.last_time
    }

    /// When what is written now was read.
    fn read_at(&self) -> Instant {
        let age = self.reads_what_came_at.map_or(0, |then| time::now().saturating_sub(then));
        let now = Instant::now();
        now.checked_sub(Duration::from_nanos(age)).unwrap_or(now)
    }

    pub fn next_transfer(&mut self, slot: usize, flush: bool, time: u64) -> Transfer {
        let rate = self.settings.rate_limit;
        Transfer {
            slot,
            segment: self.segments.number(),
            bytes: self.segments.bytes(),
            time,
            flush,
            allowed: rate.map(|rate| self.limiter.left(rate, self.read_at())),
            settings: self.settings,
            gap: None,
        }
    }

    /// When what was dropped can be said.
    pub fn loss_can_be_said_at(&self) -> Instant {
        let times = [self.full_until, self.limiter.closed_until(), self.offers_again_at()];
        times.into_iter().flatten().max().unwrap_or_else(Instant::now)
    }

    /// What was dropped is said now if that is possible at all.
    pub fn hurry(&mut self) {
        self.full_until = None;
        self.limiter.open();
    }

    /// Before a transfer: a segment that somebody has removed is begun anew. Looked for seldom, and always after a pause.
    pub fn see_to_segment(&mut self) {
        let now = Instant::now();
        if self.settings.driver == Driver::Journald {
            return;
        }
        if !self.segments.is_open() {
            return self.open_again(now);
        }
        if self.looked.is_some_and(|at| now < at + LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        if self.segments.is_in_place() {
            return;
        }
        let gone = self.segments.path();
        if let Err(error) = self.segments.begin_anew() {
            if self.full_until.is_none() {
                tracing::error!(service = self.name, path = %gone.display(), %error,
                    "its log was removed, and no new one can be made: records are dropped and counted until one can");
            }
            self.full_until = Some(now + AGAIN);
            return;
        }
        tracing::warn!(service = self.name, path = %gone.display(), "its log was removed: a new one is begun");
        let name = gone.file_name().unwrap_or_default().display();
        let text =
            format!("log removed: {name} is gone, this one is new; lines of the last second may be missing");
        let remark = self.remark(0, &text);
        // If it cannot be written, nothing can, and that is said.
        let _ = self.append(&remark, self.segments.number());
    }

    fn open_again(&mut self, now: Instant) {
        if self.full_until.is_some_and(|until| now < until) {
            return;
        }
        self.full_until = Some(now + AGAIN);
        if self.segments.open_again().is_ok() {
            self.full_until = Some(now);
            self.last_time = self.last_time.max(self.segments.last_time());
        }
    }

    fn remark(&mut self, stream: usize, text: &str) -> Vec<u8> {
        let (mut record, time) = (Vec::new(), self.now());
        RecordWriter::new(self.settings.driver, STREAMS[stream], time).remark(&mut record, text);
        record
    }

    /// From the spool (armed before) to the segments, or to the journal.
    pub fn transfer(
        &mut self,
        stream: usize,
        spool: &mut Spool,
        out: &mut Vec<u8>,
        transfer: &Transfer,
    ) -> io::Result<()> {
        let slot = transfer.slot;
        let mut before = spool.carry(slot).state;
        let mut tail = spool.tail(slot);
        if let Some(gap) = transfer.gap {
            self.note_gap(stream, gap, tail.len());
            before.loss = self.streams[stream].loss;
            if gap.cut {
                (before.mid, tail) = (false, &[]);
            }
        }
        let to_journal = self.settings.driver == Driver::Journald;
        // The journal's room is seen with each entry.
        self.is_blocked &= !to_journal;
        let asks = self.settings.on_full == OnFull::Block && !to_journal;
        if asks && !self.has_room_for(tail, spool.data()) {
            let rest = Rest { tail: !tail.is_empty(), from: 0 };
            return self.wait_for_room(stream, slot, spool, rest, before);
        }
        // Lines that waited for room come alone: nothing is read behind them before they are written.
        let waited = spool.waits(slot, self.settings.max_line);
        let (tail, data) = if waited { (&[][..], spool.tail(slot)) } else { (tail, spool.data()) };
        let max_line = self.settings.max_line as usize;
        let pieces = Pieces::new(tail, data, max_line, transfer.flush && !waited);
        let (rest, state) = self.write_pieces(stream, pieces, before, out, transfer);
        match waited {
            true => spool.commit_of_tail(slot, rest.from, state)?,
            false => spool.commit(slot, rest, state)?,
        }
        self.streams[stream].take_up(slot, spool.carry(slot));
        self.segments.prune(self.settings.max_file as usize);
        Ok(())
    }

    /// What is left of them, and what the next transfer has to know.
    fn write_pieces(
        &mut self,
        stream: usize,
        mut pieces: Pieces<'_>,
        State { mut mid, time, .. }: State,
        out: &mut Vec<u8>,
        transfer: &Transfer,
    ) -> (Rest, State) {
        let (needed, now) = (self.segments.number(), transfer.time);
        let mut line_time = if mid { time } else { now };
        let mut writer = RecordWriter::new(self.settings.driver, STREAMS[stream], line_time);
        // The journal takes or refuses each entry.
        let portion = if self.settings.driver == Driver::Journald { 1 } else { OUT_BYTES };
        let (mut spent, mut held) = (0, None);
        loop {
            let before = pieces.rest();
            let Some(piece) = pieces.next() else { break };
            let end = piece.end;
            let text = piece.head.len() + piece.text.len();
            let bytes = (text + usize::from(end)) as u64;
            if transfer.allowed.is_some_and(|allowed| spent >= allowed) {
                self.write(stream, out, needed);
                self.drop_piece(stream, end, bytes, now);
            } else {
                if self.is_full(out.len(), text, mid || self.streams[1 - stream].mid) {
                    self.write(stream, out, needed);
                    self.rotate();
                }
                writer.write(out, piece);
                if out.len() >= portion && !self.write(stream, out, needed) {
                    held = Some(before);
                    break;
                }
                spent += bytes;
            }
            self.figures.lines += u64::from(end);
            self.figures.bytes += bytes;
            mid = !end;
            if end && line_time != now {
                line_time = now;
                writer.set_time(now);
            }
        }
        let rest = held.unwrap_or_else(|| {
            self.write(stream, out, needed);
            pieces.rest()
        });
        if let Some(rate) = self.settings.rate_limit {
            self.limiter.spend(spent, rate, self.read_at());
        }
        (rest, State { mid, time: line_time, loss: self.streams[stream].loss })
    }

    /// It came faster than `rate_limit`.
    fn drop_piece(&mut self, stream: usize, end: bool, bytes: u64, now: u64) {
        self.limiter.close();
        self.streams[stream].loss.add(u64::from(end), bytes, now);
        self.figures.dropped += u64::from(end);
    }

    /// Whether a record of `text` bytes belongs into the next segment.
    fn is_full(&self, waiting: usize, text: usize, unfinished: bool) -> bool {
        let before = self.segments.bytes() + waiting as u64;
        let max_size = self.settings.max_size;
        let limit = if unfinished { max_size + max_size.max(OVERTIME_BYTES) } else { max_size };
        self.settings.driver != Driver::Journald
            && before > 0
            && before + (text + OVERHEAD_BYTES_MAX) as u64 > limit
    }

    fn rotate(&mut self) {
        if self.full_until.is_some() {
            return;
        }
        if let Err(error) = self.segments.rotate() {
            // The old one goes on growing; the next record tries again.
            self.figures.write_errors += 1;
            tracing::debug!(service = self.name, %error, "cannot begin a new segment");
        }
    }

    /// Empties `out`: into the segment, behind what was dropped of this stream before it, or into what is dropped. Segments before
    /// `needed` may go to make room. False: it stays in the spool.
    fn write(&mut self, stream: usize, out: &mut Vec<u8>, needed: Number) -> bool {
        if self.settings.driver == Driver::Journald {
            return self.write_entry(stream, out);
        }
        if !self.may_write() || !(self.limiter_is_closed() || self.say_what_was_dropped(stream, needed)) {
            self.lose(stream, out);
        } else if let Err(done) = self.append(out, needed) {
            self.lose(stream, &out[done..]);
        }
        out.clear();
        true
    }

    pub(super) fn limiter_is_closed(&self) -> bool {
        self.limiter.closed_until().is_some()
    }

    /// A disk that was full is asked for room first: a remark alone would find some.
    fn may_write(&mut self) -> bool {
        let now = Instant::now();
        match self.full_until {
            None => return true,
            Some(until) if now < until => return false,
            Some(_) if !self.segments.has_room() => self.full_until = Some(now + AGAIN),
            Some(_) => self.full_until = None,
        }
        if self.full_until.is_none() {
            tracing::info!(service = self.name, dropped = self.figures.dropped, "its log is written again");
        }
        self.full_until.is_none()
    }

    /// The records that say it, one or two, if there is something to be said.
    pub(super) fn what_was_dropped(&mut self, stream: usize) -> Option<Vec<u8>> {
        let Loss { lines, bytes, from, to, unknown } = self.streams[stream].loss;
        let mut records = Vec::new();
        if unknown {
            records.extend(self.remark(stream, UNKNOWN));
        }
        if (lines, bytes) != (0, 0) {
            let text = |ns| String::from_utf8_lossy(&time::text(ns)).into_owned();
            let said = format!("dropped lines={lines} bytes={bytes} from={} to={}", text(from), text(to));
            records.extend(self.remark(stream, &said));
        }
        (!records.is_empty()).then_some(records)
    }

    fn say_what_was_dropped(&mut self, stream: usize, needed: Number) -> bool {
        let Some(remark) = self.what_was_dropped(stream) else { return true };
        let is_said = self.append(&remark, needed).is_ok();
        if is_said {
            self.streams[stream].loss = Loss::default();
        }
        is_said
    }

    /// `Err`: so many bytes, whole records, were written.
    fn append(&mut self, records: &[u8], needed: Number) -> Result<(), usize> {
        let mut done = 0;
        loop {
            let Err(short) = self.segments.append(&records[done..]) else { return Ok(()) };
            self.figures.write_errors += 1;
            let whole = self.segments.with_room_for_remarks(&records[done..], short.written);
            done += whole;
            let settled = self.segments.settle(whole);
            let full = matches!(Errno::from_io_error(&short.error), Some(Errno::NOSPC | Errno::DQUOT));
            if settled.is_ok() && full && self.segments.free_oldest(needed) {
                continue;
            }
            if self.full_until.is_none() {
                tracing::error!(
                    service = self.name,
                    error = %short.error,
                    "cannot write its log: records are dropped and counted until it works again"
                );
            }
            self.full_until = Some(Instant::now() + AGAIN);
            return Err(done);
        }
    }

    pub(super) fn lose(&mut self, stream: usize, records: &[u8]) {
        for line in records.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let Some(record) = parse(self.settings.driver, line) else { continue };
            let (lines, end) = (u64::from(record.end), usize::from(record.end));
            let time = time::parse(&record.time).unwrap_or(self.last_time);
            self.streams[stream].loss.add(lines, (record.text.len() + end) as u64, time);
            self.figures.dropped += lines;
        }
    }
}

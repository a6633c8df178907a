//! The logging thread: one epoll over all pipes, all file writes, all timers.
//!
//! ```text
//!  pipe --splice--> spool --Pieces, Pen--> out --append--> segment          commands: attach, detach, ... by a channel
//!                     ^ tail of an unfinished line                          timers: only while something waits for them
//! ```
//! A turn takes at most 128 KiB off each of the two pipes of a service, then the others have theirs. A disk that is full does
//! not stop a service: the oldest of its segments go, then records are dropped, counted, and said to have been.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memchr::memrchr;
use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::io::Errno;
use sampan_plugin::prelude::*;
use tokio::sync::oneshot;

use crate::config::Settings;
use crate::record::{OVERHEAD_BYTES_MAX, Pen, Pieces, STREAMS, parse};
use crate::segments::{Segments, list};
use crate::spool::{Deed, READ_BYTES_MAX, Spool};
use crate::tide::Tide;
use crate::time;

/// An unfinished line is held for so long.
const SILENCE: Duration = Duration::from_secs(1);
/// A full disk is tried again, and figures are reported, at this distance.
const AGAIN: Duration = Duration::from_secs(1);
/// Reads of one pipe in one turn: 128 KiB.
const READS_PER_TURN: usize = 2;
/// Reads of one pipe until a detach gives up on a writer that never stops: 64 MiB.
const READS_PER_DRAIN: usize = 1024;
/// Records are written in portions of about this size.
const OUT_BYTES: usize = 96 * 1024;
/// A segment may grow so far over max_size while a line is unfinished: it is not torn over two segments.
const OVERTIME_BYTES: u64 = 1 << 20;

const COMMANDS: u64 = u64::MAX;

/// What a service has logged since it was attached first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Of the container's, newlines included.
    pub bytes: u64,
    pub lines: u64,
    pub dropped: u64,
    pub write_errors: u64,
    pub segments: usize,
}

/// Told about new figures at most once a second: container, before, now.
pub type Report = Box<dyn Fn(Container, &Figures, &Figures) + Send>;

pub struct Attachment {
    pub service: String,
    pub container: Container,
    pub settings: Settings,
    pub pipes: [Option<OwnedFd>; 2],
}

impl Attachment {
    /// Whether something can be read from its pipes right now.
    pub fn has_more(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let pipes = self.pipes.iter().flatten();
        let mut fds: Vec<PollFd<'_>> = pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&now));
        fds.iter().any(|fd| fd.revents().contains(PollFlags::IN))
    }
}

type Done<T> = oneshot::Sender<T>;

enum Command {
    Attach(Attachment, Done<io::Result<()>>),
    Detach(String, Done<()>),
    /// Those that are not listed are gone.
    Retain(Vec<String>, Done<()>),
    Status(Done<BTreeMap<String, Figures>>),
    Stop,
}

pub struct Engine {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
    tide: Arc<Tide>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// `dir` gets a folder per service. What a crash left in `spool` is written first.
    pub fn start(dir: PathBuf, mut spool: Spool, report: Report) -> io::Result<Engine> {
        let (commands, inbox) = channel();
        let bell = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &bell, epoll::EventData::new_u64(COMMANDS), epoll::EventFlags::IN)?;
        let tide = Arc::new(Tide::default());
        redo(&dir, &mut spool)?;
        let mut works = Works {
            dir,
            spool,
            epoll,
            inbox,
            bell: bell.clone(),
            tide: tide.clone(),
            report,
            services: BTreeMap::new(),
            names: BTreeMap::new(),
            next_key: 1,
            timers: BinaryHeap::new(),
            report_at: None,
            out: Vec::with_capacity(2 * OUT_BYTES),
            wrote: false,
        };
        let thread = std::thread::Builder::new().name("sp-logging".to_owned()).spawn(move || works.run())?;
        Ok(Engine { commands, bell, tide, thread: Some(thread) })
    }

    pub fn attach(&self, attachment: Attachment) -> oneshot::Receiver<io::Result<()>> {
        self.ask(|done| Command::Attach(attachment, done))
    }

    /// Reads until the pipes are empty, then lets go of them.
    pub fn detach(&self, service: &str) -> oneshot::Receiver<()> {
        self.ask(|done| Command::Detach(service.to_owned(), done))
    }

    pub fn retain(&self, services: Vec<String>) -> oneshot::Receiver<()> {
        self.ask(|done| Command::Retain(services, done))
    }

    pub fn status(&self) -> oneshot::Receiver<BTreeMap<String, Figures>> {
        self.ask(Command::Status)
    }

    pub fn tide(&self) -> Arc<Tide> {
        self.tide.clone()
    }

    fn ask<T>(&self, command: impl FnOnce(Done<T>) -> Command) -> oneshot::Receiver<T> {
        let (done, answer) = oneshot::channel();
        self.send(command(done));
        answer
    }

    fn send(&self, command: Command) {
        // A thread that has ended drops the command, and whoever waits is told so.
        let _ = self.commands.send(command);
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
    }
}

impl Drop for Engine {
    /// Pipes stay as they are, unfinished lines stay in the spool: for the next one.
    fn drop(&mut self) {
        self.tide.end();
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

/// A deed that a crash interrupted, done again: same bytes, same time, same place.
fn redo(dir: &Path, spool: &mut Spool) -> io::Result<()> {
    let Some(deed) = spool.pending()? else { return Ok(()) };
    let Some((name, stream)) = spool.owner(deed.slot) else { return spool.disarm(deed.slot) };
    let segments = Segments::restore(&dir.join(&name), deed.settings.driver, deed.segment, deed.bytes);
    let segments = match segments {
        Ok(segments) => segments,
        Err(error) => {
            let bytes = spool.data().len();
            tracing::error!(service = name, %error, bytes, "lost what was read last: cannot go on with its segment");
            return spool.disarm(deed.slot);
        }
    };
    let mut service = Service::new(name, Container::HOST, deed.settings, segments);
    for of in 0..2 {
        let slot = spool.find(&service.name, of);
        service.streams[of].slot = slot;
        service.streams[of].mid = slot.is_some_and(|slot| spool.carry(slot).mid);
    }
    let time = if deed.time == 0 { time::now() } else { deed.time };
    service.pour(stream, deed.slot, spool, &mut Vec::new(), deed.flush, time)
}

struct Stream {
    pipe: Option<OwnedFd>,
    slot: Option<usize>,
    /// A part of an unfinished line is in the segment.
    mid: bool,
    /// Since when an unfinished line is held.
    held: Option<Instant>,
    timed: bool,
    loss: Option<Loss>,
}

/// Records that could not be written.
struct Loss {
    lines: u64,
    bytes: u64,
    from: String,
    to: String,
}

struct Service {
    name: String,
    container: Container,
    settings: Settings,
    segments: Segments,
    streams: [Stream; 2],
    figures: Figures,
    reported: Figures,
    /// The disk is full: not tried again before.
    full_until: Option<Instant>,
    last_time: u64,
}

impl Service {
    fn new(name: String, container: Container, settings: Settings, segments: Segments) -> Service {
        let stream = || Stream { pipe: None, slot: None, mid: false, held: None, timed: false, loss: None };
        let last_time = segments.last_time();
        Service {
            name,
            container,
            settings,
            segments,
            streams: [stream(), stream()],
            figures: Figures::default(),
            reported: Figures::default(),
            full_until: None,
            last_time,
        }
    }

    /// Never backwards within the log of a service.
    fn now(&mut self) -> u64 {
        self.last_time = self.last_time.max(time::now());
        self.last_time
    }

    fn deed(&self, slot: usize, flush: bool, time: u64) -> Deed {
        Deed {
            slot,
            segment: self.segments.number(),
            bytes: self.segments.bytes(),
            time,
            flush,
            settings: self.settings,
        }
    }

    /// From the spool (armed before) to the segments.
    fn pour(
        &mut self,
        stream: usize,
        slot: usize,
        spool: &mut Spool,
        out: &mut Vec<u8>,
        flush: bool,
        now: u64,
    ) -> io::Result<()> {
        let needed = self.segments.number();
        let carry = spool.carry(slot);
        let other_mid = self.streams[1 - stream].mid;
        let (mut mid, mut line_time) = (carry.mid, if carry.mid { carry.time } else { now });
        let mut pen = Pen::new(self.settings.driver, STREAMS[stream], line_time);
        let max_line = self.settings.max_line as usize;
        let mut pieces = Pieces::new(spool.tail(slot), spool.data(), max_line, flush);
        for piece in pieces.by_ref() {
            let text = piece.head.len() + piece.text.len();
            let before = self.segments.bytes() + out.len() as u64;
            let after = before + (text + OVERHEAD_BYTES_MAX) as u64;
            let limit = match mid || other_mid {
                false => self.settings.max_size,
                true => self.settings.max_size + self.settings.max_size.max(OVERTIME_BYTES),
            };
            if after > limit && before > 0 {
                self.write(out, needed);
                self.rotate();
            }
            pen.write(out, piece);
            self.figures.lines += u64::from(piece.end);
            self.figures.bytes += (text + usize::from(piece.end)) as u64;
            mid = !piece.end;
            if piece.end && line_time != now {
                line_time = now;
                pen.set_time(now);
            }
            if out.len() >= OUT_BYTES {
                self.write(out, needed);
            }
        }
        self.write(out, needed);
        let rest = pieces.rest();
        spool.commit(slot, rest, mid, line_time)?;
        self.streams[stream].mid = mid;
        self.streams[stream].held = (spool.carry(slot).bytes > 0).then(Instant::now);
        self.segments.prune(self.settings.max_file as usize);
        Ok(())
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

    /// Empties `out`: into the segment, or into what is lost. Segments before `needed` may go to make room.
    fn write(&mut self, out: &mut Vec<u8>, needed: crate::segments::Number) {
        if self.full_until.is_some_and(|until| Instant::now() < until) {
            self.lose(out);
            return out.clear();
        }
        if self.full_until.is_some() {
            let mut remarks = Vec::new();
            let time = self.now();
            for (loss, stream) in
                self.streams.iter().zip(STREAMS).filter_map(|(s, name)| Some((s.loss.as_ref()?, name)))
            {
                let text = format!(
                    "dropped lines={} bytes={} from={} to={}",
                    loss.lines, loss.bytes, loss.from, loss.to
                );
                Pen::new(self.settings.driver, stream, time).remark(&mut remarks, &text);
            }
            if self.append(&remarks, needed).is_err() {
                self.lose(out);
                return out.clear();
            }
            self.full_until = None;
            self.streams.iter_mut().for_each(|stream| stream.loss = None);
            tracing::info!(service = self.name, dropped = self.figures.dropped, "its log is written again");
        }
        if let Err(done) = self.append(out, needed) {
            self.lose(&out[done..]);
        }
        out.clear();
    }

    /// `Err`: so many bytes, whole records, were written.
    fn append(&mut self, records: &[u8], needed: crate::segments::Number) -> Result<(), usize> {
        let mut done = 0;
        loop {
            let Err(short) = self.segments.append(&records[done..]) else { return Ok(()) };
            self.figures.write_errors += 1;
            let whole = memrchr(b'\n', &records[done..done + short.written]).map_or(0, |at| at + 1);
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

    fn lose(&mut self, records: &[u8]) {
        for line in records.split_inclusive(|byte| *byte == b'\n') {
            let Some(record) = parse(self.settings.driver, line.strip_suffix(b"\n").unwrap_or(line)) else {
                continue;
            };
            let stream = usize::from(record.stream == STREAMS[1]);
            let time = record.time.into_owned();
            let loss = self.streams[stream].loss.get_or_insert_with(|| Loss {
                lines: 0,
                bytes: 0,
                from: time.clone(),
                to: String::new(),
            });
            loss.lines += u64::from(record.end);
            loss.bytes += (record.text.len() + usize::from(record.end)) as u64;
            loss.to = time;
            self.figures.dropped += u64::from(record.end);
        }
    }
}

/// What a timer is for: a stream's silence, or (2) a full disk.
type Timer = (Instant, u64, usize);
const FULL: usize = 2;

struct Works {
    dir: PathBuf,
    spool: Spool,
    epoll: OwnedFd,
    inbox: Receiver<Command>,
    bell: Arc<OwnedFd>,
    tide: Arc<Tide>,
    report: Report,
    services: BTreeMap<u64, Service>,
    names: BTreeMap<String, u64>,
    next_key: u64,
    timers: BinaryHeap<Reverse<Timer>>,
    report_at: Option<Instant>,
    out: Vec<u8>,
    wrote: bool,
}

impl Works {
    fn run(&mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let timeout = self.timeout();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "epoll_wait: nothing is logged any more");
                    return;
                }
            }
            for event in &events {
                match event.data.u64() {
                    COMMANDS => {
                        let mut count = [0; 8];
                        let _ = rustix::io::read(&*self.bell, &mut count);
                        while let Ok(command) = self.inbox.try_recv() {
                            if matches!(command, Command::Stop) {
                                return self.tell_figures();
                            }
                            self.obey(command);
                        }
                    }
                    data => self.turn(data >> 1, (data & 1) as usize),
                }
            }
            self.ring();
            if std::mem::take(&mut self.wrote) {
                self.tide.rise();
                self.report_at.get_or_insert_with(|| Instant::now() + AGAIN);
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let next = timer.into_iter().chain(self.report_at).min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() })
    }

    /// Timers that are due.
    fn ring(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((_, key, what))) =
            self.timers.peek().copied().filter(|Reverse((at, ..))| *at <= now)
        {
            self.timers.pop();
            let Some(service) = self.services.get_mut(&key) else { continue };
            if what == FULL {
                self.pour_nothing(key, false, 0);
                continue;
            }
            service.streams[what].timed = false;
            match service.streams[what].held {
                Some(since) if since + SILENCE <= now => self.pour_nothing(key, true, what),
                Some(_) => self.arm_timers(key),
                None => {}
            }
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.tell_figures();
        }
    }

    fn tell_figures(&mut self) {
        self.report_at = None;
        for service in self.services.values_mut().filter(|service| service.figures != service.reported) {
            (self.report)(service.container, &service.reported, &service.figures);
            service.reported = service.figures;
        }
    }

    /// A deed without new data: an unfinished line is flushed, or a full disk is tried again.
    fn pour_nothing(&mut self, key: u64, flush: bool, stream: usize) {
        let Some(service) = self.services.get_mut(&key) else { return };
        let slots = [service.streams[stream].slot, service.streams[1 - stream].slot];
        let Some((at, slot)) = slots.into_iter().enumerate().find_map(|(n, slot)| Some((n, slot?))) else {
            return;
        };
        let stream = if at == 0 { stream } else { 1 - stream };
        let now = service.now();
        self.spool.arm(&service.deed(slot, flush, now));
        self.out.clear();
        let poured = service.pour(stream, slot, &mut self.spool, &mut self.out, flush, now);
        self.wrote = true;
        self.complain(key, poured);
        self.arm_timers(key);
    }

    fn arm_timers(&mut self, key: u64) {
        let Some(service) = self.services.get_mut(&key) else { return };
        for (n, stream) in service.streams.iter_mut().enumerate() {
            if let Some(since) = stream.held.filter(|_| !stream.timed) {
                stream.timed = true;
                self.timers.push(Reverse((since + SILENCE, key, n)));
            }
        }
        if let Some(until) = service.full_until
            && !self.timers.iter().any(|Reverse((_, of, what))| *of == key && *what == FULL)
        {
            self.timers.push(Reverse((until, key, FULL)));
        }
    }

    /// A pipe is readable.
    fn turn(&mut self, key: u64, stream: usize) {
        for _ in 0..READS_PER_TURN {
            match self.read(key, stream) {
                Some(READ_BYTES_MAX) => {}
                _ => break,
            }
        }
        self.arm_timers(key);
    }

    /// One read; `None` if there is nothing to read.
    fn read(&mut self, key: u64, stream: usize) -> Option<usize> {
        let service = self.services.get_mut(&key)?;
        let (pipe, slot) = (service.streams[stream].pipe.as_ref()?, service.streams[stream].slot?);
        self.spool.arm(&service.deed(slot, false, 0));
        match self.spool.take(pipe.as_fd()) {
            Ok(0) => {
                // Nobody has it open for writing: nothing comes until it is attached again, but epoll would not sleep.
                let _ = epoll::delete(&self.epoll, pipe);
                service.streams[stream].pipe = None;
                let disarmed = self.spool.disarm(slot);
                self.complain(key, disarmed);
                None
            }
            Ok(taken) => {
                let now = service.now();
                self.spool.set_time(now);
                self.out.clear();
                let poured = service.pour(stream, slot, &mut self.spool, &mut self.out, false, now);
                self.wrote = true;
                self.complain(key, poured);
                Some(taken)
            }
            Err(error) => {
                let disarmed = self.spool.disarm(slot);
                if !matches!(error, Errno::AGAIN | Errno::INTR) {
                    let _ = epoll::delete(&self.epoll, pipe);
                    service.streams[stream].pipe = None;
                    self.complain(key, Err(error.into()));
                }
                self.complain(key, disarmed);
                None
            }
        }
    }

    fn complain(&self, key: u64, result: io::Result<()>) {
        if let Err(error) = result {
            let service = self.services.get(&key).map_or("", |service| service.name.as_str());
            tracing::error!(service, %error, "logging");
        }
    }

    fn obey(&mut self, command: Command) {
        // Who asked may have given up: it is done all the same.
        match command {
            Command::Attach(attachment, done) => {
                let name = attachment.service.clone();
                let attached = self.attach(attachment);
                if attached.is_err() {
                    self.detach(&name);
                }
                let _ = done.send(attached);
            }
            Command::Detach(name, done) => {
                self.detach(&name);
                let _ = done.send(());
            }
            Command::Retain(names, done) => {
                let gone = |name: &String| !names.contains(name);
                let mut strays: Vec<String> = self.names.keys().filter(|name| gone(name)).cloned().collect();
                strays.extend(self.spool.claimed().map(|(_, name, _)| name).filter(gone));
                strays.iter().for_each(|name| self.detach(name));
                let _ = done.send(());
            }
            Command::Status(done) => {
                let figures =
                    |service: &Service| Figures { segments: service.segments.count(), ..service.figures };
                let all = self.services.values().map(|service| (service.name.clone(), figures(service)));
                let _ = done.send(all.collect());
            }
            Command::Stop => {}
        }
    }

    fn attach(&mut self, attachment: Attachment) -> io::Result<()> {
        let Attachment { service: name, container, settings, pipes } = attachment;
        let safe = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if !safe {
            return Err(io::Error::other(format!("{name:?} cannot be the name of a folder")));
        }
        let key = match self.names.get(&name) {
            Some(key) => {
                let key = *key;
                self.drain(key);
                key
            }
            None => {
                let segments = Segments::open(&self.dir.join(&name), settings.driver)?;
                let key = self.next_key;
                self.next_key += 1;
                let service = Service::new(name.clone(), container, settings, segments);
                self.services.insert(key, service);
                self.names.insert(name.clone(), key);
                key
            }
        };
        let Some(service) = self.services.get_mut(&key) else { return Ok(()) };
        if service.settings.driver != settings.driver {
            service.segments = Segments::open(&self.dir.join(&name), settings.driver)?;
        }
        (service.settings, service.container) = (settings, container);
        for (n, pipe) in pipes.into_iter().enumerate() {
            let stream = &mut service.streams[n];
            if let Some(old) = stream.pipe.take() {
                let _ = epoll::delete(&self.epoll, &old);
            }
            let Some(pipe) = pipe else { continue };
            let flags = rustix::fs::fcntl_getfl(&pipe)?;
            rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
            let slot = self.spool.claim(&name, n)?;
            let carry = self.spool.carry(slot);
            stream.slot = Some(slot);
            stream.mid = carry.mid;
            stream.held = (carry.bytes > 0).then(Instant::now);
            let data = epoll::EventData::new_u64(key << 1 | n as u64);
            epoll::add(&self.epoll, &pipe, data, epoll::EventFlags::IN)?;
            stream.pipe = Some(pipe);
        }
        // The other stream's state counts from the first read on, also if its pipe is not here yet.
        self.wrote = true;
        self.arm_timers(key);
        Ok(())
    }

    /// Until its pipes are empty. They give no EOF: the container's side may be open for reading and writing.
    fn drain(&mut self, key: u64) {
        for stream in 0..2 {
            for _ in 0..READS_PER_DRAIN {
                if self.read(key, stream).is_none() {
                    break;
                }
            }
        }
    }

    fn detach(&mut self, name: &str) {
        if !self.names.contains_key(name) {
            // Tails that a crash left, of a service that is gone.
            let slots: Vec<usize> = (0..2).filter_map(|stream| self.spool.find(name, stream)).collect();
            if slots.is_empty() {
                return;
            }
            // Whatever its settings were: its last segment shows the driver.
            let last = list(&self.dir.join(name)).ok().and_then(|all| all.back().copied());
            let driver = last.map_or(Settings::default().driver, |(_, driver)| driver);
            let attachment = Attachment {
                service: name.to_owned(),
                container: Container::HOST,
                settings: Settings { driver, ..Settings::default() },
                pipes: [None, None],
            };
            if slots.iter().any(|slot| self.spool.carry(*slot).bytes > 0) {
                let attached = self.attach(attachment);
                self.complain(0, attached);
            }
            if let Some(service) = self.names.get(name).and_then(|key| self.services.get_mut(key)) {
                for (n, stream) in service.streams.iter_mut().enumerate() {
                    stream.slot = self.spool.find(name, n);
                    stream.held =
                        stream.slot.filter(|slot| self.spool.carry(*slot).bytes > 0).map(|_| Instant::now());
                }
            }
        }
        if let Some(key) = self.names.get(name).copied() {
            self.drain(key);
            for stream in 0..2 {
                if self.services.get(&key).is_some_and(|service| service.streams[stream].held.is_some()) {
                    self.pour_nothing(key, true, stream);
                }
            }
            self.names.remove(name);
            if let Some(mut service) = self.services.remove(&key) {
                (self.report)(service.container, &service.reported, &service.figures);
                for stream in &mut service.streams {
                    if let Some(pipe) = stream.pipe.take() {
                        let _ = epoll::delete(&self.epoll, &pipe);
                    }
                }
            }
        }
        for stream in 0..2 {
            if let Some(slot) = self.spool.find(name, stream) {
                self.spool.release(slot);
            }
        }
        self.wrote = true;
    }
}

/// For `attach`: a descriptor of one's own.
pub fn own(fd: Option<BorrowedFd<'_>>) -> io::Result<Option<OwnedFd>> {
    fd.map(|fd| fd.try_clone_to_owned()).transpose()
}

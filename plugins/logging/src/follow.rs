//! Reading logs: a thread per reader, which goes through the segments at its own pace and writes `SERVICE TIME STREAM F|P TEXT`
//! lines to a pipe.
//!
//! It reads files, never the logging thread's memory, so a slow reader holds up nobody; its place is (segment, offset), and the
//! end of a segment is that the next one exists. It sleeps on the tide (tide.rs) and on its pipe, and ends when nobody reads.
//! A reader slower than retention goes on with the oldest segment that is left.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memchr::{memchr, memchr_iter, memrchr};
use rustix::pipe::PipeFlags;
use sampan_plugin::prelude::Value;

use crate::config::Driver;
use crate::record::parse;
use crate::segments::{Number, list, path};
use crate::tide::Tide;
use crate::time;

#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `None`: all, also those that appear later.
    pub services: Option<Vec<String>>,
    pub follow: bool,
    /// The last lines of each service; `None`: all of them.
    pub tail: Option<u64>,
    /// Records from this time on, in nanoseconds since 1970.
    pub since: Option<u64>,
}

/// RFC 3339 (in UTC, with a Z), or seconds since 1970.
pub fn since(value: &Value) -> Result<u64, String> {
    let seconds = |s: f64| (0.0..1e10).contains(&s).then_some((s * 1e9) as u64);
    let ns = match value {
        Value::String(text) => time::parse(text).or_else(|| text.parse().ok().and_then(seconds)),
        value => value.as_f64().and_then(seconds),
    };
    ns.ok_or_else(|| format!("since: {value} is neither \"2026-11-25T01:36:53Z\" nor seconds since 1970"))
}

/// The read end of the pipe.
pub fn start(dir: PathBuf, tide: Arc<Tide>, wanted: Wanted) -> io::Result<OwnedFd> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut reader = Reader {
        since: wanted.since.map(|since| time::text(since).to_vec()),
        dir,
        wanted,
        known: BTreeSet::new(),
        waiting: BTreeSet::new(),
        cursors: BTreeMap::new(),
        seen: None,
        buffer: vec![0; READ_BYTES],
        out: Vec::with_capacity(2 * READ_BYTES),
        pipe: File::from(write),
    };
    // What exists now is old; whatever comes after this call returns is new, also if the thread is late.
    reader.discover(true);
    let ahead = reader.wanted.tail == Some(0);
    if ahead {
        reader.place();
    }
    std::thread::Builder::new().name("sp-log-reader".to_owned()).spawn(move || {
        if !ahead {
            reader.place();
        }
        // The other end is gone, or a file is: either way nobody is left to be told.
        if let Err(error) = reader.run(&tide)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::warn!(%error, "a reader of logs ends");
        }
    })?;
    Ok(read)
}

const READ_BYTES: usize = 64 * 1024;
/// Longer than any record.
const RECORD_BYTES_MAX: usize = 1 << 20;

struct Reader {
    dir: PathBuf,
    wanted: Wanted,
    since: Option<Vec<u8>>,
    known: BTreeSet<String>,
    /// Known, but without a segment yet.
    waiting: BTreeSet<String>,
    cursors: BTreeMap<String, Cursor>,
    /// When the folder was changed last, as of our last look.
    seen: Option<SystemTime>,
    buffer: Vec<u8>,
    out: Vec<u8>,
    pipe: File,
}

struct Cursor {
    dir: PathBuf,
    place: Place,
    next: Option<Place>,
    /// Where to stop: what was the end when reading began.
    end: Option<(Number, u64)>,
}

/// Lines of a service that are read, but not all written.
struct Ahead {
    service: String,
    lines: Vec<u8>,
    at: usize,
}

impl Ahead {
    fn time(&self) -> &[u8] {
        let from = self.at + self.service.len() + 1;
        self.lines.get(from..from + time::TEXT_BYTES).unwrap_or_default()
    }
}

struct Place {
    number: Number,
    driver: Driver,
    file: File,
    offset: u64,
}

impl Place {
    fn open(dir: &Path, number: Number, driver: Driver, offset: u64) -> io::Result<Place> {
        Ok(Place { number, driver, file: File::open(path(dir, number, driver))?, offset })
    }
}

impl Reader {
    fn run(&mut self, tide: &Tide) -> io::Result<()> {
        let sleeper = tide.join()?;
        self.merge()?;
        let mut dozing = false;
        loop {
            self.discover(false);
            if self.pass()? {
                dozing = false;
            } else if !self.wanted.follow || tide.has_ended() {
                return Ok(());
            } else if !dozing {
                // One more look: something may have come since the last.
                sleeper.doze();
                dozing = true;
            } else if sleeper.sleep(self.pipe.as_fd()) {
                dozing = false;
            } else {
                return Ok(());
            }
        }
    }

    /// What was there when reading began, of all services in the order of time.
    fn merge(&mut self) -> io::Result<()> {
        let ahead = |name: &String| Ahead { service: name.clone(), lines: Vec::new(), at: 0 };
        let mut all: Vec<Ahead> = self.cursors.keys().map(ahead).collect();
        while !all.is_empty() {
            for one in all.iter_mut().filter(|one| one.at == one.lines.len()) {
                one.lines.clear();
                one.at = 0;
                let Some(cursor) = self.cursors.get_mut(&one.service) else { continue };
                let since = self.since.as_deref();
                while one.lines.is_empty()
                    && cursor.copy(&one.service, since, &mut self.buffer, &mut one.lines)?
                {}
            }
            all.retain(|one| !one.lines.is_empty());
            all.sort_by(|a, b| a.time().cmp(b.time()));
            let Some((first, others)) = all.split_first_mut() else { break };
            let limit = others.first().map(Ahead::time);
            while first.at < first.lines.len() && limit.is_none_or(|limit| first.time() <= limit) {
                let line = &first.lines[first.at..];
                let bytes = memchr(b'\n', line).map_or(line.len(), |at| at + 1);
                self.out.extend_from_slice(&line[..bytes]);
                first.at += bytes;
            }
            if self.out.len() >= READ_BYTES {
                self.pipe.write_all(&self.out)?;
                self.out.clear();
            }
        }
        self.pipe.write_all(&self.out)?;
        self.out.clear();
        if self.wanted.follow {
            self.cursors.values_mut().for_each(|cursor| cursor.end = None);
        }
        Ok(())
    }

    /// A portion of each service. False if there was nothing.
    fn pass(&mut self) -> io::Result<bool> {
        let mut any = false;
        let names: Vec<String> = self.cursors.keys().cloned().collect();
        for name in names {
            let Some(cursor) = self.cursors.get_mut(&name) else { continue };
            any |= cursor.copy(&name, self.since.as_deref(), &mut self.buffer, &mut self.out)?;
            if !self.out.is_empty() {
                self.pipe.write_all(&self.out)?;
                self.out.clear();
            }
        }
        Ok(any)
    }

    /// Services that have appeared: read from their beginning, unless they are the `first` ones.
    fn discover(&mut self, first: bool) {
        match &self.wanted.services {
            Some(names) if first => {
                let safe = |name: &&String| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
                self.known = names.iter().filter(safe).cloned().collect();
                self.waiting = self.known.clone();
            }
            Some(_) => {}
            None => {
                let changed = fs::metadata(&self.dir).and_then(|meta| meta.modified()).ok();
                // A folder made within the clock's grain of our last look would not show: look again while it is young.
                let young = changed.is_some_and(|at| at.elapsed().is_ok_and(|age| age.as_millis() < 100));
                if young || changed != self.seen {
                    self.seen = changed;
                    for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
                        let Ok(name) = entry.file_name().into_string() else { continue };
                        if !name.starts_with('.') && self.known.insert(name.clone()) {
                            self.waiting.insert(name);
                        }
                    }
                }
            }
        }
        if first {
            return;
        }
        for name in std::mem::take(&mut self.waiting) {
            let dir = self.dir.join(&name);
            match list(&dir).ok().and_then(|all| all.front().copied()) {
                Some((number, driver)) => {
                    if let Ok(place) = Place::open(&dir, number, driver, 0) {
                        let end = (!self.wanted.follow).then_some((number, 0));
                        self.cursors.insert(name, Cursor { dir, place, next: None, end });
                    }
                }
                None => drop(self.waiting.insert(name)),
            }
        }
    }

    /// Cursors of the services that exist when reading begins.
    fn place(&mut self) {
        for name in std::mem::take(&mut self.waiting) {
            match Cursor::begin(self.dir.join(&name), &self.wanted) {
                Some(cursor) => drop(self.cursors.insert(name, cursor)),
                None => drop(self.waiting.insert(name)),
            }
        }
    }
}

impl Cursor {
    fn begin(dir: PathBuf, wanted: &Wanted) -> Option<Cursor> {
        let all = list(&dir).ok()?;
        let (last, driver) = all.back().copied()?;
        let bytes = fs::metadata(path(&dir, last, driver)).ok()?.len();
        let end = Some((last, bytes));
        let place = match wanted.tail {
            None => {
                let (number, driver) = all.front().copied()?;
                Place::open(&dir, number, driver, 0).ok()?
            }
            Some(0) => {
                let mut place = Place::open(&dir, last, driver, 0).ok()?;
                place.offset = whole(&place.file, bytes).unwrap_or(bytes);
                place
            }
            Some(lines) => tail(&dir, &all, lines)?,
        };
        Some(Cursor { dir, place, next: None, end })
    }

    /// Up to one buffer of records into `out`. False at the end.
    fn copy(
        &mut self,
        service: &str,
        since: Option<&[u8]>,
        buffer: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let place = &mut self.place;
        let left = match self.end {
            Some((number, bytes)) if number == place.number => bytes.saturating_sub(place.offset),
            Some((number, _)) if number < place.number => 0,
            _ => u64::MAX,
        };
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = place.file.read_at(&mut buffer[..want], place.offset)?;
        if let Some(end) = memrchr(b'\n', &buffer[..got]) {
            place.offset += end as u64 + 1;
            let mut from = 0;
            for at in memchr_iter(b'\n', &buffer[..=end]) {
                line(service, place.driver, since, &buffer[from..at], out);
                from = at + 1;
            }
            return Ok(true);
        }
        if got == buffer.len() {
            if got < RECORD_BYTES_MAX {
                buffer.resize(got * 2, 0);
            } else {
                // Not a record of ours.
                place.offset += got as u64;
            }
            return Ok(true);
        }
        if left == 0 || self.end.is_some_and(|(number, _)| number == place.number) {
            return Ok(false);
        }
        // The next segment exists, so this one is complete: but only what is read after having seen that is all of it.
        match self.next.take() {
            Some(next) => self.place = next,
            None => self.next = self.successor(),
        }
        Ok(self.next.is_some() || self.place.offset == 0 && self.place.file.metadata()?.len() > 0)
    }

    fn successor(&self) -> Option<Place> {
        let next = Number(self.place.number.0 + 1);
        if let Some(place) =
            Driver::ALL.into_iter().find_map(|driver| Place::open(&self.dir, next, driver, 0).ok())
        {
            return Some(place);
        }
        // Retention has overtaken us?
        let last = self.place.file.metadata().is_ok_and(|meta| meta.nlink() > 0);
        let all = if last { VecDeque::new() } else { list(&self.dir).ok()? };
        let (number, driver) = all.into_iter().find(|(number, _)| *number > self.place.number)?;
        Place::open(&self.dir, number, driver, 0).ok()
    }
}

/// The end of the last whole record.
fn whole(file: &File, bytes: u64) -> io::Result<u64> {
    let from = bytes.saturating_sub(RECORD_BYTES_MAX as u64);
    let mut end = vec![0; (bytes - from) as usize];
    let got = file.read_at(&mut end, from)?;
    Ok(from + memrchr(b'\n', &end[..got]).map_or(0, |at| at as u64 + 1))
}

/// Where the last `lines` begin: parts count with the line that they are of.
fn tail(dir: &Path, all: &VecDeque<(Number, Driver)>, lines: u64) -> Option<Place> {
    let mut need = lines;
    let mut oldest = None;
    for (number, driver) in all.iter().rev().copied() {
        let Ok(bytes) = fs::read(path(dir, number, driver)) else { continue };
        let ends = || {
            memchr_iter(b'\n', &bytes).scan(0, |from, at| {
                let line = &bytes[*from..at];
                *from = at + 1;
                Some((ends_a_line(driver, line), *from as u64))
            })
        };
        let has = ends().filter(|(end, _)| *end).count() as u64;
        if has >= need {
            let skip = has - need;
            let offset = match skip.checked_sub(1) {
                None => 0,
                Some(nth) => ends().filter(|(end, _)| *end).nth(nth as usize).map_or(0, |(_, from)| from),
            };
            return Place::open(dir, number, driver, offset).ok();
        }
        need -= has;
        oldest = Some((number, driver));
    }
    let (number, driver) = oldest?;
    Place::open(dir, number, driver, 0).ok()
}

fn ends_a_line(driver: Driver, line: &[u8]) -> bool {
    match driver {
        // Behind the time and the stream, both of a fixed length.
        Driver::Local => line.get(time::TEXT_BYTES + 8) == Some(&b'F'),
        Driver::JsonFile => memchr::memmem::find(line, b"\\n\",\"stream\":\"").is_some(),
    }
}

fn line(service: &str, driver: Driver, since: Option<&[u8]>, line: &[u8], out: &mut Vec<u8>) {
    let mut push = |parts: &[&[u8]]| {
        out.extend_from_slice(service.as_bytes());
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out.push(b'\n');
    };
    if driver == Driver::Local {
        let space = memchr(b' ', line).unwrap_or(0);
        if since.is_none_or(|since| &line[..space] >= since) {
            // Tags behind the first are for machines that read the file.
            match line.get(time::TEXT_BYTES + 8..) {
                Some([b'F', b':', rest @ ..]) => {
                    let text = memchr(b' ', rest).unwrap_or(rest.len());
                    push(&[b" ", &line[..time::TEXT_BYTES + 9], &rest[text..]]);
                }
                _ => push(&[b" ", line]),
            }
        }
    } else if let Some(record) = parse(driver, line)
        && since.is_none_or(|since| record.time.as_bytes() >= since)
    {
        let tag: &[u8] = if record.end { b" F " } else { b" P " };
        push(&[b" ", record.time.as_bytes(), b" ", record.stream.as_bytes(), tag, &record.text]);
    }
}

//! Reading logs: a thread per reader, which goes through the segments at its own pace and writes `SERVICE TIME STREAM F|P TEXT`
//! lines to a pipe.
//!
//! It reads files, never the logging thread's memory, so a slow reader holds up nobody; its place is (segment, offset), and the
//! end of a segment is that the next one exists. It sleeps on the notifier (notifier.rs) and on its pipe, and ends when nobody
//! reads. A reader slower than retention goes on with the oldest segment that is left, and says how much it has missed.
mod cursor;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use memchr::memchr;
use rustix::pipe::PipeFlags;
use sampan_plugin::prelude::Value;

use crate::notifier::{Notifier, Removed};
use crate::segments::list;
use crate::time;
use cursor::{Cursor, Place};

#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `None`: all, also those that appear later.
    pub services: Option<Vec<String>>,
    pub follow: bool,
    /// The last lines of each service; `None`: all of them.
    pub tail: Option<u64>,
    /// Records from this time on, in nanoseconds since 1970.
    pub since: Option<u64>,
    /// Those of the services whose log is in systemd's journal: that is said in its place.
    pub elsewhere: Vec<String>,
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
pub fn start(dir: PathBuf, notifier: Arc<Notifier>, wanted: Wanted) -> io::Result<OwnedFd> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut reader = Reader {
        since: wanted.since.map(|since| time::text(since).to_vec()),
        dir,
        wanted,
        known: BTreeSet::new(),
        waiting: BTreeSet::new(),
        cursors: BTreeMap::new(),
        seen: None,
        removed: notifier.removed().clone(),
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
        if let Err(error) = reader.run(&notifier)
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::warn!(%error, "a reader of logs ends");
        }
    })?;
    Ok(read)
}

const READ_BYTES: usize = 64 * 1024;

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
    removed: Arc<Removed>,
    buffer: Vec<u8>,
    out: Vec<u8>,
    pipe: File,
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

impl Reader {
    fn run(&mut self, notifier: &Notifier) -> io::Result<()> {
        let sleeper = notifier.subscribe()?;
        for service in &self.wanted.elsewhere {
            let time = time::text(time::now());
            let time = String::from_utf8_lossy(&time);
            let said = format!("its log is in the journal: journalctl CONTAINER_NAME={service}");
            writeln!(self.pipe, "{service} {time} stderr F {said}")?;
        }
        self.merge()?;
        let mut dozing = false;
        loop {
            self.discover(false);
            if self.pass()? {
                dozing = false;
            } else if !self.wanted.follow || notifier.has_ended() {
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
            self.cursors.values_mut().for_each(Cursor::go_on);
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
                        self.cursors.insert(name, Cursor::new(dir, place, end, self.removed.clone()));
                    }
                }
                None => drop(self.waiting.insert(name)),
            }
        }
    }

    /// Cursors of the services that exist when reading begins.
    fn place(&mut self) {
        for name in std::mem::take(&mut self.waiting) {
            match Cursor::begin(self.dir.join(&name), &self.wanted, &self.removed) {
                Some(cursor) => drop(self.cursors.insert(name, cursor)),
                None => drop(self.waiting.insert(name)),
            }
        }
    }
}

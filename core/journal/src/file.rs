//! The journal's file: append, replay, compact. In memory stays an index alone (where each record's line is and
//! whose it is); the lines are in the file. A write that fails (disk full) puts the line into a queue that every
//! later append tries to write first: the loop goes on, and `health` says so.

use super::record::{self, Entry, Header, Record};
use super::replay::{self, Reading};
use crate::crash;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// So many of the newest records stay when the journal is compacted,
pub const KEEP: usize = 4096;
/// and so many of each service: what `sampanctl why` shows. The last of them is its state.
pub const HISTORY: usize = 16;
/// Lines that wait for room on the disk; of more the oldest are given up.
const QUEUE_MAX: usize = 4096;
const NAME: &str = "journal";
const NEW: &str = "journal.new";

#[derive(Debug)]
pub struct Journal {
    folder: OwnedFd,
    path: PathBuf,
    boot: String,
    /// None: it could not even be made; all is queued.
    file: Option<OwnedFd>,
    /// The end of the last whole line. Whatever lies behind it is the rest of a failed write.
    end: u64,
    lines: Vec<Line>,
    /// Records before this number are not all there any more.
    first: u64,
    next: u64,
    services: HashMap<String, u32>,
    /// The number of the next service.
    next_service: u32,
    queue: VecDeque<(Record, String)>,
    failing: Option<Errno>,
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    seq: u64,
    at: u64,
    len: u32,
    service: u32,
}

/// What an earlier worker, or sampand, has written.
#[derive(Debug, Default)]
pub struct Replay {
    pub last: BTreeMap<String, Record>,
    pub next_seq: u64,
    pub notes: Vec<Note>,
}

/// For the log, at warn; none of them keeps sampand from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The last record was cut off in the middle: sampand died while it wrote.
    Torn,
    /// Written before the host was started again: nothing of it runs.
    Rebooted,
    /// Lines that cannot be trusted. The file as it was is at `aside`; what could be read is in the new one.
    Damaged { lines: Vec<usize>, aside: PathBuf },
    /// Cannot be read or written; sampand goes on without.
    Unusable { doing: &'static str, path: PathBuf, errno: Errno },
}

impl core::fmt::Display for Note {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Note::Torn => write!(f, "the journal's last record was cut off by a crash and is dropped"),
            Note::Rebooted => write!(f, "the host was started again: nothing of the journal runs"),
            Note::Damaged { lines, aside } => write!(
                f,
                "the journal is damaged (line {}): what could be read is used, the file is kept as {}",
                lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
                aside.display()
            ),
            Note::Unusable { doing, path, errno } => {
                write!(f, "cannot {doing} {}: {errno}; events are kept in memory alone", path.display())
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// Records wait in memory (or were lost, when too many waited) because of this error.
    Behind {
        waiting: usize,
        lost: u64,
        errno: Errno,
    },
}

/// The answer to `since`.
#[derive(Debug, PartialEq)]
pub enum Since {
    Records(Vec<Record>),
    /// What was asked for is gone; the oldest that is there has this number.
    Gap {
        first: u64,
    },
}

/// The boot id a journal in this folder was written under. None: there is none, or its first line is damaged.
pub fn boot_of(run_dir: &Path) -> Option<String> {
    use std::io::{BufRead, BufReader, Read};
    let mut line = Vec::new();
    let file = std::fs::File::open(run_dir.join(NAME)).ok()?;
    BufReader::new(file.take(4096)).read_until(b'\n', &mut line).ok()?;
    record::parse::<Header>(line.strip_suffix(b"\n")?).map(|h| h.boot)
}

impl Journal {
    /// Opens or makes the journal of a run folder that is ours (`journal::rundir`). What is wrong with it is in the
    /// notes; Err means that the folder itself cannot be opened.
    pub fn open(run_dir: &Path, boot_id: &str) -> Result<(Journal, Replay), (PathBuf, Errno)> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = rustix::fs::open(run_dir, flags, Mode::empty()).map_err(|e| (run_dir.to_owned(), e))?;
        let mut journal = Journal {
            folder,
            path: run_dir.join(NAME),
            boot: boot_id.to_owned(),
            file: None,
            end: 0,
            lines: Vec::new(),
            first: 1,
            next: 1,
            services: HashMap::new(),
            next_service: 0,
            queue: VecDeque::new(),
            failing: None,
            lost: 0,
        };
        let replay = journal.replay();
        Ok((journal, replay))
    }

    /// Writes one record down, with one write(2). It never fails: see `health`.
    pub fn append(&mut self, entry: &Entry<'_>) -> Record {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let record = entry.at(self.next, time);
        self.next += 1;
        let line = record::line(&record);
        if self.flush().is_ok() && self.write(&record, &line).is_ok() {
            self.compact_if_long();
        } else {
            self.queue.push_back((record.clone(), line));
            self.limit_queue();
        }
        record
    }

    /// The oldest are given up, many at once, but for the last of each service: that is its state.
    fn limit_queue(&mut self) {
        if self.queue.len() <= QUEUE_MAX {
            return;
        }
        let mut surplus = self.queue.len() - QUEUE_MAX + QUEUE_MAX / 8;
        let last: HashMap<&str, u64> = self.queue.iter().map(|(r, _)| (r.service.as_str(), r.seq)).collect();
        let states: HashSet<u64> = last.into_values().collect();
        self.queue.retain(|(record, _)| {
            let goes = surplus > 0 && !states.contains(&record.seq);
            if goes {
                (surplus, self.lost, self.first) = (surplus - 1, self.lost + 1, record.seq + 1);
            }
            !goes
        });
    }

    /// Tries to write what waits. The worker may call it from a slow timer while `health` is not good.
    pub fn flush(&mut self) -> Result<(), Errno> {
        if self.file.is_none() {
            self.rewrite(0).inspect_err(|errno| self.failing = Some(*errno))?;
        }
        while let Some((record, line)) = self.queue.pop_front() {
            if let Err(errno) = self.write(&record, &line) {
                self.queue.push_front((record, line));
                return Err(errno);
            }
        }
        Ok(())
    }

    pub fn health(&self) -> Health {
        match self.failing {
            Some(errno) => Health::Behind { waiting: self.queue.len(), lost: self.lost, errno },
            None => Health::Good,
        }
    }

    /// It has left for good: its records go as they grow old, and the last of them with the others.
    pub fn forget(&mut self, service: &str) {
        self.services.remove(service);
    }

    /// The number of the next record.
    pub fn next_seq(&self) -> u64 {
        self.next
    }

    /// Of its file, with what is no longer asked for.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// All records from `seq` on.
    pub fn since(&self, seq: u64) -> Result<Since, Errno> {
        if seq < self.first {
            return Ok(Since::Gap { first: self.first });
        }
        let from = self.lines.partition_point(|line| line.seq < seq);
        let mut records = Vec::new();
        if let (Some(line), Some(file)) = (self.lines.get(from), &self.file) {
            let bytes = read_range(file, line.at, self.end)?;
            records = bytes.split(|b| *b == b'\n').filter_map(record::parse).collect();
        }
        records.extend(self.queue.iter().filter(|(r, _)| r.seq >= seq).map(|(r, _)| r.clone()));
        Ok(Since::Records(records))
    }

    /// The last records of a service, oldest first.
    pub fn last_of(&self, service: &str, most: usize) -> Result<Vec<Record>, Errno> {
        let waiting = self.queue.iter().rev().map(|(record, _)| record).filter(|r| r.service == service);
        let mut records: Vec<Record> = waiting.take(most).cloned().collect();
        if let (Some(number), Some(file)) = (self.services.get(service), &self.file) {
            let written = self.lines.iter().rev().filter(|line| line.service == *number);
            for line in written.take(most - records.len()) {
                let bytes = read_range(file, line.at, line.at + u64::from(line.len))?;
                records.extend(bytes.strip_suffix(b"\n").and_then(record::parse::<Record>));
            }
        }
        records.reverse();
        Ok(records)
    }

    fn replay(&mut self) -> Replay {
        let mut notes = Vec::new();
        let reading = match self.read_all() {
            Ok(bytes) => replay::read(&bytes),
            Err(Errno::NOENT) => Reading::default(),
            Err(errno) => {
                // Not to be lost by what follows: the new file must not take its name.
                notes.push(Note::Unusable { doing: "read", path: self.path.clone(), errno });
                let _ = self.set_aside();
                Reading::default()
            }
        };
        if reading.torn {
            notes.push(Note::Torn);
        }
        if !reading.damaged.is_empty() {
            match self.set_aside() {
                Ok(aside) => notes.push(Note::Damaged { lines: reading.damaged.clone(), aside }),
                Err(errno) => {
                    notes.push(Note::Unusable { doing: "set aside", path: self.path.clone(), errno })
                }
            }
        }
        let rebooted = reading.boot.as_ref().is_some_and(|boot| *boot != self.boot);
        // With a damaged first line nobody knows which boot the pids are of. Numbers go on all the same: a client
        // of `events --since` must not see one twice.
        self.next = reading.records.last().map_or(1, |r| r.seq + 1);
        self.first = self.next;
        if rebooted {
            notes.push(Note::Rebooted);
        }
        let mut replay = Replay { next_seq: self.next, notes, ..Replay::default() };
        let result = if reading.boot.as_ref() == Some(&self.boot) {
            replay.last = replay::last_per_service(&reading.records);
            self.resume(&reading).inspect_err(|_| self.hold(reading.records))
        } else {
            self.rewrite(0)
        };
        if let Err(errno) = result {
            self.failing = Some(errno);
            replay.notes.push(Note::Unusable { doing: "write", path: self.path.clone(), errno });
        }
        replay
    }

    /// The file cannot be gone on with: what it says waits for a new one.
    fn hold(&mut self, records: Vec<Record>) {
        let lines: Vec<String> = records.iter().map(record::line).collect();
        self.queue = records.into_iter().zip(lines).collect();
        self.limit_queue();
    }

    /// Goes on with the journal that was read.
    fn resume(&mut self, reading: &Reading) -> Result<(), Errno> {
        self.first = reading.records.first().map_or(self.next, |r| r.seq);
        // Behind the records that compaction kept for being the last of their service there are gaps.
        for pair in reading.records.windows(2) {
            if let [a, b] = pair
                && b.seq != a.seq + 1
            {
                self.first = b.seq;
            }
        }
        if !reading.damaged.is_empty() {
            // The damaged file has another name now; the lines that can be read go into a new one.
            return self.write_new(
                &reading.records.iter().map(|r| (r.clone(), record::line(r))).collect::<Vec<_>>(),
            );
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.folder, NAME, flags, Mode::empty())?;
        if reading.torn {
            rustix::fs::ftruncate(&file, reading.end)?;
        }
        self.file = Some(file);
        self.end = reading.end;
        let ends = reading.at.iter().skip(1).chain([&reading.end]);
        for ((record, at), end) in reading.records.iter().zip(&reading.at).zip(ends) {
            let service = self.service(&record.service);
            self.lines.push(Line { seq: record.seq, at: *at, len: (end - at) as u32, service });
        }
        self.compact_if_long();
        Ok(())
    }

    fn write(&mut self, record: &Record, line: &str) -> Result<(), Errno> {
        crash::point("before a record is written");
        let result = match &self.file {
            Some(file) => write_whole(file, self.end, line.as_bytes()),
            None => Err(self.failing.unwrap_or(Errno::IO)),
        };
        self.failing = result.err();
        result?;
        let service = self.service(&record.service);
        let len = line.len() as u32;
        self.lines.push(Line { seq: record.seq, at: self.end, len, service });
        self.end += u64::from(len);
        crash::point("a record is written");
        Ok(())
    }

    fn compact_if_long(&mut self) {
        let surplus = self.lines.len().checked_sub(2 * KEEP + HISTORY * self.services.len());
        // When it fails (disk full) not with each record again.
        if surplus.is_some_and(|lines| lines % 256 == 0)
            && let Err(errno) = self.rewrite(KEEP)
        {
            // The old file is as it was and goes on growing.
            self.failing = Some(errno);
        }
    }

    /// A new file with the last `HISTORY` records of each service and the newest `keep` of all, then in the old one's place.
    fn rewrite(&mut self, keep: usize) -> Result<(), Errno> {
        let newest = self.lines.len().saturating_sub(keep);
        let known: HashSet<u32> = self.services.values().copied().collect();
        // Of each service, where its last ones begin.
        let mut last: HashMap<u32, (usize, u64)> = HashMap::new();
        for line in self.lines.iter().rev().filter(|line| known.contains(&line.service)) {
            let (kept, from) = last.entry(line.service).or_default();
            if *kept < HISTORY {
                (*kept, *from) = (*kept + 1, line.seq);
            }
        }
        let old = match &self.file {
            Some(file) => read_range(file, 0, self.end)?,
            None => Vec::new(),
        };
        let mut text =
            record::line(&Header { journal: record::VERSION, boot: self.boot.clone() }).into_bytes();
        let mut lines = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            if index < newest && last.get(&line.service).is_none_or(|(_, from)| line.seq < *from) {
                continue;
            }
            let begin = line.at as usize;
            let bytes = old.get(begin..begin + line.len as usize).ok_or(Errno::IO)?;
            lines.push(Line { at: text.len() as u64, ..*line });
            text.extend_from_slice(bytes);
        }
        // With no line gone, and before the first one, none is missing that was not.
        let first = self.lines.get(newest).map_or(self.first, |line| line.seq.max(self.first));
        self.replace(&text)?;
        self.lines = lines;
        self.first = first;
        Ok(())
    }

    fn write_new(&mut self, records: &[(Record, String)]) -> Result<(), Errno> {
        let mut text =
            record::line(&Header { journal: record::VERSION, boot: self.boot.clone() }).into_bytes();
        let mut lines = Vec::with_capacity(records.len());
        for (record, line) in records {
            let service = self.service(&record.service);
            lines.push(Line { seq: record.seq, at: text.len() as u64, len: line.len() as u32, service });
            text.extend_from_slice(line.as_bytes());
        }
        self.replace(&text)?;
        self.lines = lines;
        Ok(())
    }

    /// All or nothing: until the rename the old file stands.
    fn replace(&mut self, text: &[u8]) -> Result<(), Errno> {
        use OFlags as O;
        let flags = O::RDWR | O::CREATE | O::TRUNC | O::CLOEXEC | O::NOFOLLOW;
        let file = rustix::fs::openat(&self.folder, NEW, flags, Mode::RUSR | Mode::WUSR)?;
        let written = write_whole(&file, 0, text)
            .inspect(|()| crash::point("the journal is rewritten, not renamed"))
            .and_then(|()| rustix::fs::renameat(&self.folder, NEW, &self.folder, NAME));
        if let Err(errno) = written {
            let _ = rustix::fs::unlinkat(&self.folder, NEW, AtFlags::empty());
            return Err(errno);
        }
        self.file = Some(file);
        self.end = text.len() as u64;
        Ok(())
    }

    fn read_all(&self) -> Result<Vec<u8>, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.folder, NAME, flags, Mode::empty())?;
        let size = rustix::fs::fstat(&file)?.st_size;
        read_range(&file, 0, size.unsigned_abs())
    }

    /// Under the first free name of journal.damaged.1, .2, ... too, where that can be: until there is a new file, the old one is
    /// the journal.
    fn set_aside(&self) -> Result<PathBuf, Errno> {
        for n in 1..1000 {
            let name = format!("{NAME}.damaged.{n}");
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            let link = || rustix::fs::linkat(&self.folder, NAME, &self.folder, &name, AtFlags::empty());
            let rename = || rustix::fs::renameat_with(&self.folder, NAME, &self.folder, &name, flags);
            match link().or_else(|errno| if errno == Errno::EXIST { Err(errno) } else { rename() }) {
                Ok(()) => return Ok(self.path.with_file_name(name)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EXIST)
    }

    fn service(&mut self, name: &str) -> u32 {
        if let Some(number) = self.services.get(name) {
            return *number;
        }
        let number = self.next_service;
        self.next_service += 1;
        self.services.insert(name.to_owned(), number);
        number
    }
}

/// One write, at the end of the last whole line. When it fails or stops half way, the file is cut to where it
/// was; if even that fails the next line overwrites the stump.
fn write_whole(file: &OwnedFd, end: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest @ [_, ..]) = bytes.get(done..) {
        match rustix::io::retry_on_intr(|| rustix::io::pwrite(file, rest, end + done as u64)) {
            Ok(written) => done += written,
            Err(errno) => {
                let _ = rustix::fs::ftruncate(file, end);
                return Err(errno);
            }
        }
    }
    Ok(())
}

fn read_range(file: &OwnedFd, from: u64, to: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).map_err(|_| Errno::FBIG)?];
    let mut done = 0;
    while let Some(rest @ [_, ..]) = bytes.get_mut(done..) {
        match rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *rest, from + done as u64))? {
            0 => break,
            got => done += got,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

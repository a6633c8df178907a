//! The files of one service: `0000000001.log`, `0000000002.log`, ... (`.json` for json-file), the last of them being written.
//!
//! We use no name twice, and what is compressed (pack.rs) keeps its number and its offsets, so that a reader needs only (number,
//! offset); where somebody removed the folder between two lives the numbers begin again, and the reader finds that out by the times of
//! the files. The next segment is made (O_EXCL) before the current one is left. Files are not synced before they are compressed: a power failure may cost what was written
//! in the last half minute or so, as the kernel writes back. The end of the last one is cut back to a whole record when it is opened again.
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use memchr::{memrchr, memrchr_iter};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::config::Driver;
use crate::notifier::Removed;
use crate::pack;
use crate::record;
use crate::time;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number(pub u64);

/// Of no segment: none is open.
const NONE: Number = Number(0);

/// Sorted; of each driver.
pub fn list(dir: &Path) -> io::Result<VecDeque<(Number, Driver)>> {
    let mut all: Vec<(Number, Driver)> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let plain = name.strip_suffix(pack::ENDING).unwrap_or(name);
        let Some((number, extension)) = plain.split_once('.') else { continue };
        let driver = Driver::ALL.into_iter().find(|driver| driver.extension() == extension);
        if let (Some(driver), Ok(number), 10) = (driver, number.parse(), number.len()) {
            all.push((Number(number), driver));
        }
    }
    all.sort_by_key(|(number, _)| *number);
    // A compressed one and the plain one that it is about to replace.
    all.dedup_by_key(|(number, _)| *number);
    Ok(all.into())
}

pub fn path(dir: &Path, number: Number, driver: Driver) -> PathBuf {
    dir.join(format!("{:010}.{}", number.0, driver.extension()))
}

pub struct Segments {
    dir: PathBuf,
    driver: Driver,
    /// Empty while no file is open: then nothing is known of them, and nothing is done to any.
    all: VecDeque<(Number, Driver)>,
    /// None: it could not be opened so far.
    file: Option<File>,
    bytes: u64,
    /// The time of the last record, as far as it is known.
    last_time: u64,
    /// There may be blocks behind its end.
    has_reserved: bool,
    removed: Arc<Removed>,
}

/// File systems allocate blocks of this size, or of a multiple of it.
const BLOCK_BYTES: u64 = 4096;
/// What is left free at the end of a block when the disk is full: some remarks on what was dropped.
pub const REMARK_BYTES: u64 = 512;
/// So much must be free before a full disk is written to again.
const ROOM_BYTES: u64 = 16 * 1024;

/// An unfinished line that was not written to for so long is not waited for.
const STILL: Duration = Duration::from_secs(1);
/// Nor is one that goes on for so long after its segment was too old.
const OVERTIME: Duration = Duration::from_secs(60);

/// A write that failed: how many of its bytes are in the file nevertheless.
#[derive(Debug)]
pub struct Short {
    pub written: usize,
    pub error: io::Error,
}

impl Segments {
    /// Goes on with the last segment, or begins the first.
    pub fn open(dir: &Path, driver: Driver, removed: &Arc<Removed>) -> io::Result<Segments> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        let mut all = list(dir)?;
        let file = match all.back() {
            Some((number, of)) if *of == driver && path(dir, *number, driver).exists() => {
                reopen(&path(dir, *number, driver))?
            }
            last => {
                let next = Number(last.map_or(1, |(number, _)| number.0 + 1));
                let file = create(&path(dir, next, driver))?;
                all.push_back((next, driver));
                file
            }
        };
        let (dir, removed) = (dir.to_owned(), removed.clone());
        let mut segments =
            Segments { dir, driver, all, bytes: 0, file: None, last_time: 0, has_reserved: false, removed };
        segments.mend(&file)?;
        segments.file = Some(file);
        Ok(segments)
    }

    /// None is open, because `open` failed: what is appended finds no room, until `open_again` succeeds.
    pub fn closed(dir: &Path, driver: Driver, removed: &Arc<Removed>) -> Segments {
        let (dir, removed) = (dir.to_owned(), removed.clone());
        Segments {
            dir,
            driver,
            all: VecDeque::new(),
            file: None,
            bytes: 0,
            last_time: 0,
            has_reserved: false,
            removed,
        }
    }

    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    pub fn open_again(&mut self) -> io::Result<()> {
        *self = Segments::open(&self.dir, self.driver, &self.removed)?;
        Ok(())
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("no segment of it can be opened"))
    }

    /// As it was when segment `number` was the last and had `bytes`: what came later is undone. Where none was open, none was changed.
    pub fn restore(
        dir: &Path,
        driver: Driver,
        number: Number,
        bytes: u64,
        removed: &Arc<Removed>,
    ) -> io::Result<Segments> {
        if number == NONE {
            return Segments::open(dir, driver, removed);
        }
        fs::DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        let mut all = list(dir)?;
        while let Some((last, of)) = all.back().copied().filter(|(last, _)| *last > number) {
            pack::remove(&path(dir, last, of))?;
            all.pop_back();
        }
        let path = path(dir, number, driver);
        let file = match reopen(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                all.push_back((number, driver));
                create(&path)?
            }
            file => file?,
        };
        // Somebody else may have made it shorter: never longer, that would be zeros.
        let bytes = bytes.min(file.metadata()?.len());
        file.set_len(bytes)?;
        let (dir, removed) = (dir.to_owned(), removed.clone());
        Ok(Segments { dir, driver, all, file: Some(file), bytes, last_time: 0, has_reserved: false, removed })
    }

    pub fn number(&self) -> Number {
        self.all.back().map_or(NONE, |(number, _)| *number)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn count(&self) -> usize {
        self.all.len()
    }

    pub fn last_time(&self) -> u64 {
        self.last_time
    }

    pub fn append(&mut self, records: &[u8]) -> Result<(), Short> {
        let mut written = 0;
        while written < records.len() {
            match self.file().and_then(|mut file| file.write(&records[written..])) {
                Ok(0) => return Err(Short { written, error: io::ErrorKind::WriteZero.into() }),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Short { written, error }),
            }
        }
        self.bytes += written as u64;
        Ok(())
    }

    /// After a `Short` write: `kept` of its bytes stay, whole records.
    pub fn settle(&mut self, kept: usize) -> io::Result<()> {
        self.bytes += kept as u64;
        self.file()?.set_len(self.bytes)
    }

    /// How many of the first `written` bytes of `records`, whole ones, stay when the rest found no room: with some room in the last
    /// block, which needs no other one, to say what was dropped.
    pub fn with_room_for_remarks(&self, records: &[u8], written: usize) -> usize {
        let whole = memrchr(b'\n', &records[..written]).map_or(0, |at| at + 1);
        let has_room = |end: &usize| {
            let used = (self.bytes + *end as u64) % BLOCK_BYTES;
            used > 0 && BLOCK_BYTES - used >= REMARK_BYTES
        };
        let ends = memrchr_iter(b'\n', &records[..whole]).map(|at| at + 1).chain([0]);
        ends.into_iter().find(has_room).unwrap_or(whole)
    }

    /// Whether a disk that was full has room again. Where that cannot be asked, writing tells.
    pub fn has_room(&self) -> bool {
        let Ok(file) = self.file() else { return false };
        let asked = fallocate(file, FallocateFlags::KEEP_SIZE, self.bytes, ROOM_BYTES);
        !matches!(asked, Err(Errno::NOSPC | Errno::DQUOT))
    }

    /// Makes sure of room for `bytes` more. Where that cannot be asked, writing tells.
    pub fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.has_reserved = true;
        match fallocate(self.file()?, FallocateFlags::KEEP_SIZE, self.bytes, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Whether the file that is written is the one that a reader finds.
    pub fn is_in_place(&self) -> bool {
        self.file().is_ok_and(|file| sampan_plugin::lock::is_at(file, &self.path()))
    }

    pub fn path(&self) -> PathBuf {
        path(&self.dir, self.number(), self.driver)
    }

    /// After somebody has removed the current one, or the folder.
    pub fn begin_anew(&mut self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(&self.dir)?;
        let mut all = list(&self.dir)?;
        let last = all.back().map_or(self.number(), |(number, _)| self.number().max(*number));
        let next = Number(last.0 + 1);
        self.file = Some(create(&path(&self.dir, next, self.driver))?);
        all.push_back((next, self.driver));
        (self.all, self.bytes) = (all, 0);
        Ok(())
    }

    pub fn rotate(&mut self) -> io::Result<()> {
        self.give_back()?;
        let next = Number(self.number().0 + 1);
        self.file = Some(create(&path(&self.dir, next, self.driver))?);
        self.all.push_back((next, self.driver));
        self.bytes = 0;
        Ok(())
    }

    /// What was reserved behind the end of the current one is free again. Its age stays that of its last record.
    fn give_back(&mut self) -> io::Result<()> {
        let file = self.file()?;
        if self.has_reserved {
            let modified = file.metadata()?.modified()?;
            file.set_len(self.bytes)?;
            file.set_modified(modified)?;
            self.has_reserved = false;
        }
        Ok(())
    }

    /// Removes the oldest until `max` are left.
    pub fn prune(&mut self, max: usize) {
        while self.all.len() > max.max(1) {
            self.remove_oldest();
        }
    }

    /// What is over its time: the oldest whose last record is older than `max` go, and the current one is left when it was begun
    /// so long ago, unless an `unfinished` line is just being written: one that comes in parts is not torn over two segments,
    /// within reason. Returns how long there is nothing to do; `None`: until something is written.
    pub fn expire(&mut self, max: Duration, unfinished: bool) -> io::Result<Option<Duration>> {
        let age = |time: SystemTime| time.elapsed().unwrap_or_default();
        let left = |time: SystemTime| max.saturating_sub(age(time));
        let meta = self.file()?.metadata()?;
        let written = meta.modified()?;
        let begun = meta.created().unwrap_or(written);
        let is_too_old = self.bytes > 0 && left(begun).is_zero();
        if is_too_old && !(unfinished && age(written) < STILL && age(begun) < max.saturating_add(OVERTIME)) {
            self.rotate()?;
        }
        while self.all.len() > 1 {
            let Some((number, driver)) = self.all.front().copied() else { break };
            let written = pack::modified(&path(&self.dir, number, driver));
            match written.map(left) {
                Ok(left) if !left.is_zero() => return Ok(Some(left)),
                // Of one that somebody else has removed nothing is known but that.
                _ => self.remove_oldest(),
            };
        }
        Ok((self.bytes > 0).then(|| if is_too_old { STILL } else { left(begun) }))
    }

    /// Frees space: removes the oldest, unless it is `needed` or a later one.
    pub fn free_oldest(&mut self, needed: Number) -> bool {
        match self.all.front() {
            Some((number, _)) if *number < needed => self.remove_oldest(),
            _ => false,
        }
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((number, driver)) = self.all.pop_front() else { return false };
        let path = path(&self.dir, number, driver);
        self.removed.note(&self.dir, number.0, pack::bytes(&path).unwrap_or(0));
        match pack::remove(&path) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), segment = number.0, %error, "cannot remove an old segment");
                false
            }
        }
    }

    /// Cuts what is not a whole record off the end, and learns the time of the last one.
    fn mend(&mut self, mut file: &File) -> io::Result<()> {
        const LOOK: u64 = 512 * 1024;
        let bytes = file.metadata()?.len();
        let (mut from, mut end) = (bytes, Vec::new());
        // A record fits into one look; what a power failure leaves, zeros, may be longer.
        let whole = loop {
            let until = from;
            from = until.saturating_sub(LOOK);
            end.clear();
            file.seek(SeekFrom::Start(from))?;
            file.take(until - from).read_to_end(&mut end)?;
            match memrchr(b'\n', &end) {
                None if from > 0 => {}
                newline => break newline.map_or(0, |at| at + 1),
            }
        };
        self.bytes = from + whole as u64;
        if self.bytes < bytes {
            file.set_len(self.bytes)?;
        }
        if let Some(last) = end[..whole].split_last().map(|(_, rest)| rest) {
            let begin = memrchr(b'\n', last).map_or(0, |at| at + 1);
            let record = record::parse(self.driver, &last[begin..]);
            self.last_time = record.and_then(|record| time::parse(&record.time)).unwrap_or(0);
        }
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create_new(true).mode(0o640).open(path)
}

fn reopen(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

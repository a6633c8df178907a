//! The keel's table: children not yet reaped (pid, pidfd, tag) and kept descriptors (key, fd). Its size is fixed and its
//! memory is taken once. A full table is an answer, never growth.
//!
//! It lies in a memfd, because it is read when the keel is dead: a new sampand takes the descriptors from the holder and
//! must know what each is. The keel may be killed between any two instructions, so there is an order:
//!
//! ```text
//!   an entry counts once its first word is not 0   that word is written last, and set to 0 first
//!   an entry that counts names an open descriptor  closed after the entry has gone or names another one
//!   a child is announced before it is cloned       what is cloned and has no entry is found by its pidfd in the holder
//! ```
//!
//! A dead keel's child is known to the next keel as a kept pidfd (`Handle::Orphan`), so there is no second kind of child.

use crate::sys::Shared;
use crate::wire::{NAME_MAX, Name};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use sampan_journal::crash::keel_point as point;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// Children that run or wait to be reaped.
pub const CHILDREN_MAX: usize = 8192;
/// Kept descriptors. The limit on open files may be lower; then it is the one that refuses.
pub const KEPT_MAX: usize = 16384;

/// Of a table in this layout; another layout is another number.
const MAGIC: u32 = u32::from_le_bytes(*b"spk1");

/// Words of the head.
const HEAD: usize = 8;
/// Bytes of one name, its length first.
const NAME: usize = 4 + NAME_MAX;

/// Where an array of entries is: three parts, each of `capacity` elements.
#[derive(Clone, Copy)]
struct Array {
    /// Of a child its pid; of a kept descriptor a hash of its key, never 0.
    marks: usize,
    fds: usize,
    names: usize,
    capacity: usize,
}

impl Array {
    const fn at(start: usize, capacity: usize) -> Array {
        Array { marks: start, fds: start + 4 * capacity, names: start + 8 * capacity, capacity }
    }

    const fn end(self) -> usize {
        self.names + NAME * self.capacity
    }
}

/// The tag of a child that is being cloned.
const ANNOUNCED: usize = 4 * HEAD;
const CHILDREN: Array = Array::at(4096, CHILDREN_MAX);
const KEPT: Array = Array::at(CHILDREN.end(), KEPT_MAX);

#[derive(Clone, Copy)]
enum Head {
    Magic,
    /// 1: a child is being cloned, its tag is in `ANNOUNCED`.
    Cloning,
    /// The worker's pidfd, 0 for none (0 is stdin's number).
    Worker,
}

pub struct Table {
    memory: Shared,
    pub children: Slots,
    pub kept: Slots,
}

/// One of the two arrays. Its descriptors are owned here; what stands in memory is for who comes after us.
pub struct Slots {
    array: Array,
    fds: Vec<Option<OwnedFd>>,
    /// No slot at or above was ever used: scans end here.
    high: usize,
    /// No slot below is free.
    low: usize,
    len: usize,
}

impl Table {
    pub fn new() -> Result<Table, Errno> {
        let memory = Shared::new(KEPT.end())?;
        let table = Table { memory, children: Slots::new(CHILDREN), kept: Slots::new(KEPT) };
        table.set(Head::Magic, MAGIC);
        Ok(table)
    }

    pub fn memory(&self) -> BorrowedFd<'_> {
        self.memory.fd()
    }

    fn set(&self, head: Head, value: u32) {
        if let Some(word) = self.memory.words(0, HEAD).get(head as usize) {
            word.store(value, Ordering::Release);
        }
    }

    /// Who must have ended before another sampand takes over.
    pub fn set_worker(&self, pidfd: Option<BorrowedFd<'_>>) {
        self.set(Head::Worker, pidfd.map_or(0, |fd| fd.as_raw_fd().unsigned_abs()));
    }

    /// Before a child is cloned. Ends with `add_child` or `not_cloned`.
    pub fn announce(&mut self, tag: &Name) {
        write_name(&self.memory, ANNOUNCED, tag);
        self.set(Head::Cloning, 1);
        point("announced");
    }

    pub fn not_cloned(&mut self) {
        self.set(Head::Cloning, 0);
    }

    /// Its pid must not be in the table. Gives the descriptor back if the table is full.
    pub fn add_child(&mut self, pid: i32, pidfd: OwnedFd, tag: &Name) -> Result<(), OwnedFd> {
        let added = self.children.add(&self.memory, pid.unsigned_abs(), pidfd, tag).map(drop);
        self.set(Head::Cloning, 0);
        added
    }

    pub fn is_child(&self, pid: i32) -> bool {
        self.find_child(pid).is_some()
    }

    pub fn remove_child(&mut self, pid: i32) {
        if let Some(at) = self.find_child(pid) {
            self.children.remove(&self.memory, at);
        }
    }

    fn find_child(&self, pid: i32) -> Option<usize> {
        let wanted = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
        self.children.find(&self.memory, wanted, |_| true)
    }

    /// The first child at or after the cursor: pid, pidfd, tag and the cursor of the one after it.
    pub fn next_child(&self, cursor: usize) -> Option<(i32, BorrowedFd<'_>, Name, usize)> {
        let (at, mark, name) = self.children.next(&self.memory, cursor)?;
        Some((i32::try_from(mark).ok()?, self.children.fd(at)?, name, at + 1))
    }

    /// In the place of an older descriptor of that key, which is closed. The descriptor is given back when full.
    pub fn keep(&mut self, key: &Name, fd: OwnedFd) -> Result<(), OwnedFd> {
        match self.find_kept(key) {
            Some(at) => self.kept.replace(&self.memory, at, fd),
            None => self.kept.add(&self.memory, hash(key.as_bytes()), fd, key).map(drop)?,
        }
        Ok(())
    }

    pub fn kept(&self, key: &Name) -> Option<BorrowedFd<'_>> {
        self.kept.fd(self.find_kept(key)?)
    }

    pub fn drop_kept(&mut self, key: &Name) {
        if let Some(at) = self.find_kept(key) {
            self.kept.remove(&self.memory, at);
        }
    }

    pub fn next_kept(&self, cursor: usize) -> Option<(Name, usize)> {
        let (at, _, name) = self.kept.next(&self.memory, cursor)?;
        Some((name, at + 1))
    }

    fn find_kept(&self, key: &Name) -> Option<usize> {
        let hash = hash(key.as_bytes());
        self.kept.find(&self.memory, hash, |at| read_name(&self.memory, at).as_ref() == Some(key))
    }
}

impl Slots {
    fn new(array: Array) -> Slots {
        let mut fds = Vec::new();
        fds.resize_with(array.capacity, || None);
        Slots { array, fds, high: 0, low: 0, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_full(&self) -> bool {
        self.len == self.array.capacity
    }

    fn fd(&self, at: usize) -> Option<BorrowedFd<'_>> {
        self.fds.get(at)?.as_ref().map(AsFd::as_fd)
    }

    fn name_at(&self, at: usize) -> usize {
        self.array.names + at * NAME
    }

    fn add(&mut self, memory: &Shared, mark: u32, fd: OwnedFd, name: &Name) -> Result<usize, OwnedFd> {
        let marks = memory.words(self.array.marks, self.array.capacity);
        let free = |mark: &AtomicU32| mark.load(Ordering::Relaxed) == 0;
        let free = marks.get(self.low..).and_then(|marks| marks.iter().position(free));
        let Some(at) = free.map(|offset| self.low + offset) else { return Err(fd) };
        let number = fd.as_raw_fd().unsigned_abs();
        let (Some(owner), Some(fds), Some(to)) =
            (self.fds.get_mut(at), memory.words(self.array.fds, self.array.capacity).get(at), marks.get(at))
        else {
            return Err(fd);
        };
        *owner = Some(fd);
        write_name(memory, self.array.names + at * NAME, name);
        fds.store(number, Ordering::Release);
        point("an entry is written");
        to.store(mark, Ordering::Release);
        point("an entry counts");
        self.low = at + 1;
        self.high = self.high.max(at + 1);
        self.len += 1;
        Ok(at)
    }

    fn replace(&mut self, memory: &Shared, at: usize, fd: OwnedFd) {
        let number = fd.as_raw_fd().unsigned_abs();
        let (Some(owner), Some(to)) =
            (self.fds.get_mut(at), memory.words(self.array.fds, self.array.capacity).get(at))
        else {
            return;
        };
        to.store(number, Ordering::Release);
        point("an entry names another descriptor");
        // Closes the older one.
        *owner = Some(fd);
    }

    fn remove(&mut self, memory: &Shared, at: usize) {
        let (Some(owner), Some(mark)) =
            (self.fds.get_mut(at), memory.words(self.array.marks, self.array.capacity).get(at))
        else {
            return;
        };
        mark.store(0, Ordering::Release);
        point("an entry counts no more");
        *owner = None;
        self.low = self.low.min(at);
        self.len -= 1;
    }

    fn find(&self, memory: &Shared, mark: u32, is: impl Fn(usize) -> bool) -> Option<usize> {
        let used = memory.words(self.array.marks, self.high);
        let has =
            |(at, found): (usize, &AtomicU32)| found.load(Ordering::Relaxed) == mark && is(self.name_at(at));
        used.iter().enumerate().find(|(at, found)| has((*at, found))).map(|(at, _)| at)
    }

    fn next(&self, memory: &Shared, cursor: usize) -> Option<(usize, u32, Name)> {
        let used = memory.words(self.array.marks, self.high).get(cursor..)?;
        let mut marks = used.iter().map(|mark| mark.load(Ordering::Relaxed)).enumerate();
        let (offset, mark) = marks.find(|(_, mark)| *mark != 0)?;
        let at = cursor + offset;
        Some((at, mark, read_name(memory, self.name_at(at))?))
    }
}

fn write_name(memory: &Shared, at: usize, name: &Name) {
    let text = name.as_bytes();
    if let Some(len) = memory.words(at, 1).first() {
        len.store(text.len() as u32, Ordering::Relaxed);
    }
    for (to, from) in memory.bytes(at + 4, text.len()).iter().zip(text) {
        to.store(*from, Ordering::Relaxed);
    }
}

fn read_name(memory: &Shared, at: usize) -> Option<Name> {
    let len = memory.words(at, 1).first()?.load(Ordering::Relaxed) as usize;
    let mut text = [0; NAME_MAX];
    let bytes = memory.bytes(at + 4, len);
    for (to, from) in text.iter_mut().zip(bytes.iter().map(|byte: &AtomicU8| byte.load(Ordering::Relaxed))) {
        *to = from;
    }
    Name::new(text.get(..len)?)
}

/// FNV-1a; 0 is kept for "free".
fn hash(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for byte in bytes {
        hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
    hash.max(1)
}

/// A dead keel's table, with descriptors as they are numbered in its holder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LastTable {
    pub worker: Option<i32>,
    /// Pid, pidfd, tag.
    pub children: Vec<(i32, i32, Vec<u8>)>,
    /// Key, descriptor.
    pub kept: Vec<(Vec<u8>, i32)>,
    /// The tag of a child that may have been cloned and has no entry.
    pub cloning: Option<Vec<u8>>,
}

impl LastTable {
    /// From the memfd of a keel that writes no more. None: it is no table that we know.
    pub fn read(memory: BorrowedFd<'_>) -> Result<Option<LastTable>, Errno> {
        let head = Part::read(memory, 0, 4 * HEAD + NAME)?;
        let word = |which: Head| head.word(4 * which as usize);
        if word(Head::Magic) != MAGIC || rustix::fs::fstat(memory)?.st_size != KEPT.end() as i64 {
            return Ok(None);
        }
        let worker = i32::try_from(word(Head::Worker)).ok().filter(|fd| *fd > 0);
        let cloning = (word(Head::Cloning) == 1).then(|| head.name(ANNOUNCED));
        let children = entries(memory, CHILDREN)?.into_iter().map(|(pid, fd, tag)| (pid as i32, fd, tag));
        let kept = entries(memory, KEPT)?.into_iter().map(|(_, fd, key)| (key, fd));
        Ok(Some(LastTable { worker, children: children.collect(), kept: kept.collect(), cloning }))
    }
}

fn entries(memory: BorrowedFd<'_>, array: Array) -> Result<Vec<(u32, i32, Vec<u8>)>, Errno> {
    let marks = Part::read(memory, array.marks, 4 * array.capacity)?;
    let fds = Part::read(memory, array.fds, 4 * array.capacity)?;
    let mut found = Vec::new();
    for at in (0..array.capacity).filter(|at| marks.word(4 * at) != 0) {
        let name = Part::read(memory, array.names + at * NAME, NAME)?.name(0);
        found.push((marks.word(4 * at), fds.word(4 * at) as i32, name));
    }
    Ok(found)
}

/// Some bytes of the file.
struct Part(Vec<u8>);

impl Part {
    fn read(memory: BorrowedFd<'_>, at: usize, len: usize) -> Result<Part, Errno> {
        let mut bytes = vec![0; len];
        let mut done = 0;
        while let Some(rest @ [_, ..]) = bytes.get_mut(done..) {
            match rustix::io::retry_on_intr(|| rustix::io::pread(memory, &mut *rest, (at + done) as u64))? {
                // A table of another size: what is missing is no entry.
                0 => break,
                got => done += got,
            }
        }
        Ok(Part(bytes))
    }

    fn word(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    fn name(&self, at: usize) -> Vec<u8> {
        let len = (self.word(at) as usize).min(NAME_MAX);
        self.0.get(at + 4..at + 4 + len).unwrap_or_default().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn fd() -> OwnedFd {
        rustix::fs::memfd_create(c"fd", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    fn read(table: &Table) -> LastTable {
        LastTable::read(table.memory()).unwrap().unwrap()
    }

    #[test]
    fn what_stands_in_memory_is_what_the_keel_knows() {
        let mut table = Table::new().unwrap();
        assert_eq!(read(&table), LastTable::default());
        let (child, a, b) = (fd(), fd(), fd());
        let numbers = [child.as_raw_fd(), a.as_raw_fd(), b.as_raw_fd()];
        table.announce(&name("service/web/1"));
        assert_eq!(read(&table).cloning.as_deref(), Some(&b"service/web/1"[..]));
        table.add_child(17, child, &name("service/web/1")).unwrap();
        table.keep(&name("io/web/stdout"), a).unwrap();
        let expected = LastTable {
            children: vec![(17, numbers[0], b"service/web/1".to_vec())],
            kept: vec![(b"io/web/stdout".to_vec(), numbers[1])],
            ..LastTable::default()
        };
        assert_eq!(read(&table), expected);
        table.keep(&name("io/web/stdout"), b).unwrap();
        assert_eq!(read(&table).kept, [(b"io/web/stdout".to_vec(), numbers[2])]);
        table.drop_kept(&name("io/web/stdout"));
        table.remove_child(17);
        assert_eq!(read(&table), LastTable::default());
    }

    #[test]
    fn no_other_file_is_taken_for_a_table() {
        assert_eq!(LastTable::read(fd().as_fd()).unwrap(), None);
    }
}

//! The place of a reader in the log of one service.
use std::collections::VecDeque;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memrchr};

use super::Wanted;
use super::tail::tail;
use crate::config::Driver;
use crate::notifier::Removed;
use crate::pack::{self, Source};
use crate::record::parse;
use crate::segments::{Number, list, path};
use crate::time;

/// Longer than any record.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 20;

pub(super) struct Cursor {
    dir: PathBuf,
    place: Place,
    /// And the bytes between here and there that nobody can read any more.
    next: Option<(Place, Gap)>,
    /// Where to stop: what was the end when reading began.
    end: Option<(Number, u64)>,
    removed: Arc<Removed>,
}

pub(super) struct Place {
    pub(super) number: Number,
    driver: Driver,
    source: Source,
    offset: u64,
    /// Nothing was read of it yet.
    is_new: bool,
}

impl Place {
    pub(super) fn open(dir: &Path, number: Number, driver: Driver, offset: u64) -> io::Result<Place> {
        Ok(Place { number, driver, source: Source::open(&path(dir, number, driver))?, offset, is_new: true })
    }
}

impl Cursor {
    pub(super) fn new(
        dir: PathBuf,
        place: Place,
        end: Option<(Number, u64)>,
        removed: Arc<Removed>,
    ) -> Cursor {
        Cursor { dir, place, next: None, end, removed }
    }

    pub(super) fn begin(dir: PathBuf, wanted: &Wanted, removed: &Arc<Removed>) -> Option<Cursor> {
        let all = list(&dir).ok()?;
        let (last, driver) = all.back().copied()?;
        let bytes = pack::bytes(&path(&dir, last, driver)).ok()?;
        let end = Some((last, bytes));
        let place = match wanted.tail {
            None => {
                let (number, driver) = all.front().copied()?;
                Place::open(&dir, number, driver, 0).ok()?
            }
            Some(0) => {
                let mut place = Place::open(&dir, last, driver, 0).ok()?;
                place.offset = whole(&mut place.source, bytes).unwrap_or(bytes);
                place
            }
            Some(lines) => tail(&dir, &all, lines)?,
        };
        Some(Cursor::new(dir, place, end, removed.clone()))
    }

    /// Beyond what was the end when reading began.
    pub(super) fn go_on(&mut self) {
        self.end = None;
    }

    /// Up to one buffer of records into `out`. False at the end.
    pub(super) fn copy(
        &mut self,
        service: &str,
        since: Option<&[u8]>,
        buffer: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let place = &mut self.place;
        place.is_new = false;
        let left = match self.end {
            Some((number, bytes)) if number == place.number => bytes.saturating_sub(place.offset),
            Some((number, _)) if number < place.number => 0,
            _ => u64::MAX,
        };
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = match place.source.read_at(&mut buffer[..want], place.offset) {
            Err(error) if place.source.is_packed() => {
                tracing::warn!(service, segment = place.number.0, %error, "cannot decompress a segment");
                Gap::Unreadable.tell(service, out);
                0
            }
            got => got?,
        };
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
            Some((next, gap)) => {
                gap.tell(service, out);
                self.place = next;
            }
            None => self.next = self.successor(),
        }
        Ok(self.next.is_some() || self.place.is_new)
    }

    fn successor(&self) -> Option<(Place, Gap)> {
        let here = self.place.number;
        let next = Number(here.0 + 1);
        let open = |driver| Place::open(&self.dir, next, driver, 0).ok();
        if let Some(place) = Driver::ALL.into_iter().find_map(open) {
            return Some((place, Gap::None));
        }
        // Retention has overtaken us? A compressed one is not written any more, and may be there a little longer than those after it.
        let ours = self.place.source.metadata().ok()?;
        let is_gone = ours.nlink() == 0;
        if !(is_gone || self.place.source.is_packed()) {
            return None;
        }
        let all = list(&self.dir).ok()?;
        let Some((number, driver)) = all.iter().copied().find(|(number, _)| *number > here) else {
            let replacement = is_gone.then(|| self.replacement(&all, &ours)).flatten()?;
            return Some((replacement, Gap::Unknown));
        };
        let place = Place::open(&self.dir, number, driver, 0).ok()?;
        let gap = match self.removed.between(&self.dir, here.0, number.0) {
            Some(0) => Gap::None,
            Some(bytes) => Gap::Bytes(bytes),
            None => Gap::Unknown,
        };
        Some((place, gap))
    }

    /// Somebody removed ours, and the next life went on with what was left, or began with the first number again: what was written
    /// after ours. Of one that is older than ours we have read what was there.
    fn replacement(&self, all: &VecDeque<(Number, Driver)>, ours: &Metadata) -> Option<Place> {
        let last = ours.modified().ok()?;
        let opened =
            all.iter().filter_map(|(number, driver)| Place::open(&self.dir, *number, *driver, 0).ok());
        let is_later = |place: &Place| {
            place.source.metadata().and_then(|meta| meta.modified()).is_ok_and(|changed| changed > last)
        };
        let mut place = opened.into_iter().find(is_later)?;
        let meta = place.source.metadata().ok()?;
        if meta.created().is_ok_and(|created| created <= last) {
            place.offset = whole(&mut place.source, meta.len()).ok()?;
        }
        Some(place)
    }
}

/// What was removed before it was read.
enum Gap {
    None,
    Bytes(u64),
    /// Not by us, or too long ago.
    Unknown,
    /// It is there, and cannot be decompressed.
    Unreadable,
}

impl Gap {
    fn tell(&self, service: &str, out: &mut Vec<u8>) {
        let said = match self {
            Gap::None => return,
            Gap::Bytes(bytes) => format!("gap: {bytes} bytes of this log were rotated away unread"),
            Gap::Unknown => "gap: an unknown part of this log was rotated away unread".into(),
            Gap::Unreadable => "gap: the rest of a segment of this log cannot be decompressed".into(),
        };
        out.extend_from_slice(service.as_bytes());
        out.push(b' ');
        out.extend_from_slice(&time::text(time::now()));
        out.extend_from_slice(format!(" stdout F {said}\n").as_bytes());
    }
}

/// The end of the last whole record.
fn whole(source: &mut Source, bytes: u64) -> io::Result<u64> {
    let from = bytes.saturating_sub(RECORD_BYTES_MAX as u64);
    let mut end = vec![0; (bytes - from) as usize];
    let got = source.read_at(&mut end, from)?;
    Ok(from + memrchr(b'\n', &end[..got]).map_or(0, |at| at as u64 + 1))
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

//! Files with holes: where the bytes that are stored belong.

use std::io::Read;

use tar::Header;

use super::pax::{Records, decimal};
use super::{Archive, BLOCK, Entry, bad, show};
use crate::error::Result;

/// More pieces than any file that a build makes; each takes 16 bytes of memory.
const SEGMENTS_MAX: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// Fills in the entry's segments and its size, if it has holes.
pub(super) fn find<R: Read>(
    archive: &mut Archive<R>,
    header: &Header,
    records: &Records,
    entry: &mut Entry,
) -> Result<()> {
    let sparse = &records.sparse;
    let (segments, size) = if header.entry_type().as_byte() == b'S' {
        old(archive, header)?
    } else if sparse.major == Some(1) {
        (in_the_data(archive)?, sparse.real_size)
    } else if let Some(map) = &sparse.map {
        let numbers: Option<Vec<u64>> = map.split(|b| *b == b',').map(decimal).collect();
        (pairs(&numbers.ok_or_else(|| bad("a map of holes that cannot be read"))?)?, sparse.real_size)
    } else if !sparse.numbers.is_empty() {
        (pairs(&sparse.numbers)?, sparse.real_size)
    } else {
        return Ok(());
    };
    entry.stored = archive.left;
    entry.size = size.ok_or_else(|| bad("a file with holes that does not say how large it is"))?;
    check(&segments, entry)?;
    entry.segments = Some(segments);
    Ok(())
}

/// One behind the other, within the file, and as much as is stored.
fn check(segments: &[Segment], entry: &Entry) -> Result<()> {
    let wrong = |why| Err(bad(format!("{}: its map of holes {why}", show(&entry.path))));
    let (mut at, mut stored) = (0u64, 0u64);
    for segment in segments {
        if segment.offset < at {
            return wrong("goes back");
        }
        let Some(end) = segment.offset.checked_add(segment.length) else {
            return wrong("leads beyond all bounds");
        };
        (at, stored) = (end, stored + segment.length);
    }
    if at > entry.size || entry.size > i64::MAX as u64 {
        return wrong("leads beyond the end of the file");
    }
    if stored != entry.stored { wrong("is of another size than its data") } else { Ok(()) }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > SEGMENTS_MAX {
        return Err(bad("a map of holes that is odd or too long"));
    }
    let pair = |pair: &[u64]| Some(Segment { offset: *pair.first()?, length: *pair.get(1)? });
    Ok(numbers.chunks(2).filter_map(pair).collect())
}

/// 1.0: the count, then the pairs, a number a line, in whole blocks before the data.
fn in_the_data<R: Read>(archive: &mut Archive<R>) -> Result<Vec<Segment>> {
    let mut lines = Lines { archive, block: [0; BLOCK as usize], at: BLOCK as usize };
    let count = lines.number()?;
    if count > SEGMENTS_MAX as u64 {
        return Err(bad("a file with more than 65,536 holes"));
    }
    let mut numbers = Vec::new();
    for _ in 0..count * 2 {
        numbers.push(lines.number()?);
    }
    pairs(&numbers)
}

struct Lines<'a, R> {
    archive: &'a mut Archive<R>,
    block: [u8; BLOCK as usize],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.at == self.block.len() {
                self.archive.read_exact(&mut self.block)?;
                self.at = 0;
            }
            let byte = self.block.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            match byte {
                b'\n' => return decimal(&digits).ok_or_else(|| bad("a map of holes that cannot be read")),
                byte if digits.len() < 20 => digits.push(byte),
                _ => return Err(bad("a map of holes that cannot be read")),
            }
        }
    }
}

/// GNU's first: four pairs in the header, and blocks of 21 behind it. They are no part of the data's size.
fn old<R: Read>(archive: &mut Archive<R>, header: &Header) -> Result<(Vec<Segment>, Option<u64>)> {
    let broken = || bad("a header of a file with holes that cannot be read");
    let gnu = header.as_gnu().ok_or_else(broken)?;
    let mut segments = Vec::new();
    let mut take = |sparse: &[tar::GnuSparseHeader]| -> Result<()> {
        for pair in sparse.iter().filter(|pair| !pair.is_empty()) {
            let offset = pair.offset().map_err(|_| broken())?;
            segments.push(Segment { offset, length: pair.length().map_err(|_| broken())? });
        }
        if segments.len() > SEGMENTS_MAX { Err(bad("a file with more than 65,536 holes")) } else { Ok(()) }
    };
    take(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let block = archive.block()?.ok_or_else(broken)?;
        let mut next = tar::GnuExtSparseHeader::new();
        next.as_mut_bytes().copy_from_slice(&block);
        take(&next.sparse)?;
        more = next.is_extended();
    }
    Ok((segments, Some(gnu.real_size().map_err(|_| broken())?)))
}

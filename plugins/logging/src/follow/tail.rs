//! Where the last lines of a log begin. Segments are looked through piece by piece: an endless line makes them large.
use std::collections::VecDeque;
use std::io;
use std::path::Path;

use memchr::{memchr_iter, memrchr};

use super::READ_BYTES;
use super::cursor::{Place, RECORD_BYTES_MAX};
use crate::config::Driver;
use crate::pack::Source;
use crate::segments::{Number, path};
use crate::time;

/// Parts count with the line that they are of.
pub(super) fn tail(dir: &Path, all: &VecDeque<(Number, Driver)>, lines: u64) -> Option<Place> {
    let mut need = lines;
    let mut oldest = None;
    for (number, driver) in all.iter().rev().copied() {
        let Ok(mut source) = Source::open(&path(dir, number, driver)) else { continue };
        let mut has = 0;
        let looked = each_line(&mut source, driver, |_| has += 1);
        if looked.is_err() && !source.is_packed() {
            continue;
        }
        if has >= need {
            let (skip, mut seen, mut offset) = (has - need, 0, 0);
            let _ = each_line(&mut source, driver, |end| {
                seen += 1;
                if seen == skip {
                    offset = end;
                }
            });
            return Place::open(dir, number, driver, offset).ok();
        }
        need -= has;
        oldest = Some((number, driver));
    }
    let (number, driver) = oldest?;
    Place::open(dir, number, driver, 0).ok()
}

/// Tells where each record ends that ends a line.
fn each_line(source: &mut Source, driver: Driver, mut tell: impl FnMut(u64)) -> io::Result<()> {
    let (mut buffer, mut offset) = (vec![0; READ_BYTES], 0);
    loop {
        let got = source.read_at(&mut buffer, offset)?;
        let Some(end) = memrchr(b'\n', &buffer[..got]) else {
            if got < buffer.len() {
                return Ok(());
            }
            if got < RECORD_BYTES_MAX {
                buffer.resize(got * 2, 0);
            } else {
                offset += got as u64; // not a record of ours
            }
            continue;
        };
        let mut from = 0;
        for at in memchr_iter(b'\n', &buffer[..=end]) {
            if ends_a_line(driver, &buffer[from..at]) {
                tell(offset + at as u64 + 1);
            }
            from = at + 1;
        }
        offset += end as u64 + 1;
    }
}

fn ends_a_line(driver: Driver, line: &[u8]) -> bool {
    match driver {
        // Behind the time and the stream, both of a fixed length.
        Driver::Local | Driver::Journald => line.get(time::TEXT_BYTES + 8) == Some(&b'F'),
        Driver::JsonFile => memchr::memmem::find(line, b"\\n\",\"stream\":\"").is_some(),
    }
}

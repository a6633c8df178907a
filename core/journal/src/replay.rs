//! Bytes of a journal -> what they say. Pure: a torn or damaged journal gives what can still be read of it and
//! says what could not; there is no error.

use super::record::{self, Header, Record};
use std::collections::BTreeMap;

/// What a journal says, and what was wrong with it.
#[derive(Debug, Default)]
pub struct Reading {
    pub boot: Option<String>,
    /// In order, `seq` strictly rising.
    pub records: Vec<Record>,
    /// Where each record's line begins, and where the last one ends.
    pub at: Vec<u64>,
    /// Behind this the file holds nothing whole.
    pub end: u64,
    /// The last line was not whole: we died while writing it. That is no damage.
    pub torn: bool,
    /// Numbers (from 1) of lines that are damaged.
    pub damaged: Vec<usize>,
}

pub fn read(bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let mut at = 0;
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let begin = at;
        at += line.len();
        let Some(line) = line.strip_suffix(b"\n") else {
            reading.torn = true;
            break;
        };
        let last = reading.records.last().map_or(0, |r| r.seq);
        if index == 0 {
            reading.boot =
                record::parse::<Header>(line).filter(|h| h.journal == record::VERSION).map(|h| h.boot);
            if reading.boot.is_none() {
                reading.damaged.push(1);
            }
        } else {
            match record::parse::<Record>(line) {
                Some(record) if record.seq > last => {
                    reading.records.push(record);
                    reading.at.push(begin as u64);
                }
                // A whole last line with a wrong checksum can only be damage: a torn write has no line end.
                _ => reading.damaged.push(index + 1),
            }
        }
        reading.end = at as u64;
    }
    reading
}

/// The last record of each service.
pub fn last_per_service(records: &[Record]) -> BTreeMap<String, Record> {
    records.iter().map(|r| (r.service.clone(), r.clone())).collect()
}

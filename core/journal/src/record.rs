//! One line of the journal: a transition of a service as a JSON object whose last member is the checksum of all
//! that stands before it. Text in, text out; no file is touched here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A transition. The last record of a service is its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub seq: u64,
    /// Milliseconds since 1970, for people: nothing is computed from it.
    pub time: u64,
    pub service: String,
    pub generation: u64,
    pub from: String,
    pub to: String,
    pub cause: String,
    /// What the new state carries.
    #[serde(default)]
    pub data: Value,
}

/// A record before it has its number and time.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub service: &'a str,
    pub generation: u64,
    pub from: &'a str,
    pub to: &'a str,
    pub cause: &'a str,
    pub data: &'a Value,
}

impl Entry<'_> {
    pub fn at(&self, seq: u64, time: u64) -> Record {
        Record {
            seq,
            time,
            service: self.service.to_owned(),
            generation: self.generation,
            from: self.from.to_owned(),
            to: self.to.to_owned(),
            cause: self.cause.to_owned(),
            data: self.data.clone(),
        }
    }
}

/// The first line: whose pids and cgroups the records speak of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the form.
    pub journal: u32,
    pub boot: String,
}

pub const VERSION: u32 = 1;

/// With checksum and line end.
pub fn line(of: &impl Serialize) -> String {
    // Serializing these types cannot fail: no map with keys that are not strings, no failing impl.
    let mut text = serde_json::to_string(of).unwrap_or_default();
    if text.pop() != Some('}') {
        return String::new();
    }
    let crc = crc32(text.as_bytes());
    text.push_str(&format!(",\"crc\":\"{crc:08x}\"}}\n"));
    text
}

/// None: not whole, not ours, or its checksum does not fit.
pub fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    const TAIL: usize = r#","crc":"00000000"}"#.len();
    let (text, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
    let hex = tail.strip_prefix(br#","crc":""#)?.strip_suffix(br#""}"#)?;
    let crc = u32::from_str_radix(core::str::from_utf8(hex).ok()?, 16).ok()?;
    if crc != crc32(text) {
        return None;
    }
    serde_json::from_slice(line).ok()
}

/// CRC-32 as in zlib, by nibbles: records are short, and 64 bytes of table stay in the cache.
pub fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut n = 0;
        while n < 16 {
            let mut crc = n as u32;
            let mut bit = 0;
            while bit < 4 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[n] = crc;
            n += 1;
        }
        table
    };
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        crc = TABLE[(crc & 15) as usize] ^ crc >> 4;
        crc = TABLE[(crc & 15) as usize] ^ crc >> 4;
    }
    !crc
}

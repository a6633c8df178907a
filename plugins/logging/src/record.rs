//! Bytes to records and back, without any I/O.
//!
//! `Pieces` cuts a read (and the tail of an unfinished line before it) into lines and parts of lines, `RecordWriter` writes each as a
//! record of its driver, `parse` reads one. A part (P) has no newline of its own: the text of all records, with a newline after
//! each F, is what the container wrote, byte for byte (json-file: but for invalid UTF-8, as with Docker).
//!
//! ```text
//! local      2026-11-25T01:36:53.123456789Z stdout F the line          (CRI; tag F:d = dropped, sampan's own words)
//! json-file  {"log":"the line\n","stream":"stdout","time":"2026-11-25T01:36:53.123456789Z"}
//! ```
use std::borrow::Cow;

use memchr::memchr;
use sampan_plugin::prelude::Deserialize;
use sampan_plugin::prelude::serde_json;

use crate::config::Driver;
use crate::sabotage::{Invariant, broken};
use crate::time;

pub const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// A line (`end`), or a part of one. Its text is `head` and then `text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub end: bool,
    pub head: &'a [u8],
    pub text: &'a [u8],
}

/// What is left over: an unfinished line, `max_line` bytes at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// The tail given to `Pieces` is still its beginning.
    pub tail: bool,
    /// It goes on in the data from here to the end.
    pub from: usize,
}

pub struct Pieces<'a> {
    head: &'a [u8],
    data: &'a [u8],
    at: usize,
    max_line: usize,
    flush: bool,
}

impl<'a> Pieces<'a> {
    /// `flush`: what is left over is a part as well.
    pub fn new(tail: &'a [u8], data: &'a [u8], max_line: usize, flush: bool) -> Pieces<'a> {
        Pieces { head: tail, data, at: 0, max_line, flush }
    }

    pub fn rest(&self) -> Rest {
        Rest { tail: !self.head.is_empty(), from: self.at }
    }

    fn take(&mut self, end: bool, text: &'a [u8]) -> Option<Piece<'a>> {
        self.at += text.len() + usize::from(end);
        Some(Piece { end, head: std::mem::take(&mut self.head), text })
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let data = &self.data[self.at..];
        let room = self.max_line.saturating_sub(self.head.len());
        // A line of exactly max_line is whole: its newline may be one further.
        if let Some(n) = memchr(b'\n', &data[..data.len().min(room + 1)]) {
            return self.take(true, &data[..n]);
        }
        if data.len() > room {
            let cut = between_characters(data, room);
            let cut = if cut == 0 && self.head.is_empty() { room } else { cut };
            return self.take(false, &data[..cut]);
        }
        if self.flush && !(self.head.is_empty() && data.is_empty()) {
            return self.take(false, data);
        }
        None
    }
}

/// The last place up to `cut` that is not inside of a UTF-8 character; `cut` itself if this is not UTF-8.
fn between_characters(data: &[u8], cut: usize) -> usize {
    let inside = |at: usize| data.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (cut.saturating_sub(3)..=cut).rev().find(|at| !inside(*at)).unwrap_or(cut)
}

/// Writes records of one stream.
pub struct RecordWriter {
    driver: Driver,
    stream: &'static str,
    time: [u8; time::TEXT_BYTES],
    joined: Vec<u8>,
}

/// A record is at most this much longer than its text (json-file: before escaping).
pub const OVERHEAD_BYTES_MAX: usize = 80;

impl RecordWriter {
    pub fn new(driver: Driver, stream: &'static str, time: u64) -> RecordWriter {
        RecordWriter { driver, stream, time: time::text(time), joined: Vec::new() }
    }

    pub fn set_time(&mut self, time: u64) {
        self.time = time::text(time);
    }

    pub fn write(&mut self, out: &mut Vec<u8>, mut piece: Piece<'_>) {
        if broken(Invariant::DroppedByte) {
            piece.text = piece.text.split_last().map_or(piece.text, |(_, text)| text);
        }
        match self.driver {
            Driver::Local | Driver::Journald => {
                self.line(out, if piece.end { b" F " } else { b" P " }, piece)
            }
            Driver::JsonFile => self.json(out, piece),
        }
    }

    /// What this plugin itself has to say about the stream.
    pub fn remark(&mut self, out: &mut Vec<u8>, text: &str) {
        let piece = Piece { end: true, head: b"", text: text.as_bytes() };
        match self.driver {
            Driver::Local | Driver::Journald => self.line(out, b" F:d ", piece),
            Driver::JsonFile => self.json(out, piece),
        }
    }

    fn line(&self, out: &mut Vec<u8>, tag: &[u8], piece: Piece<'_>) {
        out.reserve(OVERHEAD_BYTES_MAX + piece.head.len() + piece.text.len());
        out.extend_from_slice(&self.time);
        out.push(b' ');
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(tag);
        out.extend_from_slice(piece.head);
        out.extend_from_slice(piece.text);
        out.push(b'\n');
    }

    fn json(&mut self, out: &mut Vec<u8>, piece: Piece<'_>) {
        out.extend_from_slice(b"{\"log\":\"");
        if piece.head.is_empty() {
            escape(out, piece.text);
        } else {
            // A character may begin in one and end in the other.
            self.joined.clear();
            self.joined.extend_from_slice(piece.head);
            self.joined.extend_from_slice(piece.text);
            escape(out, &self.joined);
        }
        out.extend_from_slice(if piece.end { b"\\n\",\"stream\":\"" } else { b"\",\"stream\":\"" });
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(b"\",\"time\":\"");
        out.extend_from_slice(&self.time);
        out.extend_from_slice(b"\"}\n");
    }
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + OVERHEAD_BYTES_MAX);
    for chunk in text.utf8_chunks() {
        let mut clean = chunk.valid().as_bytes();
        while let Some(at) = clean.iter().position(|byte| *byte < 0x20 || matches!(*byte, b'"' | b'\\')) {
            out.extend_from_slice(&clean[..at]);
            match clean[at] {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                byte => {
                    let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
                }
            }
            clean = &clean[at + 1..];
        }
        out.extend_from_slice(clean);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// What this plugin itself says, of a driver with tags.
pub fn is_remark(line: &[u8]) -> bool {
    line.get(time::TEXT_BYTES + 8..).is_some_and(|rest| rest.starts_with(b"F:d "))
}

/// A record, read. `line` is without its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Cow<'a, str>,
    pub stream: Cow<'a, str>,
    pub end: bool,
    pub text: Cow<'a, [u8]>,
}

pub fn parse(driver: Driver, line: &[u8]) -> Option<Record<'_>> {
    match driver {
        Driver::Local | Driver::Journald => {
            let mut fields = line.splitn(4, |byte| *byte == b' ');
            let mut field = || std::str::from_utf8(fields.next()?).ok();
            let (time, stream, tags) = (field()?, field()?, field()?);
            let end = match tags.split(':').next()? {
                "F" => true,
                "P" => false,
                _ => return None,
            };
            let text = fields.next()?;
            Some(Record { time: time.into(), stream: stream.into(), end, text: text.into() })
        }
        Driver::JsonFile => {
            #[derive(Deserialize)]
            struct Json<'a> {
                log: String,
                #[serde(borrow)]
                stream: Cow<'a, str>,
                #[serde(borrow)]
                time: Cow<'a, str>,
            }
            let json: Json<'_> = serde_json::from_slice(line).ok()?;
            let mut text = json.log.into_bytes();
            let end = text.last() == Some(&b'\n');
            if end {
                text.pop();
            }
            Some(Record { time: json.time, stream: json.stream, end, text: text.into() })
        }
    }
}

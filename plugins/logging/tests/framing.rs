//! Bytes to records: whatever the reads are, the records without their headers are what was written.
use logging::config::Driver;
use logging::record::{Piece, Pieces, RecordWriter, parse};
use logging::time;
use proptest::prelude::*;

use crate::world::text;

/// Frames `reads` one after another, flushing at the end, and carries the tail as the spool does.
fn frame(driver: Driver, reads: &[&[u8]], max_line: usize) -> Vec<u8> {
    let (mut out, mut tail) = (Vec::new(), Vec::new());
    let mut pen = RecordWriter::new(driver, "stdout", 0);
    for (n, data) in reads.iter().enumerate() {
        let mut pieces = Pieces::new(&tail, data, max_line, n + 1 == reads.len());
        for piece in pieces.by_ref() {
            assert!(piece.head.len() + piece.text.len() <= max_line);
            pen.write(&mut out, piece);
        }
        let rest = pieces.rest();
        let mut next = if rest.tail { tail.clone() } else { Vec::new() };
        next.extend_from_slice(&data[rest.from..]);
        assert!(next.len() <= max_line, "{} bytes are held", next.len());
        tail = next;
    }
    assert_eq!(tail, b"", "flushed");
    out
}

fn check(input: &str, max_line: usize, expected: &[(bool, &str)]) {
    let out = frame(Driver::Local, &[input.as_bytes()], max_line);
    let lines = out.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let found: Vec<(bool, String)> = lines
        .map(|line| parse(Driver::Local, line).unwrap())
        .map(|record| (record.end, String::from_utf8(record.text.into_owned()).unwrap()))
        .collect();
    let expected: Vec<(bool, String)> =
        expected.iter().map(|(end, text)| (*end, (*text).to_owned())).collect();
    assert_eq!(found, expected, "{input:?}");
}

#[test]
fn lines_and_parts() {
    check("", 4, &[]);
    check("\n", 4, &[(true, "")]);
    check("ab\ncd", 4, &[(true, "ab"), (false, "cd")]);
    check("abcd\n", 4, &[(true, "abcd")]);
    check("abcde\n", 4, &[(false, "abcd"), (true, "e")]);
    check("abcdefgh\n", 4, &[(false, "abcd"), (true, "efgh")]);
    check("cr\r\n", 4, &[(true, "cr\r")]);
    check("aéé\n", 4, &[(false, "aé"), (true, "é")]);
    check("ééé\n", 5, &[(false, "éé"), (true, "é")]);
}

#[test]
fn json_is_dockers() {
    let mut out = Vec::new();
    RecordWriter::new(Driver::JsonFile, "stderr", 1_795_570_613_000_000_001)
        .write(&mut out, Piece { end: true, head: b"a\"\\\t", text: b"\x01\xff\xc3\xa9" });
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "{\"log\":\"a\\\"\\\\\\t\\u0001\u{fffd}é\\n\",\"stream\":\"stderr\",\"time\":\"2026-11-25T01:36:53.000000001Z\"}\n"
    );
}

#[test]
fn times() {
    for (ns, expected) in [
        (0, "1970-01-01T00:00:00.000000000Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
        (4_107_542_399_999_999_999, "2100-02-28T23:59:59.999999999Z"),
    ] {
        assert_eq!(std::str::from_utf8(&time::text(ns)).unwrap(), expected);
        assert_eq!(time::parse(expected), Some(ns));
    }
    assert_eq!(time::parse("2000-02-29T00:00:00.5Z"), Some(951_782_400_500_000_000));
    assert_eq!(time::parse("2000-02-29 00:00:00Z"), None);
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => any::<u8>(), 1 => Just(b'\n'), 2 => Just(b'x'), 1 => Just(0xc3u8), 1 => Just(0xa9u8)];
    proptest::collection::vec(byte, 0..200)
}

proptest! {
    #[test]
    fn every_split_gives_the_same_bytes(input in bytes(), max_line in 1usize..40) {
        for at in 0..=input.len() {
            let out = frame(Driver::Local, &[&input[..at], &input[at..]], max_line);
            prop_assert_eq!(&frame_text(&out), &input);
        }
    }

    #[test]
    fn many_reads_give_the_same_bytes(input in bytes(), cuts in proptest::collection::vec(0usize..200, 0..8), max_line in 1usize..40) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let reads: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&frame_text(&frame(Driver::Local, &reads, max_line)), &input);
    }

    #[test]
    fn json_keeps_what_is_utf8(input in "[a-zé\"\\\\\n\t\u{1}]{0,80}", at in 0usize..80, max_line in 4usize..40) {
        let at = at.min(input.len());
        let out = frame(Driver::JsonFile, &[&input.as_bytes()[..at], &input.as_bytes()[at..]], max_line);
        // A part may end at the edge of a read, within a character.
        prop_assume!(input.is_char_boundary(at));
        let back = String::from_utf8(text(Driver::JsonFile, &out, "stdout")).unwrap();
        prop_assert_eq!(back, input);
    }

    #[test]
    fn time_goes_there_and_back(ns in 0u64..8_000_000_000_000_000_000) {
        prop_assert_eq!(time::parse(std::str::from_utf8(&time::text(ns)).unwrap()), Some(ns));
    }
}

/// As `text`, for a stream whose last line has no newline.
fn frame_text(out: &[u8]) -> Vec<u8> {
    text(Driver::Local, out, "stdout")
}

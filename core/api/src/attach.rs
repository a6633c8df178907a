//! `POST /v1/services/NAME/attach` with `Connection: Upgrade` and `Upgrade: sampan-attach`: after the answer 101 the connection
//! carries frames, both ways. A frame is a head of 8 bytes, as docker has it (kind, 0, 0, 0, length as a big-endian u32), and its
//! bytes.
//!
//! | kind | from sampand | from the client |
//! |---|---|---|
//! | 0 | | what is typed |
//! | 1, 2 | what the service writes on standard output, on standard error; a terminal is standard output alone | |
//! | 3 | JSON: [`First`] once, then [`Last`] at the end | JSON: [`Window`] |
//!
//! Whoever closes the connection detaches; the service goes on. Signals are sent by `POST /v1/services/NAME/kill`.
use serde::{Deserialize, Serialize};

/// The protocol's name in the header `Upgrade`.
pub const PROTOCOL: &str = "sampan-attach";
/// A longer frame is an error.
pub const FRAME_BYTES_MAX: usize = 64 << 10;

pub const TYPED: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const WORD: u8 = 3;

pub const HEAD_BYTES: usize = 8;

/// What the bytes of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn kind(self) -> u8 {
        match self {
            Stream::Stdout => STDOUT,
            Stream::Stderr => STDERR,
        }
    }
}

/// The head of a frame.
pub fn head(kind: u8, bytes: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// The kind and length of a frame; none: it is longer than one may be.
pub fn parse_head(head: [u8; HEAD_BYTES]) -> Option<(u8, usize)> {
    let [kind, _, _, _, a, b, c, d] = head;
    let bytes = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
    (bytes <= FRAME_BYTES_MAX).then_some((kind, bytes))
}

/// What a client is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct First {
    /// It has a terminal.
    pub tty: bool,
    /// What is typed reaches it.
    pub stdin_open: bool,
}

/// Why there is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Last {
    /// The life is over. `code` as `sampanctl wait` has it; none: nobody knows.
    End { code: Option<i32>, text: String },
    /// The service goes on.
    CutOff { text: String },
}

/// How large the client's terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub rows: u16,
    pub columns: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_dockers_and_says_no_more_than_may_be() {
        assert_eq!(head(STDERR, 259), [2, 0, 0, 0, 0, 0, 1, 3]);
        for bytes in [0, 1, FRAME_BYTES_MAX] {
            assert_eq!(parse_head(head(TYPED, bytes)), Some((TYPED, bytes)));
        }
        assert_eq!(parse_head(head(TYPED, FRAME_BYTES_MAX + 1)), None);
        assert_eq!(parse_head([0, 0, 0, 0, 255, 255, 255, 255]), None);
    }
}

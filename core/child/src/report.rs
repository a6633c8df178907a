#![forbid(unsafe_code)]
//! What a child tells its parent: sixteen bytes, written at once, so that no report is ever seen by half.
//!
//! The end of the stream without a failure is the good news: the pipe closes at execve.

use crate::sys::Call;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The steps up to a [`crate::step::mark`] are done.
    Reached { mark: u32 },
    /// Step `step` failed in `call`; `detail` is a second number where the call has one (a hook's status).
    Failed { step: u32, call: Call, errno: u16, detail: u32 },
    /// The next part of what the kernel says of the failure that will be reported; the last one ends in zeros.
    Said { text: [u8; SAID] },
}

/// As much text as fits into one message.
pub const SAID: usize = 12;

/// The size of every message.
pub const SIZE: usize = 16;

impl Report {
    pub fn encode(self) -> [u8; SIZE] {
        let words = match self {
            Report::Reached { mark } => [1, mark, 0, 0],
            Report::Failed { step, call, errno, detail } => {
                [2, step, (call as u32) << 16 | u32::from(errno), detail]
            }
            Report::Said { text: [a, b, c, d, e, f, g, h, i, j, k, l] } => [
                3,
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
                u32::from_le_bytes([i, j, k, l]),
            ],
        };
        let [a, b, c, d] = words.map(u32::to_le_bytes);
        let ([a0, a1, a2, a3], [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]) = (a, b, c, d);
        [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3]
    }

    /// None if this is no message of ours.
    pub fn decode(bytes: [u8; SIZE]) -> Option<Report> {
        let [a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] = bytes;
        let second = u32::from_le_bytes([b0, b1, b2, b3]);
        match u32::from_le_bytes([a0, a1, a2, a3]) {
            1 => Some(Report::Reached { mark: second }),
            2 => Some(Report::Failed {
                step: second,
                errno: u16::from_le_bytes([c0, c1]),
                call: Call::from_code(u16::from_le_bytes([c2, c3]))?,
                detail: u32::from_le_bytes([d0, d1, d2, d3]),
            }),
            3 => Some(Report::Said { text: [b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3] }),
            _ => None,
        }
    }
}

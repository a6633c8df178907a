#![forbid(unsafe_code)]
//! HOME, for a config that sets none: the home of the process's user in the container's /etc/passwd.
//!
//! The file is the image's: of any size, with lines of any length and any form.  So it is read in pieces, and what is not
//! needed of a line is never held.

use crate::defence::{self, Defence};
use crate::sys::{self, Call, Fault, Fd, Result, uapi};

const NAME: &[u8] = b"HOME=";
/// A home is a path: PATH_MAX bytes, with its NUL.
const LENGTH_MAX: usize = NAME.len() + 4_096;
/// No passwd file is longer; one of 2^62 empty bytes ends here.
const PASSWD_BYTES_MAX: usize = 16 << 20;

/// `HOME=/root` with a NUL, as the environment takes it.
pub(crate) struct Home {
    bytes: [u8; LENGTH_MAX],
    length: usize,
}

impl Home {
    pub const fn none() -> Home {
        Home { bytes: [0; LENGTH_MAX], length: 0 }
    }

    /// None if it was not looked up, or is longer than any path: none is better than a part.
    pub fn variable(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length).filter(|bytes| bytes.last() == Some(&0))
    }

    /// As runc has it: `/` for a user without a line, or without a home in it.
    pub fn look_up(&mut self, uid: u32) {
        self.begin();
        if let Ok(file) = passwd() {
            self.read(file, uid);
            sys::close(file);
        }
        if self.length == NAME.len() {
            self.push(b'/');
        }
        self.push(0);
    }

    fn begin(&mut self) {
        self.length = 0;
        for byte in NAME {
            self.push(*byte);
        }
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length = self.length.wrapping_add(1);
    }

    /// Up to the first line of that user, which need not end in a newline.
    fn read(&mut self, file: Fd, uid: u32) {
        let mut piece = [0u8; 4_096];
        let mut line = Line::default();
        let mut read = 0usize;
        while read < PASSWD_BYTES_MAX {
            let n = sys::read(file, &mut piece).unwrap_or(0);
            if n == 0 {
                return;
            }
            read = read.wrapping_add(n);
            for byte in piece.get(..n).unwrap_or(&[]) {
                match (*byte, line.field) {
                    (b'\n', _) if line.is_of(uid) => return,
                    (b'\n', _) => line = Line::default(),
                    (b':', _) => line.field = line.field.saturating_add(1),
                    (digit, Line::UID) => line.add(digit),
                    (byte, Line::HOME) if line.is_of(uid) => self.push(byte),
                    _ => {}
                }
            }
        }
    }
}

/// The image's passwd file, which may be anything: a FIFO would make us wait for a writer, a device has no end.
fn passwd() -> Result<Fd> {
    let not_waiting = if defence::on(Defence::PasswdIsAFile) { uapi::O_NONBLOCK } else { 0 };
    let file =
        sys::openat(uapi::AT_FDCWD, b"/etc/passwd\0", uapi::O_RDONLY | uapi::O_NOCTTY | not_waiting, 0)?;
    if !sys::stat_fd(file).is_ok_and(|s| s.kind() == uapi::S_IFREG) && defence::on(Defence::PasswdIsAFile) {
        sys::close(file);
        return Err(Fault::new(Call::openat, uapi::EINVAL));
    }
    Ok(file)
}

/// How far in a line of `name:password:uid:gid:comment:home:shell` we are, and its uid so far.
#[derive(Default)]
struct Line {
    field: u32,
    digits: u32,
    uid: u32,
    odd: bool,
}

impl Line {
    const UID: u32 = 2;
    const HOME: u32 = 5;

    fn add(&mut self, digit: u8) {
        let one = digit.wrapping_sub(b'0');
        let next = self.uid.checked_mul(10).and_then(|uid| uid.checked_add(u32::from(one)));
        self.odd |= one > 9 || next.is_none();
        self.uid = next.unwrap_or(0);
        self.digits = self.digits.saturating_add(1);
    }

    fn is_of(&self, uid: u32) -> bool {
        self.digits > 0 && !self.odd && self.uid == uid
    }
}

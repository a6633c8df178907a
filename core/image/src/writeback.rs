//! The disk begins with what is written while the rest still comes, so that the sync at the end has little left to wait for.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU64;

use rustix::fs::{Advice, fadvise};

/// So much is handed over at once: less would be many small writes of the disk.
const STEP: u64 = 1 << 20;

/// A file that grows at its end.
#[derive(Debug)]
pub struct Written {
    /// Where in the file the next bytes come.
    at: u64,
    handed_over: u64,
}

impl Written {
    /// From `at` on.
    #[must_use]
    pub fn new(at: u64) -> Written {
        Written { at, handed_over: at }
    }

    pub fn write(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        if let Some(length) = NonZeroU64::new(self.at - self.handed_over).filter(|n| n.get() >= STEP) {
            // On Linux this begins to write what is dirty, and drops only what is clean: none of it. Who cannot need not.
            let _ = fadvise(file, self.handed_over, Some(length), Advice::DontNeed);
            self.handed_over = self.at;
        }
        Ok(())
    }
}

//! One blob from its source into the store. Where the way breaks it goes on from there.

use std::io::Read;
use std::time::Duration;

use super::Source;
use crate::digest::Hasher;
use crate::documents::Descriptor;
use crate::error::{Error, Kind, Result, from_reader};
use crate::pipe::{Gone, PipeWriter};
use crate::progress::{Progress, Stage};
use crate::store::{Partial, Verified};

/// In a row, with less than `ENOUGH` bytes in between: who sends one at a time keeps us busy for ever.
const ATTEMPTS: u32 = 6;
const ENOUGH: u64 = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

pub struct Fetch<'a> {
    pub source: &'a dyn Source,
    pub blob: &'a Descriptor,
    pub progress: &'a dyn Progress,
    /// Another layer has failed: nobody needs this one.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
}

impl Fetch<'_> {
    /// All of it, which remains to be synced and named.
    pub fn run(&self, mut partial: Partial, to: &mut PipeWriter) -> Result<Verified> {
        let (digest, size) = (&self.blob.digest, self.blob.size);
        let mut hasher = digest.hasher();
        if partial.have() > size {
            partial.restart()?;
        }
        self.progress.stage(digest, size, Stage::Fetching);
        let mut replay = |room: &mut [u8]| {
            let n = partial.replay(room)?;
            hasher.update(room.get(..n).unwrap_or_default());
            Ok::<_, Error>(n)
        };
        while to.give(&mut replay)? > 0 {}
        let mut failures = 0;
        while partial.have() < size {
            let before = partial.have();
            let Err(error) = self.attempt(&mut partial, &mut hasher, to) else { continue };
            failures = if partial.have() >= before + ENOUGH { 1 } else { failures + 1 };
            if error.kind() != Kind::Temporary || failures >= ATTEMPTS {
                return Err(error);
            }
            self.progress.note(&format!("{}: {error}; tried again", digest.short()));
            self.progress.stage(digest, size, Stage::Retrying);
            self.pause(FIRST_PAUSE * 2u32.pow(failures - 1))?;
        }
        partial.verified(&hasher.finish())
    }

    fn attempt(&self, partial: &mut Partial, hasher: &mut Hasher, to: &mut PipeWriter) -> Result<()> {
        let size = self.blob.size;
        let mut reader = self.source.open(self.blob, partial.have())?;
        let mut next = |room: &mut [u8]| {
            if (self.stopped)() {
                return Err(Gone.into());
            }
            let n = fill(&mut *reader, room)?;
            if partial.have() + n as u64 > size {
                let doing = format!("{} is longer than its {size} bytes", self.blob.digest);
                return Err(Error::bad(doing, "the manifest says how long it is"));
            }
            let bytes = room.get(..n).unwrap_or_default();
            hasher.update(bytes);
            partial.write(bytes)?;
            self.progress.bytes(&self.blob.digest, partial.have());
            Ok(n)
        };
        while to.give(&mut next)? > 0 {}
        if partial.have() < size {
            let why = format!("{} of {size} bytes came", partial.have());
            return Err(Error::new(Kind::Temporary, "the blob was cut off", why));
        }
        Ok(())
    }

    fn pause(&self, mut time: Duration) -> Result<()> {
        let step = Duration::from_millis(50);
        while !time.is_zero() {
            if (self.stopped)() {
                return Err(Gone.into());
            }
            std::thread::sleep(step.min(time));
            time = time.saturating_sub(step);
        }
        Ok(())
    }
}

/// As much as fits, so that whoever unpacks gets few and large pieces; what came before the way broke counts.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match reader.read(buffer.get_mut(have..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if have > 0 => break,
            Err(e) => return Err(from_reader(e, Kind::Temporary, "the blob was cut off")),
        }
    }
    Ok(have)
}

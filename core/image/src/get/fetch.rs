//! One blob from its source into the store. Where the way breaks it goes on from there.

use std::io::Read;
use std::time::Duration;

use super::{Sender, Source};
use crate::digest::Hasher;
use crate::documents::Descriptor;
use crate::error::{Error, Kind, Result, from_reader};
use crate::progress::{Progress, Stage};
use crate::store::Partial;

const PIECE: usize = 256 << 10;
/// In a row, with less than `ENOUGH` bytes in between: who sends one at a time keeps us busy for ever.
const ATTEMPTS: u32 = 6;
const ENOUGH: u64 = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// All of it is there and right.
    End,
}

pub struct Fetch<'a> {
    pub source: &'a dyn Source,
    pub blob: &'a Descriptor,
    pub progress: &'a dyn Progress,
    /// Another layer has failed: nobody needs this one.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Who unpacks has given up, and says why.
fn given_up() -> Error {
    Error::new(Kind::Usage, "the fetch is given up", "nobody takes what comes")
}

impl Fetch<'_> {
    pub fn run(&self, mut partial: Partial, to: Option<Sender>) -> Result<()> {
        let (digest, size) = (&self.blob.digest, self.blob.size);
        let mut hasher = digest.hasher();
        let give = |bytes: Vec<u8>| match &to {
            Some(to) => to.send(Piece::Bytes(bytes)).map_err(|_| given_up()),
            None => Ok(()),
        };
        if partial.have() > size {
            partial.restart()?;
        }
        self.progress.stage(digest, size, Stage::Fetching);
        partial.replay(|bytes| {
            hasher.update(bytes);
            give(bytes.to_vec())
        })?;
        let mut failures = 0;
        while partial.have() < size {
            let before = partial.have();
            let Err(error) = self.attempt(&mut partial, &mut hasher, &give) else { continue };
            failures = if partial.have() >= before + ENOUGH { 1 } else { failures + 1 };
            if error.kind() != Kind::Temporary || failures >= ATTEMPTS {
                return Err(error);
            }
            self.progress.note(&format!("{}: {error}; tried again", digest.short()));
            self.progress.stage(digest, size, Stage::Retrying);
            self.pause(FIRST_PAUSE * 2u32.pow(failures - 1))?;
        }
        drop(partial.commit(&hasher.finish())?);
        match to {
            Some(to) => to.send(Piece::End).map_err(|_| given_up()),
            None => Ok(()),
        }
    }

    fn attempt(
        &self,
        partial: &mut Partial,
        hasher: &mut Hasher,
        give: &dyn Fn(Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let size = self.blob.size;
        let mut reader = self.source.open(self.blob, partial.have())?;
        loop {
            if (self.stopped)() {
                return Err(given_up());
            }
            let mut bytes = vec![0; PIECE];
            let n = fill(&mut *reader, &mut bytes)?;
            bytes.truncate(n);
            let have = partial.have() + n as u64;
            if have > size {
                let doing = format!("{} is longer than its {size} bytes", self.blob.digest);
                return Err(Error::bad(doing, "the manifest says how long it is"));
            }
            hasher.update(&bytes);
            partial.write(&bytes)?;
            self.progress.bytes(&self.blob.digest, have);
            if n > 0 {
                give(bytes)?;
            } else if have < size {
                let why = format!("{have} of {size} bytes came");
                return Err(Error::new(Kind::Temporary, "the blob was cut off", why));
            } else {
                return Ok(());
            }
        }
    }

    fn pause(&self, mut time: Duration) -> Result<()> {
        let step = Duration::from_millis(50);
        while !time.is_zero() {
            if (self.stopped)() {
                return Err(given_up());
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

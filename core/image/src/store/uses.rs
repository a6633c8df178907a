//! Who runs what: a note for each service, so that no `prune` takes layers away from under a container, whatever became of the
//! image's names.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use super::{Store, Writer};
use crate::digest::Digest;
use crate::error::{Error, Result};

const FOLDER: &str = "used";
const DIGEST: &str = "digest";

impl Store {
    /// The manifest's digest that `user` runs, as noted last.
    #[must_use]
    pub fn used_by(&self, user: &str) -> Option<Digest> {
        Digest::parse(&fs::read_to_string(self.use_of(user).join(DIGEST)).ok()?).ok()
    }

    /// From now on `prune` keeps it, until another one is noted or none. `user` is a name for a folder.
    pub fn note_use(&self, _may: &Writer, user: &str, digest: &Digest) -> Result<()> {
        let folder = self.use_of(user);
        fs::create_dir_all(&folder).map_err(|e| Error::io("make", &folder, e))?;
        sampan_journal::atomic::replace(&folder, DIGEST, digest.to_string().as_bytes())
            .map_err(|e| Error::io("write", &folder.join(DIGEST), e))
    }

    pub fn forget_use(&self, user: &str) -> Result<()> {
        match fs::remove_dir_all(self.use_of(user)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &self.use_of(user), e)),
            _ => Ok(()),
        }
    }

    /// Of all users. One that cannot be read stops whoever wants to remove something.
    pub(super) fn uses(&self) -> Result<Vec<Digest>> {
        let folder = self.path().join(FOLDER);
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| Error::io("list", &folder, e))?,
        };
        let mut uses = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", &folder, e))?.path().join(DIGEST);
            match fs::read_to_string(&path) {
                Ok(text) => uses.push(Digest::parse(&text)?),
                // Whoever wanted to note one was killed before.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("read", &path, e)),
            }
        }
        Ok(uses)
    }

    fn use_of(&self, user: &str) -> PathBuf {
        self.path().join(FOLDER).join(user)
    }
}

//! The folder of a container that is over, under another name: the next container of its id need not wait until it is removed.
//!
//! The name begins with a dot, so it is no id and nobody lists it. One for each id: who wants to put a second one aside removes the
//! container as usual. Whoever dies in between leaves a folder that says nothing to anybody, for the next one to remove.

use std::fs;
use std::time::Duration;

use rustix::fs::renameat;
use rustix::io::Errno;

use super::dir::{Lock, Root, check_id, file_error};
use crate::error::{Kind, Result};

impl Root {
    /// Of a container of which nothing else is left. False: somebody works on it, or an earlier one is still aside.
    pub fn put_aside(&self, id: &str) -> Result<bool> {
        let Some(dir) = self.open_dir()? else { return Ok(false) };
        let locked = self
            .open(id)
            .and_then(|folder| folder.lock(Lock::Exclusive, Some(Duration::ZERO)).map(|()| folder));
        // Held until it has the other name: whoever waits for it finds it gone then, or removed.
        let _folder = match locked {
            Err(e) if matches!(e.kind, Kind::Busy | Kind::Missing) => return Ok(false),
            locked => locked?,
        };
        match renameat(&dir, id, &dir, name(id)) {
            Ok(()) => Ok(true),
            // A full disk has no room for a name, and always for a removal.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOSPC | Errno::DQUOT | Errno::NOMEM) => Ok(false),
            Err(e) => Err(file_error(id, "rename", &self.path().join(id), e.into())),
        }
    }

    /// Does no harm where there is none.
    pub fn remove_aside(&self, id: &str) -> Result<()> {
        check_id(id)?;
        let Some(dir) = self.open_dir()? else { return Ok(()) };
        match self.open_in(&dir, &name(id)) {
            Ok(folder) => folder.remove(),
            Err(e) if e.kind == Kind::Missing => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// All that somebody who died has left.
    pub fn remove_all_aside(&self) -> Result<()> {
        if self.open_dir()?.is_none() {
            return Ok(());
        }
        let entries = fs::read_dir(self.path()).map_err(|e| file_error("", "list", self.path(), e))?;
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if let Some(id) = name.strip_prefix('.').filter(|id| check_id(id).is_ok()) {
                self.remove_aside(id)?;
            }
        }
        Ok(())
    }
}

fn name(id: &str) -> String {
    format!(".{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn root(name: &str) -> (Scratch, Root) {
        let path = PathBuf::from(format!("/run/sampan-test-aside-{name}-{}", std::process::id()));
        (Scratch(path.clone()), Root::new(Some(&path)).unwrap())
    }

    fn make(root: &Root) {
        let folder = root.create("web").unwrap();
        folder.write(super::super::dir::LAST, b"{}").unwrap();
    }

    #[test]
    fn the_next_one_is_made_while_the_last_one_is_aside() {
        let (_scratch, root) = root("next");
        assert!(!root.put_aside("web").unwrap());
        make(&root);
        assert!(root.put_aside("web").unwrap());
        assert_eq!(root.ids().unwrap(), Vec::<String>::new());
        make(&root);
        assert!(!root.put_aside("web").unwrap(), "there is one already");
        assert_eq!(root.ids_of_containers().unwrap(), ["web"]);
        root.remove_aside("web").unwrap();
        root.remove_aside("web").unwrap();
        assert!(root.put_aside("web").unwrap());
        root.remove_all_aside().unwrap();
        assert!(fs::read_dir(root.path()).unwrap().next().is_none());
    }

    #[test]
    fn what_somebody_works_on_stays() {
        let (_scratch, root) = root("busy");
        make(&root);
        let busy = root.open("web").unwrap();
        busy.lock(Lock::Shared, None).unwrap();
        assert!(!root.put_aside("web").unwrap());
        assert_eq!(root.ids().unwrap(), ["web"]);
        drop(busy);
        let late = root.open("web").unwrap();
        assert!(root.put_aside("web").unwrap());
        root.remove_aside("web").unwrap();
        assert_eq!(late.lock(Lock::Exclusive, None).unwrap_err().kind, Kind::Missing);
    }
}

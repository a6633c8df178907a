//! The files of containers in run_dir, which a later worker reads: small, and of one container each.
//!
//! The worker's loop asks for a change, and a thread of the blocking pool makes it: a file system may make whoever calls it wait.
//! Changes are made in the order in which they were asked for, also where whoever asked has stopped waiting.
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Files {
    folder: PathBuf,
    waiting: Mutex<VecDeque<Change>>,
    /// Who has it makes changes.
    turn: Mutex<()>,
}

#[derive(Debug)]
struct Change {
    id: String,
    /// None: the file goes.
    text: Option<String>,
}

impl Files {
    pub fn below(run_dir: &Path) -> Files {
        let folder = run_dir.join("plugins");
        // What cannot be made is said when something is to be written.
        let _ = std::fs::create_dir_all(&folder);
        Files { folder, ..Files::default() }
    }

    pub fn read(&self, id: &str) -> Option<Vec<u8>> {
        std::fs::read(self.of(id)).ok()
    }

    pub fn ask_to_write(&self, id: &str, text: String) {
        self.ask(Change { id: id.to_owned(), text: Some(text) });
    }

    pub fn ask_to_remove(&self, id: &str) {
        self.ask(Change { id: id.to_owned(), text: None });
    }

    fn ask(&self, change: Change) {
        lock(&self.waiting).push_back(change);
    }

    /// Blocks until all that was asked for is done. The containers whose file could not be written, which is told.
    pub fn carry_out(&self) -> Vec<String> {
        let _turn = lock(&self.turn);
        let next = || lock(&self.waiting).pop_front();
        let mut failed = Vec::new();
        while let Some(Change { id, text }) = next() {
            let path = self.of(&id);
            let Some(text) = text else {
                // Not there: it was never written.
                let _ = std::fs::remove_file(path);
                continue;
            };
            if let Err(error) = write(&path, &text) {
                tracing::warn!(service = id, %error, "a new worker will not know which plugin has its output");
                failed.push(id);
            }
        }
        failed
    }

    fn of(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{}.json", id.replace('/', "%")))
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let next = path.with_extension("new");
    std::fs::write(&next, text)?;
    std::fs::rename(next, path)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_made_in_their_order_whoever_makes_them() {
        let kept = sampan_testkit::Folder::new();
        let files = Files::below(&kept.0);
        for n in 0..200 {
            files.ask_to_write("a/b", n.to_string());
            files.ask_to_remove("a/b");
            files.ask_to_write("gone", n.to_string());
            files.ask_to_remove("gone");
        }
        files.ask_to_write("a/b", "last".to_owned());
        assert_eq!(files.read("a/b"), None, "nobody has waited");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(files.carry_out().is_empty()));
            }
        });
        assert_eq!(files.read("a/b").as_deref(), Some(&b"last"[..]));
        assert_eq!(files.read("gone"), None);
        assert!(kept.path("plugins/a%b.json").is_file());
    }

    #[test]
    fn what_cannot_be_written_is_known() {
        let kept = sampan_testkit::Folder::new();
        let files = Files::below(&kept.0);
        std::fs::create_dir(kept.path("plugins/web.json")).unwrap();
        files.ask_to_write("web", "{}".to_owned());
        files.ask_to_write("db", "{}".to_owned());
        assert_eq!(files.carry_out(), ["web"]);
        assert!(files.read("db").is_some());
    }
}

//! Which commands were begun, by the number that a client gives its request: a client whose worker died over one sends it again,
//! and what does something each time it is asked is not done twice. On disk before it is begun, and for this boot alone.
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// In the run folder.
pub const NAME: &str = "requests";
/// Of one request's number, a newline included. Longer ones are none.
const ID_BYTES_MAX: usize = 65;
/// Of the file, about. Clients try for seconds, so what is older is of no use: at the limit the older half goes.
const BYTES_MAX: usize = 64 * 1024;

pub struct Seen {
    /// The latest last.
    ids: VecDeque<String>,
    bytes: usize,
    file: Option<File>,
}

impl Seen {
    /// Of the workers before this one.
    pub fn load(run_dir: &Path) -> Seen {
        let mut options = File::options();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let path = run_dir.join(NAME);
        let file = options.open(&path);
        if let Err(error) = &file {
            tracing::warn!("{}: {error}; a command whose worker dies may be done twice", path.display());
        }
        let mut text = String::new();
        let mut file = file.ok();
        if let Some(file) = &mut file {
            let _ = file.read_to_string(&mut text);
        }
        let ids = text.lines().filter(|id| !id.is_empty()).map(str::to_owned).collect();
        Seen { ids, bytes: text.len(), file }
    }

    /// Notes that it is begun; false: it was before.
    pub fn begin(&mut self, id: &str) -> bool {
        if id.is_empty() || id.len() >= ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return true;
        }
        if self.ids.iter().any(|known| known == id) {
            return false;
        }
        self.ids.push_back(id.to_owned());
        if self.bytes + id.len() < BYTES_MAX {
            self.write(&line(id));
        } else {
            self.forget_the_older_half();
        }
        true
    }

    fn forget_the_older_half(&mut self) {
        self.ids.drain(..self.ids.len() / 2);
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
        self.bytes = 0;
        let all: String = self.ids.iter().map(|id| line(id)).collect();
        self.write(&all);
    }

    fn write(&mut self, text: &str) {
        self.bytes += text.len();
        if let Some(file) = &mut self.file {
            let _ = file.write_all(text.as_bytes());
        }
    }
}

/// The newline first: half a line, which a full disk leaves, spoils no other.
fn line(id: &str) -> String {
    format!("\n{id}")
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, NAME, Seen};
    use sampan_testkit::Folder;
    use std::io::Write;

    #[test]
    fn what_it_keeps_has_a_limit_while_it_runs_and_half_a_line_spoils_no_other() {
        let folder = Folder::new();
        let mut seen = Seen::load(&folder.path(""));
        let many = (BYTES_MAX / 10) * 3;
        for n in 0..many {
            assert!(seen.begin(&format!("id{n:07}")));
            assert!(!seen.begin(&format!("id{n:07}")), "the latest are known");
        }
        let size = || std::fs::metadata(folder.path(NAME)).unwrap().len();
        assert!(size() <= BYTES_MAX as u64, "{}", size());
        assert!(seen.ids.len() <= BYTES_MAX / 10 + 1, "{}", seen.ids.len());
        // As a full disk leaves it.
        let half = std::fs::File::options().append(true).open(folder.path(NAME)).unwrap();
        (&half).write_all(b"\nhal").unwrap();
        assert!(seen.begin("whole"));
        assert!(!Seen::load(&folder.path("")).begin("whole"));
    }

    #[test]
    fn the_next_worker_knows_what_was_begun() {
        let folder = Folder::new();
        let mut seen = Seen::load(&folder.path(""));
        assert!(seen.begin("abc") && seen.begin("def") && !seen.begin("abc"));
        let mut next = Seen::load(&folder.path(""));
        assert!(!next.begin("abc") && !next.begin("def") && next.begin("x"));
        assert!(next.begin("no\nid") && next.begin("no\nid"));
    }
}

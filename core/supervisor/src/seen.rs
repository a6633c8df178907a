//! Which commands were begun, by the number that a client gives its request: a client whose worker died over one sends it again,
//! and what does something each time it is asked is not done twice. On disk before it is begun, and for this boot alone.
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// In the run folder.
pub const NAME: &str = "requests";
/// Of one request's number, a newline included. Longer ones are none.
const ID_BYTES_MAX: usize = 65;
/// Of the file. Clients try for seconds, so what is older is of no use.
const BYTES_MAX: usize = 64 * 1024;

pub struct Seen {
    ids: BTreeSet<String>,
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
            if text.len() > BYTES_MAX {
                let _ = file.set_len(0);
            }
        }
        Seen { ids: text.lines().map(str::to_owned).collect(), file }
    }

    /// Notes that it is begun; false: it was before.
    pub fn begin(&mut self, id: &str) -> bool {
        if id.is_empty() || id.len() >= ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return true;
        }
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(format!("{id}\n").as_bytes());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;
    use sampan_testkit::Folder;

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

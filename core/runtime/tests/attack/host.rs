//! A folder that stands for the host: whatever changes in it, or is read from it, an attacker has reached.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Outcome;
use super::runtime::Ran;

/// What the host keeps to itself.
pub const SECRET: &str = "known to the host alone";

pub struct Host {
    path: PathBuf,
    before: Vec<String>,
}

impl Host {
    /// A file of root's with the secret, and nothing else.
    pub fn new() -> Host {
        Host::with(|_| {})
    }

    /// The same, and what `fill` puts there.
    pub fn with(fill: impl FnOnce(&Path)) -> Host {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let path = std::env::temp_dir().join(format!("sampan-host-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("secret"), SECRET).unwrap();
        fs::set_permissions(path.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        fill(&path);
        let before = entries(&path);
        Host { path, before }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Did the attacker change the host, or learn its secret?
    pub fn verdict(&self, ran: &Ran) -> Outcome {
        if ran.out.contains(SECRET) {
            return Outcome::Worked("a file of the host was read".into());
        }
        let after = entries(&self.path);
        match after.iter().find(|entry| !self.before.contains(entry)) {
            Some(entry) => Outcome::Worked(format!("on the host: {entry}")),
            None if after.len() != self.before.len() => Outcome::Worked("a file of the host is gone".into()),
            None => Outcome::Repelled(ran.said()),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Every name below the folder, with what it is, whose, and what it holds.
fn entries(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let m = fs::symlink_metadata(&path).unwrap();
        let t = m.file_type();
        let holds = match () {
            () if t.is_file() => String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned(),
            () if t.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
            () if t.is_char_device() || t.is_block_device() => format!("device {:x}", m.rdev()),
            () => String::new(),
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all.push(format!("{name} {:o} {}:{} {holds}", m.mode(), m.uid(), m.gid()));
        if t.is_dir() {
            all.extend(entries(&path));
        }
    }
    all.sort();
    all
}

//! What the next worker must find of a one-off, in the run folder: what was asked for, and beside it the config that held then, by
//! another name for its file. So it lives by the settings that its service had, whatever is applied meanwhile.
use crate::applied::{self, Applied};
use sampan_api as api;
use sampan_config::schema::Service;
use sampan_keel::rundir;
use sampan_runtime::kernel::pidfd::Identity;
use sampan_runtime::kernel::trust::{self, Group};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const FILE: &str = "one-off.json";
const VERSION: u32 = 1;
/// An environment and a command, which one request has brought.
const BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    /// The service whose settings it has.
    pub of: String,
    pub run: api::Run,
    /// With whom it ends.
    pub client: Option<Identity>,
    /// Each has a greater one than those before it.
    pub number: u64,
}

impl Kept {
    pub fn new(of: &str, run: api::Run, client: Option<Identity>, number: u64) -> Kept {
        Kept { version: VERSION, of: of.to_owned(), run, client, number }
    }

    /// Notes it in the run folder, with the config that is applied now.
    pub fn write(&self, run_dir: &Path) -> Result<(), String> {
        let folder = folder(run_dir, &self.run.name);
        let failed = |why: &dyn std::fmt::Display| format!("cannot note it in {}: {why}", folder.display());
        remove(&folder).map_err(|error| failed(&error))?;
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::hard_link(run_dir.join(applied::NAME), folder.join(applied::NAME)))
            .map_err(|error| failed(&error))?;
        let text = serde_json::to_vec(self).map_err(|error| failed(&error))?;
        sampan_journal::atomic::replace(&folder, FILE, &text).map_err(|errno| failed(&errno))
    }

    fn read(folder: &Path, boot: &str) -> Result<(Kept, Service), String> {
        let path = folder.join(FILE);
        let (bytes, _) =
            trust::read(&path, Group::MayNotWrite, BYTES_MAX).map_err(|error| error.about(&path))?;
        let kept: Kept = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{} is damaged: {error}", path.display()))?;
        if kept.version != VERSION {
            return Err(format!("{} is of version {}", path.display(), kept.version));
        }
        let applied = Applied::read(folder, boot)?.ok_or("it is of an earlier boot")?;
        let services = applied.load()?.loaded.config.services;
        let of = services.get(&kept.of).ok_or_else(|| format!("its config has no service {:?}", kept.of))?;
        let config = super::config(of, &kept.run)?;
        Ok((kept, config))
    }
}

fn all(run_dir: &Path) -> PathBuf {
    run_dir.join(rundir::ONE_OFFS)
}

fn folder(run_dir: &Path, name: &str) -> PathBuf {
    all(run_dir).join(name)
}

fn remove(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The run folder has nothing of it any more.
pub fn forget(run_dir: &Path, name: &str) -> std::io::Result<()> {
    remove(&folder(run_dir, name))
}

/// A file in the state folder for each that may have something there, which outlives a reboot: what it has written to its root, and
/// its log.
fn mark_of(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(rundir::ONE_OFFS).join(name)
}

pub fn mark(state_dir: &Path, name: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(state_dir.join(rundir::ONE_OFFS))?;
    std::fs::write(mark_of(state_dir, name), [])
}

/// The last that is done for one whose state is gone.
pub fn unmark(state_dir: &Path, name: &str) -> std::io::Result<()> {
    match std::fs::remove_file(mark_of(state_dir, name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub fn is_marked(state_dir: &Path, name: &str) -> bool {
    mark_of(state_dir, name).exists()
}

/// Those that the state folder has something of.
pub fn marked(state_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(state_dir.join(rundir::ONE_OFFS)).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Those of the workers before this one, each with its config. What cannot be read is told and removed: what runs of it is ended
/// as what no config names.
pub fn load(run_dir: &Path, boot: &str) -> Vec<(Kept, Service)> {
    let entries = std::fs::read_dir(all(run_dir)).into_iter().flatten().flatten();
    let one = |entry: std::fs::DirEntry| match Kept::read(&entry.path(), boot) {
        Ok(found) => Some(found),
        Err(why) => {
            tracing::warn!("a one-off cannot be gone on with: {why}");
            let _ = std::fs::remove_dir_all(entry.path());
            None
        }
    };
    entries.filter_map(one).collect()
}

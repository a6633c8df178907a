//! desired.json in the state folder: what must survive a reboot, per service. Few writes, each whole or not at all
//! (temporary file, fsync, rename, fsync of the folder). A file that cannot be read is set aside and reported;
//! sampand then starts as if nobody had ever stopped anything by hand.

use crate::atomic;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const NAME: &str = "desired.json";
const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    version: u32,
    pub services: BTreeMap<String, Wish>,
}

/// Members that a newer version wrote are kept when this one writes the file again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// By hand; holds until `start` or `up`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stopped: bool,
    /// How often it was restarted by policy, over all runs of sampand.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restarts: u64,
    /// Over all runs of sampand, as the records of the journal say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Failed attempts in a row: where the back-off stands.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    /// What is left of the back-off, not a date: clocks are set, hosts sleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_left_ms: Option<u64>,
    /// Of a job by time that is on its calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Heeded>,
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// How far a calendar has been heeded: what it has between then and now was missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heeded {
    /// Of another one nothing was missed.
    pub calendar: String,
    /// Seconds since 1970.
    pub until: i64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Desired {
    /// The text is a warning for the log.
    pub fn load(state_dir: &Path) -> (Desired, Option<String>) {
        let path = state_dir.join(NAME);
        let problem = match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<Desired>(&bytes) {
                Ok(desired) if desired.version <= VERSION => return (desired, None),
                Ok(desired) => {
                    format!("is of version {}, newer than this sampand's {VERSION}", desired.version)
                }
                Err(error) => format!("is damaged: {error}"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (Desired::default(), None),
            Err(error) => {
                return (Desired::default(), Some(format!("cannot read {}: {error}", path.display())));
            }
        };
        let kept = match set_aside(&path) {
            Ok(aside) => format!("kept as {}", aside.display()),
            Err(error) => format!("could not be set aside: {error}"),
        };
        let path = path.display();
        (Desired::default(), Some(format!("{path} {problem}; {kept}: services stopped by hand start again")))
    }

    /// Whole and on the disk, or as before. It waits for the disk: call it from a blocking-pool thread.
    pub fn save(&self, state_dir: &Path) -> Result<(), Errno> {
        let mut text =
            serde_json::to_vec_pretty(&Desired { version: VERSION, services: self.services.clone() })
                .map_err(|_| Errno::INVAL)?;
        text.push(b'\n');
        atomic::replace(state_dir, NAME, &text)
    }
}

fn set_aside(path: &Path) -> Result<PathBuf, Errno> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    for n in 1..1000 {
        let aside = path.with_file_name(format!("{NAME}.damaged.{n}"));
        match renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(aside),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EXIST)
}

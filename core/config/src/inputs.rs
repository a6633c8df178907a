//! Everything that a config is made from: files, variables, what exists. The loader asks for it here and nowhere else, and
//! each answer is kept, so that the same config can be made again when the files have changed or are gone: `again`.
//! Absent on purpose: what a service's secrets hold, which are read at each start and never kept.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::file::read_text;
use crate::glob;

/// Where time zones are, for people and for what is kept.
const ZONES: &str = "/usr/share/zoneinfo";

/// The host's time zone of this name: for the check, and for whoever starts jobs by it.
pub fn zone(name: &str) -> Result<TimeZone, jiff::Error> {
    // Known also where the host has none.
    if name == "UTC" { Ok(TimeZone::UTC) } else { TimeZone::get(name) }
}

/// What sampand's program and its command line say beside the files: where its own things are unless the config says otherwise,
/// and the profiles that are active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builtin {
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    pub plugin_dir: PathBuf,
    #[serde(default)]
    pub profiles: BTreeSet<String>,
}

impl Default for Builtin {
    fn default() -> Self {
        Builtin {
            run_dir: "/run/sampan".into(),
            state_dir: "/var/lib/sampan".into(),
            plugin_dir: "/usr/lib/sampan/plugins".into(),
            profiles: BTreeSet::new(),
        }
    }
}

/// What the loader was told when it made a config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// The config files, in the order in which they were named.
    paths: Vec<PathBuf>,
    builtin: Builtin,
    /// What relative paths start from.
    cwd: PathBuf,
    texts: BTreeMap<PathBuf, String>,
    /// What an `include` with a glob found, by its folder and the glob.
    lists: BTreeMap<PathBuf, BTreeMap<String, Vec<PathBuf>>>,
    variables: BTreeMap<String, Option<String>>,
    /// What was looked for and not there.
    missing: BTreeSet<PathBuf>,
    /// Root file systems that are the host's own.
    #[serde(default)]
    host_roots: BTreeSet<PathBuf>,
}

impl Inputs {
    pub fn new(paths: &[PathBuf], builtin: &Builtin) -> Inputs {
        Inputs { paths: paths.to_vec(), builtin: builtin.clone(), ..Inputs::default() }
    }
}

/// Is told before each look at the host, which may take for ever on a dead mount: at what, and the key that names it, or "".
pub type Tell<'t> = dyn Fn(&Path, &str) + 't;

/// Who answers.
#[derive(Clone, Copy)]
enum From<'a> {
    Host {
        env: &'a dyn Fn(&str) -> Option<String>,
        tell: &'a Tell<'a>,
    },
    /// As they were; what was not asked then is not there now.
    Kept(&'a Inputs),
}

/// Answers the loader, and keeps the answers.
pub struct Asked<'a> {
    from: From<'a>,
    kept: RefCell<Inputs>,
}

impl<'a> Asked<'a> {
    pub fn host(
        paths: &[PathBuf],
        env: &'a dyn Fn(&str) -> Option<String>,
        tell: &'a Tell<'a>,
        builtin: &Builtin,
    ) -> Result<Asked<'a>, String> {
        let cwd = std::env::current_dir().map_err(|error| format!("no current folder: {error}"))?;
        let kept = RefCell::new(Inputs { cwd, ..Inputs::new(paths, builtin) });
        Ok(Asked { from: From::Host { env, tell }, kept })
    }

    pub fn again(inputs: &'a Inputs) -> Asked<'a> {
        let kept = Inputs { cwd: inputs.cwd.clone(), ..Inputs::new(&inputs.paths, &inputs.builtin) };
        Asked { from: From::Kept(inputs), kept: RefCell::new(kept) }
    }

    pub fn into_inputs(self) -> Inputs {
        self.kept.into_inner()
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.kept.borrow().paths.clone()
    }

    pub fn builtin(&self) -> Builtin {
        self.kept.borrow().builtin.clone()
    }

    pub fn cwd(&self) -> PathBuf {
        self.kept.borrow().cwd.clone()
    }

    /// A text file that may tell us what to do, perhaps with a warning (`read_text`).
    pub fn text(&self, path: &Path, key: &str) -> Result<(String, Option<String>), String> {
        let (text, warning) = match self.from {
            From::Host { tell, .. } => {
                tell(path, key);
                read_text(path)?
            }
            From::Kept(inputs) => {
                let text = inputs.texts.get(path).ok_or("not among what was kept")?;
                (text.clone(), None)
            }
        };
        self.kept.borrow_mut().texts.insert(path.to_owned(), text.clone());
        Ok((text, warning))
    }

    pub fn variable(&self, name: &str) -> Option<String> {
        let value = match self.from {
            From::Host { env, .. } => env(name),
            From::Kept(inputs) => inputs.variables.get(name).cloned().flatten(),
        };
        self.kept.borrow_mut().variables.insert(name.to_owned(), value.clone());
        value
    }

    /// Also true where we may not look: whoever opens it will say it better.
    pub fn exists(&self, path: &Path, key: &str) -> bool {
        let gone = |path: &Path| matches!(path.symlink_metadata(), Err(e) if e.kind() == std::io::ErrorKind::NotFound);
        self.look(path, key, |path| !gone(path))
    }

    pub fn is_folder(&self, path: &Path, key: &str) -> bool {
        self.look(path, key, Path::is_dir)
    }

    pub fn has_zone(&self, name: &str, key: &str) -> bool {
        self.look(&Path::new(ZONES).join(name), key, |_| zone(name).is_ok())
    }

    /// The host's own root, whatever it is called.
    pub fn is_host_root(&self, path: &Path, key: &str) -> bool {
        let is_host = match self.from {
            From::Host { tell, .. } => {
                tell(path, key);
                sampan_runtime::kernel::host_root::is_host_root(path)
            }
            From::Kept(inputs) => inputs.host_roots.contains(path),
        };
        if is_host {
            self.kept.borrow_mut().host_roots.insert(path.to_owned());
        }
        is_host
    }

    fn look(&self, path: &Path, key: &str, there: impl FnOnce(&Path) -> bool) -> bool {
        let there = match self.from {
            From::Host { tell, .. } => {
                tell(path, key);
                there(path)
            }
            From::Kept(inputs) => !inputs.missing.contains(path),
        };
        if !there {
            self.kept.borrow_mut().missing.insert(path.to_owned());
        }
        there
    }

    /// The files that a glob finds, in byte order.
    pub fn list(&self, folder: &Path, pattern: &str) -> std::io::Result<Vec<PathBuf>> {
        let found = match self.from {
            From::Host { tell, .. } => {
                tell(&folder.join(pattern), "include");
                glob::expand(folder, pattern)?
            }
            From::Kept(inputs) => {
                inputs.lists.get(folder).and_then(|lists| lists.get(pattern)).cloned().unwrap_or_default()
            }
        };
        let mut kept = self.kept.borrow_mut();
        kept.lists.entry(folder.to_owned()).or_default().insert(pattern.to_owned(), found.clone());
        Ok(found)
    }
}

//! config.toml: its files, sampand's environment, where sampand is installed. Read at sampand's start and when somebody asks for it;
//! the origins of the config that holds are kept for `sampanctl config`.
use sampan_config::{
    self as config, Builtin, Config, Diagnostic, Inputs, Loaded, Tell, explain, explain::Origins,
};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is read, and as seen from where: all that another process needs that reads it for us.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Files {
    paths: Vec<PathBuf>,
    builtin: Builtin,
    /// What relative paths start from.
    folder: PathBuf,
}

/// A config, or all its mistakes.
pub type Loading = Result<Loaded, Vec<Diagnostic>>;

/// What was read: what the config is made from, with warnings; or all errors as `--check` prints them.
pub type Read = Result<(Inputs, Vec<String>), String>;

impl Files {
    /// Looks at whatever config.toml names, so the worker leaves it to a launching process (`life::reading`).
    pub fn read(&self, tell: &Tell<'_>) -> Read {
        let here = std::env::set_current_dir(&self.folder);
        here.map_err(|error| self.unread(&format!("cannot go to {}: {error}", self.folder.display()), ""))?;
        let result = self.load(tell);
        let (text, _) = self.report(&result, false, false);
        let loaded = result.map_err(|_| text)?;
        let warnings = loaded.warnings.iter().map(|warning| match warning.hint.as_str() {
            "" => warning.title(),
            hint => format!("{}: {hint}", warning.title()),
        });
        Ok((loaded.inputs, warnings.collect()))
    }

    pub fn load(&self, tell: &Tell<'_>) -> Loading {
        config::load_and_tell(&self.paths, &variable, tell, &self.builtin)
    }

    /// As `--check` prints it, with the exit code.
    pub fn report(&self, result: &Loading, colour: bool, json: bool) -> (String, u8) {
        config::report(&self.paths, result, colour, json)
    }

    /// Where the run folder is, whatever else is wrong in the files.
    pub fn run_dir(&self) -> PathBuf {
        let _ = std::env::set_current_dir(&self.folder);
        config::run_dir(&self.paths, &variable, &self.builtin)
    }

    /// Where it is if the files cannot be read.
    pub fn usual_run_dir(&self) -> PathBuf {
        self.builtin.run_dir.clone()
    }

    /// Why there is no config, as `--check` prints it.
    pub fn unread(&self, why: &str, hint: &str) -> String {
        self.report(&Err(vec![Diagnostic::nowhere("", why, hint)]), false, false).0
    }

    /// The config that these inputs make. Nothing is opened for it.
    pub fn made_of(&self, inputs: &Inputs) -> Result<Loaded, String> {
        config::again(inputs).map_err(|errors| self.report(&Err(errors), false, false).0)
    }
}

#[derive(Debug)]
pub struct Source {
    files: Files,
    /// Of the config that holds.
    origins: RefCell<Origins>,
}

impl Source {
    pub fn new(paths: Vec<PathBuf>, profiles: BTreeSet<String>) -> Source {
        let mut builtin = Builtin { profiles, ..Builtin::default() };
        if let Some(plugins) = installed_plugins() {
            builtin.plugin_dir = plugins;
        }
        let paths = if paths.is_empty() { vec!["/etc/sampan/config.toml".into()] } else { paths };
        // One that is gone is said where it is needed.
        let folder = std::env::current_dir().unwrap_or_default();
        Source { files: Files { paths, builtin, folder }, origins: RefCell::default() }
    }

    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The config of these origins is the one that holds.
    pub fn holds(&self, origins: Origins) {
        self.origins.replace(origins);
    }

    /// `FILE:LINE` of a key that somebody has written.
    pub fn place(&self, path: &str) -> Option<String> {
        self.origins.borrow().written(path)
    }

    /// The config as it holds, each key with its origin.
    pub fn explain(&self, config: &Config, service: Option<&str>, json: bool) -> String {
        let origins = self.origins.borrow();
        match json {
            true => explain::json(config, &origins, service).map(|value| format!("{value:#}\n")),
            false => explain::toml(config, &origins, service),
        }
        .unwrap_or_default()
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `PREFIX/lib/sampan/plugins` beside the `PREFIX/bin` that this program was started from, if it is there.
fn installed_plugins() -> Option<PathBuf> {
    let program = sampan_runtime::kernel::seal::installed_path()?;
    let plugins = program.parent()?.parent()?.join("lib/sampan/plugins");
    plugins.is_dir().then_some(plugins)
}

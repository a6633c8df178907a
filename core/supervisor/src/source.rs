//! config.toml: its files, sampand's environment, where sampand is installed. Read at sampand's start and when somebody asks for it;
//! the origins of the config that holds are kept for `sampanctl config`.
use crate::check;
use sampan_config::{self as config, Builtin, Config, Diagnostic, Loaded, explain, explain::Origins};
use std::cell::RefCell;
use std::path::PathBuf;

#[derive(Debug)]
pub struct Source {
    paths: Vec<PathBuf>,
    builtin: Builtin,
    /// Of the config that holds.
    origins: RefCell<Origins>,
}

impl Source {
    pub fn new(paths: Vec<PathBuf>) -> Source {
        let mut builtin = Builtin::default();
        if let Some(plugins) = installed_plugins() {
            builtin.plugin_dir = plugins;
        }
        let paths = if paths.is_empty() { vec!["/etc/sampan/config.toml".into()] } else { paths };
        Source { paths, builtin, origins: RefCell::default() }
    }

    fn read(&self) -> Result<Loaded, Vec<Diagnostic>> {
        config::load(&self.paths, &variable, &self.builtin)
    }

    /// The config, or all its errors as `--check` prints them. Warnings are added to those given.
    pub fn load(&self, warnings: &mut Vec<String>) -> Result<Loaded, String> {
        let result = self.read();
        let (text, _) = config::report(&self.paths, &result, false, false);
        let loaded = result.map_err(|_| text)?;
        warnings.extend(loaded.warnings.iter().map(|warning| match warning.hint.as_str() {
            "" => warning.title(),
            hint => format!("{}: {hint}", warning.title()),
        }));
        Ok(loaded)
    }

    /// Where the run folder is, whatever else is wrong in the files.
    pub fn run_dir(&self) -> PathBuf {
        config::run_dir(&self.paths, &variable, &self.builtin)
    }

    /// `--check`: what to print and the exit code.
    pub fn check(&self, colour: bool, json: bool) -> (String, u8) {
        let mut result = self.read();
        if let Ok(loaded) = &result {
            let mut wrong = check::of_launches(loaded);
            if !wrong.is_empty() {
                wrong.extend(loaded.warnings.iter().cloned());
                config::diagnostic::sort(&mut wrong);
                result = Err(wrong);
            }
        }
        config::report(&self.paths, &result, colour, json)
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

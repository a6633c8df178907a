//! Where the config comes from: its files, sampand's environment, where sampand is installed. Read at the start and on
//! every reload; the origins of the config that holds are kept for `sampanctl config`.
use sampan_config::{self as config, Builtin, Config, Diagnostic, Loaded, explain, explain::Origins};
use std::cell::RefCell;
use std::path::PathBuf;

#[derive(Debug)]
pub struct Source {
    paths: Vec<PathBuf>,
    builtin: Builtin,
    /// Of the config that was loaded last.
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

    pub fn read(&self) -> Result<Loaded, Vec<Diagnostic>> {
        config::load(&self.paths, &|name| std::env::var(name).ok(), &self.builtin)
    }

    /// The config, or all its errors as `--check` prints them. Warnings are told.
    pub fn load(&self) -> Result<Config, String> {
        let result = self.read();
        let (text, _) = config::report(&self.paths, &result, false, false);
        let loaded = result.map_err(|_| text)?;
        for warning in &loaded.warnings {
            tracing::warn!("{}: {}", warning.title(), warning.hint);
        }
        self.origins.replace(loaded.origins);
        Ok(loaded.config)
    }

    /// `--check`: what to print and the exit code.
    pub fn check(&self, colour: bool, json: bool) -> (String, u8) {
        config::report(&self.paths, &self.read(), colour, json)
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

/// `PREFIX/lib/sampan/plugins` beside the `PREFIX/bin` that this program was started from, if it is there.
fn installed_plugins() -> Option<PathBuf> {
    let program = sampan_runtime::kernel::seal::installed_path()?;
    let plugins = program.parent()?.parent()?.join("lib/sampan/plugins");
    plugins.is_dir().then_some(plugins)
}

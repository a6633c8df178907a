//! config.toml: each test writes files into a folder of its own and loads them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod any;
mod differences;
mod elsewhere;
mod images;
mod json_schema;
mod mistakes;
mod resolve;
mod rights;
mod small;
mod sockets;
mod stores;
mod trust;

use std::path::PathBuf;

use sampan_config::{self as config, Builtin, Config, Loaded};
use sampan_testkit::Folder;

/// Its files as sampand takes them.
pub trait Load {
    /// What `sampand --check` prints, the folder's name taken out.
    fn check(&self, files: &[&str]) -> String;
    fn load(&self, files: &[&str]) -> Result<Loaded, Vec<config::Diagnostic>>;
    fn config(&self, files: &[&str]) -> Config;
}

impl Load for Folder {
    fn check(&self, files: &[&str]) -> String {
        let paths: Vec<PathBuf> = files.iter().map(|f| self.path(f)).collect();
        let (text, _) = config::report(&paths, &self.load(files), false, false);
        text.replace(&format!("{}/", self.0.display()), "")
    }

    fn load(&self, files: &[&str]) -> Result<Loaded, Vec<config::Diagnostic>> {
        let paths: Vec<PathBuf> = files.iter().map(|f| self.path(f)).collect();
        let loaded = config::load(&paths, &env, &Builtin::default())?;
        same_again(&loaded);
        Ok(loaded)
    }

    fn config(&self, files: &[&str]) -> Config {
        match self.load(files) {
            Ok(loaded) => loaded.config,
            Err(errors) => panic!("{}", config::diagnostic::render(&errors, false)),
        }
    }
}

/// Whatever a test loads can be made again from what it was made of, as it comes back from a file.
fn same_again(loaded: &Loaded) {
    let kept = serde_json::to_string(&loaded.inputs).unwrap();
    // Every good config of these tests is one to the schema as well.
    let made_of: serde_json::Value = serde_json::from_str(&kept).unwrap();
    for (name, text) in
        made_of["texts"].as_object().unwrap().iter().filter(|(name, _)| name.ends_with(".toml"))
    {
        json_schema::takes(name, text.as_str().unwrap());
    }
    let again = config::again(&serde_json::from_str(&kept).unwrap()).unwrap();
    assert_eq!(again.config, loaded.config);
    assert_eq!(again.inputs, loaded.inputs, "and again");
    let origins = |loaded: &Loaded| config::explain::toml(&loaded.config, &loaded.origins, None);
    assert_eq!(origins(&again), origins(loaded));
}

pub fn env(name: &str) -> Option<String> {
    match name {
        "NAME" => Some("value".into()),
        "PORT" => Some("8080".into()),
        "YES" => Some("true".into()),
        "EMPTY" => Some(String::new()),
        "DOLLAR" => Some("a$b${c}".into()),
        _ => None,
    }
}

//! config.toml: each test writes files into a folder of its own and loads them.

mod any;
mod differences;
mod mistakes;
mod resolve;
mod small;
mod trust;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use sampan_supervisor::config::{self, Builtin, Config, Loaded};

/// A folder that is gone with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sampan-config-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn with(self, name: &str, text: &str) -> Self {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What `sampand --check` prints, the folder's name taken out.
    pub fn check(&self, files: &[&str]) -> String {
        let paths: Vec<PathBuf> = files.iter().map(|f| self.path(f)).collect();
        let (text, _) = config::report(&paths, &self.load(files), false, false);
        text.replace(&format!("{}/", self.0.display()), "")
    }

    pub fn load(&self, files: &[&str]) -> Result<Loaded, Vec<config::Diagnostic>> {
        let paths: Vec<PathBuf> = files.iter().map(|f| self.path(f)).collect();
        config::load(&paths, &env, &Builtin::default())
    }

    pub fn config(&self, files: &[&str]) -> Config {
        match self.load(files) {
            Ok(loaded) => loaded.config,
            Err(errors) => panic!("{}", config::diagnostic::render(&errors, false)),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
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

//! Why a bundle could not be made: the service, the key, what was tried, on what, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub service: String,
    /// The key of config.toml, empty if it is none's fault.
    pub key: &'static str,
    pub doing: &'static str,
    pub path: Option<PathBuf>,
    pub why: String,
    pub hint: Box<str>,
}

impl Error {
    pub fn new(service: &str, key: &'static str, doing: &'static str) -> Self {
        Error { service: service.into(), key, doing, path: None, why: String::new(), hint: "".into() }
    }

    pub fn path(mut self, path: &Path) -> Self {
        self.path = Some(path.into());
        self
    }

    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub fn because(self, e: &std::io::Error) -> Self {
        let why = sampan_config::plain(e);
        self.why(why)
    }

    /// Without service, key and hint.
    pub fn sentence(&self) -> String {
        let path = self.path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        format!("cannot {}{path}{why}", self.doing)
    }

    pub fn hint(mut self, hint: impl Into<Box<str>>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.service)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.sentence())?;
        if !self.hint.is_empty() {
            write!(f, "\n  {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

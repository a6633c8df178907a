//! Files to one tree: reading, `include`, several `--config`. Whatever is wrong with the files themselves is found
//! here; what the tree says is not looked at beyond `include`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::inputs::Asked;
use crate::source::{Source, Spot};
use crate::tree::{self, Node, Table, Value};
use crate::{glob, merge, variables};

const INCLUDE_LEVELS_MAX: usize = 8;
/// What a warning about a file that its group may write says to do.
pub const WRITABLE: &str = "whoever is in that group commands sampand";

pub struct Reader<'a> {
    asked: &'a Asked<'a>,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    /// A file could not be read or is not TOML: guesses about the rest would mislead.
    pub incomplete: bool,
    read: usize,
    broken: Broken,
}

/// What becomes of a file that is not TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    Skipped,
    /// What can be read of it is.
    Read,
}

impl<'a> Reader<'a> {
    pub fn new(asked: &'a Asked<'a>, broken: Broken) -> Self {
        Reader { asked, broken, errors: Vec::new(), warnings: Vec::new(), incomplete: false, read: 0 }
    }

    /// Each file with what it includes; a later one over an earlier one.
    pub fn all(&mut self) -> Table {
        let mut whole = Table::new();
        for path in self.asked.paths() {
            let Some(source) = self.open(&path, None) else { continue };
            let mut tree = self.file(source, &mut vec![path]);
            merge::expand(&mut tree, &|name| self.asked.variable(name), &mut self.errors);
            crate::known::check(&tree, &mut self.errors);
            merge::overlay_config(&mut whole, tree);
        }
        whole
    }

    /// One file and, beneath it, what it includes.
    fn file(&mut self, source: Arc<Source>, above: &mut Vec<PathBuf>) -> Table {
        let (mut tree, errors) = tree::parse(&source);
        if !errors.is_empty() {
            self.errors.extend(errors);
            self.incomplete = true;
            if self.broken == Broken::Skipped {
                return Table::new();
            }
        }
        let Some(include) = tree.remove("include") else { return tree };
        let Value::Array(items) = &include.value else {
            let wrong = format!("expected an array, found {}", include.kind());
            self.errors.push(Diagnostic::error("include", &include.at, wrong, "write [\"FILE\"]"));
            return tree;
        };
        for item in items {
            for path in self.included(&source, item) {
                if above.contains(&path) {
                    let wrong = format!("{} includes itself", path.display());
                    self.errors.push(Diagnostic::error("include", &item.at, wrong, "drop it"));
                    continue;
                }
                if above.len() > INCLUDE_LEVELS_MAX {
                    let wrong = format!("more than {INCLUDE_LEVELS_MAX} levels");
                    self.errors.push(Diagnostic::error(
                        "include",
                        &item.at,
                        wrong,
                        "include it from further up",
                    ));
                    continue;
                }
                let Some(source) = self.open(&path, Some(&item.at)) else { continue };
                above.push(path);
                let part = self.file(source, above);
                above.pop();
                merge::unite(&mut tree, part, "", &mut self.errors);
            }
        }
        tree
    }

    /// The files that one entry of `include` means: itself, or what its glob finds, in byte order.
    fn included(&mut self, source: &Source, item: &Node) -> Vec<PathBuf> {
        let Some(text) = item.text() else {
            let wrong = format!("expected a string, found {}", item.kind());
            self.errors.push(Diagnostic::error("include", &item.at, wrong, "write a path"));
            return Vec::new();
        };
        let text = match variables::substitute(text, &|name| self.asked.variable(name)) {
            Ok(text) => text,
            Err(t) => {
                self.errors.push(Diagnostic::error("include", &item.at.narrow(&t.part), t.message, t.hint));
                return Vec::new();
            }
        };
        if !glob::is_glob(&text) {
            return vec![source.folder().join(text)];
        }
        match self.asked.list(source.folder(), &text) {
            Ok(paths) => paths,
            Err(e) => {
                self.errors.push(Diagnostic::error(
                    "include",
                    &item.at,
                    format!("cannot list {text}: {e}"),
                    "",
                ));
                Vec::new()
            }
        }
    }

    fn open(&mut self, path: &Path, named: Option<&Spot>) -> Option<Arc<Source>> {
        let key = named.map_or("", |_| "include");
        match self.asked.text(path, key) {
            Ok((text, warning)) => {
                self.warnings.extend(warning.map(|warning| match named {
                    Some(at) => Diagnostic::warning("include", at, warning, WRITABLE),
                    None => Diagnostic::warning_nowhere("", warning, WRITABLE),
                }));
                self.read += 1;
                Some(Arc::new(Source::new(path, text, self.read)))
            }
            Err(why) => {
                let message = format!("cannot read {}: {why}", path.display());
                let hint = |missing| if self.asked.exists(path, key) { "" } else { missing };
                self.errors.push(match named {
                    Some(at) => {
                        let hint = hint("a glob may find nothing, a path may not");
                        Diagnostic::error("include", at, message, hint)
                    }
                    None => Diagnostic::nowhere("", message, hint("name the file with --config FILE")),
                });
                self.incomplete |= named.is_none();
                None
            }
        }
    }
}

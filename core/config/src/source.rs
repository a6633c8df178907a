//! Where a value stands: a file's text and a span in it. Cheap to clone, so that every node of the tree and every
//! diagnostic carries its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file as read. `order` is the order of reading: diagnostics are sorted by it.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
    pub order: usize,
    /// Where each line ends: asked for once per key that is printed.
    line_ends: Vec<usize>,
}

impl Source {
    pub fn new(path: &Path, text: String, order: usize) -> Self {
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Source { path: path.into(), text, order, line_ends }
    }

    /// What relative paths in this file start from.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

#[derive(Clone)]
pub struct Spot {
    pub source: Arc<Source>,
    pub start: usize,
    pub end: usize,
}

impl Spot {
    pub fn new(source: &Arc<Source>, span: std::ops::Range<usize>) -> Self {
        let end = span.end.min(source.text.len());
        Spot { source: source.clone(), start: span.start.min(end), end }
    }

    /// From 1.
    pub fn line(&self) -> usize {
        self.source.line_ends.partition_point(|end| *end < self.start) + 1
    }

    /// From 1, in characters.
    pub fn column(&self) -> usize {
        self.before().rsplit('\n').next().unwrap_or("").chars().count() + 1
    }

    pub fn text(&self) -> &str {
        self.source.text.get(self.start..self.end).unwrap_or("")
    }

    pub fn place(&self) -> (usize, usize) {
        (self.source.order, self.start)
    }

    /// The part of this spot that reads `needle`, else the whole.
    pub fn narrow(&self, needle: &str) -> Spot {
        match self.text().find(needle) {
            Some(at) => Spot::new(&self.source, self.start + at..self.start + at + needle.len()),
            None => self.clone(),
        }
    }

    fn before(&self) -> &str {
        self.source.text.get(..self.start).unwrap_or("")
    }
}

impl PartialEq for Spot {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place() && self.end == other.end && self.source.path == other.source.path
    }
}

/// `FILE:LINE`, as an origin is shown.
impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.source.path.display(), self.line())
    }
}

impl std::fmt::Debug for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}:{}", self.column())
    }
}

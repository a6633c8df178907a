//! From the merged tree to the resolved types: small readers that say what they expected and go on, so that one run
//! finds every mistake. A reader returns `None` after saying what is wrong; the caller then uses the default.

mod files;
mod joined;
mod life;
mod logging;
mod network;
mod plugin;
mod ports;
mod ready;
mod resources;
mod rights;
mod schedule;
mod service;
mod sockets;
mod steps;
mod stores;
mod supervisor;
mod userns;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::inputs::Asked;
use crate::merge::join;
use crate::near::nearest;
use crate::read::WRITABLE;
use crate::tree::{Node, Value};
use crate::{units, variables};

pub use network::network;
pub use plugin::plugin;
pub use rights::{CAPABILITIES, DEFAULT, ULIMITS};
pub use service::{Draft, Stores, lives_on, service};
pub use stores::{Named, secret, volume};
pub use supervisor::supervisor;

/// What every reader needs.
pub struct Cx<'a> {
    pub asked: &'a Asked<'a>,
    pub errors: RefCell<Vec<Diagnostic>>,
    pub warnings: RefCell<Vec<Diagnostic>>,
}

/// A value and its key's path.
#[derive(Clone)]
pub struct Field<'a> {
    pub cx: &'a Cx<'a>,
    pub node: &'a Node,
    pub path: String,
}

/// A table, perhaps absent: every key of an absent one has its default.
#[derive(Clone)]
pub struct Fields<'a> {
    pub cx: &'a Cx<'a>,
    node: Option<&'a Node>,
    pub path: String,
}

impl<'a> Fields<'a> {
    pub fn new(cx: &'a Cx<'a>, node: Option<&'a Node>, path: impl Into<String>) -> Self {
        Fields { cx, node: node.filter(|n| n.table().is_some()), path: path.into() }
    }

    pub fn get(&self, name: &str) -> Option<Field<'a>> {
        let node = self.node?.table()?.get(name)?;
        Some(Field { cx: self.cx, node, path: join(&self.path, name) })
    }

    /// The key's value as `read` takes it, or the default where it is absent or wrong.
    pub fn or<T>(&self, name: &str, read: impl FnOnce(&Field<'a>) -> Option<T>, default: T) -> T {
        self.get(name).and_then(|f| read(&f)).unwrap_or(default)
    }

    /// A table below, which must be one if it is there.
    pub fn table(&self, name: &str, short: &str) -> Fields<'a> {
        let field = self.get(name);
        if let Some(field) = &field
            && field.node.table().is_none()
        {
            field.expected::<()>(short);
        }
        Fields::new(self.cx, field.map(|f| f.node), join(&self.path, name))
    }

    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Field<'a>)> + use<'a> {
        let (cx, path) = (self.cx, self.path.clone());
        self.node
            .and_then(Node::table)
            .into_iter()
            .flatten()
            .map(move |(name, node)| (name.as_str(), Field { cx, node, path: join(&path, name) }))
    }

    /// For tables within arrays, which the key table does not list.
    pub fn only(&self, known: &[&str], later: &[&str]) {
        for (name, field) in self.entries().filter(|(name, _)| !known.contains(name)) {
            let at = &field.node.key;
            self.cx.errors.borrow_mut().push(if later.contains(&name) {
                Diagnostic::error(&field.path, at, "known, but not built in this version", "leave it out")
            } else {
                let hint = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known: {}", known.join(", ")),
                };
                Diagnostic::error(&self.path, at, format!("unknown key `{name}`"), hint)
            });
        }
    }

    pub fn missing(&self, name: &str, hint: &str) {
        if let Some(node) = self.node {
            let wrong = format!("{name} is missing");
            self.cx.errors.borrow_mut().push(Diagnostic::error(&self.path, &node.at, wrong, hint));
        }
    }
}

impl<'a> Field<'a> {
    pub fn wrong(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.cx.errors.borrow_mut().push(Diagnostic::error(&self.shown(), &self.node.at, message, hint));
    }

    pub fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        let warning = Diagnostic::warning(&self.shown(), &self.node.at, message, hint);
        self.cx.warnings.borrow_mut().push(warning);
    }

    pub fn not_built(&self, what: &str, hint: impl Into<String>) {
        let known = "known, but not built in this version";
        self.wrong(if what.is_empty() { known.into() } else { format!("{what}: {known}") }, hint);
    }

    pub fn expected<T>(&self, what: &str) -> Option<T> {
        self.wrong(format!("expected {what}, found {}", self.node.kind()), self.instead(what));
        None
    }

    /// What an inherited value is called: `defaults.restart`, not every service's.
    fn shown(&self) -> String {
        match self.path.strip_prefix("services.") {
            Some(rest) if self.node.inherited => {
                // A name with a dot is quoted.
                let after = match rest.strip_prefix('"').and_then(|r| r.split_once('"')) {
                    Some((_, after)) => after.to_string(),
                    None => rest.split_once('.').map_or(String::new(), |(_, after)| format!(".{after}")),
                };
                format!("defaults{after}")
            }
            _ => self.path.clone(),
        }
    }

    /// What the writer probably meant.
    fn instead(&self, what: &str) -> String {
        const WORDS: [&str; 11] =
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
        match (&self.node.value, what) {
            (Value::Text(t), "an integer" | "a number" | "a port") => {
                let number = WORDS.iter().position(|w| *w == t.to_lowercase()).map(|n| n.to_string());
                let number = number.or_else(|| is_number(t.trim()).then(|| t.trim().to_string()));
                number.map_or("write digits, without quotes".into(), |n| format!("write {n}"))
            }
            (Value::Text(t), "a boolean") => match t.to_lowercase().as_str() {
                "yes" | "on" | "true" | "1" => "write true".into(),
                "no" | "off" | "false" | "0" => "write false".into(),
                _ => "write true or false".into(),
            },
            (Value::Integer(n), w) if w.contains("HOST:CONTAINER") => {
                format!("write \"{n}:{n}\" to publish it as itself")
            }
            // One of some words, and this is none of them.
            (Value::Integer(_) | Value::Float(_) | Value::Bool(_), w) if w.starts_with("a string: ") => {
                "write one of these, in quotes".into()
            }
            (Value::Integer(_) | Value::Float(_) | Value::Bool(_), w) if w.starts_with("a string") => {
                format!("write \"{}\"", self.node.at.text())
            }
            (Value::Integer(0 | 1), "a boolean") => "write true or false".into(),
            (Value::Text(_) | Value::Integer(_), w) if w.starts_with("an array") => {
                format!("write [{}]", self.node.at.text())
            }
            _ => String::new(),
        }
    }

    /// Text with its variables substituted.
    pub fn text(&self) -> Option<String> {
        match &self.node.value {
            Value::Text(text) => self.substitute(text),
            _ => self.expected("a string"),
        }
    }

    fn substitute(&self, text: &str) -> Option<String> {
        match variables::substitute(text, &|name| self.cx.asked.variable(name)) {
            Ok(text) if text.contains('\0') => {
                self.wrong("a NUL byte", "no system call takes it");
                None
            }
            Ok(text) => Some(text),
            Err(t) => {
                let at = self.node.at.narrow(&t.part);
                self.cx.errors.borrow_mut().push(Diagnostic::error(&self.shown(), &at, t.message, t.hint));
                None
            }
        }
    }

    /// Text that was a variable and may now be a number or a boolean.
    fn variable(&self) -> Option<Option<String>> {
        match &self.node.value {
            Value::Text(t) if variables::has_variable(t) => Some(self.substitute(t)),
            _ => None,
        }
    }

    pub fn nonempty(&self) -> Option<String> {
        let text = self.text()?;
        if text.is_empty() {
            self.wrong("is empty", "write a value or leave the key out");
            return None;
        }
        Some(text)
    }

    pub fn boolean(&self) -> Option<bool> {
        match (&self.node.value, self.variable()) {
            (Value::Bool(b), _) => Some(*b),
            (_, Some(text)) => match text?.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                other => {
                    self.wrong(format!("expected a boolean, the variable is `{other}`"), "true or false");
                    None
                }
            },
            _ => self.expected("a boolean"),
        }
    }

    pub fn integer(&self, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let n = match (&self.node.value, self.variable()) {
            (Value::Integer(n), _) => *n,
            (_, Some(text)) => {
                let text = text?;
                match text.trim().parse() {
                    Ok(n) => n,
                    Err(_) => {
                        self.wrong(format!("expected an integer, the variable is `{text}`"), "");
                        return None;
                    }
                }
            }
            _ => return self.expected("an integer"),
        };
        if !range.contains(&n) {
            let (low, high) = (range.start(), range.end());
            let hint = match *high {
                i64::MAX | 0xffff_ffff => format!("{low} or more"),
                high => format!("{low} to {high}"),
            };
            self.wrong(format!("{n} is out of range"), hint);
            return None;
        }
        Some(n)
    }

    pub fn count(&self) -> Option<u32> {
        self.integer(0..=i64::from(u32::MAX)).map(|n| n as u32)
    }

    pub fn port(&self) -> Option<u16> {
        self.integer(1..=65535).map(|n| n as u16)
    }

    pub fn float(&self, range: std::ops::RangeInclusive<f64>) -> Option<f64> {
        let n = match (&self.node.value, self.variable()) {
            (Value::Float(n), _) => *n,
            (Value::Integer(n), _) => *n as f64,
            (_, Some(text)) => {
                let text = text?;
                match text.trim().parse() {
                    Ok(n) => n,
                    Err(_) => {
                        self.wrong(format!("expected a number, the variable is `{text}`"), "");
                        return None;
                    }
                }
            }
            _ => return self.expected("a number"),
        };
        if !n.is_finite() || !range.contains(&n) {
            self.wrong(format!("{n} is out of range"), format!("{} to {}", range.start(), range.end()));
            return None;
        }
        Some(n)
    }

    pub fn duration(&self) -> Option<Duration> {
        match &self.node.value {
            Value::Text(_) => {
                let text = self.text()?;
                match units::parse_duration(&text) {
                    Ok(d) => Some(d),
                    Err(why) => {
                        let bare = is_number(text.trim());
                        let hint = if bare {
                            format!("write \"{}s\"", text.trim())
                        } else {
                            "as \"1m30s\": us ms s m h d".into()
                        };
                        self.wrong(why, hint);
                        None
                    }
                }
            }
            Value::Integer(_) | Value::Float(_) => {
                self.wrong("a duration needs a unit", format!("write \"{}s\"", self.node.at.text()));
                None
            }
            _ => self.expected("a duration"),
        }
    }

    /// A duration that is not zero.
    pub fn period(&self) -> Option<Duration> {
        let d = self.duration()?;
        if d.is_zero() {
            self.wrong("must be more than 0", "as \"1s\"");
            return None;
        }
        Some(d)
    }

    pub fn size(&self) -> Option<u64> {
        match &self.node.value {
            Value::Integer(n) => match u64::try_from(*n) {
                Ok(n) => Some(n),
                Err(_) => {
                    self.wrong("a size is not negative", "");
                    None
                }
            },
            Value::Text(_) => match units::parse_size(&self.text()?) {
                Ok(n) => Some(n),
                Err(why) => {
                    self.wrong(why, "as \"512M\": K M G T of 1024, or bytes");
                    None
                }
            },
            _ => self.expected("a size"),
        }
    }

    pub fn size_in(&self, range: std::ops::RangeInclusive<u64>, hint: &str) -> Option<u64> {
        let bytes = self.size()?;
        if !range.contains(&bytes) {
            self.wrong(format!("{bytes} bytes is out of range"), hint);
            return None;
        }
        Some(bytes)
    }

    /// `"none"` takes back a value whose default is none.
    pub fn or_none<T>(&self, read: impl FnOnce(&Field<'a>) -> Option<T>) -> Option<Option<T>> {
        match self.node.text() {
            Some("none") => Some(None),
            _ => read(self).map(Some),
        }
    }

    /// `"auto"`: whatever fits.
    pub fn or_auto<T>(&self, read: impl FnOnce(&Field<'a>) -> Option<T>) -> Option<Option<T>> {
        match self.node.text() {
            Some("auto") => Some(None),
            _ => read(self).map(Some),
        }
    }

    /// One word of a set. `later` are known and not built.
    pub fn word<T: Clone>(&self, what: &str, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = match &self.node.value {
            Value::Text(text) => self.substitute(text)?,
            _ => return self.expected(&format!("a string: {}", list(words))),
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let is_later =
            |known: &&&str| **known == text || known.strip_suffix('*').is_some_and(|p| text.starts_with(p));
        if later.iter().any(|known| is_later(&known)) {
            self.not_built("", format!("built: {}", list(words)));
            return None;
        }
        self.wrong(format!("no such {what}"), choose(&text, words.iter().map(|(w, _)| *w)));
        None
    }

    pub fn items(&self) -> Option<Vec<Field<'a>>> {
        match &self.node.value {
            Value::Array(items) => {
                Some(items.iter().map(|node| Field { cx: self.cx, node, path: self.path.clone() }).collect())
            }
            _ => self.expected("an array"),
        }
    }

    /// Each item by `read`; wrong ones are left out.
    pub fn list<T>(&self, read: impl Fn(&Field<'a>) -> Option<T>) -> Option<Vec<T>> {
        Some(self.items()?.iter().filter_map(read).collect())
    }

    /// Of the host: absolute, or from the file that names it.
    pub fn host_path(&self) -> Option<PathBuf> {
        let text = self.nonempty()?;
        self.host_path_of(&text)
    }

    pub fn host_path_of(&self, text: &str) -> Option<PathBuf> {
        if text == "~" || text.starts_with("~/") {
            self.wrong("`~` is not a path here", "write ${HOME}, or the path from the root");
            return None;
        }
        let folder = self.cx.asked.cwd().join(self.node.at.source.folder());
        Some(clean(&folder.join(text)))
    }

    /// The text of a file that the config names; `hint`: what to do where it cannot be read.
    pub fn text_file(&self, path: &Path, hint: &str) -> Option<String> {
        match self.cx.asked.text(path, &self.path) {
            Ok((text, warning)) => {
                let warn = |warning| Diagnostic::warning(&self.path, &self.node.at, warning, WRITABLE);
                self.cx.warnings.borrow_mut().extend(warning.map(warn));
                Some(text)
            }
            Err(why) => {
                self.wrong(format!("cannot read {}: {why}", path.display()), hint);
                None
            }
        }
    }

    /// Of the container.
    pub fn inside_path(&self) -> Option<String> {
        let text = self.text()?;
        self.inside_path_of(&text)
    }

    pub fn inside_path_of(&self, text: &str) -> Option<String> {
        if !text.starts_with('/') {
            self.wrong("a path in the container begins with /", format!("write \"/{text}\""));
            return None;
        }
        if Path::new(text).components().any(|c| c == std::path::Component::ParentDir) {
            self.wrong("a path in the container has no `..`", "write where it leads");
            return None;
        }
        Some(clean(Path::new(text)).to_string_lossy().into_owned())
    }

    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.cx, Some(self.node), self.path.clone())
    }
}

/// In digits; `infinity` and `nan` are floats to Rust, and to people words.
fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.') && text.parse::<f64>().is_ok()
}

/// Without `.` and doubled slashes. `..` stays: what it means depends on symlinks.
pub fn clean(path: &Path) -> PathBuf {
    path.components().filter(|c| *c != std::path::Component::CurDir).collect()
}

pub fn choose<'w>(text: &str, words: impl Iterator<Item = &'w str> + Clone) -> String {
    match nearest(text, words.clone()) {
        Some(near) => {
            let others: Vec<&str> = words.filter(|w| *w != near).collect();
            format!("did you mean \"{near}\"? Else: {}", others.join(", "))
        }
        None => format!("one of {}", words.collect::<Vec<_>>().join(", ")),
    }
}

fn list<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(w, _)| *w).collect::<Vec<_>>().join(", ")
}

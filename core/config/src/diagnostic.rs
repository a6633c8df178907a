//! A mistake in a config: what, where, what to do. Drawn by annotate-snippets in rustc's manner, or as JSON.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::source::Spot;

#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// `services.web.restart`; empty where no key is concerned.
    pub key: String,
    pub message: String,
    /// What to do; drawn at the spot.
    pub hint: String,
    pub at: Option<Spot>,
    /// The other half of the mistake.
    pub also: Option<(Spot, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// More than these are counted, not drawn.
const SHOWN_MAX: usize = 100;

impl Diagnostic {
    pub fn error(key: &str, at: &Spot, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            key: key.into(),
            message: message.into(),
            hint: hint.into(),
            at: Some(at.clone()),
            also: None,
        }
    }

    pub fn warning(key: &str, at: &Spot, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::error(key, at, message, hint) }
    }

    /// A mistake that stands in no file: a config that cannot be read.
    pub fn nowhere(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            key: key.into(),
            message: message.into(),
            hint: hint.into(),
            at: None,
            also: None,
        }
    }

    pub fn warning_nowhere(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Self::nowhere(key, message, hint) }
    }

    pub fn also(mut self, at: &Spot, label: impl Into<String>) -> Self {
        self.also = Some((at.clone(), label.into()));
        self
    }

    /// `services.web.restart: no such policy`.
    pub fn title(&self) -> String {
        match self.key.as_str() {
            "" => self.message.clone(),
            key => format!("{key}: {}", self.message),
        }
    }

    fn json(&self) -> Value {
        let (file, line, column) = match &self.at {
            Some(at) => (json!(at.source.path), json!(at.line()), json!(at.column())),
            None => (Value::Null, Value::Null, Value::Null),
        };
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut value = json!({
            "severity": severity, "file": file, "line": line, "column": column,
            "key": self.key, "message": self.message, "hint": self.hint,
        });
        if let Some((at, label)) = &self.also {
            value["also"] = json!({
                "file": at.source.path, "line": at.line(), "column": at.column(), "message": label,
            });
        }
        value
    }
}

/// In the order of the files; the same mistake once, however many services inherit it.
pub fn sort(diagnostics: &mut Vec<Diagnostic>) {
    let place = |d: &Diagnostic| d.at.as_ref().map(Spot::place);
    diagnostics.sort_by_key(place);
    let mut seen: Vec<Diagnostic> = Vec::with_capacity(diagnostics.len());
    for d in diagnostics.drain(..) {
        let same = seen.iter().rev().take_while(|s| place(s) == place(&d)).any(|s| *s == d);
        if !same {
            seen.push(d);
        }
    }
    *diagnostics = seen;
}

/// All of them, drawn; ends with a newline.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for d in diagnostics.iter().take(SHOWN_MAX) {
        out.push_str(&draw(&renderer, d));
        out.push('\n');
    }
    if let Some(more) = diagnostics.len().checked_sub(SHOWN_MAX).filter(|n| *n > 0) {
        out.push_str(&format!("... and {more} more\n"));
    }
    out
}

pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    diagnostics.iter().map(Diagnostic::json).collect()
}

fn draw(renderer: &Renderer, d: &Diagnostic) -> String {
    let level = match d.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = d.title();
    let title = level.primary_title(title.as_str());
    let Some(at) = &d.at else {
        let message = (!d.hint.is_empty()).then(|| Level::HELP.message(d.hint.as_str()));
        return renderer.render(&[title.elements(message)]);
    };
    let path = at.source.path.display().to_string();
    let mut primary = AnnotationKind::Primary.span(at.start..at.end);
    if !d.hint.is_empty() {
        primary = primary.label(d.hint.as_str());
    }
    let mut snippet = Snippet::source(at.source.text.as_str()).path(path.as_str()).annotation(primary);
    let mut second = None;
    if let Some((other, label)) = &d.also {
        let note = AnnotationKind::Context.span(other.start..other.end).label(label.as_str());
        if other.source.path == at.source.path {
            snippet = snippet.annotation(note);
        } else {
            let path = other.source.path.display().to_string();
            second = Some(Snippet::source(other.source.text.as_str()).path(path).annotation(note));
        }
    }
    let group = title.element(snippet);
    renderer.render(&[match second {
        Some(second) => group.element(second),
        None => group,
    }])
}

//! sampand's own lines: a tracing subscriber that formats an event once and hands it to the view.
//!
//! Text is `INFO web: running -> backoff cause="exit 137, oom" attempt=3 delay_ms=400`: the service first, then what
//! happened, then numbers with their units. JSON is one object a line with the same facts. For systemd's journal the level
//! is a priority in front (sd-daemon(3)). Absent on purpose: spans, filters by target and regular expressions; one level for
//! all (`log_level`).
use crate::view::{Output, View, colour_of};
use sampan_config::schema::{LogFormat, LogLevel, Supervisor};
use sampan_runtime::error::printable;
use std::fmt::Write;
use std::os::fd::AsFd;
use std::sync::RwLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    /// Text, with priorities that systemd reads.
    Journal,
    Json,
}

/// Makes `view` the place of all tracing events up to `level`.
pub fn install(view: View, config: &Supervisor) {
    set(config);
    // A second subscriber in one process (tests) keeps the first.
    let _ = tracing::subscriber::set_global_default(Lines { view });
}

/// From now on: `apply` may change both.
pub fn set(config: &Supervisor) {
    if let Ok(mut now) = NOW.write() {
        *now = (level(config.log_level), format(config.log_format));
    }
    tracing::callsite::rebuild_interest_cache();
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

fn format(format: LogFormat) -> Format {
    match format {
        LogFormat::Text if sampan_systemd::notify::is_in_journal(std::io::stdout().as_fd()) => {
            Format::Journal
        }
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    }
}

fn now() -> (Level, Format) {
    // Two plain words cannot be half written.
    *NOW.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

static NOW: RwLock<(Level, Format)> = RwLock::new((Level::INFO, Format::Text));

struct Lines {
    view: View,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= now().0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(now().0.into())
    }

    fn event(&self, event: &Event<'_>) {
        let mut facts = Facts::default();
        event.record(&mut facts);
        let level = *event.metadata().level();
        let line = match now().1 {
            Format::Text if self.view.leads_to() == Output::File => {
                format!("{} {}", crate::clock::rfc3339_now(), facts.text(level, false))
            }
            Format::Text => facts.text(level, self.view.colour()),
            Format::Journal => facts.journal(level),
            Format::Json => facts.json(level, event.metadata().target()),
        };
        self.view.own(line);
    }

    // No span is enabled, so none of these is called for one that is.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// An event's fields in the order they were given.
#[derive(Default)]
struct Facts {
    message: String,
    service: Option<String>,
    rest: Vec<(&'static str, serde_json::Value)>,
}

impl Facts {
    fn text(&self, level: Level, colour: bool) -> String {
        let mut line = String::new();
        let paint = match (colour, level) {
            (false, _) => None,
            (true, Level::ERROR) => Some(31),
            (true, Level::WARN) => Some(33),
            (true, Level::INFO) => Some(2),
            (true, _) => Some(90),
        };
        let _ = match paint {
            Some(code) => write!(line, "\x1b[{code}m{level:>5}\x1b[0m "),
            None => write!(line, "{level:>5} "),
        };
        if let Some(service) = &self.service {
            let _ = match colour {
                true => write!(line, "\x1b[1;{}m{service}\x1b[0m: ", colour_of(service)),
                false => write!(line, "{service}: "),
            };
        }
        self.rest_of_line(&mut line);
        line
    }

    /// A record of the journal is one line, so that each has the priority.
    fn journal(&self, level: Level) -> String {
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let mut text = self.service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
        self.rest_of_line(&mut text);
        text.lines().map(|line| format!("<{priority}>{line}\n")).collect()
    }

    /// What an image or a program inside has said may be in it.
    fn rest_of_line(&self, line: &mut String) {
        line.push_str(&printable(&self.message));
        for (name, value) in &self.rest {
            let _ = match value {
                serde_json::Value::String(text) if !text.contains([' ', '"', '\n']) && !text.is_empty() => {
                    write!(line, " {name}={}", printable(text))
                }
                value => write!(line, " {name}={}", printable(&value.to_string())),
            };
        }
        line.push('\n');
    }

    fn json(&self, level: Level, target: &str) -> String {
        let mut object = serde_json::Map::new();
        object.insert("time".into(), crate::clock::rfc3339_now().into());
        object.insert("level".into(), level.as_str().to_lowercase().into());
        if let Some(service) = &self.service {
            object.insert("service".into(), service.as_str().into());
        }
        object.insert("msg".into(), self.message.as_str().into());
        object.insert("target".into(), target.into());
        for (name, value) in &self.rest {
            object.insert((*name).into(), value.clone());
        }
        format!("{}\n", serde_json::Value::Object(object))
    }

    fn put(&mut self, field: &Field, value: serde_json::Value) {
        match (field.name(), value) {
            ("message", serde_json::Value::String(text)) => self.message = text,
            ("service", serde_json::Value::String(text)) => self.service = Some(text),
            (name, value) => self.rest.push((name, value)),
        }
    }
}

impl Visit for Facts {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_comes_first_then_the_transition_then_the_facts() {
        let facts = Facts {
            message: "running -> backoff".into(),
            service: Some("web".into()),
            rest: vec![("cause", "exit 137, oom".into()), ("attempt", 3.into()), ("why", "crash".into())],
        };
        assert_eq!(
            facts.text(Level::INFO, false),
            " INFO web: running -> backoff cause=\"exit 137, oom\" attempt=3 why=crash\n"
        );
        assert_eq!(
            facts.journal(Level::WARN),
            "<4>web: running -> backoff cause=\"exit 137, oom\" attempt=3 why=crash\n"
        );
    }

    #[test]
    fn what_an_image_says_does_nothing_to_a_terminal() {
        let words = "a\u{1b}[31m\u{9b}31m\u{7}";
        let rest = vec![("why", words.into()), ("cause", format!("{words} b").into())];
        let facts = Facts { message: words.into(), service: Some("web".into()), rest };
        for line in [facts.text(Level::ERROR, false), facts.journal(Level::ERROR)] {
            assert!(!line.trim_end_matches('\n').contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn every_line_of_a_record_has_its_priority_in_the_journal() {
        let facts = Facts { message: "two\nlines".into(), ..Facts::default() };
        assert_eq!(facts.journal(Level::ERROR), "<3>two\n<3>lines\n");
    }
}

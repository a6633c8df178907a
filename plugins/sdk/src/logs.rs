//! `tracing` inside a plugin ends in the host's: a subscriber that passes each event on by the host's `log`, with the request
//! and container that the current thread works for.
//!
//! A plugin has its own copy of `tracing`, so this subscriber is the plugin's alone. Threads that the plugin starts by itself
//! log through the last opened host, without a request.
use crate::abi::{self, Bytes};
use crate::host::Host;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::{Once, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

thread_local! {
    static CURRENT: RefCell<Option<(Host, u64, u64)>> = const { RefCell::new(None) };
}

static LAST_OPENED: RwLock<Option<Host>> = RwLock::new(None);

/// Marks this thread as working for a request until dropped.
pub(crate) struct Working(Option<(Host, u64, u64)>);

impl Working {
    pub(crate) fn on(host: &Host, request: u64, container: u64) -> Working {
        Working(CURRENT.with(|current| current.replace(Some((host.clone(), request, container)))))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let before = self.0.take();
        CURRENT.with(|current| *current.borrow_mut() = before);
    }
}

pub(crate) fn install(host: &Host) {
    *LAST_OPENED.write().unwrap_or_else(PoisonError::into_inner) = Some(host.clone());
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Somebody else's subscriber is there already when plugins are linked into a test: then logs go to that one.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Forward));
    });
}

/// The host that this thread works for, with the request and the container.
pub(crate) fn current() -> Option<(Host, u64, u64)> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn any_host() -> Option<(Host, u64, u64)> {
    current().or_else(|| {
        LAST_OPENED.read().unwrap_or_else(PoisonError::into_inner).clone().map(|host| (host, 0, 0))
    })
}

/// An error line outside of `tracing`: for a panic.
pub(crate) fn error_line(message: &str) {
    if let Some((host, request, container)) = any_host() {
        host.log(&line(1, request, container, "panic", message));
    }
}

fn line<'a>(level: u32, request: u64, container: u64, target: &'a str, message: &'a str) -> abi::Log {
    abi::Log {
        size: size_of::<abi::Log>() as u32,
        level,
        request,
        container,
        line: 0,
        reserved: 0,
        target: Bytes::of(target.as_bytes()),
        file: Bytes::EMPTY,
        message: Bytes::of(message.as_bytes()),
        fields: Bytes::EMPTY,
        spans: Bytes::EMPTY,
    }
}

struct Forward;

fn number(level: &Level) -> i32 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Forward {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        any_host().is_some_and(|(host, ..)| number(metadata.level()) <= host.level())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = cx.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        if let Some(span) = cx.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let Some((host, request, container)) = any_host() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let spans: Vec<Value> = cx.event_scope(event).map_or_else(Vec::new, |scope| {
            scope
                .from_root()
                .map(|span| {
                    let fields = span.extensions().get::<Fields>().map_or_else(Map::new, |f| f.0.clone());
                    serde_json::json!({ "name": span.name(), "fields": fields })
                })
                .collect()
        });
        let fields = if fields.0.is_empty() { String::new() } else { Value::Object(fields.0).to_string() };
        let spans = if spans.is_empty() { String::new() } else { Value::Array(spans).to_string() };
        let metadata = event.metadata();
        let level = number(metadata.level()).unsigned_abs();
        host.log(&abi::Log {
            file: Bytes::of(metadata.file().unwrap_or_default().as_bytes()),
            line: metadata.line().unwrap_or_default(),
            fields: Bytes::of(fields.as_bytes()),
            spans: Bytes::of(spans.as_bytes()),
            ..line(level, request, container, metadata.target(), &message)
        });
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

//! `tracing` inside a plugin ends in the host's: a subscriber that passes each event on by the host's `log`, with the request
//! and container that the current thread works for, and the spans it is in.
//!
//! A plugin has its own copy of `tracing`, so this subscriber is the plugin's alone. Threads that the plugin starts by itself
//! log through the last opened host, without a request. The spans are a small map here and no registry of `tracing-subscriber`:
//! that one's code and tables cost every plugin a good deal more memory than the few spans it has open.
use crate::abi::{self, Bytes};
use crate::host::Host;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, Once, PoisonError, RwLock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

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
        let _ = tracing::subscriber::set_global_default(Forward::default());
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

#[derive(Default)]
struct Forward(Mutex<Spans>);

/// The spans that are open, by number.
#[derive(Default)]
struct Spans {
    last: u64,
    open: HashMap<u64, Span>,
}

struct Span {
    metadata: &'static Metadata<'static>,
    fields: Fields,
    parent: Option<u64>,
    /// Handles of the plugin, children, and threads that are in it.
    held: usize,
}

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn innermost() -> Option<u64> {
    ENTERED.try_with(|entered| entered.borrow().last().copied()).ok().flatten()
}

impl Spans {
    fn hold(&mut self, id: u64) {
        if let Some(span) = self.open.get_mut(&id) {
            span.held += 1;
        }
    }

    /// Whether it is closed now; its parent may be with it.
    fn release(&mut self, id: u64) -> bool {
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(span) = self.open.get_mut(&id) else { break };
            span.held -= 1;
            if span.held > 0 {
                break;
            }
            next = self.open.remove(&id).and_then(|span| span.parent);
        }
        !self.open.contains_key(&id)
    }

    /// From the outermost to this one, as the host's `spans` has it.
    fn path(&self, innermost: Option<u64>) -> Vec<Value> {
        let above = |id: &u64| self.open.get(id).and_then(|span| span.parent);
        let mut path: Vec<Value> = std::iter::successors(innermost, above)
            .filter_map(|id| self.open.get(&id))
            .map(|span| serde_json::json!({ "name": span.metadata.name(), "fields": span.fields.0 }))
            .collect();
        path.reverse();
        path
    }
}

impl Forward {
    fn spans(&self) -> MutexGuard<'_, Spans> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(level: &Level) -> i32 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for Forward {
    /// Asked anew each time: the host's level may change.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        any_host().is_some_and(|(host, ..)| number(metadata.level()) <= host.level())
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = match attributes.is_contextual() {
            true => innermost(),
            false => attributes.parent().map(Id::into_u64),
        };
        let mut spans = self.spans();
        spans.last += 1;
        let id = spans.last;
        if let Some(parent) = parent {
            spans.hold(parent);
        }
        spans.open.insert(id, Span { metadata: attributes.metadata(), fields, parent, held: 1 });
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = self.spans().open.get_mut(&id.into_u64()) {
            span.fields.0.extend(fields.0);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some((host, request, container)) = any_host() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let inside = match event.is_contextual() {
            true => innermost(),
            false => event.parent().map(Id::into_u64),
        };
        let spans = if inside.is_some() { self.spans().path(inside) } else { Vec::new() };
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

    fn enter(&self, id: &Id) {
        self.spans().hold(id.into_u64());
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            // Not always the innermost: a guard may be dropped out of order.
            if let Some(at) = entered.iter().rposition(|inside| *inside == id.into_u64()) {
                entered.remove(at);
            }
        });
        self.spans().release(id.into_u64());
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.spans().hold(id.into_u64());
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        self.spans().release(id.into_u64())
    }

    fn current_span(&self) -> Current {
        let spans = self.spans();
        match innermost().and_then(|id| Some((id, spans.open.get(&id)?))) {
            Some((id, span)) => Current::new(Id::from_u64(id), span.metadata),
            None => Current::none(),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line inside of these spans would say of them.
    fn seen(forward: &Forward) -> String {
        Value::Array(forward.spans().path(innermost())).to_string()
    }

    #[test]
    fn a_line_names_the_spans_around_it_and_a_closed_one_leaves_nothing() {
        static CALLSITE: tracing::callsite::DefaultCallsite =
            tracing::callsite::DefaultCallsite::new(&METADATA);
        static METADATA: Metadata<'static> = tracing_core::metadata! {
            name: "pull", target: "t", level: Level::INFO, fields: &[], callsite: &CALLSITE,
            kind: tracing::metadata::Kind::SPAN
        };
        let forward = Forward::default();
        let none = METADATA.fields().value_set(&[]);
        let open = || forward.new_span(&Attributes::new(&METADATA, &none));
        let outer = open();
        forward.enter(&outer);
        let inner = open();
        forward.enter(&inner);
        assert_eq!(seen(&forward), r#"[{"fields":{},"name":"pull"},{"fields":{},"name":"pull"}]"#);
        // The child keeps its parent open, whoever lets go of it first.
        forward.exit(&outer);
        assert!(!forward.try_close(outer.clone()));
        assert_eq!(seen(&forward), r#"[{"fields":{},"name":"pull"},{"fields":{},"name":"pull"}]"#);
        let copy = forward.clone_span(&inner);
        forward.exit(&inner);
        assert!(!forward.try_close(inner));
        assert!(forward.try_close(copy));
        assert_eq!((seen(&forward), forward.spans().open.len()), ("[]".to_owned(), 0));
    }
}

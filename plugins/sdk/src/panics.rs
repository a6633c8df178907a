//! Panics stay inside: a hook remembers where, `Caught` turns an unwinding poll into an error of that one request.
//!
//! A panic on a thread or task of the plugin's own becomes an error line in the host's log; tokio or std ends that task.
use crate::abi;
use crate::error::{Error, Result};
use crate::logs;
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static CATCHING: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The hook of this library's own std: the host has another.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let place = info.location().map_or_else(|| "unknown place".to_owned(), ToString::to_string);
            let caught = CATCHING.try_with(|slot| match &mut *slot.borrow_mut() {
                Some(slot) => {
                    slot.clone_from(&place);
                    true
                }
                None => false,
            });
            if caught != Ok(true) {
                let text = text(info.payload());
                logs::error_line(&format!("panicked at {place}: {text}"));
                before(info);
            }
        }));
    });
}

/// Runs `f`; a panic becomes an E_PANIC with message and location.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T> {
    let outer = CATCHING.with(|slot| slot.replace(Some(String::new())));
    let result = catch_unwind(AssertUnwindSafe(f));
    let place = CATCHING.with(|slot| slot.replace(outer)).unwrap_or_default();
    result.map_err(|payload| {
        Error::with_status(abi::E_PANIC, format!("panicked at {place}: {}", text(payload.as_ref())))
    })
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

//! From the trait to the C table: `declare_plugin!`, and the trampolines behind it.
//!
//! A handler is polled once on the host's thread, inside the plugin's own tokio runtime. Ready: it is completed there and
//! then. Pending: it moves to that runtime, whose one thread starts now, and is completed from there. No unwind, no
//! allocation and no tokio handle crosses the table.
mod config;
mod instance;
mod request;
mod runtime;

use crate::abi::{self, Ctx, HostTable, PluginTable, Request};
use crate::error::Error;
use crate::host::Host;
use crate::logs::{self, Working};
use crate::panics;
use crate::plugin::Plugin;
use crate::types::CloseReason;
use instance::Instance;
use serde_json::json;
use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio_util::sync::CancellationToken;

/// The one export of a plugin, filled when the library is loaded: its texts are made from the trait's constants and the
/// schema of its config. The integers before them are constant, since the host reads them from the file.
#[repr(transparent)]
pub struct Export(UnsafeCell<PluginTable>);

// SAFETY: written once, by the library's constructor, before the loader hands out its address.
unsafe impl Sync for Export {}

impl Export {
    pub const fn new<P: Plugin>(panic_aborts: bool) -> Export {
        Export(UnsafeCell::new(PluginTable {
            magic: abi::MAGIC,
            size: size_of::<PluginTable>() as u32,
            major: abi::ABI_MAJOR,
            minor: abi::ABI_MINOR,
            events: abi::EVENTS_ALL,
            flags: if panic_aborts { abi::P_PANIC_ABORT } else { 0 },
            min_minor: 0,
            name: std::ptr::null(),
            version: std::ptr::null(),
            manifest: std::ptr::null(),
            open: Some(open::<P>),
            call: Some(call::<P>),
            cancel: Some(cancel::<P>),
            close: Some(close::<P>),
        }))
    }

    /// The body of the library's constructor.
    pub fn fill<P: Plugin>(&self) {
        // A panic here (a schema that cannot be made) leaves null pointers, which the host refuses by name.
        if let Ok((name, version, manifest)) = panics::catch(texts::<P>) {
            // SAFETY: constructors run before anybody can look the symbol up, on one thread.
            unsafe {
                (*self.0.get()).name = name;
                (*self.0.get()).version = version;
                (*self.0.get()).manifest = manifest;
            }
        }
    }
}

/// The same table without an export, for a test rig. Its texts live as long as the process.
pub fn table<P: Plugin>() -> PluginTable {
    let export = Export::new::<P>(cfg!(panic = "abort"));
    export.fill::<P>();
    export.0.into_inner()
}

fn texts<P: Plugin>() -> (*const c_char, *const c_char, *const c_char) {
    let manifest = json!({
        "after": P::AFTER, "before": P::BEFORE, "requires": P::REQUIRES, "conflicts": P::CONFLICTS,
        "claims": P::CLAIMS, "schema": schemars::schema_for!(P::Config),
    });
    let leak = |text: &str| CString::new(text).map_or(std::ptr::null(), |c| c.into_raw().cast_const());
    (leak(P::NAME), leak(P::VERSION), leak(&manifest.to_string()))
}

/// Exports a type that implements [`Plugin`] as this library's plugin. Once, in the crate's root.
#[macro_export]
macro_rules! declare_plugin {
    ($plugin:ty) => {
        #[used]
        #[allow(non_upper_case_globals)]
        #[unsafe(no_mangle)]
        pub static sampan_plugin: $crate::export::Export =
            $crate::export::Export::new::<$plugin>(cfg!(panic = "abort"));

        const _: () = {
            extern "C" fn fill() {
                sampan_plugin.fill::<$plugin>();
            }
            // The loader calls what stands here when the library is opened.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static FILL: extern "C" fn() = fill;
        };
    };
}

// ---- the four functions of the table ---------------------------------------------------------------------------------

unsafe extern "C" fn open<P: Plugin>(
    table: *const HostTable,
    ctx: *mut Ctx,
    request: *const Request,
    out: *mut *mut c_void,
) -> i32 {
    let opened = panics::catch(|| {
        panics::install();
        // SAFETY: the host keeps the request alive during this call.
        let body = unsafe { (*request).body.as_slice() };
        let (config, about) = config::open_body(body)?;
        // SAFETY: table and ctx are the host's, for as long as the process lives.
        let host = unsafe { Host::new(table, ctx, about) }?;
        let instance = Instance::<P>::open(config, &host);
        host.0.opening.store(false, Ordering::Release);
        let instance = instance.inspect_err(|error| {
            host.complete(0, error.status(), error.to_string().as_bytes(), &[]);
        })?;
        Ok::<_, Error>(Arc::into_raw(Arc::new(instance)))
    });
    match opened {
        Ok(Ok(instance)) => {
            // SAFETY: the host passes a place for one pointer.
            unsafe { out.write(instance.cast_mut().cast()) };
            abi::OK
        }
        Ok(Err(error)) => error.status(),
        // A panic in `P::open` was caught further in; this one is ours.
        Err(_) => abi::E_PANIC,
    }
}

unsafe extern "C" fn call<P: Plugin>(this: *mut c_void, request: *const Request) -> i32 {
    // SAFETY: `this` is what `open` made; the host does not call after `close`.
    let instance = unsafe { borrow::<P>(this) };
    // SAFETY: the host keeps the request alive during this call. It may be larger than we know: we read our part.
    let request = unsafe { &*request };
    instance.host.refresh_level();
    match panics::catch(|| instance.dispatch(request)) {
        Ok(status) => status,
        Err(panic) => {
            // `dispatch` completes its own errors; nobody has completed this one.
            if request.id != 0 {
                instance.host.complete(request.id, panic.status(), panic.to_string().as_bytes(), &[]);
                return abi::PENDING;
            }
            panic.status()
        }
    }
}

unsafe extern "C" fn cancel<P: Plugin>(this: *mut c_void, id: u64) {
    // SAFETY: as in `call`.
    let instance = unsafe { borrow::<P>(this) };
    let token = instance.running().get(&id).cloned();
    if let Some(token) = token {
        // Cancelling wakes tasks, and a foreign waker may panic: never across the table.
        let _ = panics::catch(|| token.cancel());
    }
}

unsafe extern "C" fn close<P: Plugin>(this: *mut c_void, reason: u32) {
    // SAFETY: `this` came from `Arc::into_raw` in `open`, and the host closes once: this takes that reference back.
    let instance = unsafe { Arc::from_raw(this.cast_const().cast::<Instance<P>>()) };
    let reason = match reason {
        1 => CloseReason::Reload,
        2 => CloseReason::Disable,
        _ => CloseReason::Exit,
    };
    let _working = Working::on(&instance.host, 0, 0);
    if let Err(panic) = panics::catch(|| instance.plugin.close(reason)) {
        logs::error_line(&format!("close {panic}"));
    }
    let tokens: Vec<_> = instance.running().values().cloned().collect();
    let _ = panics::catch(|| {
        tokens.iter().for_each(CancellationToken::cancel);
        instance.runtime.stop();
        drop(instance);
    });
}

/// # Safety
/// `this` was made by `open::<P>` and `close` has not taken it back.
unsafe fn borrow<P: Plugin>(this: *mut c_void) -> Arc<Instance<P>> {
    let this = this.cast_const().cast::<Instance<P>>();
    // SAFETY: the caller's promise: one reference is still out, so the count can grow.
    unsafe {
        Arc::increment_strong_count(this);
        Arc::from_raw(this)
    }
}

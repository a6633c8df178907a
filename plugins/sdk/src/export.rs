//! From the trait to the C table: `declare_plugin!`, and the trampolines behind it.
//!
//! A handler is polled once on the host's thread, inside the plugin's own tokio runtime. Ready: it is completed there and
//! then. Pending: it moves to that runtime, whose one thread starts now, and is completed from there. No unwind, no
//! allocation and no tokio handle crosses the table.
use crate::abi::{self, Ctx, HostTable, PluginTable, Request};
use crate::error::{Error, Result};
use crate::host::{About, Host};
use crate::logs::{self, Working};
use crate::panics;
use crate::plugin::{Cx, FdRef, Plugin};
use crate::types::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_void};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a cancelled handler may still run before it is dropped.
const CANCEL_GRACE: Duration = Duration::from_millis(100);

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

/// One opened plugin: what `self` points to.
struct Instance<P> {
    plugin: P,
    host: Host,
    runtime: Runtime,
    running: Mutex<HashMap<u64, CancellationToken>>,
    /// The chunks of a `synchronize` that is not complete yet.
    chunks: Mutex<Synchronize>,
    /// Events that turned out to have no handler.
    unhandled: AtomicU64,
}

type Answer = Result<(Vec<u8>, Vec<OwnedFd>)>;
type Handler = Pin<Box<dyn Future<Output = Answer> + Send>>;

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
        let (config, about) = open_body(body)?;
        // SAFETY: table and ctx are the host's, for as long as the process lives.
        let host = unsafe { Host::new(table, ctx, about) }?;
        let instance = open_plugin::<P>(config, &host);
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

// ---- opening ---------------------------------------------------------------------------------------------------------

fn open_body(body: &[u8]) -> Result<(Value, About)> {
    let mut body: Value = if body.is_empty() { json!({}) } else { serde_json::from_slice(body)? };
    let config = body.get_mut("config").map_or(Value::Null, Value::take);
    let mut about: About = match body.get_mut("host") {
        Some(host) => serde_json::from_value(host.take())?,
        None => About::default(),
    };
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    about.boot_id = text("boot_id");
    about.reason = text("reason");
    Ok((config, about))
}

fn open_plugin<P: Plugin>(config: Value, host: &Host) -> Result<Instance<P>> {
    logs::install(host);
    let runtime = Runtime::new(P::NAME)?;
    let config = read_config::<P::Config>(config)?;
    let opening = P::open(config, host.clone());
    let plugin = panics::catch(|| {
        let _working = Working::on(host, 0, 0);
        runtime.block_on(opening)
    })??;
    runtime.start_if_tasks();
    Ok(Instance {
        plugin,
        host: host.clone(),
        runtime,
        running: Mutex::default(),
        chunks: Mutex::default(),
        unhandled: AtomicU64::new(0),
    })
}

/// A config error names its place below `config` and, for an unknown key, the nearest that exists.
fn read_config<T: DeserializeOwned>(config: Value) -> Result<T> {
    let config = if config.is_null() { json!({}) } else { config };
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => "config".to_owned(),
            path => format!("config.{path}"),
        };
        let text = error.inner().to_string();
        let hint = nearest_of(&text).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
        Error::with_status(abi::E_INVAL, format!("{path}: {text}{hint}"))
    })
}

/// serde says: unknown field `retires`, expected one of `retries`, `deny`.
fn nearest_of(text: &str) -> Option<&str> {
    let mut names = text.strip_prefix("unknown field `")?.split('`').step_by(2);
    let wrong = names.next()?;
    names
        .filter(|name| !name.is_empty())
        .map(|name| (distance(wrong, name), name))
        .min()
        .filter(|(far, name)| *far <= name.len().max(3) / 2)
        .map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

// ---- calling ---------------------------------------------------------------------------------------------------------

impl<P: Plugin> Instance<P> {
    fn dispatch(self: &Arc<Self>, request: &Request) -> i32 {
        if request.event == abi::EV_RESULT {
            // SAFETY: the host keeps the body alive during this call.
            let body = unsafe { request.body.as_slice() };
            self.host.deliver_result(request.token, request.exit_code, body);
            return abi::OK;
        }
        let cancel = CancellationToken::new();
        let handler = match self.handler(request, cancel.clone()) {
            Ok(Some(handler)) => handler,
            Ok(None) => return abi::OK,
            Err(error) => return self.finish(request.id, request.event, Err(error)),
        };
        if request.id != 0 {
            self.running().insert(request.id, cancel.clone());
        }
        self.run(request, cancel, handler)
    }

    /// Polls once here; what is not ready goes to the runtime.
    fn run(self: &Arc<Self>, request: &Request, cancel: CancellationToken, handler: Handler) -> i32 {
        let (id, event, container) = (request.id, request.event, request.container);
        let mut task = Box::pin(until_cancelled(handler, cancel));
        let first = {
            let _working = Working::on(&self.host, id, container);
            let _runtime = self.runtime.enter();
            panics::catch(|| task.as_mut().poll(&mut Context::from_waker(Waker::noop())))
        };
        match first {
            Err(panic) => self.finish(id, event, Err(panic)),
            Ok(Poll::Ready(answer)) => {
                self.runtime.start_if_tasks();
                self.finish(id, event, answer)
            }
            Ok(Poll::Pending) => {
                let instance = self.clone();
                self.runtime.spawn(async move {
                    let answer = Caught { host: instance.host.clone(), id, container, task }.await;
                    let status = instance.finish(id, event, answer);
                    if id == 0 && status < 0 {
                        logs::error_line(&format!("{} failed", abi::event_name(event)));
                    }
                });
                if id == 0 { abi::OK } else { abi::PENDING }
            }
        }
    }

    /// Tells the host what came of a request, and returns what `call` returns if it is still in it.
    fn finish(&self, id: u64, event: u16, answer: Answer) -> i32 {
        if id != 0 {
            self.running().remove(&id);
        }
        let answer = match answer {
            Err(error) if error.is_unhandled() => {
                let bit = 1 << event;
                if self.unhandled.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                    self.host.subscribe(0, bit);
                }
                Ok((Vec::new(), Vec::new()))
            }
            answer => answer,
        };
        match answer {
            // Nothing to say: the status alone, which `call` may return if it has not returned yet. A spawned handler has to
            // complete; a second completion would be E_STALE, so both ways go through `complete`.
            Ok((json, fds)) if id != 0 => {
                self.host.complete(id, abi::OK, &json, &fds);
                abi::PENDING
            }
            Ok(_) => abi::OK,
            Err(error) if id != 0 => {
                self.host.complete(id, error.status(), error.to_string().as_bytes(), &[]);
                abi::PENDING
            }
            Err(error) => {
                logs::error_line(&format!("{}: {error}", abi::event_name(event)));
                error.status()
            }
        }
    }

    /// The future for one event; `None` if there is nothing to run (a chunk, an event of a newer host).
    fn handler(self: &Arc<Self>, request: &Request, cancel: CancellationToken) -> Result<Option<Handler>> {
        let this = self.clone();
        // SAFETY: the host keeps the body alive during this call; payloads are owned by the time it returns.
        let body = unsafe { request.body.as_slice() };
        macro_rules! run {
            ($method:ident, $event:expr, $answer:expr) => {{
                let event = $event;
                let cx = self.cx(request, cancel)?;
                Ok(Some(Box::pin(async move { $answer(this.plugin.$method(&cx, event).await?) }) as Handler))
            }};
            ($method:ident, $event:expr) => {
                run!($method, $event, nothing)
            };
        }
        match request.event {
            abi::EV_SYNCHRONIZE => match self.gather(request, body)? {
                Some(event) => run!(synchronize, event),
                None if request.id != 0 => Ok(Some(Box::pin(async { nothing(()) }))),
                None => Ok(None),
            },
            abi::EV_VALIDATE => run!(validate, decode(body)?, serialized),
            abi::EV_CREATE => {
                let mut event: Create = decode(body)?;
                event.attempt = event.attempt.max(request.attempt);
                run!(create, event, serialized)
            }
            abi::EV_REVIEW => run!(review, decode(body)?),
            abi::EV_ATTACH => run!(attach, Attach { replay: request.flags & abi::F_REPLAY != 0 }),
            abi::EV_START => run!(start, Start {}),
            abi::EV_STARTED => run!(started, Started {}),
            abi::EV_READY => run!(ready, Ready {}),
            abi::EV_HEALTH => run!(health, decode(body)?),
            abi::EV_OOM => run!(oom, decode(body)?),
            abi::EV_EXIT => {
                let event = Exit {
                    code: request.exit_code,
                    signal: request.signal,
                    oom: request.flags & abi::F_OOM != 0,
                    ..decode(body)?
                };
                run!(exit, event)
            }
            abi::EV_UPDATED => run!(updated, decode(body)?),
            abi::EV_STOP => run!(stop, decode(body)?),
            abi::EV_STOPPING => run!(stopping, Stopping {}),
            abi::EV_DETACH => run!(detach, decode(body)?),
            abi::EV_REMOVED => run!(removed, Removed {}),
            abi::EV_SHUTDOWN => run!(shutdown, Shutdown {}),
            abi::EV_CUSTOM => run!(custom, decode(body)?),
            abi::EV_CONTROL => {
                let request = if body.is_empty() { Value::Null } else { serde_json::from_slice(body)? };
                run!(control, Control { request }, replied)
            }
            abi::EV_TIMER => run!(timer, Timer { token: request.token }),
            _ => Err(Error::unhandled()),
        }
    }

    fn cx(&self, request: &Request, cancel: CancellationToken) -> Result<Cx> {
        // SAFETY: the host keeps these alive during this call; both are copied here.
        let (container_id, service) =
            unsafe { (request.container_id.as_slice(), request.service.as_slice()) };
        Ok(Cx {
            host: self.host.clone(),
            id: request.id,
            seq: request.seq,
            container: Container(request.container),
            container_id: String::from_utf8_lossy(container_id).into_owned(),
            service: String::from_utf8_lossy(service).into_owned(),
            pid: request.pid,
            attempt: request.attempt,
            deadline: (request.deadline_ns != 0).then(|| instant(request.deadline_ns)),
            cancel,
            fds: fds(request)?,
        })
    }

    /// Puts the chunks of a `synchronize` together: the plugin sees the whole list once.
    fn gather(&self, request: &Request, body: &[u8]) -> Result<Option<Synchronize>> {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Chunk {
            containers: Vec<Running>,
            kept: Vec<Key>,
        }
        #[derive(serde::Deserialize)]
        struct Key {
            container: Container,
            #[serde(default)]
            container_id: String,
            key: String,
        }
        let chunk: Chunk = if body.is_empty() { Chunk::default() } else { serde_json::from_slice(body)? };
        let mut all = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        all.containers.extend(chunk.containers);
        // SAFETY: the host keeps the array alive during this call.
        let given = unsafe { raw_fds(request) };
        for (index, key) in chunk.kept.into_iter().enumerate() {
            let role = Role::Other(index as u32).number();
            let Some(fd) = given.iter().find(|fd| fd.role == role) else { continue };
            // SAFETY: the host keeps the descriptor open during this call.
            let fd = unsafe { BorrowedFd::borrow_raw(fd.fd) }.try_clone_to_owned()?;
            all.kept.push(Kept {
                container: key.container,
                container_id: key.container_id,
                key: key.key,
                fd,
            });
        }
        Ok((request.flags & abi::F_MORE == 0).then(|| std::mem::take(&mut *all)))
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T> {
    if body.is_empty() { Ok(T::default()) } else { Ok(serde_json::from_slice(body)?) }
}

fn nothing(_: ()) -> Answer {
    Ok((Vec::new(), Vec::new()))
}

fn serialized(value: impl serde::Serialize) -> Answer {
    Ok((serde_json::to_vec(&value)?, Vec::new()))
}

fn replied(reply: Reply) -> Answer {
    let json = reply.json.map_or_else(|| Ok(Vec::new()), |value| serde_json::to_vec(&value))?;
    Ok((json, reply.fds))
}

/// # Safety
/// The host keeps the request's descriptor array alive for `'a`.
unsafe fn raw_fds<'a>(request: &Request) -> &'a [abi::Fd] {
    match request.fds.is_null() {
        true => &[],
        // SAFETY: the caller's promise.
        false => unsafe { std::slice::from_raw_parts(request.fds, request.nfds as usize) },
    }
}

fn fds(request: &Request) -> Result<Vec<(u32, FdRef)>> {
    if request.event == abi::EV_SYNCHRONIZE {
        return Ok(Vec::new()); // duplicated by `gather`
    }
    // SAFETY: alive during this call.
    let given = unsafe { raw_fds(request) };
    given
        .iter()
        .filter(|fd| fd.fd >= 0)
        .map(|fd| {
            // SAFETY: open until the request is completed, which happens after the `Cx` that gets this is dropped.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd.fd) };
            let held = match request.id {
                0 => FdRef::Owned(borrowed.try_clone_to_owned()?),
                _ => FdRef::Borrowed(borrowed),
            };
            Ok((fd.role, held))
        })
        .collect()
}

/// CLOCK_MONOTONIC in nanoseconds as an `Instant`.
fn instant(deadline_ns: u64) -> Instant {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let now_ns = (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64);
    Instant::now() + Duration::from_nanos(deadline_ns.saturating_sub(now_ns))
}

/// The handler, or E_CANCELLED a little after its token was cancelled. The handler (and with it the request's `Cx`) is gone
/// before this returns.
async fn until_cancelled(mut handler: Handler, cancel: CancellationToken) -> Answer {
    tokio::select! {
        biased;
        answer = &mut handler => answer,
        () = cancel.cancelled() => match tokio::time::timeout(CANCEL_GRACE, &mut handler).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::cancelled()),
        },
    }
}

/// Polls with the request marked on the thread, and ends with E_PANIC instead of unwinding.
struct Caught<F> {
    host: Host,
    id: u64,
    container: u64,
    task: Pin<Box<F>>,
}

impl<F: Future<Output = Answer>> Future for Caught<F> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let _working = Working::on(&self.host, self.id, self.container);
        match panics::catch(|| self.task.as_mut().poll(cx)) {
            Ok(poll) => poll,
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

// ---- the plugin's own runtime ----------------------------------------------------------------------------------------

/// A current-thread runtime whose thread exists only once something is pending.
struct Runtime {
    name: &'static str,
    handle: tokio::runtime::Handle,
    idle: Mutex<Option<tokio::runtime::Runtime>>,
    stop: CancellationToken,
    started: OnceLock<()>,
}

impl Runtime {
    fn new(name: &'static str) -> Result<Runtime> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Runtime {
            name,
            handle: runtime.handle().clone(),
            idle: Mutex::new(Some(runtime)),
            stop: CancellationToken::new(),
            started: OnceLock::new(),
        })
    }

    fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.handle.enter()
    }

    /// For `open` alone, before the thread exists.
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match &*runtime {
            Some(runtime) => runtime.block_on(future),
            None => self.handle.block_on(future),
        }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.start();
        self.handle.spawn(future);
    }

    /// A handler that is ready may have left tasks behind.
    fn start_if_tasks(&self) {
        if self.started.get().is_none() && self.handle.metrics().num_alive_tasks() > 0 {
            self.start();
        }
    }

    fn start(&self) {
        self.started.get_or_init(|| {
            let Some(runtime) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                return;
            };
            let stop = self.stop.clone();
            let name = format!("{}-rt", self.name);
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(stop.cancelled());
                // Tasks that end by themselves (cancelled handlers complete theirs) get a moment; the rest are dropped.
                runtime.block_on(async {
                    let enough = Instant::now() + 2 * CANCEL_GRACE;
                    let handle = tokio::runtime::Handle::current();
                    while handle.metrics().num_alive_tasks() > 0 && Instant::now() < enough {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
                runtime.shutdown_background();
            });
            if let Err(error) = thread {
                logs::error_line(&format!("cannot start the plugin's runtime thread: {error}"));
            }
        });
    }

    fn stop(&self) {
        self.stop.cancel();
    }
}

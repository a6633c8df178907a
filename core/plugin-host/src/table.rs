//! The host's side of the C table: what plugins call, from any of their threads.
//!
//! None of these blocks for long, calls into a plugin, or panics: they check, copy and queue. `ctx` is the leaked `Plugin`, so
//! a thread that outlives its plugin finds a host that still answers.
use super::Wish;
use super::call::{Message, Outcome, Plugin};
use crate::containers::Fd;
use sampan_plugin::abi::{self, Bytes, Ctx, HostTable, Owned};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub const LOG_LINES_PER_S_MAX: u32 = 1000;
const METRICS_MAX: usize = 256;
const TIMERS_MAX: usize = 256;
const FDS_MAX: u32 = 253;

pub static HOST: HostTable = HostTable {
    size: size_of::<HostTable>() as u32,
    major: abi::ABI_MAJOR,
    minor: abi::ABI_MINOR,
    complete,
    extend,
    log_level,
    log,
    emit,
    read,
    release,
    get_fd,
    put,
    submit,
    metric_define,
    metric,
    subscribe,
    keep_fd,
};

pub fn ctx(plugin: &'static Plugin) -> *mut Ctx {
    std::ptr::from_ref(plugin).cast_mut().cast()
}

/// # Safety
/// `ctx` came from [`ctx`]: a plugin gets no other.
unsafe fn plugin(ctx: *mut Ctx) -> &'static Plugin {
    // SAFETY: the caller's promise; plugins are leaked.
    unsafe { &*ctx.cast_const().cast::<Plugin>() }
}

/// # Safety
/// The plugin keeps the bytes alive during its call into the table.
unsafe fn text<'a>(bytes: Bytes) -> Result<&'a str, i32> {
    // SAFETY: the caller's promise.
    std::str::from_utf8(unsafe { bytes.as_slice() }).map_err(|_| abi::E_INVAL)
}

/// # Safety
/// `fds` leads to `n` entries, whose descriptors are open, during the plugin's call into the table.
unsafe fn duplicate(fds: *const abi::Fd, n: u32) -> Result<Vec<OwnedFd>, i32> {
    if fds.is_null() || n == 0 {
        return Ok(Vec::new());
    }
    if n > FDS_MAX {
        return Err(abi::E_TOOBIG);
    }
    // SAFETY: the caller's promise.
    let fds = unsafe { std::slice::from_raw_parts(fds, n as usize) };
    fds.iter()
        .map(|fd| {
            if fd.fd < 0 {
                return Err(abi::E_INVAL);
            }
            // SAFETY: not negative, and open during the call; a number that is not open makes an error, not more.
            unsafe { BorrowedFd::borrow_raw(fd.fd) }.try_clone_to_owned().map_err(|_| abi::E_INVAL)
        })
        .collect()
}

unsafe extern "C" fn complete(
    ctx: *mut Ctx,
    id: u64,
    status: i32,
    reply: Bytes,
    fds: *const abi::Fd,
    n: u32,
) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let (plugin, reply, fds) = unsafe { (plugin(ctx), reply.as_slice(), duplicate(fds, n)) };
    if id == 0 {
        // The text of a failed `open`.
        let text = String::from_utf8_lossy(reply.get(..4096).unwrap_or(reply)).into_owned();
        *plugin.open_text.lock().unwrap_or_else(PoisonError::into_inner) = text;
        return abi::OK;
    }
    let mut result = abi::OK;
    let outcome = match fds {
        _ if reply.len() > abi::BODY_BYTES_MAX => {
            result = abi::E_TOOBIG;
            Outcome::Error { status: abi::E_TOOBIG, text: format!("an answer of {} bytes", reply.len()) }
        }
        Err(bad) => {
            result = bad;
            Outcome::Error { status: bad, text: "a descriptor of its answer is not open".to_owned() }
        }
        Ok(fds) if status == abi::OK => Outcome::Reply { json: reply.to_vec(), fds },
        Ok(_) => {
            let status = if status > abi::OK { abi::E_INVAL } else { status };
            Outcome::Error { status, text: String::from_utf8_lossy(reply).into_owned() }
        }
    };
    match plugin.finish(id, outcome) {
        abi::OK => result,
        stale => stale,
    }
}

unsafe extern "C" fn extend(ctx: *mut Ctx, id: u64, more_ns: u64) -> i32 {
    // SAFETY: called by a plugin as the header says.
    unsafe { plugin(ctx) }.extend(id, Duration::from_nanos(more_ns))
}

unsafe extern "C" fn log_level(_: *mut Ctx) -> i32 {
    use tracing::level_filters::LevelFilter;
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        _ => 5,
    }
}

unsafe extern "C" fn log(ctx: *mut Ctx, line: *const abi::Log) {
    if line.is_null() {
        return;
    }
    // SAFETY: called by a plugin as the header says; a smaller structure than ours would not be ABI 1.0.
    let (plugin, line) = unsafe { (plugin(ctx), &*line) };
    if (line.size as usize) < size_of::<abi::Log>() || !within_budget(plugin) {
        return;
    }
    // SAFETY: the plugin keeps the bytes alive during this call.
    let (message, fields) = unsafe { (line.message.as_slice(), line.fields.as_slice()) };
    let message = String::from_utf8_lossy(message);
    let fields = match serde_json::from_slice::<serde_json::Map<String, Value>>(fields) {
        Ok(fields) => fields.iter().map(|(key, value)| format!(" {key}={value}")).collect(),
        Err(_) => String::new(),
    };
    let service = {
        let containers = plugin.world.containers();
        containers.get(line.container).map(|container| container.ctx.service.clone())
    };
    let name = plugin.name.as_str();
    macro_rules! say {
        ($level:ident) => {
            match &service {
                Some(service) => tracing::$level!(target: "plugin", service = service.as_str(), plugin = name, "{message}{fields}"),
                None => tracing::$level!(target: "plugin", plugin = name, "{message}{fields}"),
            }
        };
    }
    match line.level {
        0 | 1 => say!(error),
        2 => say!(warn),
        3 => say!(info),
        4 => say!(debug),
        _ => say!(trace),
    }
}

/// At most so many lines a second; what is dropped is counted, and said once.
fn within_budget(plugin: &Plugin) -> bool {
    let mut budget = plugin.log_budget.lock().unwrap_or_else(PoisonError::into_inner);
    if budget.0.elapsed() >= Duration::from_secs(1) {
        *budget = (Instant::now(), 0);
    }
    budget.1 = budget.1.saturating_add(1);
    if budget.1 == LOG_LINES_PER_S_MAX + 1 {
        tracing::warn!(target: "plugin", plugin = plugin.name, "it logs more than {LOG_LINES_PER_S_MAX} lines a second: the rest of this second is dropped");
    }
    if budget.1 > LOG_LINES_PER_S_MAX {
        drop(budget);
        plugin.health().figures.logs_dropped += 1;
        return false;
    }
    true
}

unsafe extern "C" fn emit(ctx: *mut Ctx, kind: Bytes, container: u64, data: Bytes) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let (plugin, kind, data) = unsafe { (plugin(ctx), text(kind), data.as_slice()) };
    let (Ok(kind), true) = (kind, data.len() <= abi::BODY_BYTES_MAX) else { return abi::E_INVAL };
    let Ok(data) = serde_json::from_slice::<Value>(data) else { return abi::E_INVAL };
    let who = plugin.world.containers().get(container).map(|container| Arc::new(container.ctx.clone()));
    if container != 0 && who.is_none() {
        return abi::E_NOSUCH;
    }
    let body = json!({ "from": plugin.name, "kind": kind, "data": data });
    let message = Message { who, ..Message::new(abi::EV_CUSTOM) }.body(&body);
    for peer in
        plugin.world.peers().iter().filter(|peer| peer.slot != plugin.slot && peer.wants(abi::EV_CUSTOM))
    {
        peer.tell(message.clone());
    }
    abi::OK
}

unsafe extern "C" fn read(ctx: *mut Ctx, what: u32, container: u64, key: Bytes, out: *mut Owned) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let (plugin, key) = unsafe { (plugin(ctx), text(key)) };
    let (Ok(key), false) = (key, out.is_null()) else { return abi::E_INVAL };
    let document: Result<Arc<[u8]>, i32> = match what {
        abi::READ_KV | abi::READ_KV_LIST => {
            let id = plugin.world.containers().id_of(container).map(str::to_owned);
            match (id, what) {
                (None, _) => Err(abi::E_NOSUCH),
                (Some(id), abi::READ_KV) => plugin.kv.get(&id, key).ok_or(abi::E_NOSUCH),
                (Some(id), _) => Ok(super::containers::encode(&json!(plugin.kv.keys(&id, key)))),
            }
        }
        what => {
            let found = plugin.world.containers().document(what, container);
            found.and_then(super::containers::Found::read)
        }
    };
    match document {
        Ok(document) => {
            let owner = Box::new(document);
            // SAFETY: `out` is the caller's, for one value. `release` takes the box back.
            unsafe {
                out.write(Owned {
                    ptr: owner.as_ptr(),
                    len: owner.len(),
                    owner: Box::into_raw(owner).cast(),
                });
            }
            abi::OK
        }
        Err(status) => status,
    }
}

unsafe extern "C" fn release(_: *mut Ctx, owned: *mut Owned) {
    if owned.is_null() {
        return;
    }
    // SAFETY: filled by `read`; a second release of the same place finds null.
    unsafe {
        let owner = std::mem::replace(&mut (*owned).owner, std::ptr::null_mut());
        if !owner.is_null() {
            drop(Box::from_raw(owner.cast::<Arc<[u8]>>()));
        }
    }
}

unsafe extern "C" fn get_fd(ctx: *mut Ctx, container: u64, role: u32) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let plugin = unsafe { plugin(ctx) };
    let fd = {
        let containers = plugin.world.containers();
        let Some(container) = containers.get(container) else { return abi::E_NOSUCH };
        if !container.may_have(role, &plugin.name) {
            return abi::E_DENIED;
        }
        container.fd(role, &plugin.name).cloned()
    };
    let copy = match fd {
        Some(Fd::Here(fd)) => fd.try_clone().map(Some),
        Some(Fd::AtKeel(key)) => plugin.world.kept.fetch(&key),
        None => Ok(None),
    };
    match copy {
        Ok(Some(fd)) => fd.into_raw_fd(),
        Ok(None) => abi::E_NOSUCH,
        Err(error) => {
            tracing::warn!(target: "plugin", plugin = plugin.name, %error, "no copy of a descriptor for it");
            abi::E_FAIL
        }
    }
}

unsafe extern "C" fn put(ctx: *mut Ctx, container: u64, key: Bytes, value: Bytes, token: u64) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let (plugin, key) = unsafe { (plugin(ctx), text(key)) };
    let Ok(key) = key else { return abi::E_INVAL };
    // SAFETY: as above.
    let value = (!value.ptr.is_null()).then(|| unsafe { value.as_slice() });
    let Some(id) = plugin.world.containers().id_of(container).map(str::to_owned) else {
        return abi::E_NOSUCH;
    };
    if token != 0 && !plugin.promise_result() {
        return abi::E_BUSY;
    }
    let done: super::kv::Done = Box::new(move |result| {
        let failed = result.err().map(|error| format!("writing {}'s values: {error}", plugin.name));
        if let Some(text) = &failed {
            tracing::error!(target: "plugin", plugin = plugin.name, "{text}");
        }
        if token != 0 {
            let status = if failed.is_some() { abi::E_FAIL } else { abi::OK };
            plugin.result(token, status, failed.unwrap_or_default().as_bytes());
        }
    });
    let status = plugin.kv.put(&plugin.world.kv_writer, &id, key, value, done);
    if token != 0 && status != abi::OK {
        plugin.break_promise();
    }
    status
}

impl Plugin {
    /// Answers a `put` or `submit`.
    pub fn result(&self, token: u64, status: i32, body: &[u8]) {
        self.tell(Message { token, exit_code: status, body: body.into(), ..Message::new(abi::EV_RESULT) });
    }
}

unsafe extern "C" fn submit(
    ctx: *mut Ctx,
    op: u32,
    container: u64,
    token: u64,
    args: Bytes,
    _: *const abi::Fd,
    _: u32,
) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let (plugin, args) = unsafe { (plugin(ctx), args.as_slice()) };
    if args.len() > abi::BODY_BYTES_MAX {
        return abi::E_TOOBIG;
    }
    let args = if args.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(args) };
    let Ok(args) = args else { return abi::E_INVAL };
    match op {
        abi::OP_TIMER => set_timer(plugin, token, &args),
        abi::OP_UNTIMER => {
            let timer = plugin.timers.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
            timer.map_or(abi::E_NOSUCH, |timer| {
                timer.abort();
                abi::OK
            })
        }
        _ => match Wish::of(op, &args) {
            Some(what) => plugin.wish(container, token, what, &args),
            None => abi::E_UNSUPPORTED,
        },
    }
}

fn set_timer(plugin: &'static Plugin, token: u64, args: &Value) -> i32 {
    let ms = |key: &str| args.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (after, every) = (Duration::from_millis(ms("after_ms")), Duration::from_millis(ms("every_ms")));
    let mut timers = plugin.timers.lock().unwrap_or_else(PoisonError::into_inner);
    timers.retain(|_, timer| !timer.is_finished());
    let unheard = plugin.unheard(|token| timers.contains_key(&token));
    if timers.len() + unheard >= TIMERS_MAX && !timers.contains_key(&token) {
        return abi::E_BUSY;
    }
    let task = plugin.world.rt.spawn(async move {
        tokio::time::sleep(after).await;
        loop {
            plugin.tell(Message { token, ..Message::new(abi::EV_TIMER) });
            if every.is_zero() {
                return;
            }
            tokio::time::sleep(every).await;
        }
    });
    if let Some(old) = timers.insert(token, task.abort_handle()) {
        old.abort();
    }
    abi::OK
}

/// A plugin's own figures, by name.
#[derive(Default)]
pub struct Metrics(Mutex<Vec<Metric>>);

#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// `sampan_plugin_NAME_<name>`
    pub name: String,
    pub kind: Kind,
    pub help: String,
    /// By service; "" for the host. Of a histogram: count and sum.
    pub values: BTreeMap<String, (f64, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Metrics {
    pub fn snapshot(&self) -> Vec<Metric> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

unsafe extern "C" fn metric_define(ctx: *mut Ctx, json: Bytes) -> i32 {
    #[derive(Deserialize)]
    struct Defined {
        name: String,
        kind: Kind,
        #[serde(default)]
        help: String,
    }
    // SAFETY: called by a plugin as the header says.
    let (plugin, json) = unsafe { (plugin(ctx), json.as_slice()) };
    let Ok(Defined { name, kind, help }) = serde_json::from_slice(json) else { return abi::E_INVAL };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) {
        return abi::E_INVAL;
    }
    let name = format!("sampan_plugin_{}_{name}", plugin.name.replace(|c| !fits(c), "_"));
    let mut metrics = plugin.metrics.0.lock().unwrap_or_else(PoisonError::into_inner);
    let at = match metrics.iter().position(|metric| metric.name == name) {
        Some(at) if metrics.get(at).is_some_and(|metric| metric.kind == kind) => at,
        Some(_) => return abi::E_INVAL,
        None if metrics.len() >= METRICS_MAX => return abi::E_TOOBIG,
        None => {
            metrics.push(Metric { name, kind, help, values: BTreeMap::new() });
            metrics.len() - 1
        }
    };
    i32::try_from(at).unwrap_or(abi::E_TOOBIG)
}

unsafe extern "C" fn metric(ctx: *mut Ctx, metric: i32, container: u64, value: f64) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let plugin = unsafe { plugin(ctx) };
    let service = match container {
        0 => String::new(),
        handle => match plugin.world.containers().get(handle) {
            Some(container) => container.ctx.service.clone(),
            None => return abi::E_NOSUCH,
        },
    };
    let mut metrics = plugin.metrics.0.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(metric) = usize::try_from(metric).ok().and_then(|at| metrics.get_mut(at)) else {
        return abi::E_NOSUCH;
    };
    if !value.is_finite() || (metric.kind == Kind::Counter && value < 0.0) {
        return abi::E_INVAL;
    }
    let place = metric.values.entry(service).or_default();
    match metric.kind {
        Kind::Counter => place.0 += value,
        Kind::Gauge => place.0 = value,
        Kind::Histogram => *place = (place.0 + 1.0, place.1 + value),
    }
    abi::OK
}

unsafe extern "C" fn subscribe(ctx: *mut Ctx, add: u64, drop: u64) -> i32 {
    use std::sync::atomic::Ordering;
    // SAFETY: called by a plugin as the header says.
    let plugin = unsafe { plugin(ctx) };
    plugin.events.fetch_or(add & abi::EVENTS_ALL, Ordering::Relaxed);
    plugin.events.fetch_and(!drop, Ordering::Relaxed);
    abi::OK
}

unsafe extern "C" fn keep_fd(ctx: *mut Ctx, container: u64, key: Bytes, fd: c_int) -> i32 {
    // SAFETY: called by a plugin as the header says.
    let (plugin, key) = unsafe { (plugin(ctx), text(key)) };
    let Ok(key) = key else { return abi::E_INVAL };
    let Some(id) = plugin.world.containers().id_of(container).map(str::to_owned) else {
        return abi::E_NOSUCH;
    };
    let name = crate::types::keel_key(&plugin.name, &id, key);
    if key.is_empty() || name.len() > crate::types::KEEL_KEY_BYTES_MAX {
        return abi::E_TOOBIG;
    }
    // SAFETY: open during the call, as the header says; a number that is not open makes an error, not more.
    let fd = (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) });
    match plugin.world.kept.keep(&name, fd) {
        Ok(()) => abi::OK,
        Err(error) => {
            tracing::warn!(target: "plugin", plugin = plugin.name, key, %error, "the keel did not keep a descriptor");
            abi::E_FAIL
        }
    }
}

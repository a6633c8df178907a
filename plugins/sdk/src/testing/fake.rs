//! The host behind [`Rig`](super::Rig): what it hands out and what it was given, in memory, and the C table on top of it.
use super::Line;
use crate::abi::{self, Bytes, Ctx, HostTable};
use crate::host::Wish;
use crate::types::Container;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Fake {
    pub(super) state: Mutex<State>,
    pub(super) wake: Condvar,
}

pub(super) struct State {
    pub(super) events: u64,
    pub(super) ids: u64,
    pub(super) seq: u64,
    /// Services by handle: index + 1.
    pub(super) names: Vec<String>,
    pub(super) alive: std::collections::BTreeSet<String>,
    pub(super) services: BTreeMap<String, Value>,
    pub(super) given: BTreeMap<(u64, u32), OwnedFd>,
    pub(super) kv: BTreeMap<(u64, String), Vec<u8>>,
    /// What a crash leaves of `kv`.
    pub(super) disk: BTreeMap<(u64, String), Vec<u8>>,
    pub(super) is_disk_full: bool,
    pub(super) kept: BTreeMap<(u64, String), OwnedFd>,
    pub(super) logs: Vec<Line>,
    pub(super) metrics: Vec<(String, String, f64)>,
    /// What was asked of the supervisor, and for which service.
    pub(super) asked: Vec<(Wish, String)>,
    pub(super) emitted: Vec<(String, Value)>,
    pub(super) done: BTreeMap<u64, (i32, Vec<u8>, Vec<OwnedFd>)>,
    pub(super) issued: std::collections::BTreeSet<u64>,
    /// Token and status.
    pub(super) results: VecDeque<(u64, i32)>,
    pub(super) timers: BTreeMap<u64, (Instant, Option<Duration>)>,
    pub(super) extended: Duration,
    pub(super) gives_no_more_time: bool,
}

impl State {
    pub(super) fn handle(&self, name: &str) -> u64 {
        self.names.iter().position(|has| has == name).map_or(0, |index| index as u64 + 1)
    }

    pub(super) fn handle_or_new(&mut self, name: &str) -> u64 {
        match self.handle(name) {
            0 => {
                self.names.push(name.to_owned());
                self.names.len() as u64
            }
            handle => handle,
        }
    }

    pub(super) fn name(&self, handle: u64) -> String {
        let index = handle.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.names.get(index)).cloned().unwrap_or_default()
    }
}

impl Fake {
    pub(super) fn new(events: u64) -> Fake {
        Fake {
            wake: Condvar::new(),
            state: Mutex::new(State {
                events,
                ids: 0,
                seq: 0,
                names: Vec::new(),
                alive: Default::default(),
                services: BTreeMap::new(),
                given: BTreeMap::new(),
                kv: BTreeMap::new(),
                disk: BTreeMap::new(),
                is_disk_full: false,
                kept: BTreeMap::new(),
                logs: Vec::new(),
                metrics: Vec::new(),
                asked: Vec::new(),
                emitted: Vec::new(),
                done: BTreeMap::new(),
                issued: Default::default(),
                results: VecDeque::new(),
                timers: BTreeMap::new(),
                extended: Duration::ZERO,
                gives_no_more_time: false,
            }),
        }
    }

    /// A context that stays valid for ever: a thread of the plugin may still call after the rig is gone.
    pub(super) fn ctx(this: &Arc<Fake>) -> *mut Ctx {
        Arc::into_raw(this.clone()).cast_mut().cast()
    }

    pub(super) fn next_id(&self) -> u64 {
        let mut state = self.lock();
        state.ids += 1;
        let id = state.ids;
        state.issued.insert(id);
        id
    }

    pub(super) fn forget(&self, service: &str) {
        let mut state = self.lock();
        let handle = state.handle(service);
        state.kv.retain(|(owner, _), _| *owner != handle);
        state.disk.retain(|(owner, _), _| *owner != handle);
        state.given.retain(|(owner, _), _| *owner != handle);
        state.services.remove(service);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Safety
/// `ctx` came from `Fake::ctx`, whose reference is never given back.
unsafe fn fake<'a>(ctx: *mut Ctx) -> &'a Fake {
    // SAFETY: the caller's promise.
    unsafe { &*ctx.cast_const().cast::<Fake>() }
}

/// # Safety
/// The caller keeps the bytes alive during its call.
unsafe fn text(bytes: Bytes) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { bytes.as_slice() }).into_owned()
}

/// # Safety
/// As in the header: `fds` leads to `n` descriptors that are open during the call.
unsafe fn duplicate(fds: *const abi::Fd, n: u32) -> Vec<OwnedFd> {
    if fds.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    let fds = unsafe { std::slice::from_raw_parts(fds, n as usize) };
    // SAFETY: as above.
    fds.iter().filter_map(|fd| unsafe { BorrowedFd::borrow_raw(fd.fd) }.try_clone_to_owned().ok()).collect()
}

unsafe extern "C" fn complete(
    ctx: *mut Ctx,
    id: u64,
    status: i32,
    reply: Bytes,
    fds: *const abi::Fd,
    n: u32,
) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let (fake, reply, fds) = unsafe { (fake(ctx), reply.as_slice().to_vec(), duplicate(fds, n)) };
    if reply.len() > abi::BODY_BYTES_MAX {
        return abi::E_TOOBIG;
    }
    let mut state = fake.lock();
    if id != 0 && !state.issued.remove(&id) {
        return abi::E_STALE;
    }
    state.done.insert(id, (status, reply, fds));
    fake.wake.notify_all();
    abi::OK
}

unsafe extern "C" fn extend(ctx: *mut Ctx, _: u64, more_ns: u64) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let mut state = unsafe { fake(ctx) }.lock();
    if state.gives_no_more_time {
        return abi::E_STALE;
    }
    state.extended += Duration::from_nanos(more_ns);
    abi::OK
}

unsafe extern "C" fn log_level(_: *mut Ctx) -> i32 {
    5
}

unsafe extern "C" fn log(ctx: *mut Ctx, line: *const abi::Log) {
    // SAFETY: called by the plugin as the header says.
    let (fake, line) = unsafe { (fake(ctx), &*line) };
    // SAFETY: as above; all are copied.
    let (target, message, fields) = unsafe { (text(line.target), text(line.message), text(line.fields)) };
    fake.lock().logs.push(Line {
        level: line.level,
        target,
        message,
        fields: serde_json::from_str(&fields).unwrap_or(Value::Null),
        container: Container(line.container),
        request: line.request,
    });
}

unsafe extern "C" fn emit(ctx: *mut Ctx, kind: Bytes, _: u64, json: Bytes) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let (fake, kind, json) = unsafe { (fake(ctx), text(kind), text(json)) };
    fake.lock().emitted.push((kind, serde_json::from_str(&json).unwrap_or(Value::Null)));
    abi::OK
}

unsafe extern "C" fn read(ctx: *mut Ctx, what: u32, container: u64, key: Bytes, out: *mut abi::Owned) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let (fake, key) = unsafe { (fake(ctx), text(key)) };
    let state = fake.lock();
    let name = state.name(container);
    let entry = |id: &str| json!({ "id": id, "service": id, "handle": state.handle(id), "state": "running", "pid": 1 });
    let bytes = match what {
        abi::READ_KV => state.kv.get(&(container, key)).cloned(),
        abi::READ_KV_LIST => {
            let keys: Vec<&String> = state
                .kv
                .keys()
                .filter(|(owner, has)| *owner == container && has.starts_with(&key))
                .map(|(_, has)| has)
                .collect();
            Some(json!(keys).to_string().into_bytes())
        }
        abi::READ_LIST => {
            Some(json!(state.alive.iter().map(|id| entry(id)).collect::<Vec<_>>()).to_string().into_bytes())
        }
        abi::READ_CONTAINER if !name.is_empty() => Some(entry(&name).to_string().into_bytes()),
        abi::READ_SERVICE => state.services.get(&name).map(|table| table.to_string().into_bytes()),
        abi::READ_SPEC if !name.is_empty() => Some(json!({ "ociVersion": "1.2.0" }).to_string().into_bytes()),
        _ => None,
    };
    let Some(bytes) = bytes else { return abi::E_NOSUCH };
    let owner = Box::new(bytes);
    // SAFETY: `out` is the caller's, for one value.
    unsafe {
        out.write(abi::Owned { ptr: owner.as_ptr(), len: owner.len(), owner: Box::into_raw(owner).cast() });
    }
    abi::OK
}

unsafe extern "C" fn release(_: *mut Ctx, owned: *mut abi::Owned) {
    // SAFETY: filled by `read` and released once, as the header says; nulled against a second time.
    unsafe {
        let owner = std::mem::replace(&mut (*owned).owner, std::ptr::null_mut());
        if !owner.is_null() {
            drop(Box::from_raw(owner.cast::<Vec<u8>>()));
        }
    }
}

unsafe extern "C" fn get_fd(ctx: *mut Ctx, container: u64, role: u32) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let fake = unsafe { fake(ctx) };
    let state = fake.lock();
    match state.given.get(&(container, role)).map(|fd| fd.as_fd().try_clone_to_owned()) {
        Some(Ok(fd)) => fd.into_raw_fd(),
        Some(Err(_)) => abi::E_FAIL,
        None => abi::E_NOSUCH,
    }
}

unsafe extern "C" fn put(ctx: *mut Ctx, container: u64, key: Bytes, value: Bytes, token: u64) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let (fake, key) = unsafe { (fake(ctx), text(key)) };
    if key.len() > abi::KV_KEY_BYTES_MAX || value.len > abi::KV_VALUE_BYTES_MAX {
        return abi::E_TOOBIG;
    }
    let mut state = fake.lock();
    if container != 0 && state.name(container).is_empty() {
        return abi::E_NOSUCH;
    }
    // SAFETY: as above.
    let value = (!value.ptr.is_null()).then(|| unsafe { value.as_slice() }.to_vec());
    let place = (container, key);
    let set = |map: &mut BTreeMap<_, _>| match &value {
        Some(value) => drop(map.insert(place.clone(), value.clone())),
        None => drop(map.remove(&place)),
    };
    set(&mut state.kv);
    if !state.is_disk_full {
        set(&mut state.disk);
    }
    if token != 0 {
        let status = if state.is_disk_full { abi::E_FAIL } else { abi::OK };
        state.results.push_back((token, status));
        fake.wake.notify_all();
    }
    abi::OK
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
    // SAFETY: called by the plugin as the header says.
    let (fake, args) = unsafe { (fake(ctx), text(args)) };
    let args: Value = serde_json::from_str(&args).unwrap_or(Value::Null);
    let duration =
        |key: &str| args.get(key).and_then(Value::as_u64).filter(|ms| *ms > 0).map(Duration::from_millis);
    let mut state = fake.lock();
    match op {
        abi::OP_TIMER => {
            let first = Instant::now() + duration("after_ms").unwrap_or_default();
            state.timers.insert(token, (first, duration("every_ms")));
            abi::OK
        }
        abi::OP_UNTIMER => {
            state.timers.remove(&token);
            abi::OK
        }
        _ => {
            let signal = args.get("signal").and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
            let what = match (op, signal) {
                (abi::OP_SIGNAL, Some(signal)) => Wish::Signal(signal),
                (abi::OP_SIGNAL, None) => return abi::E_INVAL,
                (abi::OP_START, _) => Wish::Start,
                (abi::OP_STOP, _) => Wish::Stop,
                (abi::OP_RESTART, _) => Wish::Restart,
                _ => return abi::E_UNSUPPORTED,
            };
            let of = args.get("service").and_then(Value::as_str).map(str::to_owned);
            let of = if container == 0 { of } else { Some(state.name(container)) };
            let Some(service) = of else { return abi::E_NOSUCH };
            state.asked.push((what, service));
            state.results.push_back((token, abi::OK));
            fake.wake.notify_all();
            abi::OK
        }
    }
}

unsafe extern "C" fn metric_define(ctx: *mut Ctx, json: Bytes) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let (fake, json) = unsafe { (fake(ctx), text(json)) };
    let metric: Value = serde_json::from_str(&json).unwrap_or(Value::Null);
    let (Some(name), Some(kind)) = (metric["name"].as_str(), metric["kind"].as_str()) else {
        return abi::E_INVAL;
    };
    let mut state = fake.lock();
    let number = state.metrics.iter().position(|(has, ..)| has == name).unwrap_or_else(|| {
        state.metrics.push((name.to_owned(), kind.to_owned(), 0.0));
        state.metrics.len() - 1
    });
    i32::try_from(number).unwrap_or(abi::E_TOOBIG)
}

unsafe extern "C" fn metric(ctx: *mut Ctx, metric: i32, _: u64, value: f64) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let fake = unsafe { fake(ctx) };
    let mut state = fake.lock();
    let Some((_, kind, total)) = usize::try_from(metric).ok().and_then(|n| state.metrics.get_mut(n)) else {
        return abi::E_NOSUCH;
    };
    match kind.as_str() {
        "gauge" => *total = value,
        "histogram" => *total += 1.0,
        _ => *total += value,
    }
    abi::OK
}

unsafe extern "C" fn subscribe(ctx: *mut Ctx, add: u64, drop: u64) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let fake = unsafe { fake(ctx) };
    let mut state = fake.lock();
    state.events = (state.events | add) & !drop;
    abi::OK
}

unsafe extern "C" fn keep_fd(ctx: *mut Ctx, container: u64, key: Bytes, fd: c_int) -> i32 {
    // SAFETY: called by the plugin as the header says.
    let (fake, key) = unsafe { (fake(ctx), text(key)) };
    let mut state = fake.lock();
    if fd < 0 {
        state.kept.remove(&(container, key));
        return abi::OK;
    }
    // SAFETY: open during the call, as the header says.
    match unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) } {
        -1 => abi::E_INVAL,
        copy => {
            // SAFETY: a new descriptor of our own.
            state.kept.insert((container, key), unsafe { OwnedFd::from_raw_fd(copy) });
            abi::OK
        }
    }
}

pub(super) static FAKE_HOST: HostTable = HostTable {
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

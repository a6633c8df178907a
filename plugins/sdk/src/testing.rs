//! A host in a unit test: `Rig` drives a plugin through the C table, as sampand does, with everything in memory.
//!
//! ```no_run
//! # use sampan_plugin::{prelude::*, testing::*};
//! # #[derive(Deserialize, JsonSchema)] struct Cfg {}
//! # struct Audit;
//! # #[async_trait] impl Plugin for Audit {
//! #     const NAME: &'static str = "audit"; type Config = Cfg;
//! #     async fn open(_: Cfg, _: Host) -> Result<Self> { Ok(Audit) } }
//! let rig = Rig::new::<Audit>(json!({})).unwrap();
//! let web = rig.lifecycle("web").unwrap();
//! assert!(rig.kept().is_empty());
//! ```
//! A request is fired and waited for on the calling thread, RESULTs and timers are delivered in between, as the one thread
//! per plugin of sampand does it. Absent: policy, order and merging, which are the host's and tested there.
use crate::abi::{self, Bytes, Ctx, HostTable, PluginTable, Request};
use crate::error::{Error, Result};
use crate::plugin::Plugin;
use crate::types::{Container, Role};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, CString, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long `fire` waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A plugin, opened by a fake host.
pub struct Rig {
    table: PluginTable,
    this: Mutex<*mut c_void>,
    host: Arc<Fake>,
    config: Value,
}

// SAFETY: calls into the plugin are made under the lock of `this`; the table is plain data.
unsafe impl Send for Rig {}
// SAFETY: as above.
unsafe impl Sync for Rig {}

/// A line that the plugin logged.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// 1 error .. 5 trace.
    pub level: u32,
    pub target: String,
    pub message: String,
    pub fields: Value,
    pub container: Container,
    pub request: u64,
}

/// What a request was answered with.
#[derive(Debug, Default)]
pub struct Answered {
    pub json: Value,
    pub fds: Vec<OwnedFd>,
}

/// One event to fire.
pub struct Event {
    pub number: u16,
    pub flags: u16,
    pub service: String,
    pub body: Value,
    pub pid: i32,
    pub exit_code: i32,
    pub signal: i32,
    pub attempt: u32,
    pub token: u64,
    pub fds: Vec<(u32, OwnedFd)>,
}

impl Event {
    /// An event (`abi::EV_*`) about the host.
    pub fn new(number: u16) -> Event {
        Event {
            number,
            flags: 0,
            service: String::new(),
            body: Value::Null,
            pid: 0,
            exit_code: 0,
            signal: 0,
            attempt: 0,
            token: 0,
            fds: Vec::new(),
        }
    }

    /// The container of this service; its ID is the service's name.
    pub fn of(mut self, service: &str) -> Event {
        service.clone_into(&mut self.service);
        self
    }

    pub fn body(mut self, body: Value) -> Event {
        self.body = body;
        self
    }

    pub fn flags(mut self, flags: u16) -> Event {
        self.flags = flags;
        self
    }

    pub fn pid(mut self, pid: i32) -> Event {
        self.pid = pid;
        self
    }

    pub fn exit(mut self, code: i32, signal: i32) -> Event {
        (self.exit_code, self.signal) = (code, signal);
        self
    }

    pub fn fd(mut self, role: Role, fd: impl Into<OwnedFd>) -> Event {
        self.fds.push((role.number(), fd.into()));
        self
    }

    /// No answer is waited for, as with `exit` or `oom`.
    fn is_notification(&self) -> bool {
        matches!(
            self.number,
            abi::EV_READY
                | abi::EV_HEALTH
                | abi::EV_OOM
                | abi::EV_EXIT
                | abi::EV_UPDATED
                | abi::EV_STOPPING
                | abi::EV_REMOVED
                | abi::EV_FREEZE
                | abi::EV_CONFIG
                | abi::EV_CUSTOM
                | abi::EV_TIMER
                | abi::EV_RESULT
        )
    }
}

impl Rig {
    /// Opens `P` with this config.
    pub fn new<P: Plugin>(config: Value) -> Result<Rig> {
        Rig::open(crate::export::table::<P>(), config)
    }

    /// Opens a library, written in whatever language.
    pub fn load(path: &Path, config: Value) -> Result<Rig> {
        let text = CString::new(path.as_os_str().as_encoded_bytes())?;
        // SAFETY: loading runs the library's constructors, which is what the caller asks for. It is never closed.
        let table = unsafe {
            let library = libc::dlopen(text.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            let symbol = if library.is_null() {
                std::ptr::null_mut()
            } else {
                libc::dlsym(library, c"sampan_plugin".as_ptr())
            };
            if symbol.is_null() {
                return Err(Error::new(CStr::from_ptr(libc::dlerror()).to_string_lossy()));
            }
            symbol.cast_const().cast::<PluginTable>().read()
        };
        Rig::open(table, config)
    }

    fn open(table: PluginTable, config: Value) -> Result<Rig> {
        let host = Arc::new(Fake::new(table.events));
        let rig = Rig { table, this: Mutex::new(std::ptr::null_mut()), host, config };
        rig.call_open("start")?;
        rig.synchronize()?;
        Ok(rig)
    }

    fn call_open(&self, reason: &str) -> Result<()> {
        let dir = std::env::temp_dir();
        let body = json!({
            "config": self.config, "boot_id": "00000000-0000-0000-0000-000000000000", "reason": reason,
            "host": { "version": "rig", "run_dir": dir, "state_dir": dir },
        })
        .to_string();
        let request = Request { body: Bytes::of(body.as_bytes()), ..Request::new(abi::EV_OPEN) };
        let open = self.table.open.ok_or_else(|| Error::new("the table has no open"))?;
        let mut this = std::ptr::null_mut();
        // SAFETY: FAKE_HOST is static and the context is leaked in `Fake::ctx`, so both outlive the plugin.
        let status =
            unsafe { open(&raw const FAKE_HOST, Fake::ctx(&self.host), &raw const request, &raw mut this) };
        if status != abi::OK {
            let text = self.host.lock().done.remove(&0).map(|(_, json, _)| json).unwrap_or_default();
            return Err(Error::with_status(status, String::from_utf8_lossy(&text)));
        }
        *self.this() = this;
        Ok(())
    }

    // ---- driving -----------------------------------------------------------------------------------------------------

    /// Fires one event and waits for its answer. A veto or a failure is the error.
    pub fn fire(&self, event: Event) -> Result<Answered> {
        self.start(event)?.wait()
    }

    /// Fires an event and returns at once: its answer may come from another thread later.
    pub fn start(&self, event: Event) -> Result<Pending<'_>> {
        if self.host.lock().events & (1 << event.number) == 0 && event.number != abi::EV_RESULT {
            return Ok(Pending { rig: self, id: 0, event: None });
        }
        let id = if event.is_notification() { 0 } else { self.host.next_id() };
        let event = Box::new(Fired::new(&self.host, event, id));
        let status = self.call(&event.request);
        match status {
            abi::PENDING if id != 0 => {}
            abi::OK | abi::PENDING => {
                let mut state = self.host.lock();
                if state.issued.remove(&id) {
                    state.done.insert(id, (abi::OK, Vec::new(), Vec::new()));
                }
            }
            status => return Err(Error::of_host(abi::event_name(event.request.event), status)),
        }
        self.deliver();
        Ok(Pending { rig: self, id, event: Some(event) })
    }

    /// As the host does at a deadline.
    pub fn cancel(&self, pending: &Pending<'_>) {
        if let Some(cancel) = self.table.cancel {
            let this = *self.this();
            // SAFETY: `this` is open; `cancel` may come from any thread.
            unsafe { cancel(this, pending.id) };
        }
    }

    /// create, attach, start, started, ready, exit 0, stop, stopping, detach, removed. `fds` go to `attach`. Returns what
    /// `create` was answered with.
    pub fn lifecycle_with(&self, service: &str, table: Value, fds: Vec<(Role, OwnedFd)>) -> Result<Value> {
        let pid = std::process::id() as i32;
        let create = Event::new(abi::EV_CREATE).of(service).body(json!({ "service": table, "attempt": 0 }));
        self.host.lock().services.insert(service.to_owned(), table);
        let adjust = self.fire(create);
        let run = |adjust: Answered| -> Result<Value> {
            let attach = Event::new(abi::EV_ATTACH).of(service).pid(pid);
            self.fire(fds.into_iter().fold(attach, |attach, (role, fd)| attach.fd(role, fd)))?;
            for number in [abi::EV_START, abi::EV_STARTED, abi::EV_READY] {
                self.fire(Event::new(number).of(service).pid(pid))?;
            }
            self.fire(
                Event::new(abi::EV_STOP)
                    .of(service)
                    .pid(pid)
                    .body(json!({ "reason": "stop", "grace_ms": 10_000 })),
            )?;
            self.fire(Event::new(abi::EV_STOPPING).of(service).pid(pid))?;
            self.fire(
                Event::new(abi::EV_EXIT)
                    .of(service)
                    .pid(pid)
                    .body(json!({ "runtime_ms": 5, "cause": "exit 0" })),
            )?;
            Ok(adjust.json)
        };
        let result = adjust.and_then(run);
        self.fire(Event::new(abi::EV_DETACH).of(service).body(json!({ "final": true })))?;
        self.fire(Event::new(abi::EV_REMOVED).of(service))?;
        self.host.forget(service);
        result
    }

    /// [`Rig::lifecycle_with`] an empty table and no descriptors.
    pub fn lifecycle(&self, service: &str) -> Result<Value> {
        self.lifecycle_with(service, json!({}), Vec::new())
    }

    /// The worker dies without a word to the plugin, and a new one opens it: `open`, then `synchronize` with all containers
    /// that were created and not removed, and all kept descriptors. What the old instance left running stays, as threads of a
    /// dead process would not: end them before, or do not mind them. `attach` is replayed by the test, with its descriptors.
    pub fn crash_and_reopen(&self) -> Result<()> {
        *self.this() = std::ptr::null_mut();
        {
            let mut state = self.host.lock();
            state.results.clear();
            state.timers.clear();
            state.events = self.table.events;
        }
        self.call_open("crash")?;
        self.synchronize()
    }

    /// `synchronize` with all that lives.
    pub fn synchronize(&self) -> Result<()> {
        let (containers, kept, fds) = {
            let state = self.host.lock();
            let containers: Vec<Value> = state
                .alive
                .iter()
                .map(|id| json!({ "id": id, "service": id, "handle": state.handle(id), "state": "running", "pid": 1 }))
                .collect();
            let kept: Vec<Value> = state
                .kept
                .keys()
                .map(|(handle, key)| {
                    json!({ "container": handle, "container_id": state.name(*handle), "key": key })
                })
                .collect();
            let fds: Result<Vec<(u32, OwnedFd)>> = state
                .kept
                .values()
                .enumerate()
                .map(|(n, fd)| Ok((Role::Other(n as u32).number(), fd.try_clone()?)))
                .collect();
            (containers, kept, fds?)
        };
        let mut event =
            Event::new(abi::EV_SYNCHRONIZE).body(json!({ "containers": containers, "kept": kept }));
        event.fds = fds;
        self.fire(event).map(drop)
    }

    /// Delivers what is due: RESULTs of `put`, and timers.
    pub fn deliver(&self) {
        loop {
            let next = {
                let mut state = self.host.lock();
                let now = Instant::now();
                let due = state.timers.iter().find(|(_, (at, _))| *at <= now).map(|(token, _)| *token);
                match (state.results.pop_front(), due) {
                    (Some(token), _) => Some((abi::EV_RESULT, token)),
                    (None, Some(token)) => {
                        let every = state.timers.remove(&token).and_then(|(_, every)| every);
                        if let Some(every) = every {
                            state.timers.insert(token, (now + every, Some(every)));
                        }
                        Some((abi::EV_TIMER, token))
                    }
                    (None, None) => None,
                }
            };
            let Some((number, token)) = next else { return };
            let request = Request { token, ..Request::new(number) };
            self.call(&request);
        }
    }

    fn call(&self, request: &Request) -> i32 {
        let this = self.this();
        match (self.table.call, this.is_null()) {
            // SAFETY: open, one call at a time (the lock), and the request outlives the call.
            (Some(call), false) => unsafe { call(*this, request) },
            _ => abi::E_INVAL,
        }
    }

    // ---- looking -----------------------------------------------------------------------------------------------------

    /// A stored value; `service` "" for those of the host.
    pub fn kv(&self, service: &str, key: &str) -> Option<Value> {
        let state = self.host.lock();
        let handle = if service.is_empty() { 0 } else { state.handle(service) };
        state.kv.get(&(handle, key.to_owned())).and_then(|bytes| serde_json::from_slice(bytes).ok())
    }

    pub fn logs(&self) -> Vec<Line> {
        self.host.lock().logs.clone()
    }

    /// The last value of a gauge, the sum of a counter, the count of a histogram, over all containers.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let state = self.host.lock();
        state.metrics.iter().find(|(has, ..)| has == name).map(|(_, _, value)| *value)
    }

    /// The keys of all kept descriptors, with their service ("" for the host).
    pub fn kept(&self) -> Vec<(String, String)> {
        let state = self.host.lock();
        state.kept.keys().map(|(handle, key)| (state.name(*handle), key.clone())).collect()
    }

    pub fn kept_fd(&self, service: &str, key: &str) -> Option<OwnedFd> {
        let state = self.host.lock();
        let handle = if service.is_empty() { 0 } else { state.handle(service) };
        state.kept.get(&(handle, key.to_owned())).and_then(|fd| fd.try_clone().ok())
    }

    /// What `emit` sent: kind and data.
    pub fn emitted(&self) -> Vec<(String, Value)> {
        self.host.lock().emitted.clone()
    }

    /// The events that the plugin still wants.
    pub fn subscribed(&self) -> u64 {
        self.host.lock().events
    }

    /// What the table says of itself: name, version, manifest.
    pub fn identity(&self) -> (String, String, Value) {
        let text = |text: *const std::ffi::c_char| match text.is_null() {
            true => String::new(),
            // SAFETY: the header says a NUL-terminated text that lives as long as the library.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
        };
        let manifest = serde_json::from_str(&text(self.table.manifest)).unwrap_or(Value::Null);
        (text(self.table.name), text(self.table.version), manifest)
    }

    fn this(&self) -> MutexGuard<'_, *mut c_void> {
        self.this.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let this = std::mem::replace(&mut *self.this(), std::ptr::null_mut());
        if let Some(close) = self.table.close
            && !this.is_null()
        {
            // SAFETY: open, and closed once: the pointer is gone from the rig.
            unsafe { close(this, 0) };
        }
    }
}

/// A request that is not answered yet.
pub struct Pending<'a> {
    rig: &'a Rig,
    id: u64,
    event: Option<Box<Fired>>,
}

impl Pending<'_> {
    pub fn is_done(&self) -> bool {
        self.id == 0 || self.rig.host.lock().done.contains_key(&self.id)
    }

    pub fn wait(mut self) -> Result<Answered> {
        let Some(event) = self.event.take() else { return Ok(Answered::default()) };
        if self.id == 0 {
            return Ok(Answered::default());
        }
        let enough = Instant::now() + PATIENCE;
        loop {
            self.rig.deliver();
            let mut state = self.rig.host.lock();
            if let Some((status, json, fds)) = state.done.remove(&self.id) {
                return match status {
                    abi::OK if json.is_empty() => Ok(Answered { json: Value::Null, fds }),
                    abi::OK => Ok(Answered { json: serde_json::from_slice(&json)?, fds }),
                    status => Err(Error::with_status(status, String::from_utf8_lossy(&json))),
                };
            }
            if Instant::now() > enough {
                // The plugin may still read it.
                std::mem::forget(event);
                return Err(Error::new("no answer within 10 s"));
            }
            let wait = self.rig.host.wake.wait_timeout(state, Duration::from_millis(20));
            drop(wait.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_done() {
            // The plugin may still read it.
            std::mem::forget(self.event.take());
        }
    }
}

/// A request and the memory it points into.
struct Fired {
    request: Request,
    _service: String,
    _body: Vec<u8>,
    _fds: Vec<(u32, OwnedFd)>,
    _raw: Vec<abi::Fd>,
}

// SAFETY: the pointers in `request` lead into the other fields, which move along without being touched.
unsafe impl Send for Fired {}

impl Fired {
    fn new(host: &Fake, event: Event, id: u64) -> Fired {
        let mut state = host.lock();
        let container = if event.service.is_empty() { 0 } else { state.handle_or_new(&event.service) };
        match event.number {
            abi::EV_CREATE => drop(state.alive.insert(event.service.clone())),
            abi::EV_REMOVED => drop(state.alive.remove(&event.service)),
            abi::EV_ATTACH => {
                for (role, fd) in &event.fds {
                    if let Ok(fd) = fd.try_clone() {
                        state.given.insert((container, *role), fd);
                    }
                }
            }
            _ => {}
        }
        let body = if event.body.is_null() { Vec::new() } else { event.body.to_string().into_bytes() };
        let raw: Vec<abi::Fd> =
            event.fds.iter().map(|(role, fd)| abi::Fd { fd: fd.as_raw_fd(), role: *role }).collect();
        state.seq += 1;
        let request = Request {
            flags: event.flags,
            id,
            seq: state.seq,
            container,
            container_id: Bytes::of(event.service.as_bytes()),
            service: Bytes::of(event.service.as_bytes()),
            pid: event.pid,
            exit_code: event.exit_code,
            signal: event.signal,
            attempt: event.attempt,
            token: event.token,
            nfds: raw.len() as u32,
            fds: raw.as_ptr(),
            body: Bytes::of(&body),
            ..Request::new(event.number)
        };
        Fired { request, _service: event.service, _body: body, _fds: event.fds, _raw: raw }
    }
}

// ---- the fake host ---------------------------------------------------------------------------------------------------

struct Fake {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    events: u64,
    ids: u64,
    seq: u64,
    /// Services by handle: index + 1.
    names: Vec<String>,
    alive: std::collections::BTreeSet<String>,
    services: BTreeMap<String, Value>,
    given: BTreeMap<(u64, u32), OwnedFd>,
    kv: BTreeMap<(u64, String), Vec<u8>>,
    kept: BTreeMap<(u64, String), OwnedFd>,
    logs: Vec<Line>,
    metrics: Vec<(String, String, f64)>,
    emitted: Vec<(String, Value)>,
    done: BTreeMap<u64, (i32, Vec<u8>, Vec<OwnedFd>)>,
    issued: std::collections::BTreeSet<u64>,
    results: VecDeque<u64>,
    timers: BTreeMap<u64, (Instant, Option<Duration>)>,
}

impl State {
    fn handle(&self, name: &str) -> u64 {
        self.names.iter().position(|has| has == name).map_or(0, |index| index as u64 + 1)
    }

    fn handle_or_new(&mut self, name: &str) -> u64 {
        match self.handle(name) {
            0 => {
                self.names.push(name.to_owned());
                self.names.len() as u64
            }
            handle => handle,
        }
    }

    fn name(&self, handle: u64) -> String {
        let index = handle.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.names.get(index)).cloned().unwrap_or_default()
    }
}

impl Fake {
    fn new(events: u64) -> Fake {
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
                kept: BTreeMap::new(),
                logs: Vec::new(),
                metrics: Vec::new(),
                emitted: Vec::new(),
                done: BTreeMap::new(),
                issued: Default::default(),
                results: VecDeque::new(),
                timers: BTreeMap::new(),
            }),
        }
    }

    /// A context that stays valid for ever: a thread of the plugin may still call after the rig is gone.
    fn ctx(this: &Arc<Fake>) -> *mut Ctx {
        Arc::into_raw(this.clone()).cast_mut().cast()
    }

    fn next_id(&self) -> u64 {
        let mut state = self.lock();
        state.ids += 1;
        let id = state.ids;
        state.issued.insert(id);
        id
    }

    fn forget(&self, service: &str) {
        let mut state = self.lock();
        let handle = state.handle(service);
        state.kv.retain(|(owner, _), _| *owner != handle);
        state.given.retain(|(owner, _), _| *owner != handle);
        state.services.remove(service);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
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

unsafe extern "C" fn extend(_: *mut Ctx, _: u64, _: u64) -> i32 {
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
        abi::READ_STATS => return abi::E_UNSUPPORTED,
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
    match value.ptr.is_null() {
        true => drop(state.kv.remove(&(container, key))),
        // SAFETY: as above.
        false => drop(state.kv.insert((container, key), unsafe { value.as_slice() }.to_vec())),
    }
    if token != 0 {
        state.results.push_back(token);
        fake.wake.notify_all();
    }
    abi::OK
}

unsafe extern "C" fn submit(
    ctx: *mut Ctx,
    op: u32,
    _: u64,
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
        _ => abi::E_UNSUPPORTED,
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

static FAKE_HOST: HostTable = HostTable {
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

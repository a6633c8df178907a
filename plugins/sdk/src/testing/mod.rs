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
mod event;
mod fake;
mod look;
mod pending;

pub use event::{Answered, Event};
pub use pending::Pending;

use crate::abi::{self, Bytes, PluginTable, Request};
use crate::error::{Error, Result};
use crate::merge::{Author, Merge};
use crate::plugin::Plugin;
use crate::types::{Container, Role};
use event::Fired;
use fake::{FAKE_HOST, Fake};
use serde_json::{Value, json};
use std::ffi::{CStr, CString, c_void};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A plugin, opened by a fake host.
pub struct Rig {
    table: PluginTable,
    this: Mutex<*mut c_void>,
    host: Arc<Fake>,
    config: Value,
    grants: Vec<String>,
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

    /// What config.toml would allow it by `grants`.
    pub fn with_grants(mut self, grants: &[&str]) -> Rig {
        self.grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
        self
    }

    /// What sampand says to an answer to `create`, on a spec that has next to nothing.
    fn merge(&self, table: &Value, answer: &[u8]) -> Result<()> {
        let (name, _, manifest) = self.identity();
        let claims = manifest.get("claims").cloned().unwrap_or_else(|| json!([]));
        let claims: Vec<String> = serde_json::from_value(claims)?;
        let author = Author { name: &name, grants: &self.grants, claims: &claims };
        let mut spec = json!({ "ociVersion": "1.2.0", "process": {}, "mounts": [], "linux": {} });
        let taken = Merge::new(table.get("adjust")).take(&mut spec, author, answer);
        taken.map(drop).map_err(|refusal| Error::with_status(abi::E_DENIED, refusal.to_string()))
    }

    fn open(table: PluginTable, config: Value) -> Result<Rig> {
        let host = Arc::new(Fake::new(table.events));
        let rig = Rig { table, this: Mutex::new(std::ptr::null_mut()), host, config, grants: Vec::new() };
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

    /// create, review, attach, start, started, ready, exit 0, stop, stopping, detach, removed. `fds` go to `attach`. Returns what
    /// `create` was answered with.
    pub fn lifecycle_with(&self, service: &str, table: Value, fds: Vec<(Role, OwnedFd)>) -> Result<Value> {
        let pid = std::process::id() as i32;
        let create = Event::new(abi::EV_CREATE).of(service).body(json!({ "service": &table, "attempt": 0 }));
        let adjust = self.fire(create).and_then(|adjust| {
            let answer =
                if adjust.json.is_null() { Vec::new() } else { adjust.json.to_string().into_bytes() };
            self.merge(&table, &answer).map(|()| adjust)
        });
        let run = |adjust: Answered| -> Result<Value> {
            self.fire(Event::new(abi::EV_REVIEW).of(service).body(json!({ "owners": {} })))?;
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
        self.reopen("crash")
    }

    /// As [`Rig::crash_and_reopen`], of a plugin that has let go of what only one instance may have: it is closed first.
    pub fn close_and_reopen(&self) -> Result<()> {
        self.close();
        self.reopen("start")
    }

    fn reopen(&self, reason: &str) -> Result<()> {
        {
            let mut state = self.host.lock();
            state.results.clear();
            state.kv = state.disk.clone();
            state.timers.clear();
            state.events = self.table.events;
        }
        self.call_open(reason)?;
        self.synchronize()
    }

    fn close(&self) {
        let this = std::mem::replace(&mut *self.this(), std::ptr::null_mut());
        if let Some(close) = self.table.close
            && !this.is_null()
        {
            // SAFETY: open, and closed once: the pointer is gone from the rig.
            unsafe { close(this, 0) };
        }
    }

    /// While the disk is full nothing that is put gets there: the plugin is told so, reads it all the same, and a crash loses it.
    pub fn fill_disk(&self, is_full: bool) {
        self.host.lock().is_disk_full = is_full;
    }

    /// A stored value is gone from the disk, as from a store that was damaged. The plugin sees it after a crash.
    pub fn lose(&self, service: &str, key: &str) {
        let mut state = self.host.lock();
        let handle = if service.is_empty() { 0 } else { state.handle(service) };
        state.disk.remove(&(handle, key.to_owned()));
    }

    /// As of a host whose policy allows no more, or that has given up on the request.
    pub fn give_no_more_time(&self) {
        self.host.lock().gives_no_more_time = true;
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
                    (Some((token, status)), _) => Some((abi::EV_RESULT, token, status)),
                    (None, Some(token)) => {
                        let every = state.timers.remove(&token).and_then(|(_, every)| every);
                        if let Some(every) = every {
                            state.timers.insert(token, (now + every, Some(every)));
                        }
                        Some((abi::EV_TIMER, token, abi::OK))
                    }
                    (None, None) => None,
                }
            };
            let Some((number, token, status)) = next else { return };
            let body = if status == abi::OK { "" } else { "No space left on device" };
            let body = Bytes::of(body.as_bytes());
            let request = Request { token, exit_code: status, body, ..Request::new(number) };
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

    fn this(&self) -> MutexGuard<'_, *mut c_void> {
        self.this.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.close();
    }
}

//! Calls from the plugin to its host: the host's table with types.
//!
//! `Host` is cheap to clone, works from any thread and never calls back into the plugin: what takes time (`put`, `ask`) is
//! queued by the host and answered by a RESULT event, which `export/instance.rs` turns into the end of a future. Everything passed in
//! is copied by the host before the call returns, descriptors are duplicated.
use crate::abi::{self, Bytes, Ctx, HostTable};
use crate::error::{Error, Result};
use crate::types::{Container, Role};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// What the host says of itself when it opens a plugin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// `sampand 0.1.0`
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub boot_id: String,
    /// Gone after a reboot.
    #[serde(default)]
    pub run_dir: PathBuf,
    /// Survives reboots; logs and the like go below it.
    #[serde(default)]
    pub state_dir: PathBuf,
    /// `start`, `crash`, `reload`.
    #[serde(default)]
    pub reason: String,
}

/// What was asked for is on its way already; the future only waits for the answer, and may be dropped.
pub type Done<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

#[derive(Clone)]
pub struct Host(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    table: HostTable,
    ctx: *mut Ctx,
    about: About,
    level: AtomicI32,
    next_token: AtomicU64,
    /// `open` runs on the thread that would deliver RESULT: nothing may wait for one until it is over.
    pub(crate) opening: AtomicBool,
    results: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

struct Answer {
    status: i32,
    body: Vec<u8>,
}

// SAFETY: the table is plain data; the header says each of its functions may be called from any thread, and `ctx` is only
// ever passed back to them.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

/// What a plugin may ask of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// By its number.
    Signal(i32),
    Start,
    Stop,
    Restart,
}

/// Of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    Container(Container),
    /// A service, by its name.
    Service(String),
}

impl<C: Into<Container>> From<C> for Whom {
    fn from(container: C) -> Whom {
        Whom::Container(container.into())
    }
}

impl Host {
    /// # Safety
    /// `table` and `ctx` come from a host that keeps both alive as long as this process runs, as the header promises.
    pub(crate) unsafe fn new(table: *const HostTable, ctx: *mut Ctx, about: About) -> Result<Host> {
        // SAFETY: the caller's promise; `size` is the first field of every version.
        let size = unsafe { std::ptr::addr_of!((*table).size).read() } as usize;
        if size < size_of::<HostTable>() {
            return Err(Error::with_status(
                abi::E_UNSUPPORTED,
                format!("the host's table has {size} bytes, this plugin needs {}", size_of::<HostTable>()),
            ));
        }
        // SAFETY: at least our version's size, checked just now.
        let table = unsafe { table.read() };
        let host = Host(Arc::new(Inner {
            table,
            ctx,
            about,
            level: AtomicI32::new(0),
            next_token: AtomicU64::new(1),
            opening: AtomicBool::new(true),
            results: Mutex::default(),
        }));
        host.refresh_level();
        Ok(host)
    }

    pub fn about(&self) -> &About {
        &self.0.about
    }

    // ---- durable key-value store -------------------------------------------------------------------------------------

    /// Stores `value` as JSON. Readable at once; the future ends when it is on disk. (During `open` it ends at once: what was
    /// put is then durable before any later `put` is.) Keys of a container go with it.
    pub fn put<T: Serialize + ?Sized>(
        &self,
        container: impl Into<Container>,
        key: &str,
        value: &T,
    ) -> Done<()> {
        let sent = serde_json::to_vec(value)
            .map_err(Error::from)
            .and_then(|json| self.put_raw(container.into(), key, Some(&json), true));
        finish(sent)
    }

    /// As `put`, for bytes that are not JSON.
    pub fn put_bytes(&self, container: impl Into<Container>, key: &str, value: &[u8]) -> Done<()> {
        finish(self.put_raw(container.into(), key, Some(value), true))
    }

    /// Stores `value` as JSON without waiting for the disk: it is written in order with everything else.
    pub fn put_nowait<T: Serialize + ?Sized>(
        &self,
        container: impl Into<Container>,
        key: &str,
        value: &T,
    ) -> Result<()> {
        self.put_raw(container.into(), key, Some(&serde_json::to_vec(value)?), false).map(drop)
    }

    /// Deletes a key. A key that is not there is deleted already.
    pub fn delete(&self, container: impl Into<Container>, key: &str) -> Done<()> {
        finish(self.put_raw(container.into(), key, None, true))
    }

    pub fn get<T: DeserializeOwned>(&self, container: impl Into<Container>, key: &str) -> Result<Option<T>> {
        match self.get_bytes(container, key)? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::from(error).context(format!("stored value of {key:?}"))),
            None => Ok(None),
        }
    }

    pub fn get_bytes(&self, container: impl Into<Container>, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(abi::READ_KV, container.into(), key)
    }

    /// The keys that begin with `prefix`, sorted.
    pub fn keys(&self, container: impl Into<Container>, prefix: &str) -> Result<Vec<String>> {
        match self.read(abi::READ_KV_LIST, container.into(), prefix)? {
            Some(json) => Ok(serde_json::from_slice(&json)?),
            None => Ok(Vec::new()),
        }
    }

    fn put_raw(
        &self,
        container: Container,
        key: &str,
        value: Option<&[u8]>,
        wait: bool,
    ) -> Result<Option<oneshot::Receiver<Answer>>> {
        let wait = wait && !self.0.opening.load(Ordering::Acquire);
        let (token, receiver) = if wait { self.expect_result() } else { (0, None) };
        // An empty slice has a dangling but non-null pointer, so that it is not a deletion.
        let bytes = value.map_or(Bytes::EMPTY, Bytes::of);
        // SAFETY: the table's contract; the host copies key and value before it returns.
        let status =
            unsafe { (self.0.table.put)(self.0.ctx, container.0, Bytes::of(key.as_bytes()), bytes, token) };
        self.accepted(status, token, || format!("put {key:?}"))?;
        Ok(receiver)
    }

    // ---- descriptors -------------------------------------------------------------------------------------------------

    /// The keel keeps a duplicate of `fd` over crashes of `sampand` and reloads; `Synchronize::kept` lists it then.
    pub fn keep_fd(&self, container: impl Into<Container>, key: &str, fd: impl AsFd) -> Result<()> {
        self.keep(container.into(), key, fd.as_fd().as_raw_fd())
    }

    /// The keel forgets it.
    pub fn drop_fd(&self, container: impl Into<Container>, key: &str) -> Result<()> {
        self.keep(container.into(), key, -1)
    }

    fn keep(&self, container: Container, key: &str, fd: i32) -> Result<()> {
        // SAFETY: the table's contract; the host duplicates the descriptor, which the caller holds open during the call.
        let status =
            unsafe { (self.0.table.keep_fd)(self.0.ctx, container.0, Bytes::of(key.as_bytes()), fd) };
        check(status, || format!("keep_fd {key:?}")).map(drop)
    }

    /// A descriptor of a live container: what `attach` was given.
    pub fn get_fd(&self, container: impl Into<Container>, role: Role) -> Result<OwnedFd> {
        // SAFETY: the table's contract.
        let fd = unsafe { (self.0.table.get_fd)(self.0.ctx, container.into().0, role.number()) };
        check(fd, || format!("get_fd {role:?}"))?;
        // SAFETY: not negative, so a new descriptor that the header says is ours to close.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    // ---- facts -------------------------------------------------------------------------------------------------------

    /// The container's spec with the changes of all plugins so far.
    pub async fn spec(&self, container: impl Into<Container>) -> Result<Value> {
        self.document(abi::READ_SPEC, container.into(), "spec")
    }

    /// The service's table of config.toml, resolved.
    pub async fn service(&self, container: impl Into<Container>) -> Result<Value> {
        self.document(abi::READ_SERVICE, container.into(), "service")
    }

    /// What the host knows of one container: id, handle, service, state, pid.
    pub async fn info(&self, container: impl Into<Container>) -> Result<crate::types::Running> {
        Ok(serde_json::from_value(self.document(abi::READ_CONTAINER, container.into(), "container")?)?)
    }

    /// All containers.
    pub async fn list(&self) -> Result<Vec<crate::types::Running>> {
        Ok(serde_json::from_value(self.document(abi::READ_LIST, Container::HOST, "list")?)?)
    }

    fn document(&self, what: u32, container: Container, name: &str) -> Result<Value> {
        let bytes = self
            .read(what, container, "")?
            .ok_or_else(|| Error::with_status(abi::E_NOSUCH, format!("read {name}: no such container")))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn read(&self, what: u32, container: Container, key: &str) -> Result<Option<Vec<u8>>> {
        let mut out = abi::Owned { ptr: std::ptr::null(), len: 0, owner: std::ptr::null_mut::<c_void>() };
        // SAFETY: the table's contract; `out` lives on our stack during the call.
        let status = unsafe {
            (self.0.table.read)(self.0.ctx, what, container.0, Bytes::of(key.as_bytes()), &raw mut out)
        };
        if status == abi::E_NOSUCH {
            return Ok(None);
        }
        check(status, || format!("read {key:?}"))?;
        // SAFETY: the host filled `out` and keeps the bytes until `release`, called once, right below.
        let copy = unsafe { Bytes { ptr: out.ptr, len: out.len }.as_slice() }.to_vec();
        // SAFETY: as above.
        unsafe { (self.0.table.release)(self.0.ctx, &raw mut out) };
        Ok(Some(copy))
    }

    // ---- asking the supervisor to act --------------------------------------------------------------------------------

    /// Asks the supervisor to act on a container's service, or on one by its name; ends when what was asked for has come true,
    /// or with the reason why not. Do not wait for it inside `open`.
    pub fn ask(&self, whom: impl Into<Whom>, what: Wish) -> Done<()> {
        let (container, name) = match whom.into() {
            Whom::Container(container) => (container, None),
            Whom::Service(name) => (Container::HOST, Some(name)),
        };
        let (op, signal) = match what {
            Wish::Signal(number) => (abi::OP_SIGNAL, Some(number)),
            Wish::Start => (abi::OP_START, None),
            Wish::Stop => (abi::OP_STOP, None),
            Wish::Restart => (abi::OP_RESTART, None),
        };
        let (token, receiver) = self.expect_result();
        let sent = self.submit_raw(op, container, token, &json!({ "service": name, "signal": signal }));
        Box::pin(async move {
            sent?;
            wait(receiver).await.map(drop)
        })
    }

    /// Calls this plugin's `timer` with `token` after `after`, and then every `every`. The same token again replaces it.
    pub fn set_timer(&self, token: u64, after: Duration, every: Option<Duration>) -> Result<()> {
        let args = json!({ "after_ms": after.as_millis() as u64, "every_ms": every.map_or(0, |e| e.as_millis() as u64) });
        self.submit_raw(abi::OP_TIMER, Container::HOST, token, &args)
    }

    pub fn clear_timer(&self, token: u64) -> Result<()> {
        self.submit_raw(abi::OP_UNTIMER, Container::HOST, token, &Value::Null)
    }

    fn submit_raw(&self, op: u32, container: Container, token: u64, args: &Value) -> Result<()> {
        let args = args.to_string();
        // SAFETY: the table's contract; the host copies `args`.
        let status = unsafe {
            (self.0.table.submit)(
                self.0.ctx,
                op,
                container.0,
                token,
                Bytes::of(args.as_bytes()),
                std::ptr::null(),
                0,
            )
        };
        let forget = if matches!(op, abi::OP_TIMER | abi::OP_UNTIMER) { 0 } else { token };
        self.accepted(status, forget, || format!("submit operation {op}"))
    }

    /// Sends `data` to every other plugin that handles `custom`.
    pub fn emit(&self, kind: &str, container: impl Into<Container>, data: &impl Serialize) -> Result<()> {
        let json = serde_json::to_vec(data)?;
        // SAFETY: the table's contract; the host copies both.
        let status = unsafe {
            (self.0.table.emit)(self.0.ctx, Bytes::of(kind.as_bytes()), container.into().0, Bytes::of(&json))
        };
        check(status, || format!("emit {kind:?}")).map(drop)
    }

    // ---- metrics -----------------------------------------------------------------------------------------------------

    /// A number that only grows: `sampan_plugin_NAME_<name>`.
    pub fn counter(&self, name: &str, help: &str) -> Result<Counter> {
        self.define(name, "counter", help).map(Counter)
    }

    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge> {
        self.define(name, "gauge", help).map(Gauge)
    }

    pub fn histogram(&self, name: &str, help: &str) -> Result<Histogram> {
        self.define(name, "histogram", help).map(Histogram)
    }

    fn define(&self, name: &str, kind: &str, help: &str) -> Result<Metric> {
        let json = json!({ "name": name, "kind": kind, "help": help }).to_string();
        // SAFETY: the table's contract; the host copies the text.
        let number = unsafe { (self.0.table.metric_define)(self.0.ctx, Bytes::of(json.as_bytes())) };
        check(number, || format!("metric {name:?}")).map(|number| Metric { host: self.clone(), number })
    }

    // ---- for the trampolines -----------------------------------------------------------------------------------------

    /// Ends a request. E_STALE (the host gave up on it) is not an error of ours.
    pub(crate) fn complete(&self, id: u64, status: i32, reply: &[u8], fds: &[OwnedFd]) -> i32 {
        let fds: Vec<abi::Fd> =
            fds.iter().map(|fd| abi::Fd { fd: fd.as_raw_fd(), role: abi::FD_OTHER }).collect();
        // SAFETY: the table's contract; reply and descriptors outlive the call, the host copies both.
        unsafe {
            (self.0.table.complete)(self.0.ctx, id, status, Bytes::of(reply), fds.as_ptr(), fds.len() as u32)
        }
    }

    /// Asks for more time for a request, up to the policy's `hard_timeout`.
    pub(crate) fn extend(&self, id: u64, more: Duration) -> Result<()> {
        // SAFETY: the table's contract.
        let status = unsafe { (self.0.table.extend)(self.0.ctx, id, more.as_nanos() as u64) };
        check(status, || "extend".to_owned()).map(drop)
    }

    pub(crate) fn subscribe(&self, add: u64, drop: u64) {
        // SAFETY: the table's contract.
        unsafe { (self.0.table.subscribe)(self.0.ctx, add, drop) };
    }

    pub(crate) fn log(&self, log: &abi::Log) {
        // SAFETY: the table's contract; every slice in `log` is borrowed from the caller for the call.
        unsafe { (self.0.table.log)(self.0.ctx, log) };
    }

    /// 1 error .. 5 trace, as the host last said.
    pub(crate) fn level(&self) -> i32 {
        self.0.level.load(Ordering::Relaxed)
    }

    pub(crate) fn refresh_level(&self) {
        // SAFETY: the table's contract.
        let level = unsafe { (self.0.table.log_level)(self.0.ctx) };
        self.0.level.store(level, Ordering::Relaxed);
    }

    pub(crate) fn deliver_result(&self, token: u64, status: i32, body: &[u8]) {
        let waiting = self.results().remove(&token);
        if let Some(waiting) = waiting {
            // Whoever waited may be gone: a cancelled handler.
            let _ = waiting.send(Answer { status, body: body.to_vec() });
        }
    }

    fn expect_result(&self) -> (u64, Option<oneshot::Receiver<Answer>>) {
        let token = self.0.next_token.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.results().insert(token, sender);
        (token, Some(receiver))
    }

    /// The host refused: no RESULT will come for `token`.
    fn accepted(&self, status: i32, token: u64, doing: impl Fn() -> String) -> Result<()> {
        check(status, doing).map(drop).inspect_err(|_| drop(self.results().remove(&token)))
    }

    fn results(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.0.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(status: i32, doing: impl Fn() -> String) -> Result<i32> {
    if status < 0 { Err(Error::of_host(&doing(), status)) } else { Ok(status) }
}

fn finish(sent: Result<Option<oneshot::Receiver<Answer>>>) -> Done<()> {
    Box::pin(async move {
        match sent? {
            None => Ok(()),
            receiver => wait(receiver).await.map(drop),
        }
    })
}

async fn wait(receiver: Option<oneshot::Receiver<Answer>>) -> Result<Answer> {
    let Some(receiver) = receiver else {
        return Err(Error::of_host("result", abi::E_INVAL));
    };
    let answer = receiver.await.map_err(|_| Error::cancelled())?;
    match answer.status {
        abi::OK => Ok(answer),
        status if answer.body.is_empty() => Err(Error::of_host("result", status)),
        status => Err(Error::with_status(status, String::from_utf8_lossy(&answer.body))),
    }
}

#[derive(Clone)]
struct Metric {
    host: Host,
    number: i32,
}

impl Metric {
    fn send(&self, container: Container, value: f64) {
        // SAFETY: the table's contract. A refused sample is the host's to count.
        unsafe { (self.host.0.table.metric)(self.host.0.ctx, self.number, container.0, value) };
    }
}

#[derive(Clone)]
pub struct Counter(Metric);
#[derive(Clone)]
pub struct Gauge(Metric);
#[derive(Clone)]
pub struct Histogram(Metric);

impl Counter {
    pub fn add(&self, container: impl Into<Container>, value: f64) {
        self.0.send(container.into(), value);
    }
}

impl Gauge {
    pub fn set(&self, container: impl Into<Container>, value: f64) {
        self.0.send(container.into(), value);
    }
}

impl Histogram {
    pub fn record(&self, container: impl Into<Container>, value: f64) {
        self.0.send(container.into(), value);
    }
}

//! The C contract in Rust: `include/sampan_plugin.h`, structure by structure, in the header's order.
//!
//! Both files are written by hand; `tests/header.rs` compiles the header and compares every size, offset and constant.
//! Structures only grow at the end. Nothing here owns anything: the rules of who may read what, and for how long, are in
//! docs/plugins.md ("Memory").
use std::ffi::{c_char, c_int, c_void};

pub const MAGIC: u64 = 0x3147_554c_504e_5053;
pub const ABI_MAJOR: u16 = 1;
pub const ABI_MINOR: u16 = 0;
/// The one symbol that a plugin exports.
pub const SYMBOL: &str = "sampan_plugin";

pub const BODY_BYTES_MAX: usize = 1 << 20;
pub const KV_VALUE_BYTES_MAX: usize = 64 << 10;
pub const KV_KEY_BYTES_MAX: usize = 256;
pub const KV_PLUGIN_BYTES_MAX: usize = 16 << 20;

/// One plugin instance as the host knows it; opaque here.
#[repr(C)]
pub struct Ctx {
    _opaque: [u8; 0],
}

/// Borrowed bytes, without a NUL.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Bytes {
    pub ptr: *const u8,
    pub len: usize,
}

impl Bytes {
    pub const EMPTY: Bytes = Bytes { ptr: std::ptr::null(), len: 0 };

    pub fn of(bytes: &[u8]) -> Bytes {
        Bytes { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// # Safety
    /// `ptr` is null, or the sender of this value keeps `len` bytes alive and unchanged for `'a`.
    pub unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.len == 0 || self.len > isize::MAX as usize {
            return &[];
        }
        // SAFETY: not null and not longer than an object may be; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// Bytes that the host counts references of: `release` gives them back.
#[repr(C)]
pub struct Owned {
    pub ptr: *const u8,
    pub len: usize,
    pub owner: *mut c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fd {
    pub fd: i32,
    pub role: u32,
}

pub const OK: i32 = 0;
pub const PENDING: i32 = 1;
pub const E_FAIL: i32 = -1;
pub const E_VETO: i32 = -2;
pub const E_PANIC: i32 = -3;
pub const E_CANCELLED: i32 = -4;
pub const E_STALE: i32 = -5;
pub const E_NOSUCH: i32 = -6;
pub const E_TOOBIG: i32 = -7;
pub const E_DENIED: i32 = -8;
pub const E_UNSUPPORTED: i32 = -9;
pub const E_BUSY: i32 = -10;
pub const E_INVAL: i32 = -11;

/// The status in words, for messages.
pub fn status_text(status: i32) -> &'static str {
    match status {
        OK => "ok",
        PENDING => "pending",
        E_FAIL => "failed",
        E_VETO => "vetoed",
        E_PANIC => "panicked",
        E_CANCELLED => "cancelled",
        E_STALE => "already completed",
        E_NOSUCH => "no such thing",
        E_TOOBIG => "too big",
        E_DENIED => "denied",
        E_UNSUPPORTED => "not supported",
        E_BUSY => "busy",
        E_INVAL => "invalid argument",
        _ => "unknown status",
    }
}

pub const FD_STDOUT: u32 = 1;
pub const FD_STDERR: u32 = 2;
pub const FD_NETNS: u32 = 4;
pub const FD_PIDFD: u32 = 6;
pub const FD_OTHER: u32 = 64;

pub const EV_OPEN: u16 = 0;
pub const EV_SYNCHRONIZE: u16 = 1;
pub const EV_VALIDATE: u16 = 2;
pub const EV_CREATE: u16 = 3;
pub const EV_REVIEW: u16 = 4;
pub const EV_ATTACH: u16 = 5;
pub const EV_START: u16 = 6;
pub const EV_STARTED: u16 = 7;
pub const EV_READY: u16 = 8;
pub const EV_HEALTH: u16 = 9;
pub const EV_OOM: u16 = 10;
pub const EV_EXIT: u16 = 11;
pub const EV_UPDATED: u16 = 14;
pub const EV_STOP: u16 = 15;
pub const EV_STOPPING: u16 = 16;
pub const EV_DETACH: u16 = 17;
pub const EV_REMOVED: u16 = 18;
pub const EV_SHUTDOWN: u16 = 21;
pub const EV_CUSTOM: u16 = 22;
pub const EV_CONTROL: u16 = 23;
pub const EV_TIMER: u16 = 24;
pub const EV_RESULT: u16 = 25;

/// Every event of this version by its number. What has no name is not an event: its number is not used.
pub const EVENT_NAMES: [&str; 26] = [
    "open",
    "synchronize",
    "validate",
    "create",
    "review",
    "attach",
    "start",
    "started",
    "ready",
    "health",
    "oom",
    "exit",
    "",
    "",
    "updated",
    "stop",
    "stopping",
    "detach",
    "removed",
    "",
    "",
    "shutdown",
    "custom",
    "control",
    "timer",
    "result",
];
pub const EVENTS_ALL: u64 = {
    let (mut all, mut event) = (0, 0);
    while event < EVENT_NAMES.len() {
        all |= (!EVENT_NAMES[event].is_empty() as u64) << event;
        event += 1;
    }
    all
};

pub fn event_name(event: u16) -> &'static str {
    EVENT_NAMES.get(usize::from(event)).copied().filter(|name| !name.is_empty()).unwrap_or("unknown event")
}

/// What follows `create` in a container's life, but for `removed`, which comes after it.
pub const OF_A_LIFE: [u16; 11] = [
    EV_ATTACH,
    EV_START,
    EV_STARTED,
    EV_READY,
    EV_HEALTH,
    EV_OOM,
    EV_EXIT,
    EV_UPDATED,
    EV_STOP,
    EV_STOPPING,
    EV_DETACH,
];

pub const F_GATE: u16 = 1;
pub const F_REPLAY: u16 = 2;
pub const F_OOM: u16 = 4;
pub const F_MORE: u16 = 8;
pub const F_LOST: u16 = 16;

pub const P_NONBLOCKING: u32 = 1;
pub const P_PANIC_ABORT: u32 = 2;
pub const P_PROCESS_ONLY: u32 = 4;

pub const READ_CONTAINER: u32 = 1;
pub const READ_SPEC: u32 = 2;
pub const READ_SERVICE: u32 = 3;
pub const READ_LIST: u32 = 4;
pub const READ_KV: u32 = 6;
pub const READ_KV_LIST: u32 = 7;

pub const OP_SIGNAL: u32 = 3;
pub const OP_START: u32 = 4;
pub const OP_STOP: u32 = 5;
pub const OP_RESTART: u32 = 6;
pub const OP_TIMER: u32 = 8;
pub const OP_UNTIMER: u32 = 9;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    pub size: u32,
    pub event: u16,
    pub flags: u16,
    pub id: u64,
    pub seq: u64,
    pub deadline_ns: u64,
    pub container: u64,
    pub container_id: Bytes,
    pub service: Bytes,
    pub pid: i32,
    pub exit_code: i32,
    pub signal: i32,
    pub attempt: u32,
    pub token: u64,
    pub trace: [u8; 24],
    pub nfds: u32,
    pub reserved: u32,
    pub fds: *const Fd,
    pub body: Bytes,
}

impl Request {
    /// A request of `event` that says nothing else.
    pub fn new(event: u16) -> Request {
        Request {
            size: size_of::<Request>() as u32,
            event,
            flags: 0,
            id: 0,
            seq: 0,
            deadline_ns: 0,
            container: 0,
            container_id: Bytes::EMPTY,
            service: Bytes::EMPTY,
            pid: 0,
            exit_code: 0,
            signal: 0,
            attempt: 0,
            token: 0,
            trace: [0; 24],
            nfds: 0,
            reserved: 0,
            fds: std::ptr::null(),
            body: Bytes::EMPTY,
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Log {
    pub size: u32,
    pub level: u32,
    pub request: u64,
    pub container: u64,
    pub line: u32,
    pub reserved: u32,
    pub target: Bytes,
    pub file: Bytes,
    pub message: Bytes,
    pub fields: Bytes,
    pub spans: Bytes,
}

/// What the host offers. A function exists if it ends within `size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostTable {
    pub size: u32,
    pub major: u16,
    pub minor: u16,
    pub complete: unsafe extern "C" fn(*mut Ctx, u64, i32, Bytes, *const Fd, u32) -> i32,
    pub extend: unsafe extern "C" fn(*mut Ctx, u64, u64) -> i32,
    pub log_level: unsafe extern "C" fn(*mut Ctx) -> i32,
    pub log: unsafe extern "C" fn(*mut Ctx, *const Log),
    pub emit: unsafe extern "C" fn(*mut Ctx, Bytes, u64, Bytes) -> i32,
    pub read: unsafe extern "C" fn(*mut Ctx, u32, u64, Bytes, *mut Owned) -> i32,
    pub release: unsafe extern "C" fn(*mut Ctx, *mut Owned),
    pub get_fd: unsafe extern "C" fn(*mut Ctx, u64, u32) -> i32,
    pub put: unsafe extern "C" fn(*mut Ctx, u64, Bytes, Bytes, u64) -> i32,
    pub submit: unsafe extern "C" fn(*mut Ctx, u32, u64, u64, Bytes, *const Fd, u32) -> i32,
    pub metric_define: unsafe extern "C" fn(*mut Ctx, Bytes) -> i32,
    pub metric: unsafe extern "C" fn(*mut Ctx, i32, u64, f64) -> i32,
    pub subscribe: unsafe extern "C" fn(*mut Ctx, u64, u64) -> i32,
    pub keep_fd: unsafe extern "C" fn(*mut Ctx, u64, Bytes, c_int) -> i32,
}

pub type OpenFn = unsafe extern "C" fn(*const HostTable, *mut Ctx, *const Request, *mut *mut c_void) -> i32;
pub type CallFn = unsafe extern "C" fn(*mut c_void, *const Request) -> i32;
pub type CancelFn = unsafe extern "C" fn(*mut c_void, u64);
pub type CloseFn = unsafe extern "C" fn(*mut c_void, u32);

/// What a plugin is: plain integers first, so that the host can read them from the file before it runs any of it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PluginTable {
    pub magic: u64,
    pub size: u32,
    pub major: u16,
    pub minor: u16,
    pub events: u64,
    pub flags: u32,
    pub min_minor: u32,
    pub name: *const c_char,
    pub version: *const c_char,
    pub manifest: *const c_char,
    pub open: Option<OpenFn>,
    pub call: Option<CallFn>,
    pub cancel: Option<CancelFn>,
    pub close: Option<CloseFn>,
}

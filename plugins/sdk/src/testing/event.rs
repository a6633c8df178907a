//! Events as a test fires them, and the requests that they become.
use super::fake::Fake;
use crate::abi::{self, Bytes, Request};
use crate::types::Role;
use serde_json::Value;
use std::os::fd::{AsRawFd, OwnedFd};

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
    pub(super) fn is_notification(&self) -> bool {
        matches!(
            self.number,
            abi::EV_READY
                | abi::EV_HEALTH
                | abi::EV_OOM
                | abi::EV_EXIT
                | abi::EV_UPDATED
                | abi::EV_STOPPING
                | abi::EV_REMOVED
                | abi::EV_CUSTOM
                | abi::EV_TIMER
                | abi::EV_RESULT
        )
    }
}

/// A request and the memory it points into.
pub(super) struct Fired {
    pub(super) request: Request,
    _service: String,
    _body: Vec<u8>,
    _fds: Vec<(u32, OwnedFd)>,
    _raw: Vec<abi::Fd>,
}

// SAFETY: the pointers in `request` lead into the other fields, which move along without being touched.
unsafe impl Send for Fired {}

impl Fired {
    pub(super) fn new(host: &Fake, event: Event, id: u64) -> Fired {
        let mut state = host.lock();
        let container = if event.service.is_empty() { 0 } else { state.handle_or_new(&event.service) };
        match event.number {
            abi::EV_CREATE => {
                state.alive.insert(event.service.clone());
                if let Some(table) = event.body.get("service") {
                    state.services.insert(event.service.clone(), table.clone());
                }
            }
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

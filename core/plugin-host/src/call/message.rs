//! What is asked or told, how it ended, and the memory in which a plugin reads it.
use crate::Ctx;
use sampan_plugin::abi::{self, Bytes, Request};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What is asked or told.
#[derive(Clone)]
pub struct Message {
    pub event: u16,
    pub flags: u16,
    pub who: Option<Arc<Ctx>>,
    pub pid: i32,
    pub exit_code: i32,
    pub signal: i32,
    pub token: u64,
    pub fds: Vec<(u32, Arc<OwnedFd>)>,
    pub body: Arc<[u8]>,
}

impl Message {
    pub fn new(event: u16) -> Message {
        Message {
            event,
            flags: 0,
            who: None,
            pid: 0,
            exit_code: 0,
            signal: 0,
            token: 0,
            fds: Vec::new(),
            body: Arc::new([]),
        }
    }

    pub fn of(event: u16, ctx: &Arc<Ctx>) -> Message {
        Message { pid: ctx.pid, who: Some(ctx.clone()), ..Message::new(event) }
    }

    pub fn body(mut self, body: &serde_json::Value) -> Message {
        self.body = crate::containers::encode(body);
        self
    }
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    Reply {
        json: Vec<u8>,
        fds: Vec<OwnedFd>,
    },
    Error {
        status: i32,
        text: String,
    },
    /// No answer in time; `stuck`: its thread is in a call that should have ended.
    Timeout {
        after: Duration,
        stuck: bool,
    },
    /// Its thread is gone.
    Gone,
}

/// A message in the memory that a plugin reads.
pub(super) struct Frame {
    pub(super) message: Message,
    pub(super) id: u64,
    pub(super) seq: u64,
    pub(super) fds: Vec<abi::Fd>,
    /// Written once, when it is dispatched.
    pub(super) request: OnceLock<Request>,
}

// SAFETY: the raw pointers in `request` and `fds` lead into `message`, which the frame owns and never changes.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Frame {
    pub(super) fn new(message: Message, id: u64, seq: u64) -> Frame {
        let fds = message.fds.iter().map(|(role, fd)| abi::Fd { fd: fd.as_raw_fd(), role: *role }).collect();
        Frame { message, id, seq, fds, request: OnceLock::new() }
    }

    pub(super) fn request(&self, deadline_ns: u64) -> &Request {
        self.request.get_or_init(|| {
            let Message { event, flags, pid, exit_code, signal, token, .. } = self.message;
            let who = self.message.who.as_deref();
            let text =
                |text: fn(&Ctx) -> &str| who.map_or(Bytes::EMPTY, |who| Bytes::of(text(who).as_bytes()));
            Request {
                flags: if self.id != 0 { flags | abi::F_GATE } else { flags },
                id: self.id,
                seq: self.seq,
                deadline_ns,
                container: who.map_or(0, |who| who.handle),
                container_id: text(|who| &who.container_id),
                service: text(|who| &who.service),
                pid,
                exit_code,
                signal,
                attempt: who.map_or(0, |who| who.attempt),
                token,
                nfds: self.fds.len() as u32,
                fds: self.fds.as_ptr(),
                body: Bytes::of(&self.message.body),
                ..Request::new(event)
            }
        })
    }
}

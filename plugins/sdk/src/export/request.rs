//! A request of the host as the event that a handler takes, and what a handler returns as an answer.
use super::instance::{Answer, Handler, Instance};
use crate::abi::{self, Request};
use crate::error::{Error, Result};
use crate::plugin::{Cx, FdRef, Plugin};
use crate::types::*;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

impl<P: Plugin> Instance<P> {
    /// What the host was asked for has come.
    pub(super) fn deliver(&self, request: &Request) {
        // SAFETY: the host keeps the body alive during this call.
        let body = unsafe { request.body.as_slice() };
        self.host.deliver_result(request.token, request.exit_code, body);
    }

    /// The future for one event; `None` if there is nothing to run (a chunk, an event of a newer host).
    pub(super) fn handler(
        self: &Arc<Self>,
        request: &Request,
        cancel: CancellationToken,
    ) -> Result<Option<Handler>> {
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
            abi::EV_ATTACH => {
                let is = |flag: u16| request.flags & flag != 0;
                run!(attach, Attach { replay: is(abi::F_REPLAY), lost: is(abi::F_LOST) })
            }
            abi::EV_START => run!(start, Start {}),
            abi::EV_STARTED => run!(started, Started {}),
            abi::EV_READY => run!(ready, Ready {}),
            abi::EV_HEALTH => run!(health, decode(body)?),
            abi::EV_OOM => run!(oom, decode(body)?),
            abi::EV_EXIT => run!(exit, exit(request, body)?),
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
}

fn exit(request: &Request, body: &[u8]) -> Result<Exit> {
    let (code, signal, oom) = (request.exit_code, request.signal, request.flags & abi::F_OOM != 0);
    Ok(Exit { code, signal, oom, ..decode(body)? })
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

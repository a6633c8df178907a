//! An opened plugin: how an event becomes a handler that runs, and its end an answer.
use super::config::read_config;
use super::runtime::{CANCEL_GRACE, Runtime};
use crate::abi::{self, Request};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::logs::{self, Working};
use crate::panics;
use crate::plugin::Plugin;
use crate::types::Synchronize;
use serde_json::Value;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio_util::sync::CancellationToken;

/// One opened plugin: what `self` points to.
pub(super) struct Instance<P> {
    pub(super) plugin: P,
    pub(super) host: Host,
    pub(super) runtime: Runtime,
    pub(super) running: Mutex<HashMap<u64, CancellationToken>>,
    /// The chunks of a `synchronize` that is not complete yet.
    pub(super) chunks: Mutex<Synchronize>,
    /// Events that turned out to have no handler.
    unhandled: AtomicU64,
}

pub(super) type Answer = Result<(Vec<u8>, Vec<OwnedFd>)>;
pub(super) type Handler = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl<P: Plugin> Instance<P> {
    pub(super) fn open(config: Value, host: &Host) -> Result<Instance<P>> {
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

    pub(super) fn dispatch(self: &Arc<Self>, request: &Request) -> i32 {
        if request.event == abi::EV_RESULT {
            self.deliver(request);
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

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

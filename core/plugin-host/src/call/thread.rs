//! A plugin's own thread: it takes what waits, one after the other, and calls the plugin. Nobody else does, but for `cancel`.
use super::message::Frame;
use super::{INFLIGHT_MAX, Job, Outcome, Plugin, This};
use sampan_plugin::abi::{self, Bytes, Request};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

impl Plugin {
    pub(super) fn set_call_deadline(&self, deadline: Option<Instant>) {
        self.queue().call_deadline = deadline;
    }

    pub(super) fn call_open(&'static self, body: &serde_json::Value) -> Result<(), String> {
        let Some(open) = self.library.table.open else { return Err("it has no open".to_owned()) };
        let body = crate::containers::encode(body);
        let request = Request { body: Bytes::of(&body), ..Request::new(abi::EV_OPEN) };
        let mut this = std::ptr::null_mut();
        let status = {
            let _in_call = self.world.page.enter(self.slot, abi::EV_OPEN);
            // SAFETY: the table is static, `self` is leaked, the request lives on this stack during the call.
            unsafe {
                open(
                    &raw const crate::table::HOST,
                    crate::table::ctx(self),
                    &raw const request,
                    &raw mut this,
                )
            }
        };
        if status == abi::OK {
            *self.this.write().unwrap_or_else(PoisonError::into_inner) = Some(This(this));
            return Ok(());
        }
        let text = std::mem::take(&mut *self.open_text.lock().unwrap_or_else(PoisonError::into_inner));
        Err(if text.is_empty() { abi::status_text(status).to_owned() } else { text })
    }

    pub(super) fn serve(&'static self) {
        loop {
            match self.next() {
                Next::Resync => self.resync(),
                Next::Ask(id, frame, deadline) => {
                    let status = self.call(&frame, deadline);
                    let outcome = match status {
                        abi::PENDING => continue,
                        abi::OK => Outcome::Reply { json: Vec::new(), fds: Vec::new() },
                        status => Outcome::Error { status, text: String::new() },
                    };
                    // E_STALE here: it has completed before it returned, which is fine.
                    self.finish_if_open(id, outcome);
                }
                Next::Tell(frame) => {
                    let deadline = Instant::now() + self.policy.timeout;
                    let status = self.call(&frame, deadline);
                    if status < 0 {
                        self.health().figures.errors += 1;
                    }
                }
                // Who waited may have given up.
                Next::Pass(done) => _ = done.send(()),
                Next::Close(reason, done) => {
                    self.call_close(reason);
                    // Nobody waits any more: closing took too long.
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn finish_if_open(&self, id: u64, outcome: Outcome) {
        let open = self.queue().asked.contains_key(&id);
        if open {
            self.finish(id, outcome);
        }
    }

    fn next(&self) -> Next {
        let mut queue = self.queue();
        loop {
            if let Some(frame) = queue.urgent.pop_front() {
                match frame.message.event {
                    abi::EV_TIMER => _ = queue.ticks.remove(&frame.message.token),
                    _ => queue.results = queue.results.saturating_sub(1),
                }
                return Next::Tell(frame);
            }
            if std::mem::take(&mut queue.resync) {
                return Next::Resync;
            }
            let full = queue.pending >= INFLIGHT_MAX && matches!(queue.jobs.front(), Some(Job::Ask(_)));
            match if full { None } else { queue.jobs.pop_front() } {
                Some(Job::Ask(id)) => {
                    let deadline = Instant::now() + self.policy.timeout;
                    // Not there: its asker has given up before it got here.
                    if let Some(asked) = queue.asked.get_mut(&id) {
                        asked.dispatched = true;
                        asked.deadline = deadline.min(asked.hard);
                        let frame = asked.frame.clone();
                        queue.pending += 1;
                        return Next::Ask(id, frame, deadline);
                    }
                }
                Some(Job::Tell(frame)) => return Next::Tell(frame),
                Some(Job::Pass(done)) => return Next::Pass(done),
                Some(Job::Close(reason, done)) => {
                    queue.closed = true;
                    return Next::Close(reason, done);
                }
                None => {
                    queue.sleeps = true;
                    queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    pub(super) fn call(&self, frame: &Frame, deadline: Instant) -> i32 {
        let Some(call) = self.library.table.call else { return abi::E_UNSUPPORTED };
        let this = match &*self.this.read().unwrap_or_else(PoisonError::into_inner) {
            Some(this) => this.0,
            None => return abi::E_UNSUPPORTED,
        };
        let request = frame.request(if frame.id == 0 { 0 } else { monotonic_ns(deadline) });
        let began = Instant::now();
        self.set_call_deadline(Some(deadline));
        let status = {
            let _in_call = self.world.page.enter(self.slot, frame.message.event);
            // SAFETY: opened and not closed (both happen on this thread); the frame lives until the request is completed.
            unsafe { call(this, request) }
        };
        self.set_call_deadline(None);
        self.recover();
        let took = began.elapsed();
        let figures = &mut self.health().figures;
        figures.calls += 1;
        figures.busy += took;
        figures.longest = figures.longest.max(took);
        if status > abi::PENDING { abi::E_INVAL } else { status }
    }

    /// What was lost is replaced by what is.
    pub(super) fn resync(&self) {
        for message in self.world.synchronize_messages(self, Vec::new()) {
            let frame = Frame::new(message, 0, self.world.next_seq());
            self.call(&frame, Instant::now() + self.policy.timeout);
        }
    }

    pub(super) fn call_close(&self, reason: u32) {
        for (_, timer) in self.timers.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            timer.abort();
        }
        let this = self.this.write().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(close), Some(this)) = (self.library.table.close, this) {
            let _in_call = self.world.page.enter(self.slot, abi::EV_SHUTDOWN);
            // SAFETY: taken out above, so nobody calls with it after this.
            unsafe { close(this.0, reason) };
        }
    }
}

enum Next {
    Ask(u64, Arc<Frame>, Instant),
    Tell(Arc<Frame>),
    Resync,
    Pass(oneshot::Sender<()>),
    Close(u32, oneshot::Sender<()>),
}

/// All but those that mean a fault of this thread: blocked, the kernel would kill without asking our handler.
pub(super) fn block_signals() {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::all();
    for fault in
        [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP]
    {
        signals.remove(fault);
    }
    // Fails for no argument that we give.
    let _ = signals.thread_block();
}

fn monotonic_ns(at: Instant) -> u64 {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let left = at.saturating_duration_since(Instant::now());
    u64::try_from((now + left).as_nanos()).unwrap_or(u64::MAX)
}

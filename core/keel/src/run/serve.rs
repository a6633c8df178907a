//! What the worker asks, on its own connection and on those beside it, and what is about the worker and the holder themselves; the
//! rest `Hold` does.

use super::say::say;
use super::{Tender, now};
use crate::hold::{Asker, Refusal, high, reply};
use crate::holder::Holder;
use crate::wire::{self, Message, Op};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::Signal;
use sampan_journal::crash::keel_point as point;
use std::time::Duration;

/// From the end of the conversation to the end of the worker.
const LEAVE_GRACE: Duration = Duration::from_secs(10);
/// Requests in a row before signals, the worker's end and other connections are looked at again: a launch takes 0.2 ms, and
/// on one of the others the worker's loop waits.
const BATCH: usize = 4;

impl Tender {
    pub fn serve(&mut self) {
        for _ in 0..BATCH {
            let Some(worker) = &self.worker else { return };
            let (request, mut fds) = match wire::receive(worker.socket.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Some(request)) => request,
                // It is read again, by and by.
                Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM | Errno::NOBUFS) => return,
                Ok(None) | Err(Errno::CONNRESET) => return self.worker_leaves(),
                // It speaks nonsense.
                Err(_) => {
                    let _ = rustix::process::pidfd_send_signal(&worker.pidfd, Signal::KILL);
                    return;
                }
            };
            point("asked");
            let answer = self.answer(Asker::Worker, &request, &mut fds);
            drop(fds);
            point("before the answer");
            let Some(worker) = &self.worker else { return };
            match reply(worker.socket.as_fd(), &request, answer) {
                Ok(()) => point("answered"),
                Err(Errno::PIPE | Errno::CONNRESET) => return self.worker_leaves(),
                // It asks and does not listen.
                Err(_) => {
                    let _ = rustix::process::pidfd_send_signal(&worker.pidfd, Signal::KILL);
                    return;
                }
            }
        }
    }

    /// One request of each connection beside the worker's own that has one.
    pub fn serve_others(&mut self) {
        for at in 0..wire::CONNECTIONS_MAX {
            let Some((socket, asker)) = self.hold.connections.get(at) else { continue };
            let (request, mut fds) = match wire::receive(socket, RecvFlags::DONTWAIT) {
                Ok(Some(request)) => request,
                Err(Errno::AGAIN | Errno::INTR | Errno::NOMEM | Errno::NOBUFS) => continue,
                // It has ended, or speaks nonsense.
                Ok(None) | Err(_) => {
                    self.hold.connections.close(at);
                    continue;
                }
            };
            let answer = self.answer(asker, &request, &mut fds);
            let Some((socket, _)) = self.hold.connections.get(at) else { continue };
            if reply(socket, &request, answer).is_err() {
                self.hold.connections.close(at);
            }
        }
    }

    fn answer(
        &mut self,
        asker: Asker,
        request: &Message,
        fds: &mut wire::Fds,
    ) -> Result<(Message, Option<OwnedFd>), Refusal> {
        match Op::from_word(request.kind) {
            Some(op) if op.is_workers() && asker != Asker::Worker => return Err(Errno::PERM.into()),
            Some(Op::Ready) => self.worker_ready(),
            Some(Op::Hold) => self.start_holder(request, fds)?,
            Some(Op::Release) => {
                if let Some(holder) = self.holder.take() {
                    holder.end();
                }
            }
            _ => {}
        }
        let (answer, fd) = self.hold.handle(request, fds)?;
        Ok((self.with_holder(request, answer), fd))
    }

    /// It closed its end: it is on its way out, most likely with the exit code that counts.
    fn worker_leaves(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.silent = true;
            worker.kill_at = Some(now() + LEAVE_GRACE);
        }
    }

    fn worker_ready(&mut self) {
        self.history.any_ready = true;
        let Some(worker) = &mut self.worker else { return };
        worker.ready = true;
    }

    pub fn holder_ended(&mut self) {
        if let Some(holder) = &mut self.holder {
            say(format_args!("the holder of our descriptors has ended: another one starts"));
            holder.ended(now());
        }
    }

    /// Who asks for a holder is told its pid; 0: it has just ended, and another one starts.
    fn with_holder(&self, request: &Message, mut answer: Message) -> Message {
        if matches!(Op::from_word(request.kind), Some(Op::Hold | Op::Holder)) {
            let pid = self.holder.as_ref().and_then(Holder::pid);
            answer.words[0] = pid.map_or(0, |pid| pid.as_raw_nonzero().get());
        }
        answer
    }

    /// From here on what we hold outlives us.
    fn start_holder(&mut self, request: &Message, fds: &mut wire::Fds) -> Result<(), Errno> {
        fds.complete()?;
        let record = high(fds.take(0).ok_or(Errno::BADF)?)?;
        if self.holder.is_none() {
            self.holder = Some(Holder::start(request, record, &self.hold, now())?);
        }
        Ok(())
    }
}

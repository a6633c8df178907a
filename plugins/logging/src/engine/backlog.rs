//! `mode = "non-blocking"`: the logging thread reads a ring in the place of two pipes, which another thread empties.
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll;

use super::life::{READS_PER_DRAIN, set_nonblocking};
use super::service::Service;
use super::thread::LogThread;
use crate::ring::Ring;
use crate::spool::{Gap, READ_BYTES_MAX, Transfer};

/// Each stream may have a count of what is missing without bytes behind it; what gives more of them gets nowhere.
const READS_OF_NOTHING: usize = 2;

pub(super) struct Backlog {
    pub ring: Arc<Ring>,
    /// It is not looked at: see `Service::is_blocked`.
    paused: bool,
}

impl Service {
    /// What a ring has dropped before what comes now. The beginning of a line that lost its end goes too, unless it is in the log.
    pub(super) fn note_gap(&mut self, stream: usize, gap: Gap, tail: usize) {
        let Gap { mut loss, cut } = gap;
        if cut && tail > 0 {
            loss.add(0, tail as u64, loss.to);
        }
        self.streams[stream].loss.extend(&loss);
        self.figures.lines += loss.lines;
        self.figures.bytes += loss.bytes;
        self.figures.dropped += loss.lines;
    }
}

impl LogThread {
    /// Its pipes are emptied into the ring from now on.
    pub(super) fn attach_to_ring(
        &mut self,
        key: u64,
        ring: Arc<Ring>,
        pipes: [Option<Arc<OwnedFd>>; 2],
    ) -> io::Result<()> {
        let Some(service) = self.services.get_mut(&key) else { return Ok(()) };
        for (n, stream) in service.streams.iter_mut().enumerate() {
            let slot = self.spool.claim(&service.name, n)?;
            stream.take_up(slot, self.spool.carry(slot));
        }
        epoll::add(&self.epoll, ring.event(), epoll::EventData::new_u64(key << 1), epoll::EventFlags::IN)?;
        service.backlog = Some(Backlog { ring: ring.clone(), paused: false });
        for (n, pipe) in pipes.into_iter().enumerate() {
            let Some(pipe) = pipe else { continue };
            set_nonblocking(&pipe)?;
            service.streams[n].pipe = Some(pipe.clone());
            self.reader.add(key << 1 | n as u64, pipe, ring.clone(), n)?;
        }
        Ok(())
    }

    pub(super) fn let_go_of_ring(&mut self, key: u64) {
        (0..2).for_each(|n| self.reader.remove(key << 1 | n));
        if let Some(old) = self.services.get_mut(&key).and_then(|service| service.backlog.take()) {
            let _ = epoll::delete(&self.epoll, old.ring.event());
        }
    }

    /// One piece out of the ring; `None` if nothing is there, or nothing may be read.
    pub(super) fn read_ring(&mut self, key: u64) -> Option<usize> {
        if !(0..2).all(|stream| self.may_read(key, stream)) {
            return None;
        }
        let service = self.services.get_mut(&key)?;
        // Before the ring is held: this may wait for the disk, and who fills the ring must not.
        service.see_to_segment();
        let ring = service.backlog.as_ref()?.ring.clone();
        let front = ring.front()?;
        let (stream, slot) = (front.stream, service.streams[front.stream].slot?);
        service.reads_what_came_at = Some(front.time);
        let now = service.now();
        let transfer = Transfer { gap: Some(Gap::default()), ..service.next_transfer(slot, false, now) };
        let most = if service.may_hold() { self.spool.room(slot) } else { READ_BYTES_MAX };
        self.spool.arm(&transfer);
        let (taken, gap) = front.take(&mut self.spool, most);
        self.out.clear();
        let transfer = Transfer { gap: Some(gap), ..transfer };
        let done = service.transfer(stream, &mut self.spool, &mut self.out, &transfer);
        service.reads_what_came_at = None;
        self.wrote = true;
        self.report_error(key, done);
        Some(taken)
    }

    /// Until the ring and the pipes behind it are empty: what is in the ring first, so that nothing is dropped that can be written. All of
    /// the ring, which nobody else fills any more; of a pipe whose writer never stops as much as without a ring.
    pub(super) fn drain_ring(&mut self, key: u64) {
        (0..2).for_each(|n| self.reader.remove(key << 1 | n));
        let (mut fills, mut of_nothing) = (0, 0);
        while of_nothing <= READS_OF_NOTHING {
            if let Some(taken) = self.read_ring(key) {
                of_nothing = if taken == 0 { of_nothing + 1 } else { 0 };
                continue;
            }
            let Some(service) = self.services.get(&key).filter(|service| !service.is_blocked) else { return };
            let Some(backlog) = &service.backlog else { return };
            let fill = |n: usize| {
                let pipe = service.streams[n].pipe.as_ref()?;
                backlog.ring.fill(n, pipe.as_fd()).ok().filter(|taken| *taken > 0)
            };
            if fills == READS_PER_DRAIN || [0, 1].map(fill).iter().all(Option::is_none) {
                return;
            }
            (fills, of_nothing) = (fills + 1, 0);
        }
    }

    /// While it is blocked the ring is not looked at: it would be readable all the time.
    pub(super) fn pause_ring(&mut self, key: u64) {
        let backlog = self.services.get_mut(&key).and_then(|service| service.backlog.as_mut());
        if let Some(backlog) = backlog.filter(|backlog| !backlog.paused) {
            let _ = epoll::delete(&self.epoll, backlog.ring.event());
            backlog.paused = true;
        }
    }

    pub(super) fn resume_ring(&mut self, key: u64) {
        let Some(service) = self.services.get_mut(&key) else { return };
        let Some(backlog) = service.backlog.as_mut().filter(|backlog| backlog.paused) else { return };
        backlog.paused = false;
        let data = epoll::EventData::new_u64(key << 1);
        if let Err(error) = epoll::add(&self.epoll, backlog.ring.event(), data, epoll::EventFlags::IN) {
            tracing::error!(service = service.name, %error, "its buffer cannot be watched any more");
        }
    }
}

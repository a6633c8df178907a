//! The loop of the logging thread, and its timers.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::packer::Packer;
use super::reader::Reader;
use super::service::{End, SILENCE, Service};
use super::{AGAIN, COMMANDS, Command, Places, Report, Rings};
use crate::notifier::Notifier;
use crate::spool::{READ_BYTES_MAX, Spool, Transfer};

/// Reads of one pipe in one turn: 128 KiB.
const READS_PER_TURN: usize = 2;

/// What a timer is for: a stream's silence, (2) a full disk, (3) the age of segments, or (4) what the journal did not take.
pub(super) type Timer = (Instant, u64, usize);
const FULL: usize = 2;
const AGE: usize = 3;
const OFFER: usize = 4;

pub(super) struct LogThread {
    pub(super) places: Places,
    pub(super) spool: Spool,
    pub(super) epoll: OwnedFd,
    pub(super) inbox: Receiver<Command>,
    pub(super) wakeup: Arc<OwnedFd>,
    pub(super) notifier: Arc<Notifier>,
    pub(super) report: Report,
    pub(super) services: BTreeMap<u64, Service>,
    pub(super) names: BTreeMap<String, u64>,
    pub(super) next_key: u64,
    pub(super) timers: BinaryHeap<Reverse<Timer>>,
    pub(super) report_at: Option<Instant>,
    pub(super) packer: Packer,
    pub(super) reader: Reader,
    /// Of an earlier worker, until their services are attached.
    pub(super) rings: Rings,
    pub(super) out: Vec<u8>,
    pub(super) wrote: bool,
}

impl LogThread {
    pub(super) fn run(&mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let timeout = self.timeout();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "epoll_wait: nothing is logged any more");
                    return;
                }
            }
            for event in &events {
                match event.data.u64() {
                    COMMANDS => {
                        let mut count = [0; 8];
                        let _ = rustix::io::read(&*self.wakeup, &mut count);
                        while let Ok(command) = self.inbox.try_recv() {
                            if matches!(command, Command::Stop) {
                                return self.stop();
                            }
                            self.handle(command);
                        }
                    }
                    data => self.turn(data >> 1, (data & 1) as usize),
                }
            }
            self.run_timers();
            if std::mem::take(&mut self.wrote) {
                self.notifier.notify();
                self.report_at.get_or_insert_with(|| Instant::now() + AGAIN);
            }
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let next = timer.into_iter().chain(self.report_at).min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() })
    }

    /// Timers that are due.
    fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((_, key, what))) =
            self.timers.peek().copied().filter(|Reverse((at, ..))| *at <= now)
        {
            self.timers.pop();
            let Some(service) = self.services.get_mut(&key) else { continue };
            if what == FULL {
                service.with_loss().into_iter().for_each(|stream| self.transfer_nothing(key, false, stream));
                self.end_if_all_is_said(key);
                continue;
            }
            if what == AGE {
                let next = service.expire();
                service.aging = next.is_some();
                self.timers.extend(next.map(|next| Reverse((now + next, key, AGE))));
                self.pack(key);
                self.wrote = true;
                continue;
            }
            if what == OFFER {
                service.offers.timed = false;
                self.offer_again(key);
                continue;
            }
            service.streams[what].timed = false;
            match service.streams[what].held {
                Some(since) if since + SILENCE <= now => self.transfer_nothing(key, true, what),
                Some(_) => self.arm_timers(key),
                None => {}
            }
        }
        if self.report_at.is_some_and(|at| at <= now) {
            self.tell_figures();
        }
    }

    /// What the journal did not take before.
    fn offer_again(&mut self, key: u64) {
        let Some(service) = self.services.get_mut(&key) else { return };
        // Seen anew with each of them.
        service.is_blocked = false;
        let has_some = |n: &usize| service.streams[*n].held.is_some() || !service.streams[*n].loss.is_empty();
        for stream in (0..2).filter(has_some).collect::<Vec<_>>() {
            self.transfer_nothing(key, false, stream);
            if self.services.get(&key).is_some_and(|service| service.is_blocked) {
                return;
            }
        }
        match self.services.get(&key).map(|service| service.end) {
            Some(End::Begun) => self.end(key),
            Some(End::AllRead) => self.end_if_all_is_said(key),
            Some(End::No) | None => self.go_on(key),
        }
    }

    pub(super) fn tell_figures(&mut self) {
        self.report_at = None;
        for service in self.services.values_mut().filter(|service| service.figures != service.reported) {
            (self.report)(service.container, &service.reported, &service.figures);
            service.reported = service.figures;
        }
    }

    /// A transfer without new data: an unfinished line is flushed, or what was dropped is said.
    pub(super) fn transfer_nothing(&mut self, key: u64, flush: bool, stream: usize) {
        let Some(service) = self.services.get_mut(&key) else { return };
        let Some(slot) = service.streams[stream].slot else { return };
        service.see_to_segment();
        let now = service.now();
        let transfer = service.next_transfer(slot, flush, now);
        self.spool.arm(&transfer);
        self.out.clear();
        let done = service.transfer(stream, &mut self.spool, &mut self.out, &transfer);
        self.wrote = true;
        self.report_error(key, done);
        self.go_on(key);
        self.arm_timers(key);
    }

    /// After one or several transfers: what follows from them later, or beside.
    pub(super) fn arm_timers(&mut self, key: u64) {
        let Some(service) = self.services.get_mut(&key) else { return };
        for (n, stream) in service.streams.iter_mut().enumerate() {
            if let Some(since) = stream.held.filter(|_| !stream.timed) {
                stream.timed = true;
                self.timers.push(Reverse((since + SILENCE, key, n)));
            }
        }
        if service.ages() && !service.aging {
            service.aging = true;
            self.timers.push(Reverse((Instant::now(), key, AGE)));
        }
        if !service.with_loss().is_empty()
            && !self.timers.iter().any(|Reverse((_, of, what))| *of == key && *what == FULL)
        {
            self.timers.push(Reverse((service.loss_can_be_said_at(), key, FULL)));
        }
        if let Some(at) = service.offers_again_at().filter(|_| !service.offers.timed) {
            service.offers.timed = true;
            self.timers.push(Reverse((at, key, OFFER)));
        }
        self.pack(key);
    }

    pub(super) fn pack(&mut self, key: u64) {
        if let Some(job) = self.services.get_mut(&key).and_then(Service::next_to_pack) {
            self.packer.add(job);
        }
    }

    /// A pipe is readable.
    fn turn(&mut self, key: u64, stream: usize) {
        for _ in 0..READS_PER_TURN {
            match self.read(key, stream) {
                Some(READ_BYTES_MAX) => {}
                // What a ring gives at once is what came at once.
                Some(_) if self.services.get(&key).is_some_and(|service| service.backlog.is_some()) => {}
                _ => break,
            }
        }
        self.arm_timers(key);
    }

    /// One read; `None` if there is nothing to read.
    pub(super) fn read(&mut self, key: u64, stream: usize) -> Option<usize> {
        if self.services.get(&key)?.backlog.is_some() {
            return self.read_ring(key);
        }
        if !self.may_read(key, stream) {
            return None;
        }
        let service = self.services.get_mut(&key)?;
        let slot = service.streams[stream].slot.filter(|_| service.streams[stream].pipe.is_some())?;
        service.see_to_segment();
        let transfer = service.next_transfer(slot, false, 0);
        let most = if service.may_hold() { self.spool.room(slot) } else { READ_BYTES_MAX };
        let pipe = service.streams[stream].pipe.as_ref()?;
        self.spool.arm(&transfer);
        match self.spool.take(pipe.as_fd(), most) {
            Ok(0) => {
                // Nobody has it open for writing: nothing comes until it is attached again, but epoll would not sleep.
                let _ = epoll::delete(&self.epoll, pipe);
                service.streams[stream].pipe = None;
                let disarmed = self.spool.disarm(slot);
                self.report_error(key, disarmed);
                None
            }
            Ok(taken) => {
                let now = service.now();
                self.spool.set_time(now);
                self.out.clear();
                let transfer = Transfer { time: now, ..transfer };
                let done = service.transfer(stream, &mut self.spool, &mut self.out, &transfer);
                self.wrote = true;
                self.report_error(key, done);
                Some(taken)
            }
            Err(error) => {
                let disarmed = self.spool.disarm(slot);
                if !matches!(error, Errno::AGAIN | Errno::INTR) {
                    let _ = epoll::delete(&self.epoll, pipe);
                    service.streams[stream].pipe = None;
                    self.report_error(key, Err(error.into()));
                }
                self.report_error(key, disarmed);
                None
            }
        }
    }

    /// What waited for room is written first. While it waits the pipe is not looked at.
    pub(super) fn may_read(&mut self, key: u64, stream: usize) -> bool {
        let Some(service) = self.services.get(&key) else { return false };
        let held = service.streams[stream].slot.filter(|_| service.streams[stream].held.is_some());
        if let Some(slot) = held.filter(|_| !service.is_blocked) {
            let is_full = self.spool.room(slot) == 0;
            if is_full || self.spool.waits(slot, service.settings.max_line) {
                self.transfer_nothing(key, is_full, stream);
            }
        }
        let Some(service) = self.services.get_mut(&key) else { return false };
        if service.is_blocked && service.backlog.is_some() {
            self.pause_ring(key);
            return false;
        }
        let its = &mut service.streams[stream];
        if service.is_blocked
            && !its.paused
            && let Some(pipe) = &its.pipe
        {
            let _ = epoll::delete(&self.epoll, pipe);
            its.paused = true;
        }
        !service.is_blocked
    }

    /// After a transfer: there is room again.
    fn go_on(&mut self, key: u64) {
        let Some(service) = self.services.get_mut(&key).filter(|service| !service.is_blocked) else { return };
        if service.backlog.is_some() {
            return self.resume_ring(key);
        }
        for (n, stream) in service.streams.iter_mut().enumerate() {
            if std::mem::take(&mut stream.paused)
                && let Some(pipe) = &stream.pipe
            {
                let data = epoll::EventData::new_u64(key << 1 | n as u64);
                let added = epoll::add(&self.epoll, pipe, data, epoll::EventFlags::IN);
                if let Err(error) = added {
                    tracing::error!(service = service.name, %error, "its pipe cannot be watched any more");
                }
            }
        }
    }

    pub(super) fn report_error(&self, key: u64, result: io::Result<()>) {
        if let Err(error) = result {
            let service = self.services.get(&key).map_or("", |service| service.name.as_str());
            tracing::error!(service, %error, "logging");
        }
    }

    /// The spool may go with sampand, so this is the last occasion to say what was dropped.
    fn stop(&mut self) {
        let all: Vec<u64> = self.services.keys().copied().collect();
        // What is in the pipes then is for the next one.
        drop(std::mem::take(&mut self.reader));
        for key in &all {
            while self.services.get(key).is_some_and(|service| service.backlog.is_some())
                && self.read_ring(*key).is_some()
            {}
        }
        all.into_iter().for_each(|key| self.say_what_was_dropped(key));
        self.tell_figures();
    }
}

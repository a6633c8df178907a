//! What comes and goes: services, and the pipes of their lives.
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll;
use sampan_plugin::prelude::*;

use super::service::{Answer, End, Service};
use super::thread::LogThread;
use super::{Attachment, Command, Figures};
use crate::config::{Driver, OnFull, Settings};
use crate::segments::{Segments, list};
use crate::time;

/// The stream of sampand's own words.
const STDERR: usize = 1;
/// Reads of one pipe until a detach gives up on a writer that never stops: 64 MiB.
pub(super) const READS_PER_DRAIN: usize = 1024;

impl LogThread {
    pub(super) fn handle(&mut self, command: Command) {
        // Who asked may have given up: it is done all the same.
        match command {
            Command::Attach(attachment, done) => {
                let name = attachment.service.clone();
                let attached = self.attach(attachment);
                if attached.is_err() {
                    self.detach(&name, None);
                }
                let _ = done.send(attached);
            }
            Command::Lost(name, driver, done) => {
                let noted = self.note_unknown(&name, driver);
                let _ = done.send(noted);
            }
            Command::Detach(name, done) => {
                self.detach(&name, Some(Box::new(|| done.send(()).unwrap_or_default())));
            }
            Command::Finish(attachment, done) => {
                let name = attachment.service.clone();
                let attached = self.attach(attachment);
                self.detach(&name, Some(Box::new(|| drop(done.send(attached)))));
            }
            Command::Retain(names, done) => {
                let gone = |name: &String| !names.contains(name);
                let mut strays: Vec<String> = self.names.keys().filter(|name| gone(name)).cloned().collect();
                strays.extend(self.spool.claimed().map(|(_, name, _)| name).filter(gone));
                strays.extend(self.rings.keys().filter(|name| gone(name)).cloned());
                strays.iter().for_each(|name| self.detach(name, None));
                let _ = done.send(());
            }
            Command::Status(done) => {
                let figures =
                    |service: &Service| Figures { segments: service.segments.count(), ..service.figures };
                let all = self.services.values().map(|service| (service.name.clone(), figures(service)));
                let _ = done.send(all.collect());
            }
            Command::Stop => {}
        }
    }

    fn attach(&mut self, attachment: Attachment) -> io::Result<()> {
        let Attachment { service: name, container, settings, ring, pipes } = attachment;
        let safe = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if !safe {
            return Err(io::Error::other(format!("{name:?} cannot be the name of a folder")));
        }
        self.wait_no_longer_for(&name);
        let key = match self.names.get(&name) {
            Some(key) => {
                let key = *key;
                self.drain(key);
                key
            }
            None => {
                let segments = self.open_segments(&name, settings.driver)?;
                let key = self.next_key;
                self.next_key += 1;
                let journal = self.places.journal.clone();
                let service = Service::new(name.clone(), container, settings, segments, journal);
                self.services.insert(key, service);
                self.names.insert(name.clone(), key);
                key
            }
        };
        let is_other = |service: &Service| service.settings.driver != settings.driver;
        let other = self.services.get(&key).is_some_and(is_other);
        let other = other.then(|| self.open_segments(&name, settings.driver)).transpose()?;
        let Some(service) = self.services.get_mut(&key) else { return Ok(()) };
        if let Some(segments) = other {
            service.move_to(segments);
        }
        (service.settings, service.container, service.end) = (settings, container, End::No);
        // What holds it up by these settings is seen with the next transfer.
        service.is_blocked = false;
        service.go_on_offering();
        self.let_go_of_pipes(key);
        self.rings.remove(&name);
        match ring {
            Some(ring) => self.attach_to_ring(key, ring, pipes)?,
            None => self.attach_to_pipes(key, pipes)?,
        }
        // The other stream's state counts from the first read on, also if its pipe is not here yet.
        self.wrote = true;
        self.arm_timers(key);
        Ok(())
    }

    fn attach_to_pipes(&mut self, key: u64, pipes: [Option<Arc<OwnedFd>>; 2]) -> io::Result<()> {
        let Some(service) = self.services.get_mut(&key) else { return Ok(()) };
        for (n, pipe) in pipes.into_iter().enumerate() {
            let stream = &mut service.streams[n];
            let Some(pipe) = pipe else { continue };
            set_nonblocking(&pipe)?;
            let slot = self.spool.claim(&service.name, n)?;
            stream.take_up(slot, self.spool.carry(slot));
            let data = epoll::EventData::new_u64(key << 1 | n as u64);
            epoll::add(&self.epoll, &pipe, data, epoll::EventFlags::IN)?;
            (stream.pipe, stream.paused) = (Some(pipe), false);
        }
        Ok(())
    }

    /// A service that the spool knows is one that runs, or has something to be written: it is read and counted, and its log is opened
    /// when it can be. Any other may be told.
    fn open_segments(&self, name: &str, driver: Driver) -> io::Result<Segments> {
        let (dir, removed) = (self.places.dir.join(name), self.notifier.removed());
        let opened = match driver {
            Driver::Journald => self.places.journal.reach().map(|()| Segments::closed(&dir, driver, removed)),
            Driver::Local | Driver::JsonFile => Segments::open(&dir, driver, removed),
        };
        match opened {
            Err(error) if self.spool.claimed().any(|(_, of, _)| of == name) => {
                tracing::error!(service = name, path = %dir.display(), %error,
                    "cannot go on with its log: records are dropped and counted until it can");
                Ok(Segments::closed(&dir, driver, removed))
            }
            opened => opened,
        }
    }

    /// Until its pipes are empty. They give no EOF: the container's side may be open for reading and writing.
    fn drain(&mut self, key: u64) {
        if self.services.get(&key).is_some_and(|service| service.backlog.is_some()) {
            return self.drain_ring(key);
        }
        for stream in 0..2 {
            for _ in 0..READS_PER_DRAIN {
                if self.read(key, stream).is_none() {
                    break;
                }
            }
        }
    }

    /// Reads what is there, writes it, and lets go of the pipes and of all else that is the service's. Then `answer`.
    fn detach(&mut self, name: &str, answer: Option<Answer>) {
        if !self.names.contains_key(name) {
            self.take_up_what_is_left_of(name, None);
        }
        let key = self.names.get(name).copied();
        let Some((key, service)) = key.and_then(|key| Some((key, self.services.get_mut(&key)?))) else {
            self.release_slots(name);
            return answer.into_iter().for_each(|answer| answer());
        };
        // Nobody is left to be held up: what finds no room is dropped and counted.
        (service.settings.on_full, service.is_blocked, service.end) = (OnFull::Drop, false, End::Begun);
        service.offers.end_soon();
        service.waiting.extend(answer);
        self.end(key);
    }

    /// To its end, or until the journal has no room: then it is called again when the journal has been offered the rest.
    pub(super) fn end(&mut self, key: u64) {
        for step in [Self::drain, Self::flush] {
            step(self, key);
            if self.services.get(&key).is_some_and(|service| service.is_blocked) {
                return self.arm_timers(key);
            }
        }
        self.pack(key);
        self.let_go_of_pipes(key);
        if let Some(service) = self.services.get_mut(&key) {
            service.end = End::AllRead;
        }
        let waiting = self.services.get_mut(&key).map(|service| std::mem::take(&mut service.waiting));
        self.say_what_was_dropped(key);
        self.end_if_all_is_said(key);
        self.wrote = true;
        waiting.into_iter().flatten().for_each(|answer| answer());
    }

    /// Its next life is here: what the journal has no room for is dropped and counted.
    fn wait_no_longer_for(&mut self, name: &str) {
        let Some(key) = self.names.get(name).copied() else { return };
        if let Some(service) = self.services.get_mut(&key).filter(|service| service.end == End::Begun) {
            service.offers.end_now();
            service.is_blocked = false;
            self.end(key);
        }
    }

    /// A crash left it in the spool, and nobody has attached it since.
    fn take_up_what_is_left_of(&mut self, name: &str, driver: Option<Driver>) {
        let mut carried = (0..2).filter_map(|n| self.spool.find(name, n)).map(|slot| self.spool.carry(slot));
        let ring = self.rings.remove(name).filter(|ring| !ring.is_empty());
        if carried.all(|carry| carry.is_empty()) && ring.is_none() {
            return;
        }
        // Whatever its settings were: its last segment shows the driver.
        let last = || list(&self.places.dir.join(name)).ok()?.back().map(|(_, driver)| *driver);
        let driver = driver.or_else(last).unwrap_or(Settings::default().driver);
        let attachment = Attachment {
            service: name.to_owned(),
            container: Container::HOST,
            settings: Settings::of_a_stray(driver),
            ring,
            pipes: [None, None],
        };
        let attached = self.attach(attachment);
        self.report_error(0, attached);
        if let Some(service) = self.names.get(name).and_then(|key| self.services.get_mut(key)) {
            service.take_up(&self.spool);
        }
    }

    /// In the spool first, so that it is said whoever dies and however full the disk is; then in the log, if that has room.
    fn note_unknown(&mut self, name: &str, driver: Option<Driver>) -> io::Result<()> {
        let slot = self.spool.claim(name, STDERR)?;
        self.spool.note_unknown(slot, time::now())?;
        match self.names.get(name).and_then(|key| self.services.get_mut(key)) {
            Some(service) => service.take_up(&self.spool),
            None => self.take_up_what_is_left_of(name, driver),
        }
        self.detach(name, None);
        Ok(())
    }

    /// Unfinished lines.
    fn flush(&mut self, key: u64) {
        for stream in 0..2 {
            if self.services.get(&key).is_some_and(|service| service.streams[stream].held.is_some()) {
                self.transfer_nothing(key, true, stream);
            }
        }
    }

    fn let_go_of_pipes(&mut self, key: u64) {
        self.let_go_of_ring(key);
        let Some(service) = self.services.get_mut(&key) else { return };
        for stream in &mut service.streams {
            if let Some(pipe) = stream.pipe.take() {
                let _ = epoll::delete(&self.epoll, &pipe);
            }
        }
    }

    /// Also on a disk that is full: there may be room in the last block.
    pub(super) fn say_what_was_dropped(&mut self, key: u64) {
        for stream in 0..2 {
            let Some(service) = self.services.get_mut(&key) else { return };
            if !service.streams[stream].loss.is_empty() {
                service.hurry();
                self.transfer_nothing(key, false, stream);
            }
        }
    }

    /// The end of a service that was detached; until then its slots in the spool keep the count of what was dropped.
    pub(super) fn end_if_all_is_said(&mut self, key: u64) {
        let is_over = |service: &&mut Service| service.end == End::AllRead && service.with_loss().is_empty();
        let Some(service) = self.services.get_mut(&key).filter(is_over) else { return };
        (self.report)(service.container, &service.reported, &service.figures);
        let name = service.name.clone();
        self.services.remove(&key);
        self.names.remove(&name);
        self.release_slots(&name);
    }

    /// But for what was neither written nor said to be dropped: that is for whoever attaches it next.
    fn release_slots(&mut self, name: &str) {
        for slot in (0..2).filter_map(|stream| self.spool.find(name, stream)).collect::<Vec<_>>() {
            if self.spool.carry(slot).is_empty() {
                self.spool.release(slot);
            }
        }
    }
}

pub(super) fn set_nonblocking(pipe: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(pipe)?;
    Ok(rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK)?)
}

//! The thread that empties the pipes of services that must not wait: into their rings, and nothing else.
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, epoll};
use rustix::io::Errno;

use crate::ring::Ring;
use crate::spool::READ_BYTES_MAX;

/// Reads of one pipe in one turn: 256 KiB at most.
const READS_PER_TURN: usize = 4;
const STOP: u64 = u64::MAX;

struct Source {
    pipe: Arc<OwnedFd>,
    ring: Arc<Ring>,
    stream: usize,
}

struct Shared {
    epoll: OwnedFd,
    wakeup: OwnedFd,
    /// Held while one is read: who has removed one knows that it is not read any more.
    sources: Mutex<BTreeMap<u64, Source>>,
}

/// Begins with the first pipe.
#[derive(Default)]
pub(super) struct Reader(Option<(Arc<Shared>, JoinHandle<()>)>);

impl Reader {
    fn shared(&mut self) -> io::Result<&Shared> {
        if self.0.is_none() {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            let wakeup = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            epoll::add(&epoll, &wakeup, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
            let shared = Arc::new(Shared { epoll, wakeup, sources: Mutex::default() });
            let its = shared.clone();
            let thread = std::thread::Builder::new().name("sp-log-reader".to_owned());
            self.0 = Some((shared, thread.spawn(move || its.run())?));
        }
        let (shared, _) = self.0.as_ref().ok_or_else(|| io::Error::other("no reader"))?;
        Ok(shared)
    }

    /// `key`: a number of its own.
    pub fn add(&mut self, key: u64, pipe: Arc<OwnedFd>, ring: Arc<Ring>, stream: usize) -> io::Result<()> {
        self.remove(key);
        let shared = self.shared()?;
        let mut sources = shared.sources();
        epoll::add(&shared.epoll, &pipe, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?;
        sources.insert(key, Source { pipe, ring, stream });
        Ok(())
    }

    /// It is not read any more when this returns.
    pub fn remove(&mut self, key: u64) {
        if let Some((shared, _)) = &self.0 {
            shared.remove(&mut shared.sources(), key);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((shared, thread)) = self.0.take() {
            let _ = rustix::io::write(&shared.wakeup, &1u64.to_ne_bytes());
            // It does not panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn sources(&self) -> MutexGuard<'_, BTreeMap<u64, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, sources: &mut BTreeMap<u64, Source>, key: u64) {
        if let Some(source) = sources.remove(&key) {
            let _ = epoll::delete(&self.epoll, &source.pipe);
        }
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "epoll_wait: services with logging.mode = \"non-blocking\" are not read any more");
                    return;
                }
            }
            for event in &events {
                match event.data.u64() {
                    STOP => return,
                    key => self.turn(key),
                }
            }
        }
    }

    fn turn(&self, key: u64) {
        let mut sources = self.sources();
        for _ in 0..READS_PER_TURN {
            let Some(source) = sources.get(&key) else { return };
            match source.ring.fill(source.stream, source.pipe.as_fd()) {
                Ok(READ_BYTES_MAX) => {}
                Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => return,
                // Nobody has it open for writing: nothing comes until it is attached again, but epoll would not sleep.
                Ok(0) => return self.remove(&mut sources, key),
                Err(error) => {
                    tracing::error!(%error, "a pipe cannot be read any more");
                    return self.remove(&mut sources, key);
                }
            }
        }
    }
}

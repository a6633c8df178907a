//! Compresses segments that are not written any more, in a thread that lives while there are some and is as unimportant as can be.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::config::Driver;
use crate::pack;
use crate::segments::{Number, list, path};

/// All that are complete in a folder: those before this one.
pub(super) struct Job {
    pub dir: PathBuf,
    pub before: Number,
}

#[derive(Default)]
pub(super) struct Packer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<PathBuf, Number>,
    is_running: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let me = rustix::thread::gettid();
        // It works all the same where it may not be.
        let _ = rustix::process::setpriority_process(Some(me), 19);
        loop {
            let mut queue = self.queue();
            let job = queue.waiting.pop_first();
            let Some((dir, before)) = job.filter(|_| !self.stop.load(Ordering::Relaxed)) else {
                queue.is_running = false;
                return;
            };
            drop(queue);
            self.pack(&dir, before);
        }
    }

    fn pack(&self, dir: &Path, before: Number) {
        pack::remove_unfinished(dir);
        let complete = |(number, _): &(Number, Driver)| *number < before;
        for (number, driver) in list(dir).unwrap_or_default().into_iter().filter(complete) {
            let plain = path(dir, number, driver);
            if !plain.exists() {
                continue;
            }
            if let Err(error) = pack::pack(&plain, &self.stop) {
                // It stays as it is, and is tried again after the next one.
                tracing::debug!(path = %plain.display(), %error, "cannot compress a segment");
                return;
            }
        }
    }
}

impl Packer {
    pub fn add(&mut self, job: Job) {
        let mut queue = self.shared.queue();
        queue.waiting.insert(job.dir, job.before);
        if queue.is_running {
            return;
        }
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("sp-log-packer".to_owned()).spawn(move || shared.run());
        match thread {
            Ok(thread) => {
                queue.is_running = true;
                // The last one has ended, or is about to.
                self.thread = Some(thread);
            }
            Err(error) => tracing::warn!(%error, "segments are not compressed for now"),
        }
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}

//! What the logging thread tells those who read its files: that there is more to read (an eventfd each, written only if its owner
//! sleeps), and how large the segments were that it removed.
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{EventfdFlags, PollFd, PollFlags};

#[derive(Default)]
pub struct Notifier {
    removed: Arc<Removed>,
    sleepers: Mutex<Vec<Weak<Sleeper>>>,
    ended: AtomicBool,
}

pub struct Sleeper {
    wakeup: OwnedFd,
    asleep: AtomicBool,
}

impl Notifier {
    pub fn subscribe(&self) -> std::io::Result<Arc<Sleeper>> {
        let wakeup = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let sleeper = Arc::new(Sleeper { wakeup, asleep: AtomicBool::new(false) });
        self.lock().push(Arc::downgrade(&sleeper));
        Ok(sleeper)
    }

    pub fn notify(&self) {
        self.lock().retain(|sleeper| match sleeper.upgrade() {
            Some(sleeper) => {
                if sleeper.asleep.swap(false, Ordering::SeqCst) {
                    // Full means that it is awake already.
                    let _ = rustix::io::write(&sleeper.wakeup, &1u64.to_ne_bytes());
                }
                true
            }
            None => false,
        });
    }

    pub fn removed(&self) -> &Arc<Removed> {
        &self.removed
    }

    /// Followers end.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.notify();
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    pub fn sleepers(&self) -> usize {
        self.lock().iter().filter(|sleeper| sleeper.strong_count() > 0).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Sleeper>>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sleeper {
    /// To be followed by one more look at the files, and only then by `sleep`.
    pub fn doze(&self) {
        self.asleep.store(true, Ordering::SeqCst);
    }

    /// Until there is more; false when nobody reads the other end of `pipe` any more.
    pub fn sleep(&self, pipe: BorrowedFd<'_>) -> bool {
        let mut fds = [
            PollFd::new(&self.wakeup, PollFlags::IN),
            PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::empty()),
        ];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
        let gone = fds[1].revents().intersects(PollFlags::ERR | PollFlags::NVAL);
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.wakeup, &mut count);
        !gone
    }
}

/// Of one folder, so many removed segments are remembered.
const REMEMBERED_MAX: usize = 4096;

/// By folder, the segments that were removed lately: their numbers and bytes.
#[derive(Debug, Default)]
pub struct Removed(Mutex<BTreeMap<PathBuf, VecDeque<(u64, u64)>>>);

impl Removed {
    /// To be called before the segment goes: who misses it asks here.
    pub fn note(&self, dir: &Path, number: u64, bytes: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(dir.to_owned()).or_default();
        if known.len() == REMEMBERED_MAX {
            known.pop_front();
        }
        known.push_back((number, bytes));
    }

    /// The bytes of the segments between these two; `None` where not all of them are known.
    pub fn between(&self, dir: &Path, after: u64, before: u64) -> Option<u64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(dir)?.iter().filter(|(number, _)| (after + 1..before).contains(number));
        let (count, bytes) = known.fold((0, 0), |(count, sum), (_, bytes)| (count + 1, sum + bytes));
        (count == before.saturating_sub(after + 1)).then_some(bytes)
    }
}

//! Wakes followers when there is more to read: an eventfd each, written only if its owner sleeps.
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::event::{EventfdFlags, PollFd, PollFlags};

#[derive(Default)]
pub struct Tide {
    sleepers: Mutex<Vec<Weak<Sleeper>>>,
    ended: AtomicBool,
}

pub struct Sleeper {
    bell: OwnedFd,
    asleep: AtomicBool,
}

impl Tide {
    pub fn join(&self) -> std::io::Result<Arc<Sleeper>> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let sleeper = Arc::new(Sleeper { bell, asleep: AtomicBool::new(false) });
        self.lock().push(Arc::downgrade(&sleeper));
        Ok(sleeper)
    }

    pub fn rise(&self) {
        self.lock().retain(|sleeper| match sleeper.upgrade() {
            Some(sleeper) => {
                if sleeper.asleep.swap(false, Ordering::SeqCst) {
                    // Full means that it is awake already.
                    let _ = rustix::io::write(&sleeper.bell, &1u64.to_ne_bytes());
                }
                true
            }
            None => false,
        });
    }

    /// Followers end.
    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.rise();
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

    /// Until the tide rises; false when nobody reads the other end of `pipe` any more.
    pub fn sleep(&self, pipe: BorrowedFd<'_>) -> bool {
        let mut fds = [
            PollFd::new(&self.bell, PollFlags::IN),
            PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::empty()),
        ];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
        let gone = fds[1].revents().intersects(PollFlags::ERR | PollFlags::NVAL);
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.bell, &mut count);
        !gone
    }
}

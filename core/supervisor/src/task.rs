//! Tasks of the loop's thread that end with their owner.
use crate::clock;
use sampan_service::Ms;
use tokio::task::AbortHandle;

/// A task that ends with its owner.
#[derive(Debug)]
pub struct Task(AbortHandle);

impl From<tokio::task::JoinHandle<()>> for Task {
    fn from(handle: tokio::task::JoinHandle<()>) -> Task {
        Task(handle.abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A task that does something at an instant of CLOCK_BOOTTIME. tokio's clock stands still while the host sleeps, so
/// the rest of the wait is looked at again when it wakes.
pub fn sleep_until(at: Ms, then: impl FnOnce() + 'static) -> Task {
    Task::from(tokio::task::spawn_local(async move {
        loop {
            let left = at.since(clock::boottime());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left).await;
        }
        then();
    }))
}

//! A thread for what the loop's thread must not do: enter another network namespace (it would have to come back, and could
//! fail to), or walk a container's file system (a FUSE mount may hang for ever). It does one thing and ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// Small: a helper does a few system calls.
const STACK_BYTES: usize = 64 * 1024;

/// One service's helper: at most one thread at a time, so that a container that lets one hang cannot pile them up.
#[derive(Clone, Debug, Default)]
pub struct Helper {
    busy: Arc<AtomicBool>,
}

impl Helper {
    /// For whoever has a thread elsewhere: held by that thread for as long as it works.
    pub fn turn(&self) -> io::Result<Turn> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(io::Error::other("the check before still hangs in the kernel"));
        }
        Ok(Turn(Arc::clone(&self.busy)))
    }

    /// Runs `work` on a thread of its own. If the caller stops waiting, the thread ends when its call returns.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mine = self.turn()?;
        let (tx, rx) = oneshot::channel();
        let thread = move || {
            let done = work();
            drop(mine);
            drop(tx.send(done));
        };
        std::thread::Builder::new().name("probe".to_owned()).stack_size(STACK_BYTES).spawn(thread)?;
        rx.await.map_err(|_| io::Error::other("the probe's thread ended without a word"))?
    }
}

/// Free again when the thread is done, or was never made.
#[derive(Debug)]
pub struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_hangs_is_not_joined_by_a_second() {
        let helper = Helper::default();
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hung = helper.run(move || hang.recv().map_err(io::Error::other));
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), hung).await;
        assert!(waited.is_err());
        assert!(helper.run(|| Ok(())).await.unwrap_err().to_string().contains("hangs"));
        release.send(()).unwrap();
        while helper.run(|| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

//! The plugin's own runtime.
use crate::error::Result;
use crate::logs;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long a cancelled handler may still run before it is dropped.
pub(super) const CANCEL_GRACE: Duration = Duration::from_millis(100);

/// A current-thread runtime whose thread exists only once something is pending.
pub(super) struct Runtime {
    name: &'static str,
    handle: tokio::runtime::Handle,
    idle: Mutex<Option<tokio::runtime::Runtime>>,
    stop: CancellationToken,
    started: OnceLock<()>,
}

impl Runtime {
    pub(super) fn new(name: &'static str) -> Result<Runtime> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Runtime {
            name,
            handle: runtime.handle().clone(),
            idle: Mutex::new(Some(runtime)),
            stop: CancellationToken::new(),
            started: OnceLock::new(),
        })
    }

    pub(super) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.handle.enter()
    }

    /// For `open` alone, before the thread exists.
    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let runtime = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        match &*runtime {
            Some(runtime) => runtime.block_on(future),
            None => self.handle.block_on(future),
        }
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.start();
        self.handle.spawn(future);
    }

    /// A handler that is ready may have left tasks behind.
    pub(super) fn start_if_tasks(&self) {
        if self.started.get().is_none() && self.handle.metrics().num_alive_tasks() > 0 {
            self.start();
        }
    }

    fn start(&self) {
        self.started.get_or_init(|| {
            let Some(runtime) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                return;
            };
            let stop = self.stop.clone();
            let name = format!("{}-rt", self.name);
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(stop.cancelled());
                // Tasks that end by themselves (cancelled handlers complete theirs) get a moment; the rest are dropped.
                runtime.block_on(async {
                    let enough = Instant::now() + 2 * CANCEL_GRACE;
                    let handle = tokio::runtime::Handle::current();
                    while handle.metrics().num_alive_tasks() > 0 && Instant::now() < enough {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
                runtime.shutdown_background();
            });
            if let Err(error) = thread {
                logs::error_line(&format!("cannot start the plugin's runtime thread: {error}"));
            }
        });
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

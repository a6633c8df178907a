//! Work on a thread of the pool that is done one at a time: whoever asks often waits, and takes no more than one thread.
use crate::request::failure;
use sampan_api as api;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Shared by those of whom one works at a time.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// Of what needs no thread, and ends by itself: the turn is over when nobody waits for it any more.
    pub async fn alone<T>(self, work: impl Future<Output = T>) -> T {
        let _turn = self.0.lock_owned().await;
        work.await
    }

    /// `work` on what `ask` gives. The turn is the work's own, since a thread cannot be made to end: it is over when the work is, not
    /// when nobody waits for that any more.
    pub async fn take<A, T, E>(
        self,
        ask: impl Future<Output = Result<A, E>>,
        work: impl FnOnce(A) -> T + Send + 'static,
    ) -> Result<T, E>
    where
        A: Send + 'static,
        T: Send + 'static,
        E: From<api::Failure>,
    {
        let turn = self.0.lock_owned().await;
        let asked = ask.await?;
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(asked)
        });
        worked.await.map_err(|error| failure("internal", error.to_string()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn a_turn_is_over_with_the_work_not_with_who_waits() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let turn = Turn::default();
            let (begun, is_begun) = channel();
            let (go, may_go) = channel::<()>();
            let first = turn.clone().take(async { Ok::<_, api::Failure>(()) }, move |()| {
                begun.send(()).unwrap();
                may_go.recv().unwrap();
            });
            assert!(
                tokio::time::timeout(Duration::from_millis(50), first).await.is_err(),
                "nobody waits now"
            );
            is_begun.recv().unwrap();
            let mut second = Box::pin(turn.take(async { Ok::<_, api::Failure>(()) }, |()| 2));
            let soon = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
            assert!(soon.is_err(), "the first still works");
            go.send(()).unwrap();
            assert_eq!(second.await.unwrap(), 2);
        });
    }
}

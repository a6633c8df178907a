//! desired.json: what survives a reboot. One task writes it: always the newest, never two at once.
use sampan_journal::Desired;
use std::path::PathBuf;
use tokio::sync::watch;

#[derive(Debug)]
pub struct Wishes {
    newest: watch::Sender<Option<Desired>>,
    written: watch::Receiver<Option<Desired>>,
}

impl Wishes {
    pub fn start(state: PathBuf) -> Wishes {
        let (newest, mut asked) = watch::channel(None::<Desired>);
        let (done, written) = watch::channel(None);
        tokio::task::spawn_local(async move {
            while asked.changed().await.is_ok() {
                let Some(desired) = asked.borrow_and_update().clone() else { continue };
                let (folder, copy) = (state.clone(), desired.clone());
                match tokio::task::spawn_blocking(move || copy.save(&folder)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::error!("cannot save {}: {error}", state.join("desired.json").display());
                    }
                    Err(error) => tracing::error!("saving desired.json: {error}"),
                }
                done.send_replace(Some(desired));
            }
        });
        Wishes { newest, written }
    }

    /// Has this one written, off the loop.
    pub fn save(&self, desired: Desired) {
        self.newest.send_replace(Some(desired));
    }

    /// Waits until what was saved last is on the disk.
    pub async fn flush(&self) {
        let mut written = self.written.clone();
        let asked = self.newest.borrow().clone();
        let _ = written.wait_for(|written| *written == asked).await;
    }
}

//! desired.json, written off the loop: the newest one, whole. A state folder that cannot be written to is told once, and what
//! could not be saved is saved when it can be.
use sampan_journal::Desired;
use sampan_keel::rundir;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

const AGAIN: Duration = Duration::from_secs(2);

/// How long sampand's end waits for the disk.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// One task writes desired.json: always the newest, never two at once.
#[derive(Debug)]
pub struct Wishes {
    state: PathBuf,
    newest: watch::Sender<Option<Desired>>,
    /// That were tried to be written.
    tried: watch::Receiver<Option<Desired>>,
}

impl Wishes {
    pub fn start(state: PathBuf) -> Wishes {
        let (newest, mut asked) = watch::channel(None::<Desired>);
        let (done, tried) = watch::channel(None);
        let folder = state.clone();
        tokio::task::spawn_local(async move {
            let mut failed = false;
            while next(&mut asked, failed).await {
                let Some(desired) = asked.borrow_and_update().clone() else { continue };
                let (folder, copy) = (state.clone(), desired.clone());
                let result = tokio::task::spawn_blocking(move || save(&copy, &folder)).await;
                match result.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(()) if failed => {
                        failed = false;
                        tracing::info!("state_dir {} can be written to again", state.display());
                    }
                    Ok(()) => {}
                    Err(why) if !failed => {
                        failed = true;
                        tracing::warn!(
                            "what must survive a reboot (services stopped by hand) is not saved, {why}; tried again until it \
                             is: see that state_dir of [supervisor] can be written to and has room"
                        );
                    }
                    Err(_) => {}
                }
                done.send_replace(Some(desired));
            }
        });
        Wishes { state: folder, newest, tried }
    }

    pub fn save(&self, desired: Desired) {
        self.newest.send_replace(Some(desired));
    }

    /// Waits until what was asked for last is on the disk, or was tried once. A disk that does not answer is told, with what it
    /// was not told of.
    pub async fn flush(&self) {
        let mut tried = self.tried.clone();
        let asked = self.newest.borrow().clone();
        if tokio::time::timeout(FLUSH_MAX, tried.wait_for(|tried| *tried == asked)).await.is_err() {
            let lost = lost(asked.unwrap_or_default(), self.tried.borrow().clone().unwrap_or_default());
            tracing::warn!(
                "state_dir {} did not answer within {} s: is its mount dead? After a reboot services start as if there had been \
                 no {lost}",
                self.state.display(),
                FLUSH_MAX.as_secs()
            );
        }
    }
}

/// What of `asked` is not in `tried`, in words.
fn lost(asked: Desired, tried: Desired) -> String {
    let stopped = |desired: Desired| -> BTreeSet<String> {
        desired.services.into_iter().filter(|(_, wish)| wish.stopped).map(|(name, _)| name).collect()
    };
    let (asked, tried) = (stopped(asked), stopped(tried));
    let names = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let (stops, starts) =
        (names(asked.difference(&tried).collect()), names(tried.difference(&asked).collect()));
    let by_hand = [("stop", stops), ("start", starts)].into_iter().filter(|(_, names)| !names.is_empty());
    let by_hand = by_hand.map(|(what, names)| format!("{what} of {names} by hand"));
    by_hand.chain(["failed attempt since".to_owned()]).collect::<Vec<_>>().join(", no ")
}

/// Until there is something to save, or to save again. False: there never will be.
async fn next(asked: &mut watch::Receiver<Option<Desired>>, failed: bool) -> bool {
    let changed = asked.changed();
    if !failed {
        return changed.await.is_ok();
    }
    !matches!(tokio::time::timeout(AGAIN, changed).await, Ok(Err(_)))
}

/// Also into a folder that somebody has removed.
fn save(desired: &Desired, state: &Path) -> Result<(), String> {
    rundir::make_state(state).map_err(|error| error.to_string())?;
    desired.save(state).map_err(|errno| format!("{}: {errno}", state.display()))
}

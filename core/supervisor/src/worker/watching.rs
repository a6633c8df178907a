//! The present life of a service, watched: its main process ends whenever it likes.

use crate::fleet::Live;
use crate::life;
use crate::message::{Message, Sender};
use crate::task::Task;
use sampan_keel::Handle;
use sampan_service::sabotage::{Invariant, broken};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Waits for a main process to end; the answer is `Message::Exited`.
pub fn watch(
    send: Sender,
    name: &Arc<str>,
    generation: u64,
    process: life::Process,
    netns: Option<Arc<OwnedFd>>,
    gate: Option<life::StartGate>,
) -> Live {
    let pidfd = process.pidfd;
    if broken(Invariant::LeakedDescriptor) {
        std::mem::forget(pidfd.clone());
    }
    let (service, watched) = (name.clone(), pidfd.clone());
    let own = matches!(process.handle, Some(Handle::Own(_)));
    let watch = Task::from(tokio::task::spawn_local(async move {
        match crate::fence::readable(watched) {
            Ok(fd) if own => drop(fd.readable().await),
            Ok(fd) => life::reaped(&fd).await,
            Err(error) => tracing::error!(service = &*service, "cannot watch its process: {error}"),
        }
        let _ = send.send(Message::Exited { name: service, generation });
    }));
    Live {
        generation,
        pid: process.pid,
        pidfd,
        handle: process.handle,
        oom_before: process.oom_before,
        paused_since: None,
        limits: None,
        started_at: process.started_at,
        netns,
        gate,
        watch,
        steps: None,
        says: None,
    }
}

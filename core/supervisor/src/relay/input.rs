//! What attached clients type, on its way to a service's standard input.
use crate::fence;
use axum::body::Bytes;
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::mpsc;

/// Messages that may wait; then the clients do.
const WAITING_MAX: usize = 16;
/// How often it is tried again if the kernel does not say that there is room: of a terminal it does not always.
const AGAIN: Duration = Duration::from_millis(200);

/// The way in, and what carries it there until it is dropped. `to` is not blocking.
pub fn begin(service: &str, to: OwnedFd) -> (mpsc::Sender<Bytes>, crate::task::Task) {
    let (send, typed) = mpsc::channel(WAITING_MAX);
    let service = service.to_owned();
    let task = tokio::task::spawn_local(async move {
        if let Err(error) = carry(typed, to).await {
            tracing::error!(service, "what is typed does not reach it any more: {error}");
        }
    });
    (send, task.into())
}

async fn carry(mut typed: mpsc::Receiver<Bytes>, to: OwnedFd) -> io::Result<()> {
    let to = fence::writable(to)?;
    while let Some(bytes) = typed.recv().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(&**to.get_ref(), rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let Ok(ready) = tokio::time::timeout(AGAIN, to.writable()).await else { continue };
                    let mut ready = ready?;
                    ready.clear_ready();
                    // To tokio a hang-up is final: it stays ready, also when it is open again and full.
                    if ready.ready().is_write_closed() {
                        tokio::time::sleep(AGAIN).await;
                    }
                }
                // It has closed its input, or its terminal is hung up: then nobody reads what is typed.
                Err(Errno::PIPE | Errno::IO) => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

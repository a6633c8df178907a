//! Signals for sampand itself become messages. SIGINT, SIGTERM and SIGHUP reach the worker through the keel, each once.
use crate::worker::Message;
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// Takes over the signals that end sampand or make it read its config again.
pub fn signals(send: &mpsc::UnboundedSender<Message>) -> std::io::Result<()> {
    let mut signals = signal_hook_tokio::Signals::new([libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    let send = send.clone();
    tokio::task::spawn_local(async move {
        while let Some(signal) = signals.next().await {
            if send.send(Message::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

//! What sampand is told from outside becomes messages: the keel's orders, one for each signal that it got, and its own word
//! that it has another holder. Signals to the worker
//! itself are none: whoever signals a whole group, as systemd does, would be heard twice, and twice means hurry.
use crate::message::Message;
use sampan_keel::Order;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::mpsc;

/// From here on signals to end or to reload do nothing in this process. Handlers, not `ignore`: that would be inherited.
pub fn ignore_signals() -> std::io::Result<()> {
    for (signal, _) in Order::SIGNALS {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(())
}

/// Reads orders until the process ends.
pub fn orders(pipe: OwnedFd, send: &mpsc::UnboundedSender<Message>) -> std::io::Result<()> {
    let (pipe, send) = (crate::fence::readable(pipe)?, send.clone());
    tokio::task::spawn_local(async move {
        while let Ok(mut ready) = pipe.readable().await {
            let mut bytes = [0; 64];
            let Ok(read) = ready.try_io(|fd| Ok(rustix::io::read(&**fd.get_ref(), &mut bytes)?)) else {
                continue;
            };
            let got = bytes.get(..read.unwrap_or(0)).unwrap_or_default();
            for order in got.iter().filter_map(|byte| Order::from_byte(*byte)) {
                if send.send(Message::Order(order)).is_err() {
                    return;
                }
            }
        }
    });
    Ok(())
}

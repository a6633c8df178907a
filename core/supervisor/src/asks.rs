//! What plugins want of the supervisor. Their asks (`submit` with SIGNAL, START, STOP, RESTART) go the way of a client's
//! requests, so that both mean the same and stand in the same order; the answer comes back as RESULT when what was asked
//! for has come true. A plugin that is enabled again lets the starts go on that waited for it.
use crate::message::Message;
use crate::request::Request;
use sampan_config::units;
use sampan_plugin_host::{Ask, Wish};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc, oneshot};

/// Until the loop ends.
pub fn forward(
    mut asks: mpsc::UnboundedReceiver<Ask>,
    back: Arc<Notify>,
    send: mpsc::UnboundedSender<Message>,
) {
    tokio::spawn(async move {
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => one(ask, &send),
                    None => return,
                },
                () = back.notified() => {
                    let _ = send.send(Message::Gate);
                }
            }
        }
    });
}

fn one(ask: Ask, send: &mpsc::UnboundedSender<Message>) {
    let Ask { what, service: name, asker } = ask;
    tracing::info!(service = name, plugin = asker.plugin(), "asked to {}", what.verb());
    let (answer, answered) = oneshot::channel();
    let detach = false;
    let request = match what {
        Wish::Start => Request::Start { name, detach, answer },
        Wish::Stop => Request::Stop { name, detach, answer },
        Wish::Restart => Request::Restart { name, detach, answer },
        Wish::Signal(text) => match units::parse_signal(&text) {
            Some(signal) => Request::Kill { name, signal, answer },
            None => {
                return asker.answer(Err(format!("no signal {text:?}; write \"SIGTERM\", \"TERM\" or 15")));
            }
        },
    };
    // The loop has ended: `asker` is dropped, which says so.
    if send.send(Message::Request(request)).is_err() {
        return;
    }
    tokio::spawn(async move {
        match answered.await {
            Ok(Ok(_)) => asker.answer(Ok(json!({}))),
            Ok(Err(failure)) => asker.answer(Err(failure.error)),
            Err(_) => drop(asker),
        }
    });
}

//! What plugins want of the supervisor. Their asks (`submit` with SIGNAL, START, STOP, RESTART) go the way of a client's
//! requests, so that both mean the same and stand in the same order; the answer comes back as RESULT when what was asked
//! for has come true. A plugin that is enabled again lets the starts go on that waited for it.
use crate::message::Message;
use crate::request::Request;
use sampan_config::units;
use sampan_plugin::abi;
use sampan_plugin_host::Ask;
use serde_json::{Value, json};
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
    let Ask { op, service: name, args, asker } = ask;
    tracing::info!(service = name, plugin = asker.plugin(), "asked to {}", verb(op));
    let (answer, answered) = oneshot::channel();
    let detach = false;
    let request = match op {
        abi::OP_START => Request::Start { name, detach, answer },
        abi::OP_STOP => Request::Stop { name, detach, answer },
        abi::OP_RESTART => Request::Restart { name, detach, answer },
        _ => match signal(&args) {
            Ok(signal) => Request::Kill { name, signal, answer },
            Err(text) => return asker.answer(Err(text)),
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

fn verb(op: u32) -> &'static str {
    match op {
        abi::OP_START => "start",
        abi::OP_STOP => "stop",
        abi::OP_RESTART => "restart",
        _ => "signal",
    }
}

/// `{"signal": "HUP"}`, or a number.
fn signal(args: &Value) -> Result<i32, String> {
    let given = args.get("signal").unwrap_or(&Value::Null);
    let text = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
    units::parse_signal(&text).ok_or_else(|| format!("no signal {text:?}; write \"SIGTERM\", \"TERM\" or 15"))
}

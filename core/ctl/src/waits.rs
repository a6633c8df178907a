//! While a verb waits for sampand's answer: what for, said on standard error.
use crate::ask::{complain, of};
use crate::client;
use sampan_api as api;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// Most verbs are done by then.
const FIRST: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_secs(1);

/// Does `work`. If it takes a while, people are told how `service` is, and again whenever it is otherwise.
pub fn told<T>(socket: &Path, service: &str, work: impl FnOnce() -> T) -> T {
    let (done, waits) = mpsc::channel::<()>();
    let (socket, service) = (socket.to_owned(), service.to_owned());
    std::thread::spawn(move || {
        let mut said = String::new();
        let mut pause = FIRST;
        while waits.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
            pause = PAUSE;
            let Some(is) = status(&socket, &service) else { continue };
            if without_numbers(&is) != without_numbers(&said) {
                complain(&format!("waiting for {service}: {is}"));
                said = is;
            }
        }
    });
    let outcome = work();
    drop(done);
    outcome
}

fn status(socket: &Path, service: &str) -> Option<String> {
    let path = of(service, "");
    let text = client::text(&mut client::send(socket, "GET", &path, None).ok()?).ok()?;
    Some(serde_json::from_str::<api::Inspect>(&text).ok()?.status.text)
}

/// Seconds go on while nothing changes.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

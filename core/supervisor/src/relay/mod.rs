//! What stands between a service and its log where somebody may be attached to it: for each life one relay, which passes its
//! streams on and gives those who are attached a copy.
//!
//! Only services with `tty` or `stdin_open` have one from their start on. Of any other the output goes straight to whoever keeps
//! its log, and who is attached sees that.
mod clients;
mod input;
mod log;
mod stream;

use crate::task::Task;
use axum::body::Bytes;
use clients::Clients;
pub use clients::{Output, Piece};
use sampan_api::attach::Last;
use sampan_service::Exit;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
pub use stream::{Ends, Sink};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long the last output of a life may wait for whoever keeps its log.
const LAST_MAX: Duration = Duration::from_secs(1);

/// What a relay is made of.
#[derive(Debug)]
pub struct Parts {
    pub streams: Vec<Ends>,
    /// A terminal's master.
    pub terminal: Option<Arc<OwnedFd>>,
    /// Not blocking; none: nothing that is typed reaches the service.
    pub input: Option<OwnedFd>,
}

/// One client's share of a relay.
#[derive(Debug)]
pub struct Attached {
    pub output: Output,
    pub input: Option<mpsc::Sender<Bytes>>,
    pub terminal: Option<Arc<OwnedFd>>,
}

#[derive(Debug)]
struct Relay {
    clients: Rc<Clients>,
    terminal: Option<Arc<OwnedFd>>,
    input: Option<(mpsc::Sender<Bytes>, Task)>,
    pumps: Vec<JoinHandle<()>>,
    ending: watch::Sender<bool>,
    /// Its streams come from its log: there is nothing to pass on.
    is_of_log: bool,
    exit: Option<Exit>,
}

impl Relay {
    fn attach(&self) -> Attached {
        Attached {
            output: self.clients.add(),
            input: self.input.as_ref().map(|(send, _)| send.clone()),
            terminal: self.terminal.clone(),
        }
    }

    /// Tells what passes its streams on that no more comes.
    fn finish(&mut self) -> Vec<JoinHandle<()>> {
        let _ = self.ending.send(true);
        std::mem::take(&mut self.pumps)
    }

    fn tell_the_end(&self) {
        let (code, text) = match self.exit {
            Some(exit) => (exit.number(), exit.to_string()),
            None => (None, "nobody knows how it ended".to_owned()),
        };
        self.clients.end(&Last::End { code, text });
    }
}

/// The relays of all lives.
#[derive(Debug, Default)]
pub struct Relays(RefCell<BTreeMap<String, Relay>>);

impl Relays {
    /// For a life that has just been made, or found.
    pub fn begin(&self, service: &str, parts: Parts) -> io::Result<()> {
        let Parts { streams, terminal, input } = parts;
        let clients = Rc::<Clients>::default();
        let (ending, end) = watch::channel(false);
        let stream = |ends| stream::Stream::new(service, ends, clients.clone());
        let streams = streams.into_iter().map(stream).collect::<io::Result<Vec<_>>>()?;
        let pumps =
            streams.into_iter().map(|stream| tokio::task::spawn_local(stream.pump(end.clone()))).collect();
        let input = input.map(|to| input::begin(service, to));
        let relay = Relay { clients, terminal, input, pumps, ending, is_of_log: false, exit: None };
        self.0.borrow_mut().insert(service.to_owned(), relay);
        Ok(())
    }

    /// None: sampand is not between this service and its log, and nobody else is attached.
    pub fn attach(&self, service: &str) -> Option<Attached> {
        let relays = self.0.borrow();
        let relay = relays.get(service)?;
        let is_left = relay.is_of_log && relay.pumps.iter().all(JoinHandle::is_finished);
        (!is_left).then(|| relay.attach())
    }

    /// To a service of which there is nothing but its log; `log` is a stream of its lines from now on.
    pub fn attach_to_log<F>(&self, service: &str, log: F) -> Attached
    where
        F: Future<Output = Result<OwnedFd, String>> + 'static,
    {
        let clients = Rc::<Clients>::default();
        let (ending, end) = watch::channel(false);
        let shown = clients.clone();
        let pump = tokio::task::spawn_local(async move {
            let followed = match log.await {
                Ok(log) => log::follow(log, &shown, end).await.map_err(|error| error.to_string()),
                Err(error) => Err(error),
            };
            if let Err(error) = followed {
                shown.end(&Last::CutOff { text: format!("its log cannot be read: {error}") });
            }
        });
        let (terminal, input) = (None, None);
        let relay =
            Relay { clients, terminal, input, pumps: vec![pump], ending, is_of_log: true, exit: None };
        let attached = relay.attach();
        self.0.borrow_mut().insert(service.to_owned(), relay);
        attached
    }

    /// How its main process ended. Those who are attached hear of it when all of its output is there.
    pub fn note_exit(&self, service: &str, exit: Exit) {
        if let Some(relay) = self.0.borrow_mut().get_mut(service) {
            relay.exit = Some(exit);
        }
    }

    /// Its processes are gone: what they have written last is passed on. To be done before its log is closed.
    pub async fn finish(&self, service: &str) {
        let pumps = match self.0.borrow_mut().get_mut(service) {
            Some(relay) if !relay.is_of_log => relay.finish(),
            _ => return,
        };
        finished(service, pumps).await;
    }

    /// Its log is closed, and those who are attached are told of the end.
    pub fn close(&self, service: &str) {
        let Some(mut relay) = self.0.borrow_mut().remove(service) else { return };
        let service = service.to_owned();
        tokio::task::spawn_local(async move {
            finished(&service, relay.finish()).await;
            relay.tell_the_end();
        });
    }
}

/// Waits until all that a service has written is passed on.
async fn finished(service: &str, pumps: Vec<JoinHandle<()>>) {
    for mut pump in pumps {
        if tokio::time::timeout(LAST_MAX, &mut pump).await.is_err() {
            pump.abort();
            tracing::warn!(service, "its last output was not passed on within a second, and is dropped");
        }
    }
}

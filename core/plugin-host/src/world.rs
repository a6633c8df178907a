//! What all plugins of a worker share: the containers, what they gave to the keel, their key-value stores' writer.
use crate::call::{Message, Plugin};
use crate::containers::Containers;
use crate::kv;
use crate::quarantine::Page;
use crate::types::{KeepFd, of_keel_key};
use sampan_plugin::abi;
use sampan_plugin::types::Role;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{Notify, mpsc};

/// Containers in one `synchronize` call.
const SYNCHRONIZE_CHUNK: usize = 64;

/// What all plugins share.
pub struct World {
    pub(crate) containers: Mutex<Containers>,
    pub(crate) kept: Kept,
    pub(crate) kv_writer: kv::Writer,
    pub(crate) rt: tokio::runtime::Handle,
    pub(crate) asks: mpsc::UnboundedSender<Ask>,
    pub(crate) back: Arc<Notify>,
    pub(crate) seq: AtomicU64,
    pub(crate) page: Page,
    pub(crate) peers: RwLock<Vec<&'static Plugin>>,
}

impl World {
    pub(crate) fn containers(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the containers' files say what [`Containers`] has asked for.
    pub(crate) async fn write_down(self: &Arc<World>) {
        let files = self.containers().files();
        let world = self.clone();
        let written = self.rt.spawn_blocking(move || {
            for id in files.carry_out() {
                world.containers().is_not_written(&id);
            }
        });
        if let Err(error) = written.await {
            tracing::error!("what a new worker has to know of containers is not written: {error}");
        }
    }

    pub(crate) fn peers(&self) -> RwLockReadGuard<'_, Vec<&'static Plugin>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed)
    }

    /// All that lives, in chunks, for one plugin; what was kept goes with the first.
    pub(crate) fn synchronize_messages(&self, plugin: &Plugin, kept: Vec<KeptFd>) -> Vec<Message> {
        let containers = self.containers();
        let lines: Vec<Value> = containers
            .all()
            .filter(|container| plugin.policy.covers(&container.ctx.service))
            .map(crate::containers::Container::line)
            .collect();
        let mut chunks: Vec<&[Value]> = lines.chunks(SYNCHRONIZE_CHUNK).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let last = chunks.len() - 1;
        let mut kept = Some(kept);
        chunks
            .into_iter()
            .enumerate()
            .map(|(n, chunk)| {
                let kept = kept.take().unwrap_or_default();
                let lines: Vec<Value> = kept
                    .iter()
                    .map(|kept| {
                        json!({ "container": containers.handle_of(&kept.id), "container_id": kept.id, "key": kept.key })
                    })
                    .collect();
                let fds = kept.into_iter().enumerate().map(|(n, kept)| (Role::Other(n as u32).number(), kept.fd));
                let flags = if n < last { abi::F_MORE } else { 0 };
                let body = json!({ "containers": chunk, "kept": lines });
                Message { flags, fds: fds.collect(), ..Message::new(abi::EV_SYNCHRONIZE) }.body(&body)
            })
            .collect()
    }

    /// What this plugin gave to the keel.
    pub(crate) fn kept(&self, plugin: &str) -> io::Result<Vec<KeptFd>> {
        let mut found = Vec::new();
        for key in self.kept.keys(&format!("plugin/{plugin}/")) {
            let Some((id, name)) = of_keel_key(&key, plugin) else { continue };
            if let Some(fd) = self.kept.keel.fetch(&key)? {
                found.push(KeptFd { id: id.to_owned(), key: name.to_owned(), fd: Arc::new(fd) });
            }
        }
        Ok(found)
    }
}

/// What plugins gave to the keel. The keys are known here, so that the end of a container does not list all that the keel has.
pub(crate) struct Kept {
    keel: Arc<dyn KeepFd>,
    keys: Mutex<BTreeSet<String>>,
}

impl Kept {
    pub(crate) fn of(keel: Arc<dyn KeepFd>) -> io::Result<Kept> {
        let keys = keel.keys()?.into_iter().filter(|key| key.starts_with("plugin/")).collect();
        Ok(Kept { keel, keys: Mutex::new(keys) })
    }

    pub(crate) fn keep(&self, key: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        // Held over the call, so that the set has the order of the keel.
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = fd.is_some();
        self.keel.keep(key, fd)?;
        match kept {
            true => _ = keys.insert(key.to_owned()),
            false => _ = keys.remove(key),
        }
        Ok(())
    }

    /// What anybody gave to the keel.
    pub(crate) fn fetch(&self, key: &str) -> io::Result<Option<OwnedFd>> {
        self.keel.fetch(key)
    }

    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let from = keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(|key| key.starts_with(prefix)).cloned().collect()
    }
}

pub(crate) struct KeptFd {
    id: String,
    key: String,
    fd: Arc<OwnedFd>,
}

/// Something that a plugin wants done. Dropped: cancelled.
#[derive(Debug)]
pub struct Ask {
    pub what: Wish,
    pub service: String,
    pub asker: Asker,
}

/// What `submit` of the header asks of the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// By the name or number that the plugin gave.
    Signal(String),
    Start,
    Stop,
    Restart,
}

impl Wish {
    /// None: another operation of the header, or none of it.
    pub(crate) fn of(op: u32, args: &Value) -> Option<Wish> {
        match op {
            abi::OP_SIGNAL => {
                let given = args.get("signal").unwrap_or(&Value::Null);
                Some(Wish::Signal(given.as_str().map_or_else(|| given.to_string(), str::to_owned)))
            }
            abi::OP_START => Some(Wish::Start),
            abi::OP_STOP => Some(Wish::Stop),
            abi::OP_RESTART => Some(Wish::Restart),
            _ => None,
        }
    }

    /// As the log says it.
    pub fn verb(&self) -> &'static str {
        match self {
            Wish::Signal(_) => "signal",
            Wish::Start => "start",
            Wish::Stop => "stop",
            Wish::Restart => "restart",
        }
    }
}

impl Plugin {
    /// Tells the supervisor what it wishes: about a container, or about the service that `args` names.
    pub(crate) fn wish(&'static self, container: u64, token: u64, what: Wish, args: &Value) -> i32 {
        let service = {
            let containers = self.world.containers();
            containers.get(container).map(|container| container.ctx.service.clone())
        };
        let named = args.get("service").and_then(Value::as_str).map(str::to_owned);
        let Some(service) = service.or(named) else { return abi::E_NOSUCH };
        if !self.promise_result() {
            return abi::E_BUSY;
        }
        let asker = Asker::new(self, token);
        // The loop is gone: dropping the asker answers it.
        let _ = self.world.asks.send(Ask { what, service, asker });
        abi::OK
    }
}

pub struct Asker {
    plugin: &'static Plugin,
    token: u64,
    answered: bool,
}

impl Asker {
    pub(crate) fn new(plugin: &'static Plugin, token: u64) -> Asker {
        Asker { plugin, token, answered: false }
    }

    pub fn plugin(&self) -> &str {
        &self.plugin.name
    }

    pub fn answer(mut self, result: Result<Value, String>) {
        self.answered = true;
        match result {
            Ok(value) => self.plugin.result(self.token, abi::OK, value.to_string().as_bytes()),
            Err(text) => self.plugin.result(self.token, abi::E_FAIL, text.as_bytes()),
        }
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}", self.plugin.name)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        if !self.answered {
            self.plugin.result(self.token, abi::E_CANCELLED, b"sampand ends");
        }
    }
}

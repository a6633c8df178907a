//! What plugins may ask about containers: facts, documents and descriptors, by handle.
//!
//! Filled by the facade as a container goes through its life, read from any plugin's thread. Documents are kept encoded, so
//! that a hundred readers share one copy; a spec (10 KB) only until its bundle is on disk. What a later worker must know (claims,
//! owners, the service's table) is in a small file in run_dir.
//!
//! A handle is one run of a service, so a late reply cannot be taken for one about the next run.
use super::{Ctx, Lent};
use crate::digest::{Digest, digest};
use crate::files::Files;
use sampan_plugin::abi;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub type Document = Arc<[u8]>;

#[derive(Default)]
pub struct Containers {
    by_handle: BTreeMap<u64, Container>,
    by_id: HashMap<String, u64>,
    /// Of what each container's file says.
    written: HashMap<String, Digest>,
    run_dir: PathBuf,
    files: Arc<Files>,
}

pub struct Container {
    pub ctx: Ctx,
    pub state: &'static str,
    pub service: Document,
    /// None: it is what its bundle says.
    pub spec: Option<Arc<str>>,
    pub fds: Vec<(u32, Fd)>,
    pub memory: Memory,
    /// The plugins (by slot) that saw `create`, or were loaded while it lived.
    pub saw: Vec<usize>,
    /// The plugins (by slot) that do without some events of this life, a bit each.
    pub without: Vec<(usize, u64)>,
}

impl Container {
    pub fn spares(&self, slot: usize, event: u16) -> bool {
        self.without.iter().any(|(plugin, events)| *plugin == slot && events & (1 << event) != 0)
    }
}

/// A document, or where it is: read there without the lock on [`Containers`], which the loop takes.
pub enum Found {
    Here(Document),
    At(PathBuf),
}

impl Found {
    pub fn read(self) -> Result<Document, i32> {
        match self {
            Found::Here(document) => Ok(document),
            // Gone with the container, before `removed`.
            Found::At(path) => std::fs::read(path).map(Into::into).map_err(|_| abi::E_NOSUCH),
        }
    }
}

/// A descriptor that plugins may ask for.
#[derive(Clone)]
pub enum Fd {
    Here(Arc<OwnedFd>),
    /// By this key.
    AtKeel(String),
}

impl From<&Lent> for Fd {
    fn from(lent: &Lent) -> Fd {
        match &lent.at_keel {
            Some(key) => Fd::AtKeel(key.clone()),
            None => Fd::Here(lent.fd.clone()),
        }
    }
}

/// What outlives the worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Claim -> plugin.
    pub claims: BTreeMap<String, String>,
    /// Leaf -> plugin.
    pub owners: BTreeMap<String, String>,
}

/// A container's file in run_dir.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    #[serde(flatten)]
    memory: Memory,
    service: Value,
}

impl Containers {
    pub fn new(run_dir: &Path) -> Containers {
        let files = Arc::new(Files::below(run_dir));
        Containers { run_dir: run_dir.to_owned(), files, ..Containers::default() }
    }

    pub fn add(
        &mut self,
        ctx: &Ctx,
        state: &'static str,
        service: Document,
        spec: Option<Arc<str>>,
        memory: Memory,
    ) {
        // A container that comes again under a new handle: the old one is gone.
        if let Some(old) = self.by_id.insert(ctx.container_id.clone(), ctx.handle)
            && old != ctx.handle
        {
            self.by_handle.remove(&old);
        }
        let container = Container {
            ctx: ctx.clone(),
            state,
            service,
            spec,
            fds: Vec::new(),
            memory,
            saw: Vec::new(),
            without: Vec::new(),
        };
        self.by_handle.insert(ctx.handle, container);
    }

    pub fn get(&self, handle: u64) -> Option<&Container> {
        self.by_handle.get(&handle)
    }

    pub fn get_mut(&mut self, handle: u64) -> Option<&mut Container> {
        self.by_handle.get_mut(&handle)
    }

    pub fn remove(&mut self, handle: u64) {
        if let Some(container) = self.by_handle.remove(&handle) {
            self.by_id.remove(&container.ctx.container_id);
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Container> {
        self.by_handle.values()
    }

    /// 0 if it is not there.
    pub fn handle_of(&self, id: &str) -> u64 {
        self.by_id.get(id).copied().unwrap_or(0)
    }

    /// The ID behind a handle; "" for the host.
    pub fn id_of(&self, handle: u64) -> Option<&str> {
        match handle {
            0 => Some(""),
            handle => self.get(handle).map(|container| container.ctx.container_id.as_str()),
        }
    }

    /// The answer to `read`, for documents that are not a plugin's own.
    pub fn document(&self, what: u32, handle: u64) -> Result<Found, i32> {
        let container = || self.get(handle).ok_or(abi::E_NOSUCH);
        Ok(match what {
            abi::READ_CONTAINER => Found::Here(encode(&container()?.line())),
            abi::READ_SPEC => match container()? {
                Container { spec: Some(spec), .. } => Found::Here(spec.clone().into()),
                container => Found::At(self.bundled(&container.ctx)),
            },
            abi::READ_SERVICE => Found::Here(container()?.service.clone()),
            abi::READ_LIST => Found::Here(encode(&Value::Array(self.all().map(Container::line).collect()))),
            _ => return Err(abi::E_INVAL),
        })
    }

    /// Its process runs, so its bundle is written: the copy goes.
    pub fn settle(&mut self, handle: u64) {
        let settled = self.get(handle).is_some_and(|container| self.bundled(&container.ctx).is_file());
        if settled && let Some(container) = self.get_mut(handle) {
            container.spec = None;
        }
    }

    fn bundled(&self, ctx: &Ctx) -> PathBuf {
        sampan_bundle::folder(&self.run_dir, &ctx.service).join("config.json")
    }

    /// Asks for its file, which is there after [`Files::carry_out`]; false: it says so already. Nothing is written where the life before has left the same; `is_as_before`: it surely has, if it has left anything.
    pub fn remember(&mut self, handle: u64, is_as_before: bool) -> bool {
        let Some(container) = self.get(handle) else { return false };
        let id = container.ctx.container_id.clone();
        if is_as_before && self.written.contains_key(&id) {
            return false;
        }
        match container.record() {
            Ok(record) => {
                let digest = digest(&record);
                let is_new = self.written.insert(id.clone(), digest) != Some(digest);
                if is_new {
                    self.files.ask_to_write(&id, record);
                }
                is_new
            }
            Err(error) => {
                tracing::warn!(service = id, %error, "a new worker will not know which plugin has its output");
                false
            }
        }
    }

    /// The next life of that container writes its file again, whatever it says.
    pub fn is_not_written(&mut self, id: &str) {
        self.written.remove(id);
    }

    /// And the service's table.
    pub fn recall(&self, id: &str) -> (Memory, Value) {
        let record = self.files.read(id).and_then(|json| serde_json::from_slice::<Record>(&json).ok());
        record.map(|record| (record.memory, record.service)).unwrap_or_default()
    }

    /// Asks for its file to be removed.
    pub fn forget(&mut self, id: &str) {
        self.written.remove(id);
        self.files.ask_to_remove(id);
    }

    pub fn files(&self) -> Arc<Files> {
        self.files.clone()
    }
}

impl Container {
    /// [`Record`] as it is written. The table is encoded already.
    fn record(&self) -> std::io::Result<String> {
        let mut record = serde_json::to_string(&self.memory)?;
        let table = std::str::from_utf8(&self.service).map_err(std::io::Error::other)?;
        // The memory is an object with keys.
        record.pop();
        record.push_str(",\"service\":");
        record.push_str(table);
        record.push('}');
        Ok(record)
    }

    /// One line of `synchronize` and of `READ_LIST`.
    pub fn line(&self) -> Value {
        json!({
            "id": self.ctx.container_id, "handle": self.ctx.handle, "service": self.ctx.service, "state": self.state,
            "pid": self.ctx.pid,
        })
    }

    pub fn fd(&self, role: u32, plugin: &str) -> Option<&Fd> {
        self.may_have(role, plugin)
            .then(|| self.fds.iter().find(|(has, _)| *has == role).map(|(_, fd)| fd))?
    }

    /// stdio is for the one who claimed it.
    pub fn may_have(&self, role: u32, plugin: &str) -> bool {
        let stdio = matches!(role, abi::FD_STDOUT | abi::FD_STDERR);
        !stdio || self.memory.claims.get("stdio").is_some_and(|claimant| claimant == plugin)
    }
}

pub fn encode(value: &Value) -> Document {
    value.to_string().into_bytes().into()
}

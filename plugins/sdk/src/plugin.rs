//! The trait that a plugin implements, and `Cx`, what each of its handlers is told besides the event.
//!
//! Every method has a default body that means "no opinion"; the first time the host calls one, the SDK takes the event off
//! the subscription, so that there is no list of events to keep in step with the methods.
use crate::error::{Error, Result};
use crate::host::Host;
use crate::types::*;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

pub use crate::adjust::Adjust;

#[async_trait]
pub trait Plugin: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    const VERSION: &'static str = "0.1.0";
    /// Plugins that go first on the way up, and last on the way down, if they are there.
    const AFTER: &'static [&'static str] = &[];
    const BEFORE: &'static [&'static str] = &[];
    /// Plugins without which this one is not opened; they go first as well.
    const REQUIRES: &'static [&'static str] = &[];
    const CONFLICTS: &'static [&'static str] = &[];
    /// What `create` may claim: `stdio`, `network`.
    const CLAIMS: &'static [&'static str] = &[];
    type Config: DeserializeOwned + JsonSchema + Send;

    async fn open(config: Self::Config, host: Host) -> Result<Self>;

    async fn synchronize(&self, cx: &Cx, _: Synchronize) -> Result<()> {
        cx.unhandled()
    }
    async fn validate(&self, cx: &Cx, _: Validate) -> Result<Vec<Problem>> {
        cx.unhandled()
    }
    async fn create(&self, cx: &Cx, _: Create) -> Result<Adjust> {
        cx.unhandled()
    }
    async fn review(&self, cx: &Cx, _: Review) -> Result<()> {
        cx.unhandled()
    }
    async fn attach(&self, cx: &Cx, _: Attach) -> Result<()> {
        cx.unhandled()
    }
    async fn start(&self, cx: &Cx, _: Start) -> Result<()> {
        cx.unhandled()
    }
    async fn started(&self, cx: &Cx, _: Started) -> Result<()> {
        cx.unhandled()
    }
    async fn ready(&self, cx: &Cx, _: Ready) -> Result<()> {
        cx.unhandled()
    }
    async fn health(&self, cx: &Cx, _: Health) -> Result<()> {
        cx.unhandled()
    }
    async fn oom(&self, cx: &Cx, _: Oom) -> Result<()> {
        cx.unhandled()
    }
    async fn exit(&self, cx: &Cx, _: Exit) -> Result<()> {
        cx.unhandled()
    }
    async fn updated(&self, cx: &Cx, _: Updated) -> Result<()> {
        cx.unhandled()
    }
    async fn stop(&self, cx: &Cx, _: Stop) -> Result<()> {
        cx.unhandled()
    }
    async fn stopping(&self, cx: &Cx, _: Stopping) -> Result<()> {
        cx.unhandled()
    }
    async fn detach(&self, cx: &Cx, _: Detach) -> Result<()> {
        cx.unhandled()
    }
    async fn removed(&self, cx: &Cx, _: Removed) -> Result<()> {
        cx.unhandled()
    }
    async fn shutdown(&self, cx: &Cx, _: Shutdown) -> Result<()> {
        cx.unhandled()
    }
    async fn custom(&self, cx: &Cx, _: Custom) -> Result<()> {
        cx.unhandled()
    }
    async fn control(&self, cx: &Cx, _: Control) -> Result<Reply> {
        cx.unhandled()
    }
    async fn timer(&self, cx: &Cx, _: Timer) -> Result<()> {
        cx.unhandled()
    }

    /// The last call. Threads of the plugin should end soon after it.
    fn close(&self, _: CloseReason) {}
}

/// One request: whom it is about, how long it may take, and the host.
pub struct Cx {
    pub(crate) host: Host,
    pub(crate) id: u64,
    pub(crate) seq: u64,
    pub(crate) container: Container,
    pub(crate) container_id: String,
    pub(crate) service: String,
    pub(crate) pid: i32,
    pub(crate) attempt: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancel: CancellationToken,
    pub(crate) fds: Vec<(u32, FdRef)>,
}

/// A descriptor of a request. The host keeps it open until the request is completed, which is after every use of this `Cx`; a
/// notification has no completion, so its descriptors are duplicated.
pub(crate) enum FdRef {
    Borrowed(BorrowedFd<'static>),
    Owned(OwnedFd),
}

impl Cx {
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The container as a handle: for `put`, metrics, `get_fd`.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The container's ID: stable over restarts of `sampand`. Empty for events about the host.
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    pub fn service(&self) -> &str {
        &self.service
    }

    /// The main process in the host's PID namespace; 0 before it exists.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// 0 on the first start, then one more for each restart in a row.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The number of this event in the order of all.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// When the host gives up on this request; `None` for a notification.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Asks for more time, up to the policy's `hard_timeout`.
    pub fn extend(&self, more: Duration) -> Result<()> {
        self.host.extend(self.id, more)
    }

    /// Ends when the host has given up. The handler is dropped soon after.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// To hand to a thread or task of one's own.
    pub fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// A descriptor of this event. `try_clone_to_owned` it to keep it longer than the handler runs.
    pub fn fd(&self, role: Role) -> Result<BorrowedFd<'_>> {
        let number = role.number();
        self.fds
            .iter()
            .find(|(has, _)| *has == number)
            .map(|(_, fd)| match fd {
                FdRef::Borrowed(fd) => *fd,
                FdRef::Owned(fd) => std::os::fd::AsFd::as_fd(fd),
            })
            .ok_or_else(|| {
                Error::with_status(
                    crate::abi::E_NOSUCH,
                    format!("{}: no {role:?} descriptor", self.container_id),
                )
            })
    }

    /// The container's spec with the changes of all plugins so far.
    pub async fn spec(&self) -> Result<Value> {
        self.host.spec(self.container).await
    }

    /// The service's table of config.toml, resolved.
    pub async fn service_config(&self) -> Result<Value> {
        self.host.service(self.container).await
    }

    /// The body of every default handler.
    pub fn unhandled<T>(&self) -> Result<T> {
        Err(Error::unhandled())
    }
}

impl From<&Cx> for Container {
    fn from(cx: &Cx) -> Container {
        cx.container
    }
}

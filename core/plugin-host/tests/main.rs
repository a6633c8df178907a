//! Plugins through the host, as sampand uses it: the acceptance rows of the plugin design that need no container.
#![allow(clippy::unwrap_used, clippy::expect_used)]
pub mod build;
mod crash;
mod files;
mod life;
mod policy;
mod rust;
mod state;

use sampan_plugin_host::*;
use sampan_testkit::Folder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the keel does, in a map.
#[derive(Default)]
pub struct Keep {
    kept: Mutex<BTreeMap<String, OwnedFd>>,
    /// How often everything was listed, which costs as much as there is.
    lists: AtomicUsize,
}

impl KeepFd for Keep {
    fn keep(&self, key: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut map = self.kept.lock().unwrap();
        match fd {
            Some(fd) => drop(map.insert(key.to_owned(), fd.try_clone_to_owned()?)),
            None => drop(map.remove(key)),
        }
        Ok(())
    }
    fn fetch(&self, key: &str) -> io::Result<Option<OwnedFd>> {
        self.kept.lock().unwrap().get(key).map(OwnedFd::try_clone).transpose()
    }
    fn keys(&self) -> io::Result<Vec<String>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        Ok(self.kept.lock().unwrap().keys().cloned().collect())
    }
}

/// A host on a current-thread runtime, as the worker has it.
pub(crate) struct World {
    pub dir: Folder,
    pub keep: Arc<Keep>,
}

impl World {
    pub fn new() -> World {
        World { dir: Folder::new(), keep: Arc::default() }
    }

    pub fn env(&self) -> HostEnv {
        HostEnv {
            run_dir: self.dir.0.join("run"),
            state_dir: self.state_dir(),
            boot_id: "boot".to_owned(),
            reason: "start",
            keep: self.keep.clone(),
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        let dir = self.dir.0.join("state");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub async fn open(&self, configs: &[PluginConfig]) -> Opened {
        Plugins::open(configs, self.env()).await.unwrap()
    }

    /// Opens these, which must work.
    pub async fn with(&self, configs: &[PluginConfig]) -> Plugins {
        let opened = self.open(configs).await;
        assert_eq!(opened.failures, []);
        assert_eq!(opened.plugins.synchronize(&[]).await, []);
        opened.plugins
    }

    /// What test plugins wrote by `trace`.
    pub fn trace(&self) -> PathBuf {
        let path = self.dir.0.join("trace");
        // SAFETY: nextest runs each test in a process of its own, and no plugin is loaded yet.
        unsafe { std::env::set_var("TRACE", &path) };
        path
    }
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn config(name: &str, path: &Path) -> PluginConfig {
    let mut config = PluginConfig::new(name, path);
    // No test should fail because the machine is busy; those about deadlines set their own.
    config.policy.timeout = Duration::from_secs(20);
    config
}

/// With deadlines short enough to wait for.
pub fn hasty(name: &str, path: &Path) -> PluginConfig {
    let mut config = config(name, path);
    config.policy.timeout = Duration::from_millis(300);
    config.policy.hard_timeout = Duration::from_secs(3);
    config
}

pub fn ctx(service: &str) -> Ctx {
    Ctx {
        service: service.to_owned(),
        container_id: service.to_owned(),
        handle: next_handle(),
        attempt: 0,
        pid: 0,
    }
}

pub fn lent(role: Role, fd: impl Into<OwnedFd>) -> Lent {
    Lent::new(role, Arc::new(fd.into()))
}

pub fn spec() -> Value {
    json!({ "ociVersion": "1.2.0", "process": { "args": ["sh"], "env": [] }, "mounts": [], "linux": {} })
}

/// One `create`, on an empty spec.
pub async fn create(plugins: &Plugins, service: &str) -> Result<(Created, Value), Failure> {
    let mut spec = spec();
    plugins.create(&ctx(service), &json!({}), &[], &mut spec).await.map(|created| (created, spec))
}

pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(|line| line.trim_end().to_owned()).collect()
}

pub async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..500 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}

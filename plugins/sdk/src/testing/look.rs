//! What a plugin has done: what a test looks at.
use super::{Line, Rig};
use crate::host::Wish;
use serde_json::Value;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::time::Duration;

impl Rig {
    /// A stored value; `service` "" for those of the host.
    pub fn kv(&self, service: &str, key: &str) -> Option<Value> {
        let state = self.host.lock();
        let handle = if service.is_empty() { 0 } else { state.handle(service) };
        state.kv.get(&(handle, key.to_owned())).and_then(|bytes| serde_json::from_slice(bytes).ok())
    }

    pub fn logs(&self) -> Vec<Line> {
        self.host.lock().logs.clone()
    }

    /// How much more time was asked for, over all requests.
    pub fn extended(&self) -> Duration {
        self.host.lock().extended
    }

    /// The last value of a gauge, the sum of a counter, the count of a histogram, over all containers.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let state = self.host.lock();
        state.metrics.iter().find(|(has, ..)| has == name).map(|(_, _, value)| *value)
    }

    /// What it has asked of the supervisor, oldest first, and for which service.
    pub fn asked(&self) -> Vec<(Wish, String)> {
        self.host.lock().asked.clone()
    }

    /// The keys of all kept descriptors, with their service ("" for the host).
    pub fn kept(&self) -> Vec<(String, String)> {
        let state = self.host.lock();
        state.kept.keys().map(|(handle, key)| (state.name(*handle), key.clone())).collect()
    }

    pub fn kept_fd(&self, service: &str, key: &str) -> Option<OwnedFd> {
        let state = self.host.lock();
        let handle = if service.is_empty() { 0 } else { state.handle(service) };
        state.kept.get(&(handle, key.to_owned())).and_then(|fd| fd.try_clone().ok())
    }

    /// What `emit` sent: kind and data.
    pub fn emitted(&self) -> Vec<(String, Value)> {
        self.host.lock().emitted.clone()
    }

    /// The events that the plugin still wants.
    pub fn subscribed(&self) -> u64 {
        self.host.lock().events
    }

    /// What the table says of itself: name, version, manifest.
    pub fn identity(&self) -> (String, String, Value) {
        let text = |text: *const std::ffi::c_char| match text.is_null() {
            true => String::new(),
            // SAFETY: the header says a NUL-terminated text that lives as long as the library.
            false => unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned(),
        };
        let manifest = serde_json::from_str(&text(self.table.manifest)).unwrap_or(Value::Null);
        (text(self.table.name), text(self.table.version), manifest)
    }
}

//! A request that was fired, and the wait for its answer.
use super::Rig;
use super::event::{Answered, Fired};
use crate::abi;
use crate::error::{Error, Result};
use serde_json::Value;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How long a test waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that is not answered yet.
pub struct Pending<'a> {
    pub(super) rig: &'a Rig,
    pub(super) id: u64,
    pub(super) event: Option<Box<Fired>>,
}

impl Pending<'_> {
    pub fn is_done(&self) -> bool {
        self.id == 0 || self.rig.host.lock().done.contains_key(&self.id)
    }

    pub fn wait(mut self) -> Result<Answered> {
        let Some(event) = self.event.take() else { return Ok(Answered::default()) };
        if self.id == 0 {
            return Ok(Answered::default());
        }
        let enough = Instant::now() + PATIENCE;
        loop {
            self.rig.deliver();
            let mut state = self.rig.host.lock();
            if let Some((status, json, fds)) = state.done.remove(&self.id) {
                return match status {
                    abi::OK if json.is_empty() => Ok(Answered { json: Value::Null, fds }),
                    abi::OK => Ok(Answered { json: serde_json::from_slice(&json)?, fds }),
                    status => Err(Error::with_status(status, String::from_utf8_lossy(&json))),
                };
            }
            if Instant::now() > enough {
                // The plugin may still read it.
                std::mem::forget(event);
                return Err(Error::new("no answer within 10 s"));
            }
            let wait = self.rig.host.wake.wait_timeout(state, Duration::from_millis(20));
            drop(wait.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.is_done() {
            // The plugin may still read it.
            std::mem::forget(self.event.take());
        }
    }
}

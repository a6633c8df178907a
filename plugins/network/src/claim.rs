//! One owner per network namespace: the right to make bridges and write the table `inet sampan`.
//!
//! A second `sampand` beside us would take our links and rules for strays and remove them. The claim is a lock on a file that
//! is named for the namespace's inode, in a folder that other users cannot enter: it goes with the process, however that
//! ends, and tells who holds it.

use std::os::unix::fs::MetadataExt;

use sampan_plugin::lock::{self, Lock, Refused};

/// None: there is no place for its lock.
#[derive(Debug)]
pub struct Claim(Option<Lock>);

impl Claim {
    pub fn take() -> Result<Claim, String> {
        let failed = |why: &dyn std::fmt::Display| format!("cannot claim the network: {why}");
        // The engine's thread may be in another namespace than the process's first one.
        let namespace = std::fs::metadata("/proc/thread-self/ns/net").map_err(|e| failed(&e))?.ino();
        let folder = match lock::shared_folder() {
            Ok(folder) => folder,
            Err(refused @ Refused::NoFolder { .. }) => {
                tracing::warn!("the network is not claimed: {refused}");
                return Ok(Claim(None));
            }
            Err(refused) => return Err(failed(&refused)),
        };
        match Lock::take(&folder.join(format!("network.{namespace}")), std::process::id()) {
            Ok(lock) => Ok(Claim(Some(lock))),
            Err(Refused::Held { holder, .. }) => {
                let pid = holder.map_or_else(|| "unknown".into(), |pid| pid.to_string());
                Err(format!(
                    "another sampand (pid {pid}) manages bridge networks here; stop it, or use network_mode \"host\" or \"none\""
                ))
            }
            Err(refused) => Err(failed(&refused)),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.remove();
        }
    }
}
